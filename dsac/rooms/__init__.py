"""Rooms that are rendered on the spot: scenes with exact poses and depth, nothing to download.

A place is a file of its own, as `living_room.py` and `terrace.py` are: what stands in it (`RoomBuilder`), its
lamps (`bake_light`) and the walks through it (`Shots`), which `render_scene` makes a scene of.
"""

from dsac.rooms.builder import Material, RoomBuilder
from dsac.rooms.light import bake_light
from dsac.rooms.living_room import build_living_room, synthetic_scene
from dsac.rooms.render import develop, render_depth, render_light
from dsac.rooms.scene import DEPTH_UNIT, render_scene, write_scene
from dsac.rooms.surfaces import Room
from dsac.rooms.terrace import build_terrace, terrace_scene
from dsac.rooms.visibility import View
from dsac.rooms.walks import Shots, hand_held, tremor

__all__ = [
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
