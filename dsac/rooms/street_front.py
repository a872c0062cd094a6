"""A house front of equal windows over a street: 14 by 4 of them, 2.4 m × 3 m each; metres.

x east along the front, y north into the house, z up; the front is the plane y = 0, cameras stand south of it.
What is at the ends stands nowhere else: other houses, trees, the pavement and the roof.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator

from dsac.datasets.frame import Scene
from dsac.rooms import facades
from dsac.rooms import textures as paint
from dsac.rooms.brushes import CREAM, SMOOTH, any_colour, blend, to_colour, words, write
from dsac.rooms.builder import Material, RoomBuilder, X, Y, Z
from dsac.rooms.light import bake_light, daylight
from dsac.rooms.repeats import Repeats, own_materials, told_apart
from dsac.rooms.scene import walked_scene
from dsac.rooms.surfaces import Room
from dsac.rooms.walks import Shots, carefully, carelessly, hand_held, there_and_back

FACADE = Repeats(periods=((2.4, 0.0, 0.0), (0.0, 0.0, 3.0)), counts=(14, 4))
FARTHEST = 125.0  # metres: what is known of depths; the sky's is not
LIGHT_CELL = 0.25  # metres
_BAY, _STOREY = 2.4, 3.0
_LONG, _HIGH = 33.6, 12.0
_SKY = 450.0
_SHOWN = 3  # power of the dial that leaves a third of the photos without a window of its own at 0.5


def facade_scene(
    num_mapping: int = 200,
    num_query: int = 50,
    size: tuple[int, int] = (640, 480),
    seed: int = 0,
    difference: float = 0.5,
    light_cell: float = LIGHT_CELL,
) -> Scene:
    """The front as a phone sees it, every frame rendered when taken; named as by `synthetic_scene`.

    At `difference` 1 every window has curtains and flowers of its own, at 0 only the ends differ; between, the
    share of such windows is its cube, for a photo shows many. Mapping passes along the front twice, queries
    between the two ways.
    Raises: `ValueError` for a difference outside [0, 1].
    """
    room, counts = _last_front(seed, difference, light_cell), (num_mapping, num_query)
    return walked_scene(room, _mapping_walk, _query_walk, counts, size, seed, FARTHEST)


def build_street_front(seed: int, difference: float, light_cell: float = LIGHT_CELL) -> Room:
    """The place on a bright day; the seed chooses curtains and stains, and which windows differ first."""
    b, rng = RoomBuilder(np.random.default_rng([seed, 0])), np.random.default_rng([seed, 4])
    columns, storeys = FACADE.counts
    own = told_apart(rng, columns * storeys, difference**_SHOWN)
    panes = own_materials(b, rng, own, _pane(), _own_pane)
    green = facades.foliage(b.rng, (84, 120, 62))[::2, ::2]
    boxes = own_materials(b, rng, own, green, lambda rng, k: _in_flower(rng, green))
    of = _paint(b)
    for storey in b.repeats(FACADE.periods[1], storeys):
        for column in b.repeats(FACADE.periods[0], columns):
            k = columns * storey + column
            _bay(b, of, panes[k], boxes[k])
    for _ in b.repeats(FACADE.periods[0], columns):
        _pavement(b, of)
    _street(b, of)
    _ends(b, of)
    return b.share_light(bake_light(b.room(), daylight((_LONG / 2, -4.0, 0.0), 0.8 * _SKY), light_cell))


_last_front = lru_cache(maxsize=2)(build_street_front)


# ---- walks ---------------------------------------------------------------------------------------


def _mapping_walk(rng: Generator, count: int) -> Shots:
    """Along the front to the east and back farther off, looking from side to side and up."""
    way, back = there_and_back(count)
    sweep = 2 * np.pi * 7 * way
    pose = hand_held(
        rng,
        center=np.column_stack([2.0 + 29.6 * way, np.where(back, -5.6, -4.8) + 0.2 * np.sin(1.3 * sweep)]),
        height=np.where(back, 1.5, 1.65) + 0.08 * np.sin(0.7 * sweep),
        yaw=np.pi / 2 + np.where(back, -1, 1) * 0.36 * np.cos(sweep),
        pitch=0.24 + 0.2 * np.sin(1.7 * sweep),
    )
    return carefully(rng, pose, 0.06)


def _query_walk(rng: Generator, count: int) -> Shots:
    """Between the ways of mapping; a quarter blurred, a fifth badly exposed."""
    way = (np.arange(count) + 0.5) / count
    sweep = 2 * np.pi * 5.3 * way
    pose = hand_held(
        rng,
        center=np.column_stack([30.8 - 28.0 * way, -5.2 + 0.15 * np.sin(2.2 * sweep)]),
        height=1.55 + 0.15 * np.sin(1.4 * sweep + 1),
        yaw=np.pi / 2 + 0.36 * np.sin(sweep + 0.4),
        pitch=0.26 + 0.18 * np.sin(2.6 * sweep + 2),
    )
    return carelessly(rng, pose, 0.15)


# ---- what every bay of every storey has ----------------------------------------------------------


@dataclass(frozen=True)
class _Materials:
    plaster: Material
    stone: Material
    white: Material
    shutter: Material
    paving: Material
    asphalt: Material
    tiles: Material
    steel: Material


def _paint(b: RoomBuilder) -> _Materials:
    """Textures whose size divides the periods go on across the bays without a seam."""
    slats = paint.stripes([(70, 104, 92), (48, 76, 66)], [11, 5]).transpose(1, 0, 2)
    return _Materials(
        plaster=b.material(paint.speckled(b.rng, (214, 180, 130), 0.3, 512), (1.2, 1.5)),
        stone=b.material(paint.speckled(b.rng, (196, 188, 172), 0.3, 512), (1.2, 1.5)),
        white=b.material(paint.plain((220, 220, 214)), (1, 1)),
        shutter=b.material(slats, (0.3, 0.07)),
        paving=b.material(facades.paving(b.rng), (2.4, 2.4)),
        asphalt=b.material(paint.speckled(b.rng, (112, 110, 112), 0.5, 512), (7.0, 7.0)),
        tiles=b.material(facades.roof_tiles(b.rng), (3.2, 1.6)),
        steel=b.material(paint.speckled(b.rng, (110, 114, 120), 0.10), (0.25, 0.25)),
    )


_LEFT, _RIGHT, _LOW, _TOP, _DEEP = 0.7, 1.7, 0.9, 2.5, 0.18  # the hole that a window stands in


def _bay(b: RoomBuilder, of: _Materials, pane: Material, flowers: Material) -> None:
    middle, wide, tall = (_LEFT + _RIGHT) / 2, _RIGHT - _LEFT, _TOP - _LOW
    for x, z, w, h in (
        (0, 0, _BAY, _LOW),
        (0, _TOP, _BAY, _STOREY - _TOP),
        (0, _LOW, _LEFT, tall),
        (_RIGHT, _LOW, _BAY - _RIGHT, tall),
    ):
        b.rectangle((x, 0, z), w * X, h * Z, of.plaster)
    b.rectangle((_LEFT, 0, _LOW), _DEEP * Y, tall * Z, of.white)
    b.rectangle((_RIGHT, _DEEP, _LOW), -_DEEP * Y, tall * Z, of.white)
    b.rectangle((_LEFT, 0, _LOW), wide * X, _DEEP * Y, of.stone)
    b.rectangle((_LEFT, _DEEP, _TOP), wide * X, -_DEEP * Y, of.white)
    b.rectangle((_LEFT, _DEEP, _LOW), wide * X, tall * Z, pane)
    for x in (_LEFT + 0.03, middle, _RIGHT - 0.03):
        b.box((x, _DEEP - 0.03, _LOW), (0.06, 0.05, tall), of.white)
    for z in (_LOW, _LOW + 1.05, _TOP - 0.06):
        b.box((middle, _DEEP - 0.03, z), (wide, 0.05, 0.06), of.white)
    b.box((middle, -0.06, _LOW - 0.07), (wide + 0.24, 0.12, 0.07), of.stone)
    b.box((middle, -0.03, _TOP), (wide + 0.24, 0.06, 0.16), of.stone)
    b.box((middle, -0.05, _LOW), (0.8, 0.16, 0.15), of.steel)
    b.box((middle, -0.05, _LOW + 0.15), (0.76, 0.14, 0.12), flowers)
    for x in (_LEFT - 0.27, _RIGHT + 0.27):
        b.box((x, -0.02, _LOW), (0.48, 0.04, tall), of.shutter)
    b.box((_BAY / 2, -0.04, _STOREY - 0.1), (_BAY, 0.08, 0.14), of.stone, left=None, right=None)
    b.cylinder((0.06, -0.07, 0), _STOREY * Z, 0.05, of.steel)  # a gutter's pipe


def _pavement(b: RoomBuilder, of: _Materials) -> None:
    b.rectangle((0, -3.6, 0), _BAY * X, 3.6 * Y, of.paving)
    b.cylinder((1.2, -3.3, 0), 0.8 * Z, 0.06, of.steel)
    b.sphere((1.2, -3.3, 0.83), 0.08, of.white)


def _pane() -> np.ndarray:
    """Glass with a white curtain on either side."""
    image = blend((60, 74, 88), (150, 172, 190), np.linspace(1, 0, 192)[:, None] * np.ones((1, 120)))
    for x in range(0, 34, 6):
        image[:, x : x + 3] = image[:, -x - 3 : 120 - x] = (222, 218, 206)
        image[:, x + 3 : x + 6] = image[:, -x - 6 : 117 - x] = (200, 196, 184)
    return image


def _own_pane(rng: Generator, k: int) -> np.ndarray:
    """Curtains, blinds or a sign of somebody who lives there."""
    image, colour = _pane(), any_colour(rng)
    dark = to_colour(0.75 * np.array(colour))
    kind = int(rng.integers(3))
    if kind == 0:
        for x in range(0, 48, 8):
            image[:, x : x + 5] = image[:, -x - 5 : 120 - x] = colour
            image[:, x + 5 : x + 8] = image[:, -x - 8 : 115 - x] = dark
    elif kind == 1:
        stop = int(rng.integers(80, 170))
        image[:stop] = colour
        for y in range(0, stop, 9):
            image[y : y + 2] = dark
    else:
        cv2.rectangle(image, (12, 72), (108, 148), colour, -1)
        write(image, words(rng, 1)[:5].upper(), (16, 104), 0.8, CREAM, 2)
        write(image, f"{k + 1}", (40, 140), 1.0, CREAM, 2)
    return image


def _in_flower(rng: Generator, green: np.ndarray) -> np.ndarray:
    image, colour = green.copy(), any_colour(rng)
    for x, y in rng.integers(0, len(green), (50, 2)).tolist():
        cv2.circle(image, (x, y), 6, colour, -1, SMOOTH)
    return image


# ---- around it -----------------------------------------------------------------------------------


def _street(b: RoomBuilder, of: _Materials) -> None:
    b.sphere((_LONG / 2, 0, 0), _SKY, b.material(facades.clear_sky(b.rng)), emission=0.95)
    b.rectangle((-60, -30, -0.1), 160 * X, 26.4 * Y, of.asphalt)
    b.rectangle((-60, -3.6, -0.1), 160 * X, 0.1 * Z, of.stone)
    for start, wide in ((-60, 60), (_LONG, 60)):
        b.rectangle((start, -3.6, 0), wide * X, 3.6 * Y, of.stone)
    b.rectangle((0, -0.5, _HIGH), _LONG * X, 4 * Y + 2.6 * Z, of.tiles)
    b.rectangle((0, -0.5, _HIGH), _LONG * X, -0.2 * Z, of.white)
    b.rectangle((0, 0.0, _HIGH), _LONG * X, -0.5 * Y, of.white)


def _ends(b: RoomBuilder, of: _Materials) -> None:
    """Neighbours and trees."""
    for left, wide, storeys, colour in ((-13.0, 13.0, 2, (196, 206, 196)), (_LONG, 12.0, 4, (206, 150, 122))):
        front = b.material(facades.house_front(b.rng, storeys, round(wide / 2.2), colour))
        tall = 3.2 * (storeys + 1)
        b.box((left + wide / 2, 4, 0), (wide, 7.6, tall), front, top=None, bottom=None)
        b.rectangle((left, -0.2, tall), wide * X, 4.4 * Y + 2.6 * Z, of.tiles)
    bark = b.material(paint.wood(b.rng, (120, 98, 70), (84, 66, 48)), (0.6, 0.6))
    crown = b.material(facades.foliage(b.rng, (104, 124, 60)), (1.6, 1.6))
    for x in (-4.0, _LONG + 3.5):
        b.cylinder((x, -3.0, 0), 3.2 * Z, 0.14, bark)
        for _ in range(14):
            b.sphere(np.array([x, -3.0, 3.6]) + b.rng.normal(0, 0.6, 3), b.rng.uniform(0.4, 0.8), crown)
