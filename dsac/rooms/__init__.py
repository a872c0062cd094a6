"""Rooms that are rendered on the spot: scenes with exact poses and depth, nothing to download."""

from dsac.rooms.scene import DEPTH_UNIT, synthetic_scene, write_scene

__all__ = ["DEPTH_UNIT", "synthetic_scene", "write_scene"]
