"""A plain folder: images here or in `images`, and a `poses.txt` (see `poses_file`).

Intrinsics: a focal length in pixels as the ninth column of `poses.txt` (the principal point is the centre),
or a `cameras.txt` in COLMAP's text format with one camera for all images. Optional: depth registered to the
images, in `depth` or `depths` under the image's name (16-bit PNG, or floating-point numbers in TIFF or .npy),
and `depth_scale.txt` with the metres per unit (0.001 for whole numbers, 1 for others).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Int

from dsac.datasets.format import Recording
from dsac.datasets.formats.colmap import read_camera_text
from dsac.datasets.frame import Frames, NamedPoses
from dsac.datasets.image_names import names_found
from dsac.datasets.poses_file import read_poses
from dsac.datasets.recording import (
    FileReader,
    cameras_from_focals,
    check_no_repeats,
    depth_beside,
    find_images,
    of_the_images,
    pick_truth,
    sizes_by_name,
)
from dsac.datasets.storage import Storage
from dsac.errors import DatasetError
from dsac.geometry import Camera

LOOKS_FOR = "poses.txt (`name qw qx qy qz tx ty tz [focal_px]` a line)"


def recognises(storage: Storage) -> bool:
    return storage.has("poses.txt")


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames in the order of `poses.txt`, which is the truth `poses`."""
    poses = read_poses(storage.join("poses.txt"))
    poses = replace(poses, names=names_found(storage, poses.names, ["images", "."]))
    check_no_repeats(poses.names, storage.join("poses.txt"))
    pick_truth(storage.path, ["poses"], truth)
    image_folder, present = find_images(storage, poses.names, [".", "images"], storage.join("poses.txt"))
    posed = poses.take(present)
    cameras, camera_index = _cameras(storage, image_folder, posed)
    sizes = sizes_by_name(posed.names, cameras, camera_index) if storage.has("cameras.txt") else {}
    depth, to_metres = depth_beside(storage, posed.names, cameras[camera_index[0]])
    reader = FileReader(storage.path, image_folder, depth, to_metres, sizes)
    frames = Frames(posed.names, cameras, camera_index, posed.cam_from_world, reader)
    return Recording("image folder with poses.txt", frames, {"poses": poses})


def _cameras(
    storage: Storage, image_folder: str, poses: NamedPoses
) -> tuple[list[Camera], Int[np.ndarray, " N"]]:
    """The distinct cameras, and the index of each image's."""
    if storage.has("cameras.txt"):
        camera = read_camera_text(storage.join("cameras.txt"))
        index = np.zeros(len(poses.names), np.int64)
        return of_the_images(storage, image_folder, poses.names, [camera], index), index
    if poses.focal_px is None:
        raise DatasetError(
            f"{storage.path}: no intrinsics; add the focal length in pixels as ninth column to each line of "
            "poses.txt, or a cameras.txt with the line `1 PINHOLE WIDTH HEIGHT FX FY CX CY`"
        )
    return cameras_from_focals(storage, image_folder, poses.names, poses.focal_px.numpy())
