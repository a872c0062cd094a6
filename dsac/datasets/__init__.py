"""Scenes in: folders of posed images, in the formats people have them."""

from dsac.datasets.conventions import Conventions, read_as
from dsac.datasets.frame import Frame, FrameReader, Frames, NamedPoses, Scene
from dsac.datasets.image import read_exif_focal_px, read_image
from dsac.datasets.photos import load_photos
from dsac.datasets.poses_file import read_poses, write_poses
from dsac.datasets.scene import load_scene
from dsac.datasets.video import video_frames, write_frames

__all__ = [
    "Conventions",
    "Frame",
    "FrameReader",
    "Frames",
    "NamedPoses",
    "Scene",
    "load_photos",
    "load_scene",
    "read_as",
    "read_exif_focal_px",
    "read_image",
    "read_poses",
    "video_frames",
    "write_frames",
    "write_poses",
]
