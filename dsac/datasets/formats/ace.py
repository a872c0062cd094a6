"""The layout of DSAC* and ACE: `train` and `test`, each with `rgb`, `poses`, `calibration` and perhaps `depth`.

Files of one frame share the beginning of their names, or else their place in the order. Poses are 4x4, world
from camera; a calibration is a focal length (the principal point is the middle) or a 3x3 matrix, in pixels from
the image's corner. Depth is in millimetres unless `depth_scale.txt` says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dsac.datasets.format import Recording, Split
from dsac.datasets.listed_files import IMAGE_ENDINGS, files_with, pair_files
from dsac.datasets.posed_files import Lens, PosedImages, pick, poses_from_matrices
from dsac.datasets.recording import ResampledDepth, metres_per_depth_unit
from dsac.datasets.storage import Storage
from dsac.datasets.tables import read_numbers, read_pose_matrix
from dsac.errors import DatasetError

LOOKS_FOR = "train/rgb and train/poses (DSAC*, ACE)"


def recognises(storage: Storage) -> bool:
    return "train" in storage.listing() and {"rgb", "poses"} <= storage.listing("train")


def read(storage: Storage, truth: str | None) -> Recording:
    """`train` is for mapping, `test` to be localized; the truth is `poses`."""
    names: list[str] = []
    matrices: list[torch.Tensor] = []
    lenses: list[Lens] = []
    depth_names: dict[str, str] = {}
    for part in ("train", "test"):
        images = files_with(storage, f"{part}/rgb", IMAGE_ENDINGS)
        poses = _paired(storage, part, images, "poses", [".txt"])
        calibrations = _paired(storage, part, list(poses), "calibration", [".txt"])
        depth = files_with(storage, f"{part}/depth", [".png", ".tif", ".tiff"])
        depth_of = pair_files(list(calibrations), depth, storage.join(part, "depth")) if depth else {}
        for image, calibration in calibrations.items():
            names.append(f"{part}/rgb/{image}")
            matrices.append(read_pose_matrix(storage.join(part, "poses", poses[image])))
            lenses.append(_lens(storage.join(part, "calibration", calibration)))
            if image in depth_of:
                depth_names[names[-1]] = f"{part}/depth/{depth_of[image]}"
    rows, cam_from_world = poses_from_matrices(names, matrices, storage.path)
    names = pick(names, rows)
    split = Split(*([name for name in names if name.startswith(part)] for part in ("train/", "test/")))
    to_metres = ResampledDepth(metres_per_depth_unit(storage))
    images = PosedImages(names, cam_from_world, pick(lenses, rows), storage.path, depth_names, to_metres)
    return images.recording(storage, "DSAC*/ACE folders", "poses", truth, split=split)


def _paired(
    storage: Storage, part: str, images: Sequence[str], folder: str, endings: Sequence[str]
) -> dict[str, str]:
    """Each image's file in a folder; a folder with one file has it for all."""
    files = files_with(storage, f"{part}/{folder}", endings)
    if images and not files:
        raise DatasetError(
            f"{storage.join(part, folder)}: expected a text for each image of {part}/rgb, found none"
        )
    if len(files) == 1 and folder == "calibration":
        return dict.fromkeys(images, files[0])
    return pair_files(images, files, storage.join(part, folder))


def _lens(path: str) -> Lens:
    values = read_numbers(path)
    if len(values) == 1:
        return Lens("SIMPLE_PINHOLE", (values[0],), source=path)
    if len(values) not in (9, 16):
        raise DatasetError(
            f"{path}: expected a focal length in pixels or a 3x3 matrix, got {len(values)} numbers"
        )
    return Lens.from_matrix(values, path)
