"""7-Scenes: a hand-held Kinect, with two truths and depth of a second camera beside the colour camera.

All poses here are of the colour camera. `sfm` is `poses_sfm.txt`, `dslam` is `poses_dslam.txt`, both as in the
pseudo ground truth release. Where there is no `poses_dslam.txt`, `dslam` comes from the original
`frame-*.pose.txt`, which hold world-from-depth-camera matrices: they are moved by `COLOR_FROM_DEPTH`. (On red
kitchen, `poses_dslam.txt` equals the moved files to 0.002 degrees and 1 mm: it must not be moved again.)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float32

from dsac.datasets.format import Recording, Split
from dsac.datasets.frame import Frames, NamedPoses
from dsac.datasets.image import DepthUnits
from dsac.datasets.image_names import names_found
from dsac.datasets.poses_file import read_poses
from dsac.datasets.recording import (
    FileReader,
    expect_size_of_image,
    find_depth,
    find_images,
    of_the_images,
    pick_truth,
)
from dsac.datasets.rigid import finite_rows, rigid_from_matrices
from dsac.datasets.storage import Storage, read_lines
from dsac.datasets.tables import numbers
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose

LOOKS_FOR = "poses_sfm.txt, poses_dslam.txt, TrainSplit.txt or seq-*/frame-*.pose.txt (7-Scenes)"

SIZE = (640, 480)  # that focal lengths are for
FOCAL_PX = 525.0  # of the colour camera, where a truth names none
DEPTH_FOCAL_PX = 585.0
DEPTH_CENTER_PX = (320.0, 240.0)
COLOR_FROM_DEPTH = Pose.from_matrix(
    torch.tensor(
        [
            [0.99996518, 0.00267651, -0.00790410, -0.02555894],
            [-0.00274093, 0.99996303, -0.00815045, 0.00010110],
            [0.00788199, 0.00817183, 0.99993555, 0.00203183],
        ],
        dtype=torch.float64,
    )
)
_NO_DEPTH = 65535  # beside 0


def recognises(storage: Storage) -> bool:
    if storage.first(["poses_sfm.txt", "poses_dslam.txt", "TrainSplit.txt", "TestSplit.txt"]):
        return True
    return any(_pose_files(storage, sequence) for sequence in _sequences(storage)[:1])


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames with poses of the truth asked for, by default SfM, else D-SLAM."""
    read = {name: poses() for name, poses in _truths(storage).items()}
    truths = {name: replace(poses, names=names_found(storage, poses.names)) for name, poses in read.items()}
    if not truths:
        raise DatasetError(f"{storage.path}: 7-Scenes without poses; looked for {LOOKS_FOR}")
    chosen = pick_truth(storage.path, truths, truth)
    image_folder, present = find_images(storage, truths[chosen].names, ["."], f"the {chosen} truth")
    posed = truths[chosen].take(present)
    focal_px = np.full(len(posed.names), FOCAL_PX) if posed.focal_px is None else posed.focal_px.numpy()
    focals, camera_index = np.unique(focal_px, return_inverse=True)
    cameras = [Camera.simple(float(focal), SIZE) for focal in focals]
    cameras = of_the_images(storage, image_folder, posed.names, cameras, camera_index)

    depth_names = {name: re.sub(r"\.color\.\w+$", "", name) + ".depth.png" for name in posed.names}
    reader = FileReader(storage.path, image_folder, find_depth(storage, depth_names), register_depth)
    frames = Frames(posed.names, cameras, camera_index, posed.cam_from_world, reader)
    label = {"sfm": "SfM truth", "dslam": "D-SLAM truth"}[chosen]
    return Recording(f"7-Scenes ({label})", frames, truths, _official_split(storage, posed.names))


def register_depth(units: DepthUnits, camera: Camera) -> Float32[np.ndarray, "H W"]:
    """Raw Kinect depth (millimetres, 0 and 65535 unknown) as depth in metres in the colour camera.

    Each depth pixel moves to the colour pixel that sees its point; the nearest point wins where several meet.
    The depth camera has the longer focal length, so only 0.2 % of the colour pixels stay unknown.
    """
    expect_size_of_image(units, camera)
    height, width = units.shape
    slope, offset = _color_pixel_of_depth(width, height, *camera.focal_px.tolist(), *camera.center_px.tolist())
    flat = units.ravel()
    depth = np.where(flat == _NO_DEPTH, 0, flat) * np.float32(0.001)
    z = slope[2] * depth + offset[2]
    x, y = (slope[0] * depth + offset[0]) / z, (slope[1] * depth + offset[1]) / z
    seen = np.flatnonzero((depth > 0) & (x >= 0) & (y >= 0) & (x < width) & (y < height))
    target = y[seen].astype(np.int32) * width + x[seen].astype(np.int32)
    registered = np.full(height * width, np.inf, np.float32)
    np.minimum.at(registered, target, z[seen])
    registered[np.isinf(registered)] = 0
    return registered.reshape(height, width)


@lru_cache(maxsize=8)
def _color_pixel_of_depth(
    width: int, height: int, focal_x: float, focal_y: float, center_x: float, center_y: float
) -> tuple[Float32[np.ndarray, "3 N"], Float32[np.ndarray, "3"]]:
    """The homogeneous colour pixel of each depth pixel at depth d, as `slope * d + offset`."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = x * (SIZE[0] / width), y * (SIZE[1] / height)
    rays = np.stack([(x - DEPTH_CENTER_PX[0]) / DEPTH_FOCAL_PX, (y - DEPTH_CENTER_PX[1]) / DEPTH_FOCAL_PX])
    rays = np.concatenate([rays, np.ones((1, height, width))]).reshape(3, -1)
    K = np.array([[focal_x, 0, center_x], [0, focal_y, center_y], [0, 0, 1]])
    slope = K @ COLOR_FROM_DEPTH.rotation.numpy() @ rays
    offset = K @ COLOR_FROM_DEPTH.translation.numpy()
    return slope.astype(np.float32), offset.astype(np.float32)


def _truths(storage: Storage) -> dict[str, Callable[[], NamedPoses]]:
    """The truths that the scene has, best first, each as a function that reads it."""
    truths: dict[str, Callable[[], NamedPoses]] = {}
    if storage.has("poses_sfm.txt"):
        truths["sfm"] = lambda: read_poses(storage.join("poses_sfm.txt"))
    if storage.has("poses_dslam.txt"):
        truths["dslam"] = lambda: read_poses(storage.join("poses_dslam.txt"))
    elif any(_pose_files(storage, sequence) for sequence in _sequences(storage)):
        truths["dslam"] = lambda: _read_pose_files(storage)
    return truths


def _sequences(storage: Storage) -> list[str]:
    """The folders with frames: `seq-*`, or the scene's folder itself."""
    return sorted(name for name in storage.listing() if re.fullmatch(r"seq-\d+", name)) or ["."]


def _pose_files(storage: Storage, sequence: str) -> list[str]:
    return sorted(name for name in storage.listing(sequence) if re.fullmatch(r"frame-\d+\.pose\.txt", name))


def _read_pose_files(storage: Storage) -> NamedPoses:
    """Colour poses from the original files: world-from-depth-camera, 4x4."""
    names, paths, matrices = [], [], []
    for sequence in _sequences(storage):
        prefix = "" if sequence == "." else sequence + "/"
        for file in _pose_files(storage, sequence):
            stem = prefix + file.removesuffix(".pose.txt")
            path = storage.join(prefix + file)
            try:
                values = [value for line in read_lines(path) if line for value in numbers(line)]
            except ValueError:
                values = []
            if len(values) != 16:
                raise DatasetError(f"{path}: expected a 4x4 matrix as 16 numbers")
            names.append(storage.first([stem + ".color.png", stem + ".color.jpg"]) or stem + ".color.png")
            paths.append(path)
            matrices.append(values[:12])
    table = torch.tensor(matrices, dtype=torch.float64).reshape(len(matrices), 3, 4)
    rows = finite_rows(table, names, storage.path)
    world_from_depth = rigid_from_matrices(table[torch.from_numpy(rows)], lambda i: paths[rows[i]])
    return NamedPoses([names[i] for i in rows], COLOR_FROM_DEPTH @ world_from_depth.inverse())


def _official_split(storage: Storage, names: list[str]) -> Split | None:
    """The frames of the sequences that `TrainSplit.txt` and `TestSplit.txt` list as `sequence1`."""
    if not storage.first(["TrainSplit.txt", "TestSplit.txt"]):
        return None
    sequences: dict[str, set[str]] = {}
    for part in ("TrainSplit.txt", "TestSplit.txt"):
        sequences[part] = set()
        for number, line in enumerate(read_lines(storage.join(part)) if storage.has(part) else [], 1):
            if not line:
                continue
            match = re.fullmatch(r"(?:sequence|seq-)0*([0-9]+)", line)
            if match is None:
                raise DatasetError(
                    f"{storage.join(part)}, line {number}: expected a line like `sequence1`, got `{line[:80]}`"
                )
            sequences[part].add(f"seq-{match[1]:0>2}")
    train, test = sequences["TrainSplit.txt"], sequences["TestSplit.txt"]
    return Split(
        [name for name in names if name.split("/")[0] in train],
        [name for name in names if name.split("/")[0] in test],
    )
