"""Rigid motions and cameras; every frame is in a name: `points_cam = cam_from_world @ points_world`."""

from dsac.geometry.camera import Camera
from dsac.geometry.earth import GeoPoint, check_geo, east_north_up, geo_of
from dsac.geometry.pose import Pose
from dsac.geometry.rotation import nearest_rotation, rotation_angle, skew
from dsac.geometry.similarity import Similarity
from dsac.geometry.similarity_fit import SimilarityFit, fit_cameras, fit_most_points, fit_points

__all__ = [
    "Camera",
    "GeoPoint",
    "Pose",
    "Similarity",
    "SimilarityFit",
    "check_geo",
    "east_north_up",
    "fit_cameras",
    "fit_most_points",
    "fit_points",
    "geo_of",
    "nearest_rotation",
    "rotation_angle",
    "skew",
]
