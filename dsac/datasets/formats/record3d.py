"""Record3D's export: `metadata.json` with `poses` and `K`, images `0.jpg`, `1.jpg`, ... in `rgb` or `rgbd`.

A pose is `qx qy qz qw x y z`, world from camera with ARKit's axes (x right, y up, z backward). `K` is stored
column by column; `perFrameIntrinsicCoeffs`, `fx fy cx cy` of each frame, win. Depth is read as PNG in
millimetres; Record3D's own EXR and LZFSE files are not.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from dsac.datasets.format import Recording
from dsac.datasets.json_values import json_list, json_numbers, read_json
from dsac.datasets.listed_files import IMAGE_ENDINGS, files_by_number, files_with, pair_files
from dsac.datasets.posed_files import OPENGL_AXES, Lens, PosedImages, image_size, pick
from dsac.datasets.recording import ResampledDepth
from dsac.datasets.rigid import finite_rows, rigid_from_quaternions
from dsac.datasets.storage import Storage
from dsac.errors import DatasetError
from dsac.geometry import Pose

logger = logging.getLogger(__name__)

LOOKS_FOR = "metadata.json beside rgb or rgbd (Record3D)"
_METADATA = ["metadata.json", "metadata"]
_IMAGES = ["rgb", "rgbd", "EXR_RGBD/rgb"]
_DEPTH = ("depth", "rgbd", "EXR_RGBD/depth")


def recognises(storage: Storage) -> bool:
    metadata = storage.first(_METADATA) or storage.first(["EXR_RGBD/metadata.json"])
    return metadata is not None and storage.first(_IMAGES) is not None


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames in the order of their numbers; the truth is `arkit`."""
    folder = storage.first(_IMAGES)
    path = storage.join(storage.first(_METADATA) or "EXR_RGBD/metadata.json")
    assert folder is not None
    metadata = read_json(path)
    poses = metadata.get("poses") if isinstance(metadata, dict) else None
    if not isinstance(poses, list) or not poses:
        raise DatasetError(f"{path}: expected an object with a list of `poses`")
    images = files_with(storage, folder, IMAGE_ENDINGS)
    number_of = {name: i for i, name in files_by_number(images, len(poses), storage.join(folder)).items()}
    files = list(number_of)
    if not files:
        raise DatasetError(f"{storage.join(folder)}: expected images 0.jpg, 1.jpg, ... for {len(poses)} poses")
    table = torch.tensor(
        [json_list(poses, i, 7, f"{path}, pose") for i in number_of.values()], dtype=torch.float64
    )
    rows = finite_rows(table, files, path)
    table, files = table[torch.from_numpy(rows)], pick(files, rows)
    world_from_arkit = rigid_from_quaternions(
        table[:, [3, 0, 1, 2]], table[:, 4:], lambda i: f"{path}, pose {number_of[files[i]]}"
    )
    axes = table.new_tensor(OPENGL_AXES)
    cam_from_world = Pose(world_from_arkit.rotation * axes, world_from_arkit.translation).inverse()
    lenses = [_lens(metadata, number_of[file], path) for file in files]
    depth_of = {f"{folder}/{file}": depth for file, depth in _depth(storage, folder, files).items()}
    names = [f"{folder}/{file}" for file in files]
    posed = PosedImages(names, cam_from_world, lenses, path, depth_of, ResampledDepth(0.001))
    return posed.recording(storage, "Record3D export", "arkit", truth)


def _lens(metadata: Mapping[str, Any], number: int, path: str) -> Lens:
    size = None
    if "w" in metadata and "h" in metadata:
        width, height = json_numbers(metadata, ["w", "h"], path)
        size = image_size(width, height, path)
    per_frame = metadata.get("perFrameIntrinsicCoeffs")
    if isinstance(per_frame, list) and number < len(per_frame):
        where = f"{path}, perFrameIntrinsicCoeffs"
        return Lens("PINHOLE", tuple(json_list(per_frame, number, 4, where)), size, where)
    K = json_list(metadata, "K", 9, path)
    rows = [K[0::3], K[1::3], K[2::3]] if K[6] or K[7] else [K[0:3], K[3:6], K[6:9]]
    return Lens.from_matrix([value for row in rows for value in row], path, size)


def _depth(storage: Storage, image_folder: str, files: list[str]) -> dict[str, str]:
    """Depth files by image."""
    for folder in _DEPTH:
        images = set(files) if folder == image_folder else set()
        names = [name for name in files_with(storage, folder, [".png"]) if name not in images]
        if names:
            found = pair_files(files, names, storage.join(folder))
            return {file: f"{folder}/{name}" for file, name in found.items()}
        if files_with(storage, folder, [".exr", ".depth"]):
            logger.warning("%s: depth as EXR or LZFSE is not read, only PNG", storage.join(folder))
    return {}
