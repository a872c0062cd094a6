"""The living room: 5 m × 4 m × 2.7 m; x east, y north, z up, origin in a floor corner.

North has a bookshelf and posters, east is a brick wall with the same picture five times (repeated
structure), south has window and door, west is a bare wall behind a sofa.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.random import Generator

from dsac.datasets.frame import Scene
from dsac.rooms import textures as paint
from dsac.rooms.builder import Material, RoomBuilder, X, Y, Z
from dsac.rooms.furniture import (
    bookshelf,
    chair,
    coffee_table,
    desk,
    hang_equal_pictures,
    hang_posters,
    parcels,
    plant,
    sideboard,
    sofa,
)
from dsac.rooms.light import LIGHT_CELL, bake_light
from dsac.rooms.scene import walked_scene
from dsac.rooms.surfaces import Room
from dsac.rooms.walks import Shots, carefully, carelessly, hand_held, there_and_back

SIZE = (5.0, 4.0, 2.7)


def synthetic_scene(
    num_mapping: int = 200,
    num_query: int = 50,
    size: tuple[int, int] = (640, 480),
    seed: int = 0,
    light_cell: float = LIGHT_CELL,
) -> Scene:
    """The room as seen by a camera of 62.7° horizontal field of view; every frame is rendered when taken.

    Hand-held walks for mapping and for queries; some queries are blurred by motion or badly exposed. Names are
    `mapping-000.jpg`, ... and `query-000.jpg`, ...; the truth is called "exact". The same seed gives the same
    bytes on the same machine, however many threads render. The light is baked first, which takes seconds; less
    with cells of more metres.
    """
    room, counts = _last_room(seed, light_cell), (num_mapping, num_query)
    return walked_scene(room, _mapping_walk, _query_walk, counts, size, seed)


def build_living_room(seed: int, light_cell: float = LIGHT_CELL) -> Room:
    """The room with its light baked on a grid of `light_cell` metres.

    The seed chooses books, pictures and grain, not the furniture.
    """
    b = RoomBuilder(np.random.default_rng([seed, 0]))
    oak = b.material(paint.wood(b.rng, (206, 166, 118), (160, 114, 74)), (0.9, 0.45))
    walnut = b.material(paint.wood(b.rng, (128, 88, 60), (84, 56, 40)), (0.9, 0.45))
    white = b.material(paint.speckled(b.rng, (228, 226, 220), 0.03), (0.5, 0.5))
    steel = b.material(paint.speckled(b.rng, (150, 152, 156), 0.10), (0.2, 0.2))
    black = b.material(paint.plain((44, 44, 48)), (1, 1))

    _shell(b, white)
    _window(b, white)
    _door(b, steel)
    bookshelf(b, oak)
    sideboard(b, walnut, black)
    hang_posters(b, black)
    hang_equal_pictures(b, walnut)
    parcels(b)
    sofa(b, walnut)
    coffee_table(b, oak)
    desk(b, oak, black, steel)
    for x, y, yaw in ((3.25, 1.02, 0.15), (3.95, 2.55, 3.3), (2.62, 1.72, -1.45)):
        chair(b, (x, y), yaw, walnut)
    plant(b)
    _lights(b, black, steel)
    return bake_light(b.room(), _lamp_points(), light_cell)


_last_room = lru_cache(maxsize=2)(build_living_room)  # scenes of other sizes and walks share their room


# ---- walks ---------------------------------------------------------------------------------------

_EXPOSURE = 1.1


def _mapping_walk(rng: Generator, count: int) -> Shots:
    """There along the south wall and back through the middle, turning between the other three walls."""
    way, back = there_and_back(count)  # from east to west
    sweep = 2 * np.pi * 1.5 * way
    pose = hand_held(
        rng,
        center=np.column_stack([3.5 - 1.6 * way, np.where(back, 1.85, 1.05) + 0.15 * np.sin(sweep)]),
        height=np.where(back, 1.42, 1.56) + 0.1 * np.sin(2.3 * sweep),
        yaw=np.pi / 2 + np.where(back, 1, -1) * 0.95 * np.cos(sweep),
        pitch=-0.2 + 0.12 * np.sin(1.7 * sweep),
    )
    return carefully(rng, pose, 0.05, _EXPOSURE)


def _query_walk(rng: Generator, count: int) -> Shots:
    """Between the two ways of mapping, other heights and angles; a quarter blurred, a fifth badly exposed."""
    way = (np.arange(count) + 0.5) / count
    sweep = 2 * np.pi * 2.3 * way
    pose = hand_held(
        rng,
        center=np.column_stack([3.2 - 1.0 * way, 1.45 + 0.2 * np.sin(2.2 * sweep)]),
        height=1.45 + 0.1 * np.sin(1.4 * sweep + 1),
        yaw=np.pi / 2 + 0.72 * np.sin(sweep + 0.4),
        pitch=-0.19 + 0.09 * np.sin(2.6 * sweep + 2),
    )
    return carelessly(rng, pose, 0.1, _EXPOSURE)


# ---- walls, and what belongs to them -------------------------------------------------------------


def _shell(b: RoomBuilder, white: Material) -> None:
    x, y, z = SIZE
    floor = b.material(paint.floor_boards(b.rng), (5.1, 4.08))
    b.rectangle((0, 0, 0), x * X, y * Y, floor)
    b.rectangle((0, y, z), x * X, -y * Y, white)
    plaster = b.material(paint.speckled(b.rng, (206, 208, 192), 0.05, 512), (1.2, 1.2))
    b.rectangle((x, 0, 0), -x * X, z * Z, plaster)  # south
    blue = b.material(paint.speckled(b.rng, (124, 148, 158), 0.08, 512), (1.2, 1.2))
    b.rectangle((0, y, 0), x * X, z * Z, blue)  # north
    b.rectangle((x, y, 0), -y * Y, z * Z, b.material(paint.bricks(b.rng), (1.0, 0.6)))  # east
    bare = b.material(paint.plain((222, 212, 196)), (1, 1))
    b.rectangle((0, 0, 0), y * Y, z * Z, bare)  # west
    for middle, size in (
        ((2.0, 0.008, 0), (3.96, 0.016, 0.09)),
        ((x / 2, y - 0.008, 0), (x, 0.016, 0.09)),
        ((0.008, y / 2, 0), (0.016, y, 0.09)),
        ((x - 0.008, y / 2, 0), (0.016, y, 0.09)),
    ):
        b.box(middle, size, white)


def _window(b: RoomBuilder, white: Material) -> None:
    left, right, low, high = 1.3, 3.0, 0.95, 2.2
    middle, wide, tall = (left + right) / 2, right - left, high - low
    sky = b.material(paint.sky_view(b.rng))
    b.rectangle((right, 0.012, low), -wide * X, tall * Z, sky, emission=1.7)
    for x in (left, middle, right):
        b.box((x, 0.03, low), (0.06, 0.06, tall), white)
    for z in (low - 0.03, low + 0.8, high):
        b.box((middle, 0.03, z), (wide + 0.06, 0.06, 0.05), white)
    b.box((middle, 0.1, low - 0.06), (wide + 0.3, 0.2, 0.035), white)
    b.box(
        (middle, 0.09, 0.14),
        (1.5, 0.1, 0.62),
        white,
        front=None,
        back=b.material(paint.radiator_ribs(), (0.06, 1.0)),
    )
    linen = b.material(paint.weave(b.rng, (204, 176, 120)), (0.12, 0.12))
    b.cylinder((left - 0.4, 0.14, 2.36), (wide + 0.8) * X, 0.014, white)
    for side in (left - 0.28, right + 0.06):
        for fold in range(5):
            b.cylinder((side + 0.055 * fold, 0.13 + 0.03 * (fold % 2), 0.06), 2.3 * Z, 0.034, linen)


def _door(b: RoomBuilder, steel: Material) -> None:
    white = b.material(paint.plain((214, 210, 200)), (1, 1))
    b.box((4.45, 0.02, 0), (0.9, 0.04, 2.05), white, back=b.material(paint.door()))
    for x in (3.97, 4.93):
        b.box((x, 0.03, 0), (0.08, 0.06, 2.05), white)
    b.box((4.45, 0.03, 2.05), (1.04, 0.06, 0.08), white)
    b.cylinder((4.1, 0.04, 1.02), 0.05 * Y, 0.012, steel)
    b.cylinder((4.08, 0.09, 1.02), 0.13 * X, 0.011, steel)


_FLOOR_LAMP, _PENDANT = (0.42, 3.3), (2.55, 2.0, 2.22)


def _lights(b: RoomBuilder, black: Material, steel: Material) -> None:
    x, y = _FLOOR_LAMP
    b.cylinder((x, y, 0), 0.02 * Z, 0.14, black)
    b.disc((x, y, 0.02), 0.14, black)
    b.cylinder((x, y, 0), 1.5 * Z, 0.012, steel)
    shade = b.material(paint.weave(b.rng, (246, 226, 184)), (0.1, 0.1))
    b.cylinder((x, y, 1.42), 0.28 * Z, 0.18, shade, emission=0.8)
    x, y, z = _PENDANT
    b.sphere(
        (x, y, z), 0.16, b.material(paint.speckled(b.rng, (255, 246, 228), 0.04), (0.3, 0.3)), emission=1.6
    )
    b.cylinder((x, y, z + 0.15), (SIZE[2] - z - 0.15) * Z, 0.006, black)
    b.cylinder((x, y, SIZE[2] - 0.04), 0.04 * Z, 0.05, steel)


def _lamp_points() -> np.ndarray:
    """Window, pendant and floor lamp as points of light for `bake_light`."""
    points = []
    for x in np.linspace(1.5, 2.8, 5):
        for z in np.linspace(1.1, 2.05, 4):
            points.append([x, 0.08, z, 0, 1, 0, 0.45, 0.487, 0.54])
    for i in range(8):  # a sunflower on the sphere
        height, turn = 1 - (2 * i + 1) / 8, 2.4 * i
        n = np.array([np.sqrt(1 - height**2) * np.cos(turn), np.sqrt(1 - height**2) * np.sin(turn), height])
        points.append([*(np.array(_PENDANT) + 0.17 * n), *n, 0.4, 0.367, 0.3])
    for i in range(4):
        n = np.array([np.cos(np.pi * i / 2), np.sin(np.pi * i / 2), 0])
        points.append([_FLOOR_LAMP[0] + 0.19 * n[0], _FLOOR_LAMP[1] + 0.19 * n[1], 1.56, *n, 0.1, 0.08, 0.048])
    return np.array(points)
