"""Where the rooms of a building are: ten a floor, on both sides of a corridor; x east, y north, z up, metres.

Corridors are equal but for signs. Of the rooms of a floor, two are one model of office and one is a model of
bedroom that every floor has: they look alike but for a print beside the door and what lies on tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from dsac.rooms import signs
from dsac.rooms import textures as paint
from dsac.rooms.brushes import words
from dsac.rooms.builder import Material, RoomBuilder, X, Y, Z
from dsac.rooms.furnished import (
    DOOR,
    HIGH,
    WALL,
    Furnishing,
    House,
    Kind,
    casing,
    furnish,
    house,
    lamps_of,
    wall,
)
from dsac.rooms.furniture import plant
from dsac.rooms.light import bake_light
from dsac.rooms.surfaces import Room

STOREY, WIDE = 3.2, 2.0  # of a corridor, between its walls
A_FLOOR = 10  # rooms
_KINDS: tuple[Kind, ...] = (
    "living room", "study", "office", "bedroom", "living room",
    "bedroom", "study", "office", "office", "bedroom",
)  # fmt: skip
_MODELS = {2: "office", 7: "office", 5: "bedroom"}  # which of a floor look alike


@dataclass(frozen=True)
class PlannedRoom:
    """A room before it is built; `door` is where its opening begins, in the room's coordinates."""

    number: int
    kind: Kind
    model: str  # rooms of one model look alike
    size: tuple[float, float]
    door: float
    at: tuple[float, float, float]  # the room's origin in the world
    yaw: float  # of its x axis: 0 north of the corridor, π south of it

    @property
    def floor(self) -> int:
        return self.number // A_FLOOR

    @property
    def name(self) -> str:
        return f"room-{self.number:02d}"


def plan_building(count: int, seed: int = 0) -> list[PlannedRoom]:
    """`count` rooms by number; a floor's sizes are every floor's.

    Raises: `ValueError` for a count below 1.
    """
    if count < 1:
        raise ValueError(f"rooms: expected 1 or more, got {count}")
    rooms, ends = [], {}
    for number in range(count):
        floor, place = divmod(number, A_FLOOR)
        model = _MODELS.get(place)
        # sizes are of the place on the floor; of a model one
        rng = np.random.default_rng(
            [seed, 6, A_FLOOR + list(_MODELS.values()).index(model) if model else place]
        )
        wide, deep = rng.uniform((4.3, 4.1), (5.6, 5.0)).round(2).tolist()
        door = round(float(rng.uniform(1.05, wide - 2.8)), 2)
        north = place % 2 == 0
        start = ends.get((floor, north), 0.3)
        ends[floor, north] = start + wide + WALL
        at = (start, WIDE + WALL, floor * STOREY) if north else (start + wide, -WALL, floor * STOREY)
        yaw = 0.0 if north else np.pi
        rooms.append(PlannedRoom(number, _KINDS[place], model or f"{number}", (wide, deep), door, at, yaw))
    return rooms


def look_alikes(rooms: list[PlannedRoom]) -> list[list[str]]:
    """The names of rooms that look alike, in groups of two or more."""
    models: dict[str, list[str]] = {}
    for room in rooms:
        models.setdefault(room.model, []).append(room.name)
    return [names for names in models.values() if len(names) > 1]


def corridor_length(rooms: list[PlannedRoom]) -> float:
    """Of the longest floor; all are as long."""
    return max(room.at[0] + (room.size[0] if room.yaw == 0 else 0) for room in rooms) + 0.3


def build_building(rooms: list[PlannedRoom], seed: int, light_cell: float) -> Room:
    """Rooms and corridors with their light baked; the seed chooses furniture, pictures and grain."""
    b = RoomBuilder(np.random.default_rng([seed, 0]))
    of, corridor = house(b), _paint(b)
    long = corridor_length(rooms)
    lamps = []
    for floor in sorted({room.floor for room in rooms}):
        on_floor = [room for room in rooms if room.floor == floor]
        b.rng = np.random.default_rng([seed, 5])
        level = floor * STOREY
        with b.space((0, -WALL, level), (long, WIDE + WALL, level + HIGH)) as hall:
            _corridor(b, of, corridor, on_floor, long, np.random.default_rng([seed, 7, floor]))
        lamps.append(_corridor_lamps(long) + np.array([0, 0, level, *[0] * 6]))
        for room in on_floor:
            b.rng = np.random.default_rng([seed, 8, *room.model.encode()])
            own = np.random.default_rng([seed, 9, room.number])
            wide, deep = room.size
            with b.placed(room.at, room.yaw):
                with b.space((0, 0, 0), (wide, deep, HIGH)) as inside:
                    furnish(Furnishing(b, of, own, room.size, room.door), room.kind)
                b.opening((room.door, 0, 0), DOOR[0] * X, DOOR[1] * Z, (inside, hall))
            lamps.append(to_world(room, lamps_of(room.size)))
    return bake_light(b.room(), np.concatenate(lamps), light_cell)


def to_world(room: PlannedRoom, vectors: np.ndarray) -> np.ndarray:
    """A room's points (N, 3) in the world; in further columns may be directions, and what does not turn."""
    turn = np.array([np.cos(room.yaw), np.cos(room.yaw), 1.0])  # by 0 or π
    moved = vectors.copy()
    moved[:, :3] = vectors[:, :3] * turn + np.array(room.at)
    if vectors.shape[1] > 3:
        moved[:, 3:6] = vectors[:, 3:6] * turn
    return moved


# ---- corridors -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Corridor:
    plaster: Material
    dado: Material
    floor: Material
    ceiling: Material
    end: Material


def _paint(b: RoomBuilder) -> _Corridor:
    return _Corridor(
        plaster=b.material(paint.speckled(b.rng, (214, 210, 194), 0.2, 512), (1.5, 1.5)),
        dado=b.material(paint.speckled(b.rng, (124, 146, 140), 0.4, 512), (1.5, 1.5)),
        floor=b.material(paint.terrazzo(b.rng, (168, 160, 148)), (1.0, 1.0)),
        ceiling=b.material(paint.ceiling_tiles(b.rng), (1.2, 1.2)),
        end=b.material(paint.speckled(b.rng, (92, 120, 146), 0.15, 512), (1.2, 1.2)),
    )


def _corridor(
    b: RoomBuilder, of: House, paint_: _Corridor, rooms: list[PlannedRoom], long: float, own: Generator
) -> None:
    level = rooms[0].at[2]
    with b.placed((0, 0, level)):
        b.rectangle((0, 0, 0), long * X, WIDE * Y, paint_.floor)
        b.rectangle((0, WIDE, HIGH), long * X, -WIDE * Y, paint_.ceiling)
        doors = [room.at[0] + room.door for room in rooms if room.yaw == 0]
        wall(b, (0, WIDE, 0), X, long, doors, paint_.plaster, (paint_.dado, of.door))
        doors = [long - (room.at[0] - room.door) for room in rooms if room.yaw != 0]
        wall(b, (long, 0, 0), -X, long, doors, paint_.plaster, (paint_.dado, of.door))
        for x in np.arange(1.5, long, 3.0):
            b.rectangle((x - 0.6, WIDE / 2 + 0.15, HIGH - 0.02), 1.2 * X, -0.3 * Y, of.lamp, emission=1.6)
            b.box((x, WIDE / 2, HIGH - 0.05), (1.26, 0.36, 0.05), of.steel, bottom=None, top=None)
        _ends(b, of, paint_, long, rooms[0].floor, own)
    for room in rooms:
        with b.placed(room.at, room.yaw):
            _doorway(b, of, room, own)


def _doorway(b: RoomBuilder, of: House, room: PlannedRoom, own: Generator) -> None:
    """What is in the wall and on the corridor's side of it, with the room's plate."""
    (wide, high), left = DOOR, room.door
    b.rectangle((left, -WALL, 0), WALL * Y, high * Z, of.door)
    b.rectangle((left + wide, 0, 0), -WALL * Y, high * Z, of.door)
    b.rectangle((left, 0, high), wide * X, -WALL * Y, of.door)
    b.rectangle((left, -WALL, 0), wide * X, WALL * Y, of.walnut)
    casing(b, of, left, -WALL - 0.015)
    _hang(b, of, room)
    plate = b.material(signs.plate(f"{room.number:02d}", words(own, 2)))
    b.rectangle((left + wide + 0.2, -WALL - 0.01, 1.5), 0.3 * X, 0.2 * Z, plate)
    if room.number % 3 == 0:
        b.cylinder((left - 0.4, -WALL - 0.1, 0.35), 0.42 * Z, 0.075, of.red)
        b.sphere((left - 0.4, -WALL - 0.1, 0.77), 0.075, of.red)
        b.cylinder((left - 0.4, -WALL - 0.1, 0.8), 0.1 * Z, 0.02, of.steel)


def _hang(b: RoomBuilder, of: House, room: PlannedRoom) -> None:
    """On the wall at both sides of a doorway, the same on every floor: pictures and notice boards."""
    right = room.door + DOOR[0] + 0.7
    kind = room.number % A_FLOOR
    image = signs.notice_board(b.rng) if kind % 4 == 1 else signs.poster(b.rng, kind)
    for x, tall, picture in (
        ((right + room.size[0]) / 2, 0.7, image),
        (room.door - 0.85, 0.5, signs.poster(b.rng, kind + 2)),
    ):
        wide = tall * picture.shape[1] / picture.shape[0]
        b.framed((x, -WALL - 0.015, 1.15), wide, tall, b.material(picture), of.steel)


def _ends(b: RoomBuilder, of: House, paint_: _Corridor, long: float, floor: int, own: Generator) -> None:
    b.rectangle((0, 0, 0), WIDE * Y, HIGH * Z, paint_.end)
    b.rectangle((long, WIDE, 0), -WIDE * Y, HIGH * Z, of.bricks)
    sky = b.material(paint.sky_view(b.rng))
    b.rectangle((0.03, 0.4, 0.1), 1.2 * Y, 2.0 * Z, b.cut(sky, 0.1, 0.2, 0.35, 0.8), emission=0.6)
    for y in (0.4, 1.0, 1.6):
        b.box((0.04, y, 0), (0.07, 0.07, 2.1), of.steel)
    for z in (0.0, 1.0, 2.1):
        b.box((0.04, 1.0, z), (0.06, 1.27, 0.07), of.steel)
    directory = b.material(signs.directory(own, f"FLOOR {floor}"))
    b.framed((long - 0.015, 1.3, 0.95), 0.9, 1.2, directory, of.steel, yaw=-np.pi / 2)
    b.framed(
        (long - 0.015, 0.4, 1.35), 0.5, 0.5, b.material(signs.floor_number(floor)), of.steel, yaw=-np.pi / 2
    )
    plant(b, (0.4, WIDE - 0.3))


def _corridor_lamps(long: float) -> np.ndarray:
    points = [
        [x + dx, WIDE / 2, HIGH - 0.08, 0, 0, -1, 0.42, 0.41, 0.38]
        for x in np.arange(1.5, long, 3.0)
        for dx in (-0.4, 0.0, 0.4)
    ]
    points += [[0.1, y, z, 1, 0, 0, 0.28, 0.31, 0.36] for y in (0.7, 1.3) for z in (0.7, 1.6)]
    return np.array(points)
