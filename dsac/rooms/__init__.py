"""Rooms that are rendered on the spot: scenes with exact poses and depth, nothing to download.

A place is a file of its own, as `living_room.py` and `terrace.py` are: what stands in it (`RoomBuilder`), its
lamps (`bake_light`) and the walks through it (`Shots`), which `walked_scene` makes a scene of. `staircase.py`,
`corridor.py` and `street_front.py` repeat themselves (`Repeats`). `building.py` has as many rooms as one likes.
"""

from collections.abc import Callable

from dsac.datasets.frame import Scene
from dsac.rooms.builder import Material, RoomBuilder
from dsac.rooms.building import building_scene
from dsac.rooms.corridor import CORRIDOR, build_corridor, corridor_scene
from dsac.rooms.floors import PlannedRoom, build_building, look_alikes, plan_building
from dsac.rooms.light import bake_light
from dsac.rooms.living_room import build_living_room, synthetic_scene
from dsac.rooms.render import develop, render_depth, render_light
from dsac.rooms.repeats import Repeats, lookalikes
from dsac.rooms.scene import DEPTH_UNIT, render_scene, walked_scene, write_scene
from dsac.rooms.staircase import STAIRCASE, build_staircase, staircase_scene
from dsac.rooms.street_front import FACADE, build_street_front, facade_scene
from dsac.rooms.surfaces import Room
from dsac.rooms.terrace import build_terrace, terrace_scene
from dsac.rooms.visibility import View
from dsac.rooms.walks import Shots, hand_held, tremor

SCENES: dict[str, Callable[..., Scene]] = {
    "room": synthetic_scene,
    "terrace": terrace_scene,
    "stairs": staircase_scene,
    "corridor": corridor_scene,
    "facade": facade_scene,
}  # by the names of `dsac demo --scene`

__all__ = [
    "CORRIDOR",
    "DEPTH_UNIT",
    "FACADE",
    "Material",
    "PlannedRoom",
    "Repeats",
    "Room",
    "RoomBuilder",
    "SCENES",
    "STAIRCASE",
    "Shots",
    "View",
    "bake_light",
    "build_building",
    "build_corridor",
    "build_living_room",
    "build_staircase",
    "build_street_front",
    "build_terrace",
    "building_scene",
    "corridor_scene",
    "develop",
    "facade_scene",
    "hand_held",
    "look_alikes",
    "lookalikes",
    "plan_building",
    "render_depth",
    "render_light",
    "render_scene",
    "staircase_scene",
    "synthetic_scene",
    "terrace_scene",
    "tremor",
    "walked_scene",
    "write_scene",
]
