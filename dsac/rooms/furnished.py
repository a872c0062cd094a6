"""How rooms of a building are furnished: living rooms, studies, offices and bedrooms of any size.

A room stands in coordinates of its own: x along the corridor's wall, in which its door is, y from there to the
window, z up, metres. `b.rng` chooses what all rooms of a model have in common, `own` what only one has.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from dsac.rooms import signs
from dsac.rooms import textures as paint
from dsac.rooms.brushes import Colour
from dsac.rooms.builder import Material, RoomBuilder, X, Y, Z
from dsac.rooms.furniture import bookshelf, chair, coffee_table, desk, parcels, plant, sideboard, sofa

HIGH, WALL = 2.7, 0.12  # of rooms and corridors, and between them
DOOR = (0.9, 2.05)
Kind = Literal["living room", "study", "office", "bedroom"]
Side = Literal["window", "left", "right", "door"]  # of somebody who comes in


@dataclass(frozen=True)
class House:
    """Materials that are the same all over a building."""

    white: Material
    steel: Material
    black: Material
    oak: Material
    walnut: Material
    boards: Material
    bricks: Material
    door: Material
    leaf: Material
    lamp: Material
    ribs: Material
    keys: Material
    red: Material


def house(b: RoomBuilder) -> House:
    return House(
        white=b.material(paint.speckled(b.rng, (226, 225, 220), 0.05), (0.5, 0.5)),
        steel=b.material(paint.speckled(b.rng, (150, 152, 156), 0.10), (0.25, 0.25)),
        black=b.material(paint.plain((44, 44, 48)), (1, 1)),
        oak=b.material(paint.wood(b.rng, (206, 166, 118), (160, 114, 74)), (0.9, 0.45)),
        walnut=b.material(paint.wood(b.rng, (128, 88, 60), (84, 56, 40)), (0.9, 0.45)),
        boards=b.material(paint.floor_boards(b.rng), (5.1, 4.08)),
        bricks=b.material(paint.bricks(b.rng), (1.0, 0.6)),
        door=b.material(paint.wood(b.rng, (196, 150, 100), (150, 104, 66), (512, 256))),
        leaf=b.material(paint.door()),
        lamp=b.material(paint.plain((250, 250, 244)), (1, 1)),
        ribs=b.material(paint.radiator_ribs(), (0.06, 1.0)),
        keys=b.material(paint.keyboard()),
        red=b.material(paint.speckled(b.rng, (190, 36, 30), 0.2), (0.3, 0.3)),
    )


@dataclass(frozen=True)
class Furnishing:
    """A room that is being furnished."""

    b: RoomBuilder
    of: House
    own: Generator
    size: tuple[float, float]
    door: float  # where in the corridor's wall it begins

    def at(self, side: Side, along: float) -> AbstractContextManager[None]:
        """What is built inside stands at a wall: x along it, from so far from its left end, y into it."""
        w, d = self.size
        foot, yaw = {
            "window": ((along, d, 0.0), 0.0),
            "right": ((w, d - along, 0.0), -np.pi / 2),
            "left": ((0.0, along, 0.0), np.pi / 2),
            "door": ((w - along, 0.0, 0.0), np.pi),
        }[side]
        return self.b.placed(foot, yaw)

    def picture(self, side: Side, along: float, image: np.ndarray, tall: float, low: float = 1.1) -> None:
        wide = tall * image.shape[1] / image.shape[0]
        with self.at(side, along):
            self.b.framed((0, -0.015, low), wide, tall, self.b.material(image), self.of.black)

    def window(self, along: float) -> None:
        """In the wall that has it, with sill, radiator and curtains."""
        b, of, (wide, low, high) = self.b, self.of, (1.6, 0.95, 2.25)
        linen = b.material(paint.weave(b.rng, _any(b.rng, _CLOTHS)), (0.12, 0.12))
        with self.at("window", along):
            sky = b.material(paint.sky_view(b.rng))
            b.rectangle((-wide / 2, -0.012, low), wide * X, (high - low) * Z, sky, emission=1.5)
            for x in (-wide / 2, 0.0, wide / 2):
                b.box((x, -0.03, low), (0.06, 0.06, high - low), of.white)
            for z in (low - 0.03, low + 0.8, high):
                b.box((0, -0.03, z), (wide + 0.06, 0.06, 0.05), of.white)
            b.box((0, -0.1, low - 0.06), (wide + 0.3, 0.2, 0.035), of.white)
            b.box((0, -0.09, 0.14), (1.4, 0.1, 0.62), of.white, back=None, front=of.ribs)
            b.cylinder((-wide / 2 - 0.4, -0.14, 2.38), (wide + 0.8) * X, 0.014, of.white)
            for side in (-wide / 2 - 0.32, wide / 2 + 0.1):
                for fold in range(5):
                    b.cylinder((side + 0.055 * fold, -0.13 - 0.03 * (fold % 2), 0.06), 2.32 * Z, 0.034, linen)


def furnish(room: Furnishing, kind: Kind) -> None:
    """Walls, the open door, the window, and what makes it a room of its kind."""
    _shell(room)
    _open_door(room)
    _FURNISH[kind](room)
    # what tells the room from others of its model: a print beside the door, and what lies about
    print_ = signs.poster(room.own, int(room.own.integers(6)))
    room.picture("door", room.size[0] - room.door - DOOR[0] - 0.45, print_, 0.5, 1.3)


def lamps_of(size: tuple[float, float]) -> np.ndarray:
    """A room's lamp and window as points of light for `bake_light`."""
    w, d = size
    points = [
        [w / 2 + x, d / 2 + y, HIGH - 0.1, 0, 0, -1, 1.1, 1.05, 0.95] for x in (-0.5, 0.5) for y in (-0.4, 0.4)
    ]
    for x in (-0.4, 0.4):
        for z in (1.25, 1.95):
            points.append([w / 2 + x, d - 0.1, z, 0, -1, 0, 0.6, 0.66, 0.75])
    return np.array(points)


# ---- walls, door and lamp ------------------------------------------------------------------------

_WALLS: list[Colour] = [
    (206, 208, 192), (124, 148, 158), (196, 178, 150), (168, 184, 160), (206, 168, 148), (150, 150, 172),
    (222, 212, 196), (186, 152, 120), (140, 166, 172), (214, 190, 120),
]  # fmt: skip
_CLOTHS: list[Colour] = [
    (204, 176, 120),
    (150, 74, 60),
    (86, 104, 112),
    (98, 122, 96),
    (178, 166, 190),
    (60, 74, 104),
]


def _any(rng: Generator, colours: list[Colour]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def wall(
    b: RoomBuilder,
    corner: tuple[float, float, float],
    along: np.ndarray,
    long: float,
    doors: list[float],
    material: Material,
    dado: tuple[Material, Material] | None = None,
) -> None:
    """A wall to the right of a corner, with openings that begin at `doors`; perhaps a dado and its rail."""
    start, forward = np.array(corner), np.cross(along, Z)
    lefts = [0.0, *(door + DOOR[0] for door in sorted(doors))]
    for left, right in zip(lefts, [*sorted(doors), long], strict=True):
        foot, edge = start + left * along, (right - left) * along
        b.rectangle(foot, edge, HIGH * Z, material)
        if dado is not None:
            b.rectangle(foot + 0.01 * forward, edge, Z, dado[0])
            b.rectangle(foot + 0.02 * forward + Z, edge, 0.05 * Z, dado[1])
    for door in doors:
        b.rectangle(start + door * along + DOOR[1] * Z, DOOR[0] * along, (HIGH - DOOR[1]) * Z, material)


def casing(b: RoomBuilder, of: House, door: float, y: float) -> None:
    """Around an opening, on the side of a wall that faces `y`."""
    wide, high = DOOR
    for x in (door - 0.035, door + wide + 0.035):
        b.box((x, y, 0), (0.07, 0.03, high), of.door)
    b.box((door + wide / 2, y, high), (wide + 0.14, 0.03, 0.07), of.door)


def _shell(room: Furnishing) -> None:
    b, of, (w, d) = room.b, room.of, room.size
    floors = [
        lambda: of.boards,
        lambda: b.material(paint.terrazzo(b.rng, _any(b.rng, _WALLS)), (1.0, 1.0)),
        lambda: b.material(paint.rug(b.rng), (2.4, 1.6)),
        lambda: b.material(paint.wood(b.rng, (176, 132, 92), (110, 76, 52), (512, 512)), (1.2, 0.6)),
    ]
    b.rectangle((0, 0, 0), w * X, d * Y, floors[int(b.rng.choice(4, p=[0.4, 0.25, 0.1, 0.25]))]())
    b.rectangle((0, d, HIGH), w * X, -d * Y, of.white)
    colours = [_WALLS[i] for i in b.rng.permutation(len(_WALLS))[:2]]
    quiet, loud = (b.material(paint.speckled(b.rng, colour, 0.12, 512), (1.2, 1.2)) for colour in colours)
    special = [of.bricks, loud, b.material(paint.cushion(b.rng), (0.9, 0.9))][
        int(b.rng.choice(3, p=[0.3, 0.5, 0.2]))
    ]
    b.rectangle((0, d, 0), w * X, HIGH * Z, quiet)
    b.rectangle((w, d, 0), -d * Y, HIGH * Z, special)
    b.rectangle((0, 0, 0), d * Y, HIGH * Z, loud)
    wall(b, (w, 0, 0), -X, w, [w - room.door - DOOR[0]], quiet)
    for middle, size in (
        ((w / 2, d - 0.008, 0), (w, 0.016, 0.09)),
        ((0.008, d / 2, 0), (0.016, d, 0.09)),
        ((w - 0.008, d / 2, 0), (0.016, d, 0.09)),
    ):
        b.box(middle, size, of.white)
    b.rectangle((w / 2 - 0.7, d / 2 + 0.2, HIGH - 0.03), 1.4 * X, -0.4 * Y, of.lamp, emission=1.6)
    b.box((w / 2, d / 2, HIGH - 0.06), (1.46, 0.46, 0.06), of.steel, bottom=None, top=None)


def _open_door(room: Furnishing) -> None:
    """The leaf lies at the wall beside its opening."""
    b, of = room.b, room.of
    casing(b, of, room.door, 0.015)
    b.box((room.door - 0.52, 0.07, 0), (0.88, 0.04, 2.03), of.door, back=of.leaf)
    b.cylinder((room.door - 0.86, 0.09, 1.02), 0.06 * Y, 0.012, of.steel)
    b.cylinder((room.door - 0.87, 0.15, 1.02), 0.13 * X, 0.011, of.steel)


# ---- kinds of rooms ------------------------------------------------------------------------------


def _living_room(room: Furnishing) -> None:
    b, of, (w, d) = room.b, room.of, room.size
    room.window(w / 2 + b.rng.uniform(-0.3, 0.3))
    with room.at("left", d / 2), b.placed((-1.95, 0, 0), 0), b.placed((0, 0, 0), -np.pi / 2):
        sofa(b, of.walnut)
    with b.placed((w / 2 - 1.75, d / 2 - 1.95, 0)):
        coffee_table(b, of.oak)
    with room.at("right", d / 2), b.placed((-3.5, -4.0, 0)):
        sideboard(b, of.walnut, of.black)
    plant(b, (w - 0.45, d - 0.45))
    first = int(b.rng.integers(6))
    room.picture("left", d / 2 - 0.6, signs.poster(b.rng, first), 0.9)
    room.picture("left", d / 2 + 0.55, signs.poster(b.rng, first + 1), 0.75, 1.2)
    room.picture("right", d / 2 + 0.2, signs.poster(b.rng, first + 2), 0.8, 1.4)
    room.picture("window", 0.55, signs.poster(b.rng, first + 3), 0.7, 1.2)


def _study(room: Furnishing) -> None:
    b, of, (w, d) = room.b, room.of, room.size
    room.window(w / 2 + b.rng.uniform(-0.3, 0.3))
    with room.at("left", d / 2), b.placed((-1.3, -4.0, 0)):
        bookshelf(b, of.oak if b.rng.random() < 0.5 else of.walnut)
    with b.placed((w / 2 - 3.55, d / 2 - 1.55, 0)):
        desk(b, of.oak, of.black, of.steel)
        chair(b, (3.5, 1.05), 0.1, of.walnut)
    with b.placed((w - 5.0, d / 2 - 2.7, 0)):
        parcels(b)
    room.picture("right", d / 2 - 0.7, signs.poster(b.rng, 0), 1.0)
    room.picture("right", d / 2 + 0.5, signs.poster(b.rng, int(b.rng.integers(1, 6))), 0.7, 1.3)
    plant(b, (0.42, d - 0.42))
    _board(room, "door", 0.7)


def _office(room: Furnishing) -> None:
    b, of, (w, d) = room.b, room.of, room.size
    room.window(w / 2)
    for side in ("left", "right"):
        with room.at(side, d / 2 + 0.15 * (1 if side == "left" else -1)):
            _workplace(room)
    with room.at("window", 0.45):
        _cabinet(b, of)
    with room.at("window", w - 0.45):
        _cabinet(b, of)
    first = int(b.rng.integers(6))
    room.picture("left", d / 2 - 0.75, signs.poster(b.rng, first), 0.75, 1.35)
    _board(room, "left", d / 2 + 0.65)
    room.picture("right", d / 2 + 0.6, signs.poster(b.rng, first + 1), 0.75, 1.35)
    _whiteboard(room, "right", d / 2 - 0.6)


def _bedroom(room: Furnishing) -> None:
    b, of, (w, d) = room.b, room.of, room.size
    room.window(w / 2 + b.rng.uniform(-0.2, 0.2))
    wood = of.oak if b.rng.random() < 0.5 else of.walnut
    with b.placed((w / 2 - 1.8, d / 2 - 1.95, 0)):
        b.box((2.0, 1.95, 0), (2.2, 1.5, 0.012), of.oak, top=b.material(paint.rug(b.rng)))
    with room.at("left", d / 2 + 0.1):
        _bed(room, wood)
    with room.at("right", d / 2 + 0.9):
        _wardrobe(b, of, wood)
    with room.at("right", d / 2 - 0.75):
        b.box((0, -0.22, 0), (1.2, 0.42, 0.75), wood)
        for z in (0.08, 0.31, 0.54):
            b.box((0, -0.435, z), (1.12, 0.012, 0.2), wood)
            b.cylinder((-0.08, -0.46, z + 0.1), 0.16 * X, 0.01, of.steel)
        glaze = b.material(paint.glazed_pot(b.rng, _any(b.rng, _CLOTHS), (226, 206, 160)))
        b.cylinder((-0.4, -0.2, 0.75), 0.26 * Z, 0.07, glaze)
        cover = b.material(paint.magazine(room.own))
        b.box((0.2, -0.25, 0.75), (0.21, 0.28, 0.03), of.white, yaw=0.3, top=cover)
    first = int(b.rng.integers(6))
    room.picture("left", d / 2 - 0.3, signs.poster(b.rng, first), 0.8, 1.25)
    room.picture("left", d / 2 + 0.5, signs.poster(b.rng, first + 1), 0.8, 1.25)
    room.picture("right", d / 2 - 0.75, signs.poster(b.rng, first + 2), 0.85, 1.2)
    plant(b, (0.42, d - 0.42))


_FURNISH: dict[Kind, Callable[[Furnishing], None]] = {
    "living room": _living_room,
    "study": _study,
    "office": _office,
    "bedroom": _bedroom,
}


# ---- pieces, at a wall: x along it, y into it -----------------------------------------------------


def _workplace(room: Furnishing) -> None:
    """A desk with screen and keyboard, a chair, and papers that lie elsewhere in every room."""
    b, of = room.b, room.of
    top = 0.74
    b.box((0, -0.42, top - 0.03), (1.6, 0.8, 0.03), of.oak)
    for x in (-0.72, 0.72):
        b.box((x, -0.42, 0), (0.05, 0.7, top - 0.03), of.steel)
    b.box((0, -0.05, 0.3), (1.4, 0.02, 0.4), of.steel)
    screen = b.material(paint.code_screen(b.rng))
    b.framed((0.1, -0.25, top + 0.12), 0.56, 0.34, screen, of.black, emission=0.5)
    b.box((0.1, -0.2, top), (0.06, 0.03, 0.2), of.black)
    b.box((0.1, -0.22, top), (0.24, 0.18, 0.012), of.black)
    b.box((0.1, -0.58, top), (0.42, 0.16, 0.016), of.steel, top=b.cut(of.keys, 0, 0, 1, 0.6))
    glaze = b.material(paint.glazed_pot(b.rng, _any(room.own, _CLOTHS), (240, 226, 200)))
    b.cylinder((room.own.uniform(-0.5, -0.3), -0.35, top), 0.1 * Z, 0.042, glaze)
    cover = b.material(paint.magazine(room.own))
    b.box(
        (room.own.uniform(0.5, 0.6), -0.45, top),
        (0.21, 0.28, 0.02),
        of.white,
        room.own.uniform(-0.5, 0.5),
        top=cover,
    )
    chair(b, (0.05, -1.0), b.rng.uniform(-0.3, 0.3), of.walnut)


def _cabinet(b: RoomBuilder, of: House) -> None:
    """Four drawers and a parcel on top."""
    b.box((0, -0.25, 0), (0.46, 0.48, 1.2), of.steel)
    for z in np.arange(4) * 0.29 + 0.04:
        b.box((0, -0.497, z), (0.42, 0.014, 0.26), of.white)
        b.cylinder((-0.06, -0.52, z + 0.18), 0.12 * X, 0.009, of.black)
    left, front = b.material(paint.cardboard(b.rng)), b.material(paint.cardboard(b.rng))
    b.box((0.02, -0.25, 1.2), (0.36, 0.3, 0.22), front, yaw=b.rng.uniform(-0.3, 0.3), left=left)


def _board(room: Furnishing, side: Side, along: float) -> None:
    room.picture(side, along, signs.notice_board(room.b.rng), 0.7, 1.25)


def _whiteboard(room: Furnishing, side: Side, along: float) -> None:
    room.picture(side, along, signs.whiteboard(room.b.rng), 0.8, 1.15)


def _bed(room: Furnishing, wood: Material) -> None:
    b = room.b
    sheet = b.material(paint.speckled(b.rng, (226, 222, 212), 0.08), (0.4, 0.4))
    cover = b.material(paint.cushion(b.rng) if b.rng.random() < 0.6 else paint.rug(b.rng), (0.9, 0.9))
    b.box((0, -0.04, 0), (1.7, 0.06, 1.05), wood)
    b.box((0, -1.05, 0.08), (1.64, 1.98, 0.22), wood)
    b.box((0, -1.05, 0.3), (1.56, 1.92, 0.18), sheet)
    b.box((0, -1.3, 0.44), (1.62, 1.44, 0.07), cover)
    for x in (-0.4, 0.4):
        pillow = b.material(paint.cushion(b.rng))
        b.box((x, -0.34, 0.5), (0.62, 0.14, 0.4), pillow, yaw=b.rng.uniform(-0.1, 0.1), lean=0.5)
    for x in (-1.1, 1.1):
        b.box((x, -0.22, 0), (0.42, 0.4, 0.45), wood)
        b.cylinder(
            (x, -0.22, 0.45),
            0.18 * Z,
            0.05,
            b.material(paint.glazed_pot(b.rng, _any(b.rng, _CLOTHS), (236, 226, 204))),
        )
        shade = b.material(paint.weave(b.rng, (246, 226, 184)), (0.1, 0.1))
        b.cylinder((x, -0.22, 0.62), 0.2 * Z, 0.12, shade, emission=0.7)


def _wardrobe(b: RoomBuilder, of: House, wood: Material) -> None:
    b.box((0, -0.3, 0), (1.5, 0.58, 2.1), wood)
    for x in (-0.5, 0.0, 0.5):
        b.box((x, -0.6, 0.06), (0.47, 0.016, 1.98), wood)
        b.cylinder((x + 0.17, -0.63, 0.95), 0.18 * Z, 0.011, of.steel)
    for x in (-0.35, 0.3):
        b.box((x, -0.3, 2.1), (0.5, 0.4, 0.3), b.material(paint.cardboard(b.rng)), yaw=b.rng.uniform(-0.2, 0.2))
