"""An office corridor of equal doors: eight parts of 3 m; x east along it, y north, z up, metres.

North are doors, each with a plate and a picture beside it; south are windows, radiators and notice boards. What
is at the ends stands nowhere else: a glazed door in the west, a directory and bricks in the east.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator

from dsac.datasets.frame import Scene
from dsac.rooms import posters, signs
from dsac.rooms import textures as paint
from dsac.rooms.brushes import words
from dsac.rooms.builder import Material, RoomBuilder, X, Y, Z
from dsac.rooms.furniture import plant
from dsac.rooms.light import bake_light
from dsac.rooms.repeats import Repeats, own_materials, told_apart
from dsac.rooms.scene import walked_scene
from dsac.rooms.surfaces import Room
from dsac.rooms.walks import Shots, carefully, carelessly, hand_held, there_and_back

CORRIDOR = Repeats(periods=((3.0, 0.0, 0.0),), counts=(8,))
LIGHT_CELL = 0.12  # metres
_LONG, _WIDE, _HIGH = 24.0, 2.6, 2.7
_EXPOSURE = 1.3


def corridor_scene(
    num_mapping: int = 200,
    num_query: int = 50,
    size: tuple[int, int] = (640, 480),
    seed: int = 0,
    difference: float = 0.5,
    light_cell: float = LIGHT_CELL,
) -> Scene:
    """The corridor as a phone sees it, every frame rendered when taken; named as by `synthetic_scene`.

    `difference` is the share of the parts that have plate, picture and notices of their own; 0: only the ends
    differ. Mapping looks north on the way there and south on the way back; queries are nearer the middle.
    Raises: `ValueError` for a difference outside [0, 1].
    """
    room, counts = _last_corridor(seed, difference, light_cell), (num_mapping, num_query)
    return walked_scene(room, _mapping_walk, _query_walk, counts, size, seed)


def build_corridor(seed: int, difference: float, light_cell: float = LIGHT_CELL) -> Room:
    """The place with its light baked; the seed chooses pictures and grain, and which parts differ first."""
    b, rng = RoomBuilder(np.random.default_rng([seed, 0])), np.random.default_rng([seed, 4])
    (period,), (count,) = CORRIDOR.periods, CORRIDOR.counts
    own = told_apart(rng, count, difference)
    pictures = own_materials(b, rng, own, posters.print_arcs(), signs.poster)
    plates = own_materials(b, rng, own, signs.plate("OFFICE", "please knock"), _own_plate)
    boards = own_materials(b, rng, own, signs.notice_board(b.rng), lambda rng, k: signs.notice_board(rng))
    of = _paint(b)
    for k in b.repeats(period, count):
        _shell(b, of)
        _door(b, of, plates[k])
        b.framed((2.25, 2.585, 1.2), 0.54, 0.72, pictures[k], of.steel)
        _window(b, of)
        b.framed((2.42, 0.015, 1.25), 0.8, 0.6, boards[k], of.steel, yaw=np.pi)
    _ends(b, of)
    return b.share_light(bake_light(b.room(), _lamp_points(), light_cell))


_last_corridor = lru_cache(maxsize=2)(build_corridor)


# ---- walks ---------------------------------------------------------------------------------------


def _mapping_walk(rng: Generator, count: int) -> Shots:
    """To the east near the windows, looking at the doors, and back near the doors, looking at the windows."""
    way, back = there_and_back(count)
    sweep = 2 * np.pi * 7 * way
    pose = hand_held(
        rng,
        center=np.column_stack([1.0 + 22.0 * way, np.where(back, 2.0, 0.6) + 0.1 * np.sin(1.3 * sweep)]),
        height=np.where(back, 1.45, 1.6) + 0.08 * np.sin(0.7 * sweep),
        yaw=np.where(back, -1, 1) * np.pi / 2 + 0.7 * np.cos(sweep),
        pitch=-0.12 + 0.14 * np.sin(1.7 * sweep),
    )
    return carefully(rng, pose, 0.05, _EXPOSURE)


def _query_walk(rng: Generator, count: int) -> Shots:
    """Back through the middle, turning from side to side; a quarter blurred, a fifth badly exposed."""
    way = (np.arange(count) + 0.5) / count
    sweep = 2 * np.pi * 5.3 * way
    north = np.sin(sweep) > 0
    pose = hand_held(
        rng,
        center=np.column_stack([22.5 - 21.0 * way, np.where(north, 0.95, 1.65)]),
        height=1.5 + 0.12 * np.sin(1.4 * sweep + 1),
        yaw=np.where(north, 1, -1) * np.pi / 2 + 0.6 * np.sin(2.2 * sweep + 0.4),
        pitch=-0.1 + 0.12 * np.sin(2.6 * sweep + 2),
    )
    return carelessly(rng, pose, 0.1, _EXPOSURE)


# ---- what every part has -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Materials:
    white: Material
    steel: Material
    plaster: Material
    dado: Material
    floor: Material
    ceiling: Material
    lamp: Material
    door: Material
    leaf: Material
    view: Material
    ribs: Material
    red: Material


def _paint(b: RoomBuilder) -> _Materials:
    """Textures whose size divides the period go on across the parts without a seam."""
    return _Materials(
        white=b.material(paint.speckled(b.rng, (222, 222, 216), 0.05), (0.5, 0.5)),
        steel=b.material(paint.speckled(b.rng, (150, 152, 156), 0.10), (0.25, 0.25)),
        plaster=b.material(paint.speckled(b.rng, (214, 210, 194), 0.14, 512), (1.5, 1.5)),
        dado=b.material(paint.speckled(b.rng, (124, 146, 140), 0.22, 512), (1.5, 1.5)),
        floor=b.material(paint.terrazzo(b.rng, (168, 160, 148)), (1.0, 1.0)),
        ceiling=b.material(paint.ceiling_tiles(b.rng), (1.0, 1.0)),
        lamp=b.material(paint.plain((250, 250, 244)), (1, 1)),
        door=b.material(paint.wood(b.rng, (196, 150, 100), (150, 104, 66), (512, 256))),
        leaf=b.material(paint.door()),
        view=b.material(paint.sky_view(b.rng)),
        ribs=b.material(paint.radiator_ribs(), (0.06, 1.0)),
        red=b.material(paint.speckled(b.rng, (190, 36, 30), 0.2), (0.3, 0.3)),
    )


def _shell(b: RoomBuilder, of: _Materials) -> None:
    along, dado = 3.0, 1.0
    b.rectangle((0, 0, 0), along * X, _WIDE * Y, of.floor)
    b.rectangle((0, _WIDE, _HIGH), along * X, -_WIDE * Y, of.ceiling)
    for start, u in (((0, _WIDE, 0), along * X), ((along, 0, 0), -along * X)):
        b.rectangle(start, u, dado * Z, of.dado)
        b.rectangle(np.array(start) + dado * Z, u, (_HIGH - dado) * Z, of.plaster)
    for y in (0.008, _WIDE - 0.008):
        b.box((along / 2, y, 0), (along, 0.016, 0.1), of.steel, left=None, right=None)
        b.box((along / 2, y, dado), (along, 0.016, 0.05), of.door, left=None, right=None)
        b.box((0, y + np.sign(1 - y) * 0.04, 0), (0.24, 0.1, _HIGH), of.white)  # and no seam is seen
    b.rectangle((0.9, 1.45, _HIGH - 0.01), 1.2 * X, -0.3 * Y, of.lamp, emission=2.2)
    b.box((1.5, _WIDE / 2, _HIGH - 0.05), (1.26, 0.36, 0.05), of.steel, bottom=None, top=None)


def _door(b: RoomBuilder, of: _Materials, plate: Material) -> None:
    """With plate and handle, and a fire extinguisher beside it."""
    x, y = 0.95, _WIDE
    b.box((x, y - 0.02, 0), (0.9, 0.04, 2.05), of.door, front=of.leaf)
    for side in (x - 0.49, x + 0.49):
        b.box((side, y - 0.035, 0), (0.08, 0.07, 2.05), of.door)
    b.box((x, y - 0.035, 2.05), (1.06, 0.07, 0.08), of.door)
    b.cylinder((x - 0.36, y - 0.09, 1.02), 0.06 * Y, 0.012, of.steel)
    b.cylinder((x - 0.37, y - 0.09, 1.02), 0.13 * X, 0.011, of.steel)
    b.rectangle((1.55, y - 0.01, 1.5), 0.3 * X, 0.2 * Z, plate)
    b.cylinder((2.0, y - 0.1, 0.35), 0.42 * Z, 0.075, of.red)
    b.sphere((2.0, y - 0.1, 0.77), 0.075, of.red)
    b.cylinder((2.0, y - 0.1, 0.8), 0.1 * Z, 0.02, of.steel)


def _window(b: RoomBuilder, of: _Materials) -> None:
    """With sill and radiator."""
    left, right, low, high = 0.35, 1.75, 1.0, 2.3
    middle, wide, tall = (left + right) / 2, right - left, high - low
    b.rectangle((right, 0.02, low), -wide * X, tall * Z, of.view, emission=1.1)
    for x in (left, middle, right):
        b.box((x, 0.03, low), (0.06, 0.06, tall), of.white)
    for z in (low + 0.85, high):
        b.box((middle, 0.03, z), (wide + 0.06, 0.06, 0.05), of.white)
    b.box((middle, 0.09, low - 0.02), (wide + 0.16, 0.18, 0.035), of.door)
    b.box((middle, 0.1, 0.14), (1.2, 0.12, 0.66), of.white, front=None, back=of.ribs)


# ---- what is at the ends, and light --------------------------------------------------------------


def _own_plate(rng: Generator, k: int) -> np.ndarray:
    return signs.plate(f"{101 + k}", words(rng, 2))


def _ends(b: RoomBuilder, of: _Materials) -> None:
    blue = b.material(paint.speckled(b.rng, (92, 120, 146), 0.15, 512), (1.2, 1.2))
    b.rectangle((0, 0, 0), _WIDE * Y, _HIGH * Z, blue)
    b.rectangle((_LONG, _WIDE, 0), -_WIDE * Y, _HIGH * Z, b.material(paint.bricks(b.rng), (1.0, 0.6)))
    sky = b.material(paint.sky_view(b.rng))
    b.rectangle((0.03, 0.6, 0), 1.4 * Y, 2.1 * Z, sky, emission=0.6)  # a glazed door
    for y in (0.6, 1.3, 2.0):
        b.box((0.04, y, 0), (0.07, 0.07, 2.1), of.steel)
    for z in (0.0, 1.0, 2.1):
        b.box((0.04, 1.3, z), (0.06, 1.46, 0.07), of.steel)
    directory = b.material(signs.directory(b.rng, "FLOOR 1"))
    b.framed((_LONG - 0.015, 1.3, 0.95), 0.9, 1.2, directory, of.steel, yaw=-np.pi / 2)
    plant(b, (_LONG - 0.4, 0.4))
    plant(b, (0.4, _WIDE - 0.35))


def _lamp_points() -> np.ndarray:
    """Ceiling lamps and windows of all parts as points of light for `bake_light`."""
    points = []
    for k in range(CORRIDOR.counts[0]):
        for x in (1.1, 1.5, 1.9):
            points.append([3.0 * k + x, _WIDE / 2, _HIGH - 0.08, 0, 0, -1, 0.42, 0.41, 0.38])
        for x in (0.7, 1.4):
            for z in (1.3, 1.95):
                points.append([3.0 * k + x, 0.1, z, 0, 1, 0, 0.28, 0.31, 0.36])
    return np.array(points)
