"""The furniture of the synthetic room: 5 m × 4 m × 2.7 m; x east, y north, z up, origin in a floor corner.

North has a bookshelf and posters, east is a brick wall with the same picture five times (repeated
structure), south has window and door, west is a bare wall behind a sofa.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from dsac.rooms import textures as paint
from dsac.rooms.render import (
    CYLINDER,
    ELLIPSE,
    RECTANGLE,
    SPHERE,
    Room,
    bake_light,
    mip_pyramid,
    surface_tree,
)

SIZE = (5.0, 4.0, 2.7)

_X, _Y, _Z = np.eye(3)


def furnished_room(seed: int) -> Room:
    """The room with its light baked; the seed chooses books, pictures and grain, not the furniture."""
    b = _Builder(np.random.default_rng([seed, 0]))
    oak = b.material(paint.wood(b.rng, (206, 166, 118), (160, 114, 74)), (0.9, 0.45))
    walnut = b.material(paint.wood(b.rng, (128, 88, 60), (84, 56, 40)), (0.9, 0.45))
    white = b.material(paint.speckled(b.rng, (228, 226, 220), 0.03), (0.5, 0.5))
    steel = b.material(paint.speckled(b.rng, (150, 152, 156), 0.10), (0.2, 0.2))
    black = b.material(paint.plain((44, 44, 48)), (1, 1))

    _shell(b, white)
    _window(b, white)
    _door(b, steel)
    _bookshelf(b, oak)
    _sideboard(b, walnut, black)
    _posters(b, black)
    _brick_wall_pictures(b, walnut)
    _parcels(b)
    _sofa(b, walnut)
    _coffee_table(b, oak)
    _desk(b, oak, black, steel)
    for x, y, yaw in ((3.25, 1.02, 0.15), (3.95, 2.55, 3.3), (2.62, 1.72, -1.45)):
        _chair(b, (x, y), yaw, walnut)
    _plant(b)
    _lights(b, black, steel)
    return bake_light(b.room(), _lamp_points())


# ---- what stands in it ---------------------------------------------------------------------------


def _shell(b: _Builder, white: _Material) -> None:
    x, y, z = SIZE
    floor = b.material(paint.floor_boards(b.rng), (5.1, 4.08))
    b.rectangle((0, 0, 0), x * _X, y * _Y, floor)
    b.rectangle((0, y, z), x * _X, -y * _Y, white)
    plaster = b.material(paint.speckled(b.rng, (206, 208, 192), 0.05, 512), (1.2, 1.2))
    b.rectangle((x, 0, 0), -x * _X, z * _Z, plaster)  # south
    blue = b.material(paint.speckled(b.rng, (124, 148, 158), 0.08, 512), (1.2, 1.2))
    b.rectangle((0, y, 0), x * _X, z * _Z, blue)  # north
    b.rectangle((x, y, 0), -y * _Y, z * _Z, b.material(paint.bricks(b.rng), (1.0, 0.6)))  # east
    bare = b.material(paint.plain((222, 212, 196)), (1, 1))
    b.rectangle((0, 0, 0), y * _Y, z * _Z, bare)  # west
    for middle, size in (
        ((2.0, 0.008, 0), (3.96, 0.016, 0.09)),
        ((x / 2, y - 0.008, 0), (x, 0.016, 0.09)),
        ((0.008, y / 2, 0), (0.016, y, 0.09)),
        ((x - 0.008, y / 2, 0), (0.016, y, 0.09)),
    ):
        b.box(middle, size, white)


def _window(b: _Builder, white: _Material) -> None:
    left, right, low, high = 1.3, 3.0, 0.95, 2.2
    middle, wide, tall = (left + right) / 2, right - left, high - low
    sky = b.material(paint.sky_view(b.rng))
    b.rectangle((right, 0.012, low), -wide * _X, tall * _Z, sky, emission=1.7)
    for x in (left, middle, right):
        b.box((x, 0.03, low), (0.06, 0.06, tall), white)
    for z in (low - 0.03, low + 0.8, high):
        b.box((middle, 0.03, z), (wide + 0.06, 0.06, 0.05), white)
    b.box((middle, 0.1, low - 0.06), (wide + 0.3, 0.2, 0.035), white)
    ribs = paint.stripes([(214, 214, 210), (236, 236, 232), (196, 196, 192), (120, 122, 124)], [10, 26, 10, 8])
    b.box((middle, 0.09, 0.14), (1.5, 0.1, 0.62), white, front=None, back=b.material(ribs, (0.06, 1.0)))
    linen = b.material(paint.weave(b.rng, (204, 176, 120)), (0.12, 0.12))
    b.cylinder((left - 0.4, 0.14, 2.36), (wide + 0.8) * _X, 0.014, white)
    for side in (left - 0.28, right + 0.06):
        for fold in range(5):
            b.cylinder((side + 0.055 * fold, 0.13 + 0.03 * (fold % 2), 0.06), 2.3 * _Z, 0.034, linen)


def _door(b: _Builder, steel: _Material) -> None:
    white = b.material(paint.plain((214, 210, 200)), (1, 1))
    b.box((4.45, 0.02, 0), (0.9, 0.04, 2.05), white, back=b.material(paint.door()))
    for x in (3.97, 4.93):
        b.box((x, 0.03, 0), (0.08, 0.06, 2.05), white)
    b.box((4.45, 0.03, 2.05), (1.04, 0.06, 0.08), white)
    b.cylinder((4.1, 0.04, 1.02), 0.05 * _Y, 0.012, steel)
    b.cylinder((4.08, 0.09, 1.02), 0.13 * _X, 0.011, steel)


def _bookshelf(b: _Builder, oak: _Material) -> None:
    left, right, back, deep, tall = 0.4, 2.2, 4.0, 0.32, 2.05
    spines = b.material(paint.book_spines(b.rng))
    pages = b.material(paint.page_edges(b.rng))
    front = back - deep / 2
    for x in (left, (left + right) / 2, right):
        b.box((x, front, 0), (0.03, deep, tall), oak)
    b.box(((left + right) / 2, back - 0.01, 0), (right - left, 0.012, tall), oak)
    heights = [0.06, 0.45, 0.84, 1.23, 1.62, tall - 0.03]
    for z in heights:
        b.box(((left + right) / 2, front, z), (right - left, deep, 0.025), oak)
    for z in heights[:-1]:
        for start in (left + 0.03, (left + right) / 2 + 0.03):
            x, stop = start, start + 0.84
            gap = start + b.rng.uniform(0.3, 0.6)  # something else than books
            while x < stop - 0.07:
                if x < gap < x + 0.05:
                    _ornament(b, (x + 0.09, front - 0.02, z + 0.025))
                    x += 0.19
                thick, high, wide = b.rng.uniform([0.02, 0.2, 0.16], [0.052, 0.32, 0.24])
                i = int(b.rng.integers(48))
                b.box(
                    (x + thick / 2, back - 0.05 - wide / 2, z + 0.025),
                    (thick, wide, high),
                    b.cut(spines, (i + 0.25) / 48, 0.05, 0.5 / 48, 0.02),
                    front=b.cut(spines, i / 48, 0.0, 1 / 48, 1.0),
                    top=pages,
                )
                x += thick + 0.001


def _ornament(b: _Builder, foot: tuple[float, float, float]) -> None:
    x, y, z = foot
    colours: list[paint.Colour] = [(206, 190, 160), (60, 100, 120), (180, 84, 60), (90, 110, 80)]
    base = colours[int(b.rng.integers(4))]
    glaze = b.material(paint.glazed_pot(b.rng, base, (236, 226, 204)))
    if b.rng.random() < 0.5:
        b.sphere((x, y, z + 0.075), 0.075, glaze)
    else:
        b.cylinder((x, y, z), 0.2 * _Z, 0.055, glaze)


def _sideboard(b: _Builder, walnut: _Material, black: _Material) -> None:
    left, right, y, tall = 2.7, 4.3, 3.79, 0.72
    middle = (left + right) / 2
    b.box((middle, y, 0.12), (right - left, 0.4, tall - 0.12), walnut)
    for x in np.linspace(left + 0.205, right - 0.205, 4):
        b.box((x, y - 0.205, 0.15), (0.385, 0.015, tall - 0.2), walnut)
        b.cylinder((x + 0.13, y - 0.23, 0.45), 0.03 * _Y, 0.012, black)
    for x in (left + 0.08, right - 0.08):
        for dy in (-0.15, 0.15):
            b.cylinder((x, y + dy, 0), 0.12 * _Z, 0.02, black)
    b.cylinder((2.95, 3.76, tall), 0.02 * _Z, 0.09, walnut)
    b.cylinder((2.95, 3.76, tall), 0.08 * _Z, 0.012, walnut)
    axis = np.array([0.28, -0.2, 0.94])
    b.sphere((2.95, 3.76, tall + 0.22), 0.15, b.material(paint.globe(b.rng)), axis)
    vase = b.material(paint.glazed_pot(b.rng, (52, 84, 104), (226, 206, 160)))
    b.cylinder((4.1, 3.8, tall), 0.26 * _Z, 0.07, vase)
    for i, z in enumerate((0.0, 0.035, 0.075)):
        cover = b.material(
            paint.speckled(b.rng, ((150, 60, 48), (52, 84, 90), (216, 172, 96))[i], 0.1), (0.2, 0.2)
        )
        b.box((3.72, 3.74, tall + z), (0.26 - 0.02 * i, 0.19, 0.034), cover, yaw=0.2 * i)
    b.framed((3.36, 3.9, tall), 0.36, 0.5, b.material(paint.poster_fern(b.rng)), black, lean=0.14)
    leaves = b.material(paint.leaf(b.rng))
    for i in range(14):
        _leaf(b, np.array([4.1, 3.8, tall + 0.24]), 2.4 * i, 0.6 + 0.05 * i, 0.22, leaves)


def _posters(b: _Builder, black: _Material) -> None:
    for x, wide, tall, image in (
        (2.6, 0.58, 0.82, paint.poster_type(b.rng)),
        (3.5, 0.98, 0.70, paint.poster_mountains(b.rng)),
        (4.45, 0.60, 0.78, paint.poster_geometric(b.rng)),
    ):
        b.framed((x, 3.985, 1.68 - tall / 2), wide, tall, b.material(image), black)
    for x, wide, tall, image in (
        (0.55, 0.64, 0.88, paint.poster_city_map(b.rng)),
        (3.64, 0.56, 0.56, paint.poster_star_chart(b.rng)),
    ):
        b.framed((x, 0.015, 1.6 - tall / 2), wide, tall, b.material(image), black, yaw=np.pi)


def _brick_wall_pictures(b: _Builder, walnut: _Material) -> None:
    picture = b.material(paint.print_arcs())
    for y in np.arange(5) * 0.68 + 0.64:
        b.framed((4.985, y, 1.38), 0.34, 0.44, picture, walnut, yaw=-np.pi / 2)


def _parcels(b: _Builder) -> None:
    for x, y, z, size, yaw in (
        (4.66, 3.05, 0.0, (0.5, 0.55, 0.42), 0.05),
        (4.64, 2.42, 0.0, (0.46, 0.46, 0.34), -0.2),
        (4.68, 3.0, 0.42, (0.38, 0.42, 0.3), 0.35),
        (4.6, 2.42, 0.34, (0.3, 0.36, 0.22), 0.5),
    ):
        left, right, front = (b.material(paint.cardboard(b.rng)) for _ in range(3))
        b.box((x, y, z), size, front, yaw=yaw, left=left, right=right)


def _sofa(b: _Builder, walnut: _Material) -> None:
    cloth = b.material(paint.weave(b.rng, (86, 104, 112)), (0.16, 0.16))
    b.box((0.52, 1.95, 0.12), (0.84, 2.0, 0.2), cloth)
    for y in (1.5, 2.4):
        b.box((0.58, y, 0.32), (0.72, 0.89, 0.14), cloth)
        b.box((0.24, y, 0.42), (0.26, 0.88, 0.42), cloth)
    b.box((0.12, 1.95, 0.12), (0.16, 2.0, 0.66), cloth)
    for y in (0.96, 2.94):
        b.box((0.52, y, 0.12), (0.84, 0.16, 0.48), cloth)
    for x in (0.16, 0.88):
        for y in (0.98, 2.92):
            b.cylinder((x, y, 0), 0.12 * _Z, 0.025, walnut)
    for y, yaw in ((1.22, 0.25), (1.62, -0.1), (2.72, -0.3)):
        b.box((0.44, y, 0.46), (0.12, 0.42, 0.42), b.material(paint.cushion(b.rng)), yaw=yaw, lean=-0.3)


def _coffee_table(b: _Builder, oak: _Material) -> None:
    x, y, top = 1.75, 1.95, 0.42
    b.box((2.0, 1.95, 0), (2.4, 1.6, 0.012), oak, top=b.material(paint.rug(b.rng)))
    b.box((x, y, top - 0.04), (0.55, 1.05, 0.04), oak)
    b.box((x, y, 0.14), (0.45, 0.95, 0.02), oak)
    for dx in (-0.24, 0.24):
        for dy in (-0.48, 0.48):
            b.box((x + dx, y + dy, 0.012), (0.04, 0.04, top - 0.05), oak)
    paper = b.material(paint.plain((220, 216, 206)), (1, 1))
    for mx, my, mz, yaw in (
        (1.7, 1.65, 0.0, 0.4),
        (1.72, 1.66, 0.008, 1.1),
        (1.88, 2.0, 0.0, -1.3),
        (1.62, 2.06, 0, 1.5),
    ):
        cover = b.material(paint.magazine(b.rng))
        b.box((mx, my, top + mz), (0.21, 0.28, 0.008), paper, yaw=yaw, top=cover)
    bowl = b.material(paint.glazed_pot(b.rng, (226, 222, 212), (70, 100, 130)))
    b.cylinder((1.76, 2.3, top), 0.075 * _Z, 0.14, bowl)
    skin = b.material(paint.speckled(b.rng, (226, 134, 40), 0.25), (0.1, 0.1))
    for dx, dy, dz in ((-0.06, -0.05, 0.05), (0.07, -0.02, 0.05), (0.0, 0.07, 0.05), (0.0, 0.0, 0.115)):
        b.sphere((1.76 + dx, 2.3 + dy, top + dz), 0.045, skin)
    mug = b.material(paint.glazed_pot(b.rng, (196, 70, 52), (240, 226, 200)))
    b.cylinder((1.6, 1.87, top), 0.095 * _Z, 0.042, mug)


def _desk(b: _Builder, oak: _Material, black: _Material, steel: _Material) -> None:
    x, y, top = 3.55, 1.75, 0.74
    b.box((x, y, top - 0.035), (1.35, 0.8, 0.035), oak)
    b.box((x, y, top - 0.12), (1.2, 0.66, 0.085), oak)
    for dx in (-0.61, 0.61):
        for dy in (-0.34, 0.34):
            b.box((x + dx, y + dy, 0), (0.06, 0.06, top - 0.035), oak)
    keys = b.material(paint.keyboard())
    b.box((3.5, 1.55, top), (0.34, 0.24, 0.016), steel, yaw=0.15, top=keys)
    screen = b.material(paint.code_screen(b.rng))
    b.framed((3.47, 1.68, top + 0.01), 0.34, 0.22, screen, black, lean=0.25, yaw=0.15, emission=0.5)
    for i in range(4):
        cover = b.material(paint.magazine(b.rng))
        b.box((4.0, 1.95, top + 0.03 * i), (0.2 - 0.01 * i, 0.27, 0.029), black, yaw=0.3 * i, top=cover)
    for px, py, yaw in ((3.1, 1.9, 0.3), (3.16, 1.55, -0.25), (3.05, 1.62, 0.1)):
        sheet = np.full((300, 212, 3), 244, np.uint8)
        for row in range(20):
            length = int(b.rng.integers(80, 190))
            sheet[24 + 13 * row : 30 + 13 * row, 14 : 14 + length : 2] = 90
        page = b.material(sheet)
        b.box((px, py, top + 0.001), (0.21, 0.297, 0.002), page, yaw=yaw)
    mug = b.material(paint.glazed_pot(b.rng, (52, 92, 108), (236, 210, 150)))
    b.cylinder((3.82, 1.5, top), 0.1 * _Z, 0.042, mug)
    b.cylinder((3.3, 2.02, top), 0.11 * _Z, 0.04, steel)
    for i in range(6):
        lean = np.array([0.25 * np.cos(i), 0.25 * np.sin(i), 1.0])
        pencil = b.material(paint.plain(paint.PALETTE[i]), (1, 1))
        b.cylinder((3.3, 2.02, top + 0.02), 0.17 * lean, 0.004, pencil)


def _chair(b: _Builder, at: tuple[float, float], yaw: float, wood: _Material) -> None:
    rotation = _turn(yaw)
    seat = b.material(paint.weave(b.rng, (166, 74, 56)), (0.16, 0.16))

    def part(x: float, y: float, z: float, size: tuple[float, float, float], material: _Material) -> None:
        dx, dy, _ = rotation @ (x, y, 0.0)
        b.box((at[0] + dx, at[1] + dy, z), size, material, yaw=yaw)

    part(0, 0, 0.43, (0.42, 0.42, 0.03), wood)
    part(0, 0, 0.46, (0.39, 0.39, 0.035), seat)
    for x in (-0.18, 0.18):
        part(x, 0.18, 0, (0.035, 0.035, 0.43), wood)
        part(x, -0.19, 0, (0.035, 0.035, 0.92), wood)
    for z in (0.6, 0.71, 0.82):
        part(0, -0.19, z, (0.33, 0.02, 0.07), wood)


def _plant(b: _Builder) -> None:
    clay = b.material(paint.glazed_pot(b.rng, (178, 100, 70), (222, 160, 120)))
    earth = b.material(paint.speckled(b.rng, (70, 52, 40), 0.6), (0.2, 0.2))
    b.cylinder((0.42, 0.42, 0), 0.34 * _Z, 0.17, clay)
    b.disc((0.42, 0.42, 0.31), 0.168, earth)
    bark = b.material(paint.wood(b.rng, (120, 98, 70), (84, 66, 48)), (0.2, 0.2))
    b.cylinder((0.42, 0.42, 0.3), 0.62 * _Z + 0.04 * _X, 0.014, bark)
    leaves = [b.material(paint.leaf(b.rng)) for _ in range(3)]
    for i in range(42):
        height = 0.42 + 0.5 * (i / 42)
        reach = 0.2 + 0.16 * np.sin(np.pi * i / 42)
        _leaf(b, np.array([0.43, 0.43, height]), 2.4 * i, 0.25 + 0.9 * i / 42, reach, leaves[i % 3])


def _leaf(b: _Builder, stem: np.ndarray, turn: float, rise: float, length: float, material: _Material) -> None:
    along = np.array([np.cos(turn) * np.cos(rise), np.sin(turn) * np.cos(rise), np.sin(rise)])
    across = np.cross(along, _Z) / np.linalg.norm(np.cross(along, _Z))
    across = across + b.rng.normal(0, 0.2, 3)
    b.ellipse(stem + 0.03 * along - 0.22 * length * across, length * along, 0.44 * length * across, material)


_FLOOR_LAMP, _PENDANT = (0.42, 3.3), (2.55, 2.0, 2.22)


def _lights(b: _Builder, black: _Material, steel: _Material) -> None:
    x, y = _FLOOR_LAMP
    b.cylinder((x, y, 0), 0.02 * _Z, 0.14, black)
    b.disc((x, y, 0.02), 0.14, black)
    b.cylinder((x, y, 0), 1.5 * _Z, 0.012, steel)
    shade = b.material(paint.weave(b.rng, (246, 226, 184)), (0.1, 0.1))
    b.cylinder((x, y, 1.42), 0.28 * _Z, 0.18, shade, emission=0.8)
    x, y, z = _PENDANT
    b.sphere(
        (x, y, z), 0.16, b.material(paint.speckled(b.rng, (255, 246, 228), 0.04), (0.3, 0.3)), emission=1.6
    )
    b.cylinder((x, y, z + 0.15), (SIZE[2] - z - 0.15) * _Z, 0.006, black)
    b.cylinder((x, y, SIZE[2] - 0.04), 0.04 * _Z, 0.05, steel)


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


# ---- how it is put together ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Material:
    texture: int
    metres: tuple[float, float] | None  # size of one repetition; None = stretched over the surface
    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)  # the part used: left, top, width, height


def _turn(yaw: float, lean: float = 0.0) -> np.ndarray:
    """Rotation about z after leaning backwards about x."""
    c, s, cl, sl = np.cos(yaw), np.sin(yaw), np.cos(lean), np.sin(lean)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, cl, sl], [0, -sl, cl]])


class _Builder:
    """Collects surfaces; a texture's top row is at the upper end of the second edge of its surface."""

    def __init__(self, rng: Generator) -> None:
        self.rng = rng
        self._textures: list[np.ndarray] = []
        self._kinds: list[int] = []
        self._frames: list[np.ndarray] = []
        self._materials: list[int] = []
        self._windows: list[np.ndarray] = []
        self._emissions: list[float] = []

    def material(self, image: np.ndarray, metres: tuple[float, float] | None = None) -> _Material:
        self._textures.append(np.ascontiguousarray(image))
        return _Material(len(self._textures) - 1, metres)

    @staticmethod
    def cut(material: _Material, left: float, top: float, width: float, height: float) -> _Material:
        return _Material(material.texture, None, (left, top, width, height))

    def rectangle(self, corner, edge_u, edge_v, material: _Material, emission: float = 0.0) -> None:
        self._add(RECTANGLE, corner, edge_u, edge_v, material, emission)

    def ellipse(self, corner, edge_u, edge_v, material: _Material) -> None:
        self._add(ELLIPSE, corner, edge_u, edge_v, material)

    def disc(self, center: tuple[float, float, float], radius: float, material: _Material) -> None:
        corner = np.array(center) - radius * (_X + _Y)
        self._add(ELLIPSE, corner, 2 * radius * _X, 2 * radius * _Y, material)

    def sphere(self, center, radius: float, material: _Material, pole=_Z, emission: float = 0.0) -> None:
        pole = pole / np.linalg.norm(pole)
        across = np.cross(pole, _X) / np.linalg.norm(np.cross(pole, _X))
        self._add(SPHERE, center, radius * across, radius * pole, material, emission)

    def cylinder(
        self, foot, axis: np.ndarray, radius: float, material: _Material, emission: float = 0.0
    ) -> None:
        across = np.cross(axis, _X if abs(axis[0]) < 0.5 * np.linalg.norm(axis) else _Y)
        self._add(CYLINDER, foot, radius * across / np.linalg.norm(across), axis, material, emission)

    def box(
        self,
        foot: tuple[float, float, float],  # middle of the bottom
        size: tuple[float, float, float],  # along x (width), y (depth) and z before turning
        material: _Material,
        yaw: float = 0.0,
        lean: float = 0.0,
        **faces: _Material | None,
    ) -> None:
        """`faces` gives front (-y), back, left, right or top another material; None leaves it out."""
        rotation = _turn(yaw, lean)
        x, y, z = (rotation * np.array(size)).T
        corner = np.array(foot) - (x + y) / 2
        for name, start, u, v in (
            ("front", corner, x, z),
            ("right", corner + x, y, z),
            ("back", corner + x + y, -x, z),
            ("left", corner + y, -y, z),
            ("top", corner + z, x, y),
            ("bottom", corner + y, x, -y),
        ):
            if (face := faces.get(name, material)) is not None:
                self.rectangle(start, u, v, face)

    def framed(
        self,
        foot: tuple[float, float, float],  # middle of the lower edge
        width: float,
        height: float,
        picture: _Material,
        frame: _Material,
        yaw: float = 0.0,
        lean: float = 0.0,
        emission: float = 0.0,
    ) -> None:
        """A picture that faces -y before turning, in a frame 2 cm wide and 2.5 cm deep."""
        rotation = _turn(yaw, lean)
        x, y, z = rotation.T
        edge, deep = 0.02, 0.025
        start = np.array(foot) - width / 2 * x
        self.rectangle(start, width * x, height * z, picture, emission)
        self.rectangle(start + width * x + 0.4 * deep * y, -width * x, height * z, frame)
        for dx, dz, w, h in (
            (-width / 2 - edge / 2, -edge, edge, height + 2 * edge),
            (width / 2 + edge / 2, -edge, edge, height + 2 * edge),
            (0, -edge, width, edge),
            (0, height, width, edge),
        ):
            self.box(tuple(np.array(foot) + dx * x + dz * z), (w, deep, h), frame, yaw=yaw, lean=lean)

    def _add(self, kind: int, origin, edge_u, edge_v, material: _Material, emission: float = 0.0) -> None:
        left, top, width, height = material.window
        if material.metres is not None:
            extent = np.linalg.norm(edge_u), np.linalg.norm(edge_v)
            if kind in (SPHERE, CYLINDER):
                extent = 2 * np.pi * extent[0], extent[1] * (np.pi if kind == SPHERE else 1)
            left, top = self.rng.random(2)
            width, height = extent[0] / material.metres[0], extent[1] / material.metres[1]
            if kind in (SPHERE, CYLINDER):
                width = max(1.0, float(np.round(width)))  # no seam
        self._kinds.append(kind)
        self._frames.append(np.array([origin, edge_u, edge_v], float))
        self._materials.append(material.texture)
        self._windows.append(np.array([left, top + height, width, -height], float))
        self._emissions.append(emission)

    def room(self) -> Room:
        """The room, still without light."""
        kind, frame = np.array(self._kinds, np.uint8), np.array(self._frames)
        texture, window = np.array(self._materials), np.array(self._windows)
        texels, levels = mip_pyramid(self._textures)
        bounds, links = surface_tree(kind, frame)
        means = np.array([((image / 255.0) ** 2).mean((0, 1)) for image in self._textures])
        circle = np.where(kind >= SPHERE, 2 * np.pi, 1)
        grain = np.abs(window[:, 2]) * levels[texture, 0, 1] / (circle * np.linalg.norm(frame[:, 1], axis=1))
        return Room(
            kind,
            frame,
            texture,
            window,
            grain,
            np.array(self._emissions, np.float32),
            bounds,
            links,
            texels,
            levels,
            means[texture].astype(np.float32),
            np.zeros((0, 3), np.float32),
            np.zeros((len(kind), 3), np.int64),
        )
