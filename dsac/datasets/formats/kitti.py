"""KITTI odometry: a sequence's folder with `calib.txt` and `image_2` or `image_0`.

`poses.txt` (or `NN.txt`, here or in `poses`, or in `../../poses` as KITTI lays them out) has a 3x4 matrix a
line: world from the rectified camera 0. `P2` of `calib.txt` projects from that camera: P2 = K [1 | b], so that
camera 2 is moved by b. K counts pixels from the centre of the first, as OpenCV does.
"""

from __future__ import annotations

import numpy as np
import torch

from dsac.datasets.format import Recording
from dsac.datasets.listed_files import IMAGE_ENDINGS, files_by_number, files_with, folder_names
from dsac.datasets.posed_files import Lens, PosedImages, pick, poses_from_matrices
from dsac.datasets.storage import Storage
from dsac.datasets.tables import read_rows
from dsac.errors import DatasetError
from dsac.geometry import Pose

LOOKS_FOR = "calib.txt beside image_2 or image_0 (KITTI odometry)"
_CAMERAS = (2, 0, 3, 1)  # colour first


def recognises(storage: Storage) -> bool:
    return storage.has("calib.txt") and storage.first([f"image_{i}" for i in _CAMERAS]) is not None


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames of the best camera there is; the truth is `poses`."""
    number = next(i for i in _CAMERAS if storage.has(f"image_{i}"))
    lens, cam_from_cam0 = _calibration(storage, number)
    path, matrices = _poses(storage)
    names = [f"image_{number}/{name}" for name in _images(storage, f"image_{number}", len(matrices))]
    rows, cam0_from_world = poses_from_matrices(names, matrices, path)
    names = pick(names, rows)
    images = PosedImages(names, cam_from_cam0 @ cam0_from_world, [lens] * len(names), path)
    return images.recording(storage, f"KITTI odometry, image_{number}", "poses", truth)


def _images(storage: Storage, folder: str, count: int) -> list[str]:
    """The image of each pose: in their order if there are as many, else by their numbers, which begin at 0."""
    files = files_with(storage, folder, IMAGE_ENDINGS)
    if len(files) == count:
        return files
    numbered = files_by_number(files, count, storage.join(folder))
    return [numbered.get(i, f"{i:06d}.png") for i in range(count)]


def _calibration(storage: Storage, number: int) -> tuple[Lens, Pose]:
    path = storage.join("calib.txt")
    for row in read_rows(path):
        if row.words[0].rstrip(":") in (f"P{number}", f"P_rect_0{number}"):
            P = np.array(row.numbers("P2: and 12 numbers", 1, 12)).reshape(3, 4)
            lens = Lens.from_opencv(P[:, :3], None, row.place)  # whose K has an inverse
            offset = torch.from_numpy(np.linalg.solve(P[:, :3], P[:, 3]))
            return lens, Pose(torch.eye(3, dtype=torch.float64), offset)
    raise DatasetError(f"{path}: expected a line `P{number}:` with 12 numbers for image_{number}, found none")


def _poses(storage: Storage) -> tuple[str, list[torch.Tensor]]:
    sequence = folder_names(storage)[-1]
    places = ["poses.txt", f"{sequence}.txt", f"poses/{sequence}.txt", f"../../poses/{sequence}.txt"]
    name = storage.first(places)
    if name is None:
        raise DatasetError(f"{storage.path}: expected poses, looked for {', '.join(places)}")
    path = storage.join(name)
    expected = "a 3x4 matrix as 12 numbers"
    rows = read_rows(path)
    table = torch.tensor([row.numbers(expected, 0, 12) for row in rows], dtype=torch.float64)
    return path, list(table.reshape(-1, 3, 4))
