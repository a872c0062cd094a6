"""LLFF's `poses_bounds.npy`: a row an image, in the order of the sorted names of `images` (or `images_4`, ...).

The first 15 numbers of a row are a 3x5 matrix: world from camera with the axes down, right, backward, the
camera's position, and height, width and focal length in pixels. The principal point is the middle. The scale is
the model's.
"""

from __future__ import annotations

import io
import re
from tokenize import TokenError

import numpy as np
import torch

from dsac.datasets.format import Recording
from dsac.datasets.image import read_image_size
from dsac.datasets.listed_files import IMAGE_ENDINGS, files_with
from dsac.datasets.posed_files import Lens, PosedImages, pick, poses_from_matrices
from dsac.datasets.storage import Storage, read_bytes
from dsac.errors import DatasetError

LOOKS_FOR = "poses_bounds.npy (LLFF)"
# numpy reads the header of the file as Python, and makes room for what that says
_UNREADABLE = (ValueError, EOFError, OSError, SyntaxError, TokenError, MemoryError, OverflowError, TypeError)


def recognises(storage: Storage) -> bool:
    return storage.has("poses_bounds.npy")


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames in the order of their names; the truth is `llff`."""
    path = storage.join("poses_bounds.npy")
    table = _load(path)
    names = _images(storage, path, len(table))
    down, right, backward, position, of_image = torch.from_numpy(table[:, :15]).reshape(-1, 3, 5).unbind(-1)
    world_from_cam = torch.stack([right, down, -backward, position], dim=-1)
    rows, cam_from_world = poses_from_matrices(names, list(world_from_cam), path)
    size = read_image_size(storage.join(names[0]), as_stored=True)
    focals = (size[0] * of_image[:, 2] / of_image[:, 1]).tolist()
    lenses = [Lens("SIMPLE_PINHOLE", (focal, size[0] / 2, size[1] / 2), size, path) for focal in focals]
    images = PosedImages(pick(names, rows), cam_from_world, pick(lenses, rows), path)
    return images.recording(storage, "LLFF poses_bounds.npy", "llff", truth, metric=False)


def _load(path: str) -> np.ndarray:
    try:
        table = np.load(io.BytesIO(read_bytes(path)), allow_pickle=False)
    except _UNREADABLE as error:
        raise DatasetError(f"{path}: expected an array of numpy: {error}") from None
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.shape[1] not in (15, 17) or not len(table):
        raise DatasetError(f"{path}: expected an array (N, 17), got {getattr(table, 'shape', type(table))}")
    return table.astype(np.float64)


def _images(storage: Storage, path: str, count: int) -> list[str]:
    """The images of the first folder, the largest images first, that has one for each row."""
    folders = sorted(
        (f for f in storage.listing() if re.fullmatch(r"images(_\d+)?", f)), key=lambda f: (len(f), f)
    )
    found = {folder: sorted(files_with(storage, folder, IMAGE_ENDINGS)) for folder in folders}
    for folder, names in found.items():
        if len(names) == count:
            return [f"{folder}/{name}" for name in names]
    there = ", ".join(f"{len(names)} in {folder}" for folder, names in found.items()) or "no folder images"
    raise DatasetError(
        f"{path}: expected a folder images with an image for each of {count} rows, found {there}"
    )
