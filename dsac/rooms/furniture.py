"""The furniture of the living room, each piece where it stands."""

from __future__ import annotations

import numpy as np

from dsac.rooms import posters
from dsac.rooms import textures as paint
from dsac.rooms.brushes import PALETTE, Colour
from dsac.rooms.builder import Material, RoomBuilder, X, Y, Z, turned


def bookshelf(b: RoomBuilder, oak: Material) -> None:
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


def _ornament(b: RoomBuilder, foot: tuple[float, float, float]) -> None:
    x, y, z = foot
    colours: list[Colour] = [(206, 190, 160), (60, 100, 120), (180, 84, 60), (90, 110, 80)]
    base = colours[int(b.rng.integers(4))]
    glaze = b.material(paint.glazed_pot(b.rng, base, (236, 226, 204)))
    if b.rng.random() < 0.5:
        b.sphere((x, y, z + 0.075), 0.075, glaze)
    else:
        b.cylinder((x, y, z), 0.2 * Z, 0.055, glaze)


def sideboard(b: RoomBuilder, walnut: Material, black: Material) -> None:
    left, right, y, tall = 2.7, 4.3, 3.79, 0.72
    middle = (left + right) / 2
    b.box((middle, y, 0.12), (right - left, 0.4, tall - 0.12), walnut)
    for x in np.linspace(left + 0.205, right - 0.205, 4):
        b.box((x, y - 0.205, 0.15), (0.385, 0.015, tall - 0.2), walnut)
        b.cylinder((x + 0.13, y - 0.23, 0.45), 0.03 * Y, 0.012, black)
    for x in (left + 0.08, right - 0.08):
        for dy in (-0.15, 0.15):
            b.cylinder((x, y + dy, 0), 0.12 * Z, 0.02, black)
    b.cylinder((2.95, 3.76, tall), 0.02 * Z, 0.09, walnut)
    b.cylinder((2.95, 3.76, tall), 0.08 * Z, 0.012, walnut)
    axis = np.array([0.28, -0.2, 0.94])
    b.sphere((2.95, 3.76, tall + 0.22), 0.15, b.material(paint.globe(b.rng)), axis)
    vase = b.material(paint.glazed_pot(b.rng, (52, 84, 104), (226, 206, 160)))
    b.cylinder((4.1, 3.8, tall), 0.26 * Z, 0.07, vase)
    for i, z in enumerate((0.0, 0.035, 0.075)):
        cover = b.material(
            paint.speckled(b.rng, ((150, 60, 48), (52, 84, 90), (216, 172, 96))[i], 0.1), (0.2, 0.2)
        )
        b.box((3.72, 3.74, tall + z), (0.26 - 0.02 * i, 0.19, 0.034), cover, yaw=0.2 * i)
    b.framed((3.36, 3.9, tall), 0.36, 0.5, b.material(posters.poster_fern(b.rng)), black, lean=0.14)
    leaves = b.material(paint.leaf(b.rng))
    for i in range(14):
        _leaf(b, np.array([4.1, 3.8, tall + 0.24]), 2.4 * i, 0.6 + 0.05 * i, 0.22, leaves)


def hang_posters(b: RoomBuilder, black: Material) -> None:
    for x, wide, tall, image in (
        (2.6, 0.58, 0.82, posters.poster_type(b.rng)),
        (3.5, 0.98, 0.70, posters.poster_mountains(b.rng)),
        (4.45, 0.60, 0.78, posters.poster_geometric(b.rng)),
    ):
        b.framed((x, 3.985, 1.68 - tall / 2), wide, tall, b.material(image), black)
    for x, wide, tall, image in (
        (0.55, 0.64, 0.88, posters.poster_city_map(b.rng)),
        (3.64, 0.56, 0.56, posters.poster_star_chart(b.rng)),
    ):
        b.framed((x, 0.015, 1.6 - tall / 2), wide, tall, b.material(image), black, yaw=np.pi)


def hang_equal_pictures(b: RoomBuilder, walnut: Material) -> None:
    picture = b.material(posters.print_arcs())
    for y in np.arange(5) * 0.68 + 0.64:
        b.framed((4.985, y, 1.38), 0.34, 0.44, picture, walnut, yaw=-np.pi / 2)


def parcels(b: RoomBuilder) -> None:
    for x, y, z, size, yaw in (
        (4.66, 3.05, 0.0, (0.5, 0.55, 0.42), 0.05),
        (4.64, 2.42, 0.0, (0.46, 0.46, 0.34), -0.2),
        (4.68, 3.0, 0.42, (0.38, 0.42, 0.3), 0.35),
        (4.6, 2.42, 0.34, (0.3, 0.36, 0.22), 0.5),
    ):
        left, right, front = (b.material(paint.cardboard(b.rng)) for _ in range(3))
        b.box((x, y, z), size, front, yaw=yaw, left=left, right=right)


def sofa(b: RoomBuilder, walnut: Material) -> None:
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
            b.cylinder((x, y, 0), 0.12 * Z, 0.025, walnut)
    for y, yaw in ((1.22, 0.25), (1.62, -0.1), (2.72, -0.3)):
        b.box((0.44, y, 0.46), (0.12, 0.42, 0.42), b.material(paint.cushion(b.rng)), yaw=yaw, lean=-0.3)


def coffee_table(b: RoomBuilder, oak: Material) -> None:
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
    b.cylinder((1.76, 2.3, top), 0.075 * Z, 0.14, bowl)
    skin = b.material(paint.speckled(b.rng, (226, 134, 40), 0.25), (0.1, 0.1))
    for dx, dy, dz in ((-0.06, -0.05, 0.05), (0.07, -0.02, 0.05), (0.0, 0.07, 0.05), (0.0, 0.0, 0.115)):
        b.sphere((1.76 + dx, 2.3 + dy, top + dz), 0.045, skin)
    mug = b.material(paint.glazed_pot(b.rng, (196, 70, 52), (240, 226, 200)))
    b.cylinder((1.6, 1.87, top), 0.095 * Z, 0.042, mug)


def desk(b: RoomBuilder, oak: Material, black: Material, steel: Material) -> None:
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
    b.cylinder((3.82, 1.5, top), 0.1 * Z, 0.042, mug)
    b.cylinder((3.3, 2.02, top), 0.11 * Z, 0.04, steel)
    for i in range(6):
        lean = np.array([0.25 * np.cos(i), 0.25 * np.sin(i), 1.0])
        pencil = b.material(paint.plain(PALETTE[i]), (1, 1))
        b.cylinder((3.3, 2.02, top + 0.02), 0.17 * lean, 0.004, pencil)


def chair(b: RoomBuilder, at: tuple[float, float], yaw: float, wood: Material) -> None:
    rotation = turned(yaw)
    seat = b.material(paint.weave(b.rng, (166, 74, 56)), (0.16, 0.16))

    def part(x: float, y: float, z: float, size: tuple[float, float, float], material: Material) -> None:
        dx, dy, _ = rotation @ (x, y, 0.0)
        b.box((at[0] + dx, at[1] + dy, z), size, material, yaw=yaw)

    part(0, 0, 0.43, (0.42, 0.42, 0.03), wood)
    part(0, 0, 0.46, (0.39, 0.39, 0.035), seat)
    for x in (-0.18, 0.18):
        part(x, 0.18, 0, (0.035, 0.035, 0.43), wood)
        part(x, -0.19, 0, (0.035, 0.035, 0.92), wood)
    for z in (0.6, 0.71, 0.82):
        part(0, -0.19, z, (0.33, 0.02, 0.07), wood)


def plant(b: RoomBuilder, at: tuple[float, float] = (0.42, 0.42)) -> None:
    x, y = at
    clay = b.material(paint.glazed_pot(b.rng, (178, 100, 70), (222, 160, 120)))
    earth = b.material(paint.speckled(b.rng, (70, 52, 40), 0.6), (0.2, 0.2))
    b.cylinder((x, y, 0), 0.34 * Z, 0.17, clay)
    b.disc((x, y, 0.31), 0.168, earth)
    bark = b.material(paint.wood(b.rng, (120, 98, 70), (84, 66, 48)), (0.2, 0.2))
    b.cylinder((x, y, 0.3), 0.62 * Z + 0.04 * X, 0.014, bark)
    leaves = [b.material(paint.leaf(b.rng)) for _ in range(3)]
    for i in range(42):
        height = 0.42 + 0.5 * (i / 42)
        reach = 0.2 + 0.16 * np.sin(np.pi * i / 42)
        stem = np.array([x + 0.01, y + 0.01, height])
        _leaf(b, stem, 2.4 * i, 0.25 + 0.9 * i / 42, reach, leaves[i % 3])


def _leaf(
    b: RoomBuilder, stem: np.ndarray, turn: float, rise: float, length: float, material: Material
) -> None:
    along = np.array([np.cos(turn) * np.cos(rise), np.sin(turn) * np.cos(rise), np.sin(rise)])
    across = np.cross(along, Z) / np.linalg.norm(np.cross(along, Z))
    across = across + b.rng.normal(0, 0.2, 3)
    b.ellipse(stem + 0.03 * along - 0.22 * length * across, length * along, 0.44 * length * across, material)
