"""ScanNet as its reader exports it: `color`, `depth`, `pose` and `intrinsic`.

Poses are 4x4, world from camera; where tracking was lost they are -inf and the frame is left out. Depth is in
millimetres (or as `depth_scale.txt` says), of the same centre and axes as colour.
"""

from __future__ import annotations

import logging

from dsac.datasets.format import Recording
from dsac.datasets.image import read_image_size
from dsac.datasets.listed_files import IMAGE_ENDINGS, files_with, pair_files
from dsac.datasets.posed_files import Lens, PosedImages, pick, poses_from_matrices
from dsac.datasets.recording import ResampledDepth, metres_per_depth_unit
from dsac.datasets.storage import Storage
from dsac.datasets.tables import read_numbers, read_pose_matrix
from dsac.errors import DatasetError

logger = logging.getLogger(__name__)

LOOKS_FOR = "color, pose and intrinsic (ScanNet)"
_FOLDERS = ("intrinsic", "intrinsics", ".")


def recognises(storage: Storage) -> bool:
    return {"color", "pose"} <= storage.listing() and bool(files_with(storage, "pose", [".txt"]))


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames in the order of their numbers; the truth is `poses`."""
    found = files_with(storage, "color", IMAGE_ENDINGS)
    pose_of = pair_files(found, files_with(storage, "pose", [".txt"]), storage.join("pose"))
    matrices = [read_pose_matrix(storage.join("pose", pose)) for pose in pose_of.values()]
    names = [f"color/{image}" for image in pose_of]
    rows, cam_from_world = poses_from_matrices(names, matrices, storage.join("pose"))
    names = pick(names, rows)
    if not names:
        raise DatasetError(f"{storage.join('pose')}: all {len(pose_of)} poses are NaN or infinite")

    depth = files_with(storage, "depth", [".png"])
    kept = pick(list(pose_of), rows)
    depth_of = pair_files(kept, depth, storage.join("depth")) if depth else {}
    depth_names = {f"color/{image}": f"depth/{file}" for image, file in depth_of.items()}
    colour, of_depth = _lenses(storage, names[0], next(iter(depth_names.values()), None))
    to_metres = ResampledDepth(metres_per_depth_unit(storage), of_depth)
    lenses = [colour] * len(names)
    images = PosedImages(names, cam_from_world, lenses, storage.join("pose"), depth_names, to_metres)
    return images.recording(storage, "ScanNet export", "poses", truth)


def _lenses(storage: Storage, image: str, depth: str | None):
    """Intrinsics of the colour images, and the camera of depth.

    Colour is often exported in the size of depth beside the intrinsics of the original: the images' size
    decides.
    """
    colour = _matrix(
        storage, ["intrinsic_color.txt", "intrinsics_color.txt", "intrinsic.txt", "intrinsics.txt"]
    )
    of_depth = _matrix(storage, ["intrinsic_depth.txt", "intrinsics_depth.txt"])
    size = read_image_size(storage.join(image))
    depth_size = None if depth is None else read_image_size(storage.join(depth))
    if colour is None and (of_depth is None or size != depth_size):
        raise DatasetError(f"{storage.path}: expected intrinsic/intrinsic_color.txt with the camera's matrix")
    if of_depth is not None and size == depth_size and (colour is None or not _fits(colour, size)):
        logger.info("%s: images have the size of depth, its intrinsics are taken", storage.path)
        colour = of_depth
    assert colour is not None
    camera = None if of_depth is None or depth_size is None else of_depth.camera(depth_size)
    return colour, camera


def _matrix(storage: Storage, files: list[str]) -> Lens | None:
    name = storage.first([f"{folder}/{file}" for folder in _FOLDERS for file in files])
    if name is None:
        return None
    path = storage.join(name)
    return Lens.from_matrix(read_numbers(path), path)


def _fits(lens: Lens, size: tuple[int, int]) -> bool:
    """Whether the principal point is near the middle of images of this size."""
    return all(abs(center / side - 0.5) < 0.15 for center, side in zip(lens.params[2:4], size, strict=True))
