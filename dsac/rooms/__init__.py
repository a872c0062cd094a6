"""Rooms that are rendered on the spot: scenes with exact poses and depth, nothing to download.

A place is a file of its own, as `living_room.py` and `terrace.py` are: what stands in it (`RoomBuilder`), its
lamps (`bake_light`) and the walks through it (`Shots`), which `render_scene` makes a scene of.
"""

from collections.abc import Callable

from dsac.datasets.frame import Scene
from dsac.rooms.builder import Material, RoomBuilder
from dsac.rooms.corridor import CORRIDOR, build_corridor, corridor_scene
from dsac.rooms.light import bake_light
from dsac.rooms.living_room import build_living_room, synthetic_scene
from dsac.rooms.render import develop, render_depth, render_light
from dsac.rooms.repeats import Repeats
from dsac.rooms.scene import DEPTH_UNIT, render_scene, write_scene
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
    "facade_scene",
    "build_street_front",
    "staircase_scene",
    "build_staircase",
    "corridor_scene",
    "build_corridor",
    "Repeats",
    "SCENES",
    "STAIRCASE",
    "FACADE",
    "CORRIDOR",
    "DEPTH_UNIT",
    "Material",
    "Room",
    "RoomBuilder",
    "Shots",
    "View",
    "bake_light",
    "build_living_room",
    "build_terrace",
    "develop",
    "hand_held",
    "render_depth",
    "render_light",
    "render_scene",
    "synthetic_scene",
    "terrace_scene",
    "tremor",
    "write_scene",
]
