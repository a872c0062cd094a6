"""A building of furnished rooms along corridors on several floors, walked through room by room.

As large as one likes, for maps of more than a room; some rooms look alike. Every photo is in the folder of the
room or corridor that it was taken in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.random import Generator

from dsac.datasets.frame import Scene
from dsac.geometry import Camera, Pose
from dsac.rooms.floors import (
    STOREY,
    PlannedRoom,
    build_building,
    corridor_length,
    plan_building,
    to_world,
)
from dsac.rooms.furnished import DOOR
from dsac.rooms.scene import render_scene
from dsac.rooms.walks import carefully, carelessly, hand_held, there_and_back

LIGHT_CELL = 0.15  # metres
_EXPOSURE = 1.6
_USUAL = 12.0  # metres of a corridor for which the frames of a room are enough

_last_building = lru_cache(maxsize=1)(
    lambda num_rooms, seed, light_cell: build_building(plan_building(num_rooms, seed), seed, light_cell)
)


def building_scene(
    num_rooms: int = 30,
    num_mapping: int = 200,
    num_query: int = 25,
    size: tuple[int, int] = (640, 480),
    seed: int = 0,
    light_cell: float = LIGHT_CELL,
) -> Scene:
    """The building as a phone sees it, every frame rendered when taken: so many a room, in long corridors more.

    Names are `room-07/mapping-000.jpg`, `room-07/query-000.jpg`, `corridor-0/mapping-000.jpg`, ...: where the
    camera stands. Which rooms look alike `look_alikes(plan_building(num_rooms, seed))` says. The truth is
    called "exact". The light is baked first, some seconds a room.
    Raises: `ValueError` for a number of rooms below 1.
    """
    rooms = plan_building(num_rooms, seed)
    room = _last_building(num_rooms, seed, light_cell)
    noise, mapping_rng, query_rng = (np.random.default_rng([seed, number]) for number in (1, 2, 3))
    camera = Camera.simple(525 * size[0] / 640, size)
    mapping, mapping_places = _walk(rooms, mapping_rng, num_mapping, _mapping_room, _mapping_corridor)
    query, query_places = _walk(rooms, query_rng, num_query, _query_room, _query_corridor)
    places = {"mapping": mapping_places, "query": query_places}
    there = carefully(mapping_rng, mapping, 0.05, _EXPOSURE)
    later = carelessly(query_rng, query, 0.1, _EXPOSURE)
    return render_scene(room, camera, there, later, noise, places=places)


# ---- walks: floor by floor, its corridor and then its rooms ----------------------------------------

Track = tuple[np.ndarray, np.ndarray, np.ndarray]  # (N, 3) positions, (N,) yaw, (N,) pitch


def _walk(
    rooms: list[PlannedRoom],
    rng: Generator,
    count: int,
    in_room: Callable[[PlannedRoom, Generator, int], Track],
    in_corridor: Callable[[float, Generator, int], Track],
) -> tuple[Pose, list[str]]:
    """Poses of `count` photos in each, and the names of where they are taken."""
    poses, places = [], []
    for floor in sorted({room.floor for room in rooms}):
        long = corridor_length(rooms)
        in_it = round(count * max(1.0, long / _USUAL))
        position, yaw, pitch = in_corridor(long, rng, in_it)
        position = position + np.array([0, 0, floor * STOREY])
        poses.append(hand_held(rng, position[:, :2], position[:, 2], yaw, pitch))
        places += [f"corridor-{floor}"] * in_it
        for room in rooms:
            if room.floor == floor:
                position, yaw, pitch = in_room(room, rng, count)
                position = to_world(room, position)
                poses.append(hand_held(rng, position[:, :2], position[:, 2], yaw + room.yaw, pitch))
                places += [room.name] * count
    return Pose.cat(poses), places


def _mapping_room(room: PlannedRoom, rng: Generator, count: int) -> Track:
    """In by the door, once around looking outwards, and once more in a smaller circle looking across."""
    way = np.arange(count) / count
    (wide, deep), turn = room.size, 4 * np.pi * way - np.pi / 2
    again = way >= 0.5
    reach = np.where(again, 0.6, 1.0)
    position = np.column_stack([
        wide / 2 + reach * (wide / 2 - 1.5) * np.cos(turn),
        deep / 2 - 0.1 + reach * (deep / 2 - 1.4) * np.sin(turn),
        np.where(again, 1.42, 1.6) + 0.08 * np.sin(2.3 * turn),
    ])  # fmt: skip
    yaw = turn + np.where(again, np.pi, 0) + 0.35 * np.sin(3 * turn)
    inside = np.clip(way / 0.08, 0, 1)[:, None]
    inside = inside**2 * (3 - 2 * inside)
    threshold = np.array([room.door + DOOR[0] / 2, 0.35, 1.6])
    position = threshold + inside * (position - threshold)
    yaw = np.pi / 2 + inside[:, 0] * (yaw - np.pi / 2)
    return position, yaw, -0.17 + 0.14 * np.sin(1.7 * turn)


def _query_room(room: PlannedRoom, rng: Generator, count: int) -> Track:
    """From side to side through the middle, turning the other way around, from other heights."""
    way = (np.arange(count) + 0.5) / count
    (wide, deep), sweep, start = room.size, 2 * np.pi * way, rng.uniform(0, 2 * np.pi)
    position = np.column_stack([
        wide / 2 + 0.8 * (wide / 2 - 1.5) * np.sin(sweep + start),
        deep / 2 - 0.1 + 0.8 * (deep / 2 - 1.4) * np.sin(2 * sweep + 0.5),
        1.5 + 0.12 * np.sin(3 * sweep + 1),
    ])  # fmt: skip
    return position, start - 1.4 * sweep, -0.15 + 0.1 * np.sin(2.6 * sweep + 2)


def _mapping_corridor(long: float, rng: Generator, count: int) -> Track:
    """To the east and back, turning from side to side and into the rooms."""
    way, back = there_and_back(count)
    sweep = 2 * np.pi * long / 4 * way
    position = np.column_stack([
        1.4 + (long - 2.8) * way,
        np.where(back, 1.25, 0.75) + 0.1 * np.sin(1.3 * sweep),
        np.where(back, 1.45, 1.6) + 0.08 * np.sin(0.7 * sweep),
    ])  # fmt: skip
    yaw = np.where(back, np.pi, 0) + 1.1 * np.sin(sweep)
    return position, yaw, -0.1 + 0.1 * np.sin(1.7 * sweep)


def _query_corridor(long: float, rng: Generator, count: int) -> Track:
    """Through the middle to the west, turning from side to side."""
    way = (np.arange(count) + 0.5) / count
    sweep = 2 * np.pi * long / 7 * way
    position = np.column_stack([
        long - 1.6 - (long - 3.2) * way, 1.0 + 0.2 * np.sin(2 * sweep), 1.52 + 0.1 * np.sin(1.4 * sweep + 1)
    ])  # fmt: skip
    return position, np.pi + 1.1 * np.sin(sweep + 1), -0.1 + 0.1 * np.sin(2.6 * sweep + 2)
