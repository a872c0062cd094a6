"""Bringing a map into another world: that of control points, of the Earth, of another recording."""

from dsac.worlds.alignment import Alignment, aligned, by_transform
from dsac.worlds.control_points import by_control_points
from dsac.worlds.gps import by_gps
from dsac.worlds.recording import by_recording

__all__ = ["Alignment", "aligned", "by_control_points", "by_gps", "by_recording", "by_transform"]
