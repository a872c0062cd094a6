"""A terrace above a street: depths from a metre to a hundred, and a sky without any; metres, as in the room.

x east, y north, z up, origin in the terrace's south-west corner. North, beyond the parapet and four metres
lower, lie a street with trees, house fronts at 15 to 30 m, towers at 60 to 95 m and hills behind them; in the
south is the wall of the house. Unlike in a room, cameras see most of the place from one side, and near, middle
and far at once.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.random import Generator

from dsac.datasets.frame import Scene
from dsac.rooms import facades
from dsac.rooms import textures as paint
from dsac.rooms.builder import Material, RoomBuilder, X, Y, Z
from dsac.rooms.furniture import chair, plant
from dsac.rooms.light import bake_light, daylight
from dsac.rooms.scene import walked_scene
from dsac.rooms.surfaces import Room
from dsac.rooms.walks import Shots, carefully, carelessly, hand_held, there_and_back

SIZE = (12.0, 8.0)  # of the terrace
FARTHEST = 125.0  # metres: what is known of depths; the sky's is not
LIGHT_CELL = 0.4  # metres
_STREET = -4.0


def terrace_scene(
    num_mapping: int = 200,
    num_query: int = 50,
    size: tuple[int, int] = (640, 480),
    seed: int = 0,
    light_cell: float = LIGHT_CELL,
) -> Scene:
    """The terrace as a phone sees it, every frame rendered when taken; named as by `synthetic_scene`.

    Mapping looks about from near the wall, queries are nearer the parapet; some are blurred or badly exposed.
    """
    room, counts = _last_terrace(seed, light_cell), (num_mapping, num_query)
    return walked_scene(room, _mapping_walk, _query_walk, counts, size, seed, FARTHEST)


def build_terrace(seed: int, light_cell: float = LIGHT_CELL) -> Room:
    """The place on a bright day; the seed chooses fronts, stains and leaves, not where things stand."""
    b = RoomBuilder(np.random.default_rng([seed, 0]))
    oak = b.material(paint.wood(b.rng, (206, 166, 118), (160, 114, 74)), (0.9, 0.45))
    steel = b.material(paint.speckled(b.rng, (150, 152, 156), 0.10), (0.2, 0.2))
    stone = b.material(paint.speckled(b.rng, (200, 192, 176), 0.35, 512), (1.6, 1.6))

    sky = b.material(facades.clear_sky(b.rng))
    b.sphere((6, 4, 0), _SKY, sky, emission=0.95)
    _ground(b, stone)
    _house(b, stone)
    _furnish(b, oak, steel)
    _street_fronts(b)
    _trees(b)
    _far_away(b)
    return bake_light(b.room(), daylight((6.0, 10.0, 0.0), 0.8 * _SKY), light_cell)


_last_terrace = lru_cache(maxsize=1)(build_terrace)


# ---- walks ---------------------------------------------------------------------------------------


def _mapping_walk(rng: Generator, count: int) -> Shots:
    """Along the wall to the east and back two metres before it, looking from side to side."""
    way, back = there_and_back(count)
    sweep = 2 * np.pi * 2 * way
    pose = hand_held(
        rng,
        center=np.column_stack([1.6 + 8.4 * way, np.where(back, 3.4, 1.4) + 0.3 * np.sin(sweep)]),
        height=np.where(back, 1.45, 1.65) + 0.1 * np.sin(1.7 * sweep),
        yaw=np.pi / 2 + np.where(back, 1, -1) * 0.8 * np.cos(sweep),
        pitch=-0.05 + 0.13 * np.sin(1.3 * sweep),
    )
    return carefully(rng, pose, 0.06)


def _query_walk(rng: Generator, count: int) -> Shots:
    """Between the ways of mapping and a metre beyond; a quarter blurred, a fifth badly exposed."""
    way = (np.arange(count) + 0.5) / count
    sweep = 2 * np.pi * 2.6 * way
    pose = hand_held(
        rng,
        center=np.column_stack([9.6 - 7.6 * way, 3.2 + 1.2 * np.sin(1.9 * sweep)]),
        height=1.55 + 0.15 * np.sin(1.4 * sweep + 1),
        yaw=np.pi / 2 + 0.7 * np.sin(sweep + 0.4),
        pitch=-0.04 + 0.1 * np.sin(2.6 * sweep + 2),
    )
    return carelessly(rng, pose, 0.15)


# ---- near: the terrace ---------------------------------------------------------------------------


def _ground(b: RoomBuilder, stone: Material) -> None:
    x, y = SIZE
    b.rectangle((0, 0, 0), x * X, y * Y, b.material(facades.paving(b.rng), (3.2, 3.2)))
    b.rectangle((x, y, _STREET), -x * X, -_STREET * Z, stone)  # the terrace's wall above the street
    for foot, size in (
        ((x / 2, y - 0.15, 0), (x, 0.3, 0.85)),
        ((0.15, y / 2, 0), (0.3, y, 0.85)),
        ((x - 0.15, y / 2, 0), (0.3, y, 0.85)),
    ):
        b.box(foot, size, stone)
    cobbles = b.material(facades.paving(b.rng), (5.0, 5.0))
    asphalt = b.material(paint.speckled(b.rng, (112, 110, 112), 0.5, 512), (7.0, 7.0))
    grass = b.material(facades.foliage(b.rng, (104, 128, 72), 512), (9.0, 9.0))
    b.rectangle((-60, y, _STREET), 140 * X, 6 * Y, cobbles)
    b.rectangle((-60, y + 6, _STREET), 140 * X, 8 * Y, asphalt)
    b.rectangle((-60, y + 14, _STREET), 140 * X, 106 * Y, grass)
    white = b.material(paint.plain((220, 220, 214)), (1, 1))
    for left in np.arange(-30, 45, 4.0):
        b.rectangle((left, y + 9.9, _STREET + 0.01), 2 * X, 0.15 * Y, white)


def _house(b: RoomBuilder, stone: Material) -> None:
    """The wall behind the cameras, seen at the edges of wide turns only."""
    b.rectangle((SIZE[0] + 1, 0, 0), -(SIZE[0] + 2) * X, 5 * Z, b.material(paint.bricks(b.rng), (1.0, 0.6)))
    white = b.material(paint.plain((214, 210, 200)), (1, 1))
    b.box((6, 0.02, 0), (0.9, 0.04, 2.05), white, back=b.material(paint.door()))
    for x in (-0.5, SIZE[0] + 0.5):
        b.box((x, 0.4, 0), (0.5, 0.5, 4.5), stone)


def _furnish(b: RoomBuilder, oak: Material, steel: Material) -> None:
    for x, y in ((2.6, 5.4), (6.4, 6.2), (9.6, 5.2)):
        b.box((x, y, 0.7), (1.1, 0.8, 0.04), oak)
        b.cylinder((x, y, 0), 0.7 * Z, 0.05, steel)
        b.disc((x, y, 0.02), 0.28, steel)
        for dx, dy, yaw in ((0, -0.75, np.pi), (0, 0.75, 0.1), (0.9, 0.1, -1.5)):
            chair(b, (x + dx, y + dy), yaw, oak)
        bowl = b.material(paint.glazed_pot(b.rng, (226, 222, 212), (70, 100, 130)))
        b.cylinder((x + 0.2, y, 0.74), 0.09 * Z, 0.13, bowl)
        cover = b.material(paint.magazine(b.rng))
        b.box((x - 0.25, y - 0.1, 0.74), (0.21, 0.28, 0.01), oak, yaw=0.5, top=cover)
    for i, x in enumerate(np.linspace(0.8, 11.2, 9)):
        plant(b, (x, 7.45 + 0.05 * (i % 2)))
    for x, y in ((0.8, 3.2), (11.2, 3.6), (4.5, 6.9)):
        plant(b, (x, y))
    parasol = paint.stripes([(206, 84, 64), (238, 230, 212)], [32, 32])
    x, y = 9.6, 5.2
    b.cylinder((x, y, 0.7), 1.9 * Z, 0.03, steel)
    b.rectangle((x - 1.3, y - 1.3, 2.55), 2.6 * X, 2.6 * Y, b.material(parasol, (0.8, 0.8)))
    b.rectangle((x - 1.3, y + 1.3, 2.54), 2.6 * X, -2.6 * Y, b.material(parasol, (0.8, 0.8)))
    with_words = paint.cardboard(b.rng)
    b.box((1.1, 1.9, 0), (0.6, 0.4, 0.5), b.material(with_words), yaw=0.3)
    board = b.material(paint.code_screen(b.rng))
    b.framed((4.6, 4.6, 0.1), 0.6, 0.9, board, oak, yaw=0.2, lean=0.2)


# ---- middle: the street --------------------------------------------------------------------------

_PLASTERS = [
    (214, 186, 138), (196, 206, 196), (206, 150, 122), (228, 220, 200), (176, 188, 204), (222, 200, 170),
]  # fmt: skip


def _street_fronts(b: RoomBuilder) -> None:
    """Houses beyond the street with gaps to see through, and two rows that close it to the sides."""
    tiles = b.material(facades.roof_tiles(b.rng), (3.2, 1.6))
    houses = [  # left end, width, distance, storeys
        (-22.0, 9.0, 21.0, 3), (-12.0, 8.0, 20.0, 4), (-3.5, 6.0, 24.0, 3), (5.5, 8.0, 21.0, 2),
        (17.0, 7.0, 22.0, 4), (25.0, 10.0, 30.0, 3),
    ]  # fmt: skip
    for i, (left, wide, y, storeys) in enumerate(houses):
        tall = 3.2 * (storeys + 1)
        front = b.material(facades.house_front(b.rng, storeys, round(wide / 2.2), _PLASTERS[i]))
        side = b.material(facades.house_front(b.rng, storeys, 4, _PLASTERS[i]))
        b.box(
            (left + wide / 2, y + 4, _STREET),
            (wide, 8, tall),
            front,
            left=side,
            right=side,
            top=None,
            bottom=None,
        )
        eaves = _STREET + tall
        b.rectangle((left - 0.3, y - 0.4, eaves), (wide + 0.6) * X, 4.4 * Y + 2.6 * Z, tiles)
        b.box((left + 0.3 * wide, y + 2.5, eaves + 1), (0.7, 0.7, 2.0), tiles)
    for x, south, along in ((-17.0, 2.0, Y), (31.0, 20.0, -Y)):  # seen from inside
        for k in range(2):
            front = facades.house_front(b.rng, 2 + k, 5, _PLASTERS[int(b.rng.integers(6))])
            start = np.array([x, south, _STREET]) + 9.5 * k * along
            b.rectangle(start, 9 * along, 3.2 * (3 + k) * Z, b.material(front))


def _trees(b: RoomBuilder) -> None:
    bark = b.material(paint.wood(b.rng, (120, 98, 70), (84, 66, 48)), (0.6, 0.6))
    for x, y, tall in (
        (-6.0, 13.5, 5.0),
        (1.0, 13.0, 4.0),
        (13.0, 13.5, 5.5),
        (21.0, 15.0, 6.0),
        (9.5, 27.0, 7.0),
    ):
        b.cylinder((x, y, _STREET), tall * Z, 0.16, bark)
        green = (84, 120, 62) if b.rng.random() < 0.5 else (112, 128, 60)
        crown = b.material(facades.foliage(b.rng, green), (1.6, 1.6))
        for _ in range(14):
            b.sphere(
                np.array([x, y, _STREET + tall]) + b.rng.normal(0, 0.75, 3), b.rng.uniform(0.4, 0.95), crown
            )


# ---- far: towers, hills, the sky -----------------------------------------------------------------

_SKY = 450.0


def _far_away(b: RoomBuilder) -> None:
    for x, y, wide, tall, yaw in (
        (-40, 66, 14, 22, 0.3), (-14, 78, 12, 34, -0.2), (4, 62, 9, 18, 0.1), (14, 92, 16, 42, 0.4),
        (38, 72, 16, 26, -0.4), (62, 88, 14, 36, 0.2), (-64, 90, 18, 30, -0.1),
    ):  # fmt: skip
        front, side = (b.material(facades.concrete_front(b.rng, round(tall / 3), n)) for n in (wide, 8))
        b.box((x, y, _STREET), (wide, 10, tall), front, yaw=yaw, left=side, right=side, bottom=None)
    for x, y, radius, peak in ((-60, 150, 70, 16), (20, 160, 80, 12), (100, 150, 75, 20)):
        b.sphere((x, y, peak - radius), radius, b.material(facades.wooded_hill(b.rng), (60.0, 40.0)))
