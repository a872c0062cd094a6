"""What solvers are timed on: dense scene coordinates of which a known share is right.

Files `input_r*.npz` with coords (F,h,w,3), u, v (h,w), K = (f, cx, cy), gt_pose (F,4,4) world_from_cam and
perhaps cam (F,h,w,3), the true points before the camera; or frames of the synthetic scene: 80×60 scene
coordinates with 2 cm noise, wrong ones uniform in the room, scattered or in patches ("blob").
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dsac.errors import DatasetError
from dsac.rooms import synthetic_scene

RATIOS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.85)


@dataclass(frozen=True)
class Input:
    """Frames with the same share of right predictions."""

    name: str
    pixels: np.ndarray  # (N, 2) float32
    scene_points: np.ndarray  # (F, N, 3) float32
    camera: np.ndarray  # f, cx, cy
    world_from_cam: np.ndarray  # (F, 4, 4)
    depths: np.ndarray | None = None  # (F, N) float32, true ones; 0 = none


def input_files(folder: Path) -> list[Path]:
    """Raises: `DatasetError` unless the folder has inputs that can be opened."""
    paths = sorted(folder.glob("input_r*.npz")) if folder.is_dir() else []
    if not paths:
        found = "none" if folder.is_dir() else "a file" if folder.exists() else "no such folder"
        raise DatasetError(f"{folder}: expected a folder with files input_r*.npz, found {found}")
    for path in paths:
        read_input(path, 1)
    return paths


def read_input(path: Path, frames: int) -> Input:
    try:
        with np.load(path) as data:
            coords = data["coords"][:frames]
            pixels = np.stack([data["u"], data["v"]], -1).reshape(-1, 2)
            return Input(
                path.stem.removeprefix("input_"),
                np.ascontiguousarray(pixels, np.float32),
                np.ascontiguousarray(coords.reshape(len(coords), len(pixels), 3), np.float32),
                data["K"],
                data["gt_pose"][:frames].reshape(len(coords), 4, 4),
                _depths(data, frames, coords.shape) if "cam" in data else None,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{path}: expected an .npz file with coords, u, v, K, gt_pose ({reason})") from error


def _depths(data: np.lib.npyio.NpzFile, frames: int, shape: tuple[int, ...]) -> np.ndarray:
    """(F, N); without those that are marked as not valid."""
    points = data["cam"][:frames]
    if points.shape != shape:
        raise ValueError(f"cam: expected {shape} like coords, got {points.shape}")
    depths = np.where(data["valid"][:frames], points[..., 2], 0.0) if "valid" in data else points[..., 2]
    return depths.reshape(len(depths), -1).astype(np.float32)


def synthetic_inputs(frames: int) -> Iterator[Input]:
    """The rendered room, seen by cells of 8 pixels."""
    views = synthetic_scene(num_mapping=frames, num_query=1, light_cell=1.0).mapping  # nobody looks at it
    assert views.cam_from_world is not None
    points, poses, depths = [], [], []
    rows, columns = np.mgrid[4:480:8, 4:640:8]
    pixels = np.stack([columns, rows], -1).reshape(-1, 2) + 0.5
    f, cx, cy = views.camera(0).focal_px[0].item(), *views.camera(0).center_px.tolist()
    for k in range(frames):
        depth = views.reader.read_depth(views.names[k], views.camera(k))[rows, columns].reshape(-1, 1)
        seen = np.concatenate([(pixels - (cx, cy)) / f, np.ones((len(pixels), 1))], 1) * depth
        matrix = views.cam_from_world[k].inverse().matrix.numpy()
        points.append(seen @ matrix[:3, :3].T + matrix[:3, 3])
        poses.append(matrix)
        depths.append(depth[:, 0].astype(np.float32))
    truth = np.stack(points)
    low, high = truth.min((0, 1)), truth.max((0, 1))
    for patches in (False, True):
        for ratio in RATIOS:
            rng = np.random.default_rng(int(1000 * ratio) + patches)
            coords = truth + 0.02 * rng.standard_normal(truth.shape)
            for k in range(frames):
                field = rng.standard_normal((60, 80))
                if patches:
                    field = cv2.GaussianBlur(field, (0, 0), 4.0)
                wrong = field.ravel() < np.quantile(field, 1 - ratio)
                coords[k, wrong] = rng.uniform(low, high, (int(wrong.sum()), 3))
            yield Input(
                f"r{round(100 * ratio):02d}" + ("_blob" if patches else ""),
                pixels.astype(np.float32),
                coords.astype(np.float32),
                np.array([f, cx, cy]),
                np.stack(poses),
                np.stack(depths),
            )
