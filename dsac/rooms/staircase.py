"""A staircase over four floors that look alike: 3 m each; x east, y north, z up, metres.

South of the stairs are the landings, each with the door of a flat; in the west a flight leads north, and from a
half landing with a window another one back south in the east. What is at the ends stands nowhere else: a list
of tenants and a plant on the ground, blue walls and a skylight on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator

from dsac.datasets.frame import Scene
from dsac.rooms import posters, signs
from dsac.rooms import textures as paint
from dsac.rooms.brushes import CREAM, PALETTE, words
from dsac.rooms.builder import Material, RoomBuilder, X, Y, Z
from dsac.rooms.furniture import plant
from dsac.rooms.light import bake_light
from dsac.rooms.repeats import Repeats, own_materials, told_apart
from dsac.rooms.scene import walked_scene
from dsac.rooms.surfaces import Room
from dsac.rooms.walks import Shots, carefully, carelessly, hand_held, there_and_back

STAIRCASE = Repeats(periods=((0.0, 0.0, 3.0),), counts=(4,))
LIGHT_CELL = 0.12  # metres
_WIDE, _LONG, _FLOOR = 2.8, 5.6, 3.0
_FLIGHT = 1.25  # wide; between the two is a gap
_SOUTH, _NORTH = 1.6, 4.0  # where the flights begin and end
_RISE, _TREAD, _STEPS = 1.5 / 9, 0.3, 8
_EXPOSURE = 1.7


def staircase_scene(
    num_mapping: int = 200,
    num_query: int = 50,
    size: tuple[int, int] = (640, 480),
    seed: int = 0,
    difference: float = 0.5,
    light_cell: float = LIGHT_CELL,
) -> Scene:
    """The staircase as a phone sees it, every frame rendered when taken; named as by `synthetic_scene`.

    `difference` is the share of the floors that have plate, mat and vase of their own, above a half their
    pictures too; 0: only the ends differ. Mapping walks up and down again, queries down, a step aside.
    Raises: `ValueError` for a difference outside [0, 1].
    """
    room, counts = _last_staircase(seed, difference, light_cell), (num_mapping, num_query)
    return walked_scene(room, _mapping_walk, _query_walk, counts, size, seed)


def build_staircase(seed: int, difference: float, light_cell: float = LIGHT_CELL) -> Room:
    """The place with its light baked; the seed chooses pictures and grain, and which floors differ first."""
    b, rng = RoomBuilder(np.random.default_rng([seed, 0])), np.random.default_rng([seed, 4])
    (period,), (count,) = STAIRCASE.periods, STAIRCASE.counts
    own = told_apart(rng, count, difference)
    own_large = own & (difference > 0.5)
    plates = own_materials(b, rng, own, signs.plate("FLAT", "ring twice"), _own_plate)
    low = own_materials(b, rng, own_large, posters.print_arcs(), signs.poster)
    high = own_materials(b, rng, own_large, posters.print_arcs(), lambda rng, k: signs.poster(rng, k + 3))
    maps = own_materials(b, rng, own_large, _chart(b.rng), lambda rng, k: _chart(rng))
    prints = own_materials(b, rng, own_large, posters.print_arcs(), lambda rng, k: signs.poster(rng, k + 1))
    pots = own_materials(b, rng, own, _pot(b.rng, 0), lambda rng, k: _pot(rng, k + 1))
    mats = own_materials(b, rng, own, paint.cushion(b.rng), lambda rng, k: paint.rug(rng))
    of = _paint(b)
    for k in b.repeats(period, count):
        _walls(b, of)
        _landings(b, of)
        _flight(b, of, up=1)
        _flight(b, of, up=-1)
        _door(b, of, plates[k], mats[k])
        b.framed((0.015, 0.85, 1.15), 0.54, 0.72, low[k], of.steel, yaw=np.pi / 2)
        b.framed((_WIDE - 0.015, 4.8, 2.6), 0.54, 0.72, high[k], of.steel, yaw=-np.pi / 2)
        b.framed((_WIDE - 0.015, 3.3, 3.1), 0.5, 0.5, maps[k], of.oak, yaw=-np.pi / 2)
        b.framed((_WIDE - 0.015, 2.3, 3.6), 0.45, 0.6, prints[k], of.oak, yaw=-np.pi / 2)
        b.framed((0.015, 2.4, 1.7), 0.45, 0.6, prints[k], of.oak, yaw=np.pi / 2)
        b.framed((0.015, 3.5, 2.4), 0.5, 0.5, maps[k], of.oak, yaw=np.pi / 2)
        b.framed((0.015, 4.75, 2.55), 0.54, 0.72, high[k], of.steel, yaw=np.pi / 2)
        _window(b, of, pots[k])
        _lamps(b, of)
    _ends(b, of)
    return b.share_light(bake_light(b.room(), _lamp_points(), light_cell))


_last_staircase = lru_cache(maxsize=2)(build_staircase)


# ---- walks ---------------------------------------------------------------------------------------

# one floor's way: x, y, z of the feet and the direction of the walk, at shares of the way
_WAY = np.array([0.0, 0.1, 0.42, 0.5, 0.6, 0.92, 1.0])
_FEET = np.array([
    [0.65, 1.0, 0.0], [0.65, _SOUTH, 0.0], [0.65, _NORTH, 1.5], [1.4, 4.75, 1.5], [2.15, _NORTH, 1.5],
    [2.15, _SOUTH, 3.0], [0.65, 1.0, 3.0],
])  # fmt: skip
_TURN = np.array([1.57, 1.57, 1.35, 0.0, -1.4, -1.57, -4.71])  # walking up; a turn to the right twice a floor


def _track(floors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Feet (N, 3) and direction of the walk (N,) on the way up, `floors` (N,) above the ground."""
    whole = np.floor(floors)
    feet = np.column_stack([np.interp(floors - whole, _WAY, column) for column in _FEET.T])
    return feet + whole[:, None] * np.array([0, 0, _FLOOR]), np.interp(floors - whole, _WAY, _TURN)


def _mapping_walk(rng: Generator, count: int) -> Shots:
    """Up and down again, turning from side to side."""
    way, back = there_and_back(count)
    feet, turn = _track(0.02 + 3.94 * way)
    sweep = 2 * np.pi * 9 * way
    pose = hand_held(
        rng,
        center=feet[:, :2],
        height=feet[:, 2] + np.where(back, 1.65, 1.45) + 0.06 * np.sin(0.7 * sweep),
        yaw=turn + np.where(back, np.pi + 0.25, -0.25) + 0.6 * np.sin(sweep),
        pitch=np.where(back, -0.28, 0.05) + 0.15 * np.sin(1.7 * sweep),
    )
    return carefully(rng, pose, 0.05, _EXPOSURE)


def _query_walk(rng: Generator, count: int) -> Shots:
    """Down, a third of a metre aside, looking up or down; a quarter blurred, a fifth badly exposed."""
    way = (np.arange(count) + 0.5) / count
    feet, turn = _track(3.85 - 3.7 * way)
    sweep = 2 * np.pi * 7.3 * way
    upwards = np.sin(0.43 * sweep) > 0
    aside = 0.25 * np.column_stack([np.sin(sweep), np.cos(1.7 * sweep)])
    pose = hand_held(
        rng,
        center=feet[:, :2] + aside,
        height=feet[:, 2] + 1.55 + 0.12 * np.sin(1.4 * sweep + 1),
        yaw=turn + np.where(upwards, -0.25, np.pi + 0.25) + 0.55 * np.sin(sweep + 0.4),
        pitch=np.where(upwards, 0.02, -0.2) + 0.14 * np.sin(2.6 * sweep + 2),
    )
    return carelessly(rng, pose, 0.1, _EXPOSURE)


# ---- what every floor has ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Materials:
    white: Material
    steel: Material
    plaster: Material
    dado: Material
    stone: Material
    floor: Material
    oak: Material
    door: Material
    lamp: Material
    view: Material


def _paint(b: RoomBuilder) -> _Materials:
    return _Materials(
        white=b.material(paint.speckled(b.rng, (222, 222, 216), 0.05), (0.5, 0.5)),
        steel=b.material(paint.speckled(b.rng, (110, 114, 120), 0.10), (0.25, 0.25)),
        plaster=b.material(paint.speckled(b.rng, (220, 208, 180), 0.16, 512), (1.5, 1.5)),
        dado=b.material(paint.bricks(b.rng), (1.0, 0.6)),
        stone=b.material(paint.terrazzo(b.rng, (150, 146, 140), 1), (1.2, 1.2)),
        floor=b.material(paint.terrazzo(b.rng, (168, 160, 148), 4), (1.2, 1.2)),
        oak=b.material(paint.wood(b.rng, (178, 128, 84), (128, 86, 54), (512, 256)), (0.5, 1.0)),
        door=b.material(paint.door()),
        lamp=b.material(paint.plain((250, 248, 238)), (1, 1)),
        view=b.material(paint.sky_view(b.rng)),
    )


def _walls(b: RoomBuilder, of: _Materials) -> None:
    """Plaster, and bricks in the west."""
    for corner, u, material in (
        ((_WIDE, 0, 0), -_WIDE * X, of.plaster),
        ((0, _LONG, 0), _WIDE * X, of.plaster),
        ((0, 0, 0), _LONG * Y, of.dado),
        ((_WIDE, _LONG, 0), -_LONG * Y, of.plaster),
    ):
        b.rectangle(corner, u, _FLOOR * Z, material)


def _landings(b: RoomBuilder, of: _Materials) -> None:
    for south, north, z in ((0.0, _SOUTH, 0.0), (_NORTH, _LONG, 1.5)):
        middle, deep = (south + north) / 2, north - south
        b.box(
            (_WIDE / 2, middle, z - 0.18),
            (_WIDE, deep, 0.18),
            of.white,
            top=of.floor,
            front=of.stone,
            back=of.stone,
        )
        for y in (0.01, _LONG - 0.01):
            if south < y < north:
                b.box((_WIDE / 2, y, z), (_WIDE, 0.02, 0.1), of.stone)
        for x in (0.01, _WIDE - 0.01):
            b.box((x, middle, z), (0.02, deep, 0.1), of.stone)


def _flight(b: RoomBuilder, of: _Materials, up: int) -> None:
    """Steps, their underside and a railing at the gap: to the north in the west, or (-1) back in the east."""
    left, start, foot = (0.0, _SOUTH, 0.0) if up > 0 else (_WIDE - _FLIGHT, _NORTH, 1.5)
    inner = _FLIGHT if up > 0 else _WIDE - _FLIGHT
    for i in range(_STEPS + 1):
        y, z = start + up * _TREAD * i, foot + _RISE * i
        corner, across = ((left, y, z), X) if up > 0 else ((left + _FLIGHT, y, z), -X)
        if i < _STEPS:
            b.rectangle(corner, _FLIGHT * across, _RISE * Z, of.stone)
            tread = np.array(corner) + _RISE * Z
            b.rectangle(tread, _FLIGHT * across, up * _TREAD * Y, of.floor)
            nose = tread - 0.03 * up * Y - 0.035 * Z
            b.rectangle(nose, _FLIGHT * across, 0.035 * Z, of.oak)
            b.rectangle(nose + 0.035 * Z, _FLIGHT * across, 0.03 * up * Y, of.oak)
            b.cylinder((inner, y + 0.15 * up, z + _RISE), 0.92 * Z, 0.011, of.steel)
    slope = _STEPS * _TREAD * up * Y + 1.5 * Z
    below = np.array([left, start, foot - 0.18])
    across = X if up > 0 else -X
    end = below + slope + (0 if up > 0 else _FLIGHT) * X
    b.rectangle(end, _FLIGHT * across, -slope, of.white)
    b.cylinder((inner, start, foot + 1.02), slope, 0.025, of.oak)
    string = 0.3 * np.array([0, -1.5 * up, 2.4]) / np.hypot(1.5, 2.4)  # the boards that the steps end at
    start_below = np.array([0, start, foot]) - 0.9 * string
    for side in (left, left + _FLIGHT):
        for corner, edge in ((start_below, slope), (start_below + slope, -slope)):
            b.rectangle(corner + side * X, edge, string, of.oak)


def _door(b: RoomBuilder, of: _Materials, plate: Material, mat: Material) -> None:
    x = 1.5
    b.box((x, 0.02, 0), (0.9, 0.04, 2.05), of.white, back=of.door)
    for side in (x - 0.49, x + 0.49):
        b.box((side, 0.035, 0), (0.08, 0.07, 2.05), of.oak)
    b.box((x, 0.035, 2.05), (1.06, 0.07, 0.08), of.oak)
    b.cylinder((x + 0.36, 0.04, 1.02), 0.06 * Y, 0.012, of.steel)
    b.cylinder((x + 0.24, 0.1, 1.02), 0.13 * X, 0.011, of.steel)
    b.rectangle((0.92, 0.01, 1.42), -0.33 * X, 0.22 * Z, plate)
    b.box((x, 0.45, 0), (0.75, 0.5, 0.012), of.steel, top=mat)


def _window(b: RoomBuilder, of: _Materials, pot: Material) -> None:
    """On the half landing, with a vase on its sill."""
    middle, wide, low, tall, y = _WIDE / 2, 1.3, 2.35, 1.35 - 0.2, _LONG - 0.02
    b.rectangle((middle - wide / 2, y, low), wide * X, tall * Z, of.view, emission=1.1)
    for x in (middle - wide / 2, middle, middle + wide / 2):
        b.box((x, y - 0.01, low), (0.06, 0.06, tall), of.white)
    for z in (low, low + 0.75, low + tall):
        b.box((middle, y - 0.01, z - 0.03), (wide + 0.06, 0.06, 0.06), of.white)
    b.box((middle, y - 0.08, low - 0.06), (wide + 0.2, 0.2, 0.03), of.oak)
    b.cylinder((middle - 0.3, y - 0.11, low - 0.03), 0.3 * Z, 0.07, pot)


_LAMPS = ((1.4, 0.85, _FLOOR - 0.2), (1.4, 4.8, _FLOOR + 1.5 - 0.2))  # below the landings


def _lamps(b: RoomBuilder, of: _Materials) -> None:
    for x, y, z in _LAMPS:
        b.sphere((x, y, z), 0.13, of.lamp, emission=1.5)


def _lamp_points() -> np.ndarray:
    """Lamps and windows of all floors as points of light for `bake_light`."""
    points = []
    for k in range(STAIRCASE.counts[0]):
        for x, y, z in _LAMPS:
            for dx, dy in ((-0.1, -0.1), (0.1, 0.1)):
                points.append([x + dx, y + dy, z + _FLOOR * k - 0.15, 0, 0, -1, 0.8, 0.75, 0.65])
        for x in (1.0, 1.8):
            for z in (2.5, 3.2):
                points.append([x, _LONG - 0.1, z + _FLOOR * k, 0, -1, 0, 0.28, 0.31, 0.36])
    for x, y in ((0.9, 2.8), (1.9, 2.8), (0.9, 4.0), (1.9, 4.0)):  # the skylight
        points.append([x, y, _FLOOR * STAIRCASE.counts[0] + 2.6, 0, 0, -1, 0.7, 0.75, 0.8])
    return np.array(points)


# ---- what is at the ends -------------------------------------------------------------------------


def _chart(rng: Generator) -> np.ndarray:
    return paint.globe(rng)[:, 200:584]


def _pot(rng: Generator, k: int) -> np.ndarray:
    return paint.glazed_pot(rng, PALETTE[2 * k % len(PALETTE)], CREAM)


def _own_plate(rng: Generator, k: int) -> np.ndarray:
    return signs.plate(f"{k}.{int(rng.integers(1, 9))}", words(rng, 1))


def _ends(b: RoomBuilder, of: _Materials) -> None:
    directory = b.material(signs.directory(b.rng, "TENANTS"))
    b.rectangle((0, _SOUTH, 0), _WIDE * X, (_LONG - _SOUTH) * Y, of.floor)
    b.framed((_WIDE - 0.015, 0.8, 1.0), 0.75, 1.0, directory, of.steel, yaw=-np.pi / 2)
    top = _FLOOR * STAIRCASE.counts[0]
    _top(b, of, top)
    plant(b, (2.45, 2.2))


def _top(b: RoomBuilder, of: _Materials, z: float) -> None:
    blue = b.material(paint.speckled(b.rng, (92, 120, 146), 0.15, 512), (1.2, 1.2))
    high = 2.7
    for corner, u in (
        ((_WIDE, 0, z), -_WIDE * X),
        ((0, _LONG, z), _WIDE * X),
        ((0, 0, z), _LONG * Y),
        ((_WIDE, _LONG, z), -_LONG * Y),
    ):
        b.rectangle(corner, u, high * Z, blue)
    b.box((_WIDE / 2, _SOUTH / 2, z - 0.18), (_WIDE, _SOUTH, 0.18), of.white, top=of.floor, back=of.stone)
    for x in np.arange(0.05, _FLIGHT, 0.15):
        b.cylinder((x, _SOUTH, z), 1.0 * Z, 0.012, of.steel)
    b.cylinder((0, _SOUTH, z + 1.0), _FLIGHT * X, 0.025, of.oak)
    b.rectangle((0, _LONG, z + high), _WIDE * X, -_LONG * Y, of.white)
    sky = b.material(paint.sky_view(b.rng))
    b.rectangle((0.5, 4.5, z + high - 0.01), 1.8 * X, -2.2 * Y, sky, emission=1.2)
    b.framed((1.4, 0.015, z + 0.8), 0.9, 1.2, b.material(posters.poster_mountains(b.rng)), of.steel, yaw=np.pi)
