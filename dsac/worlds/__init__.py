"""Bringing a map into another world: of control points, of the Earth, of another recording, of another map."""

from dsac.worlds.alignment import Alignment, aligned, by_transform
from dsac.worlds.clicks import by_clicks
from dsac.worlds.control_points import by_control_points
from dsac.worlds.gps import by_gps
from dsac.worlds.merging import apart, in_one_world
from dsac.worlds.overlap import knows_too
from dsac.worlds.recording import by_recording
from dsac.worlds.scale import by_distance, by_scale

__all__ = [
    "Alignment",
    "aligned",
    "apart",
    "by_clicks",
    "by_control_points",
    "by_distance",
    "by_gps",
    "by_recording",
    "by_scale",
    "by_transform",
    "in_one_world",
    "knows_too",
]
