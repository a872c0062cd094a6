"""Rigid motions and cameras; every frame is in a name: `points_cam = cam_from_world @ points_world`."""

from dsac.geometry.camera import Camera
from dsac.geometry.pose import Pose, rotation_angle, skew

__all__ = ["Camera", "Pose", "rotation_angle", "skew"]
