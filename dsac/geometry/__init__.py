"""Rigid motions and cameras; every frame is in a name: `points_cam = cam_from_world @ points_world`."""

from dsac.geometry.camera import Camera
from dsac.geometry.pose import Pose
from dsac.geometry.rotation import nearest_rotation, rotation_angle, skew
from dsac.geometry.similarity import Similarity

__all__ = ["Camera", "Pose", "Similarity", "nearest_rotation", "rotation_angle", "skew"]
