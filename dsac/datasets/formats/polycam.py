"""Polycam's raw data: `keyframes` with `images`, `cameras` and `depth`, or the corrected ones.

A camera's JSON has the world-from-camera matrix as `t_00` to `t_23` with ARKit's axes (x right, y up, z
backward), and intrinsics for `width` x `height`. Depth is in millimetres, of fewer pixels.
"""

from __future__ import annotations

import torch

from dsac.datasets.format import Recording
from dsac.datasets.json_values import json_numbers, read_json
from dsac.datasets.listed_files import IMAGE_ENDINGS, files_with, pair_files
from dsac.datasets.posed_files import OPENGL_AXES, Lens, PosedImages, image_size, pick, poses_from_matrices
from dsac.datasets.recording import ResampledDepth
from dsac.datasets.storage import Storage
from dsac.errors import DatasetError

LOOKS_FOR = "keyframes/images and keyframes/cameras (Polycam)"
_PAIRS = (("corrected_images", "corrected_cameras"), ("images", "corrected_cameras"), ("images", "cameras"))
_MATRIX = [f"t_{row}{column}" for row in range(3) for column in range(4)]


def recognises(storage: Storage) -> bool:
    return _folders(storage) is not None


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames in the order of their times; the truth is `polycam`."""
    found = _folders(storage)
    assert found is not None
    base, image_folder, camera_folder = found
    files = files_with(storage, f"{base}{image_folder}", IMAGE_ENDINGS)
    cameras = files_with(storage, f"{base}{camera_folder}", [".json"])
    camera_of = pair_files(files, cameras, storage.join(base, camera_folder))
    lenses, matrices = [], []
    for camera in camera_of.values():
        path = storage.join(base, camera_folder, camera)
        entry = read_json(path)
        if not isinstance(entry, dict):
            raise DatasetError(f"{path}: expected an object with `fx` and `t_00`")
        width, height = json_numbers(entry, ["width", "height"], path)
        size = image_size(width, height, path)
        pinhole = tuple(json_numbers(entry, ["fx", "fy", "cx", "cy"], path))
        lenses.append(Lens("PINHOLE", pinhole, size, path))
        matrices.append(torch.tensor(json_numbers(entry, _MATRIX, path), dtype=torch.float64).reshape(3, 4))
    source = storage.join(base, camera_folder)
    rows, cam_from_world = poses_from_matrices(list(camera_of), matrices, source, OPENGL_AXES)
    files = pick(list(camera_of), rows)
    depth = files_with(storage, f"{base}depth", [".png"])
    depth_of = pair_files(files, depth, storage.join(base, "depth")) if depth else {}
    prefix = f"{base}{image_folder}/"
    images = PosedImages(
        [prefix + file for file in files],
        cam_from_world,
        pick(lenses, rows),
        source,
        {prefix + file: f"{base}depth/{name}" for file, name in depth_of.items()},
        ResampledDepth(0.001),
    )
    return images.recording(storage, f"Polycam, {camera_folder}", "polycam", truth)


def _folders(storage: Storage) -> tuple[str, str, str] | None:
    """Where they lie, images and cameras."""
    for base in ("keyframes/", ""):
        for images, cameras in _PAIRS:
            if {images, cameras} <= storage.listing(base or "."):
                if files_with(storage, f"{base}{cameras}", [".json"]):
                    return base, images, cameras
    return None
