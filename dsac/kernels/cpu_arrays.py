"""Tensors and arrays of a caller, as the CPU kernels' loops want them, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Array = Any  # torch.Tensor or np.ndarray; shapes in the docstrings


class Rows:
    """Correspondences as the loops want them: (B, 5, N), centred points and pixels from the principal point."""

    def __init__(self, rotation, translation, pixels, scene_points, focal_px, center_px, weights=None) -> None:
        scene = real_array(scene_points, np.float64)
        self.dtype = np.float64 if numpy_array(scene_points).dtype == np.float64 else np.float32
        self.shift = scene_center(scene)
        self.focal = real_array(focal_px, np.float64)
        offsets = real_array(pixels, np.float64) - real_array(center_px, np.float64)[:, None]
        self.points = np.empty((len(scene), 5, scene.shape[1]), self.dtype)  # rows contiguous for the loops
        self.points[:, :3] = (scene - self.shift[:, None]).swapaxes(1, 2)
        self.points[:, 3:] = offsets.swapaxes(1, 2)
        self.weights = np.ones(scene.shape[:2]) if weights is None else real_array(weights, self.dtype)
        poses = np.concatenate([numpy_array(rotation), numpy_array(translation)[..., None]], axis=-1)
        self.poses = uncentred(poses.astype(np.float64), -self.shift[:, None])

    def __getitem__(self, image: int) -> tuple[np.ndarray, ...]:
        """What the loops over the hypotheses of an image begin with."""
        return self.poses[image], self.points[image], self.weights[image], self.focal[image]


def uncentred(poses: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Poses (..., 3, 4) of points that were moved by -shift (..., 3), for the points themselves."""
    moved = poses.copy()
    moved[..., 3] -= (poses[..., :3] @ shift[..., None])[..., 0]
    return moved


def scene_center(scene: np.ndarray) -> np.ndarray:
    """Median (B, 3) of some finite rows, 0 where there are none."""
    center = np.zeros((len(scene), 3))
    for b, rows in enumerate(scene[:, :: max(1, scene.shape[1] // 63)]):
        finite = rows[np.isfinite(rows).all(-1)]
        if len(finite):
            center[b] = np.median(finite, axis=0)
    return center


def numpy_array(array: Array) -> np.ndarray:
    return array.detach().numpy() if isinstance(array, torch.Tensor) else array


def real_array(array: Array, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(numpy_array(array), dtype)


def like(example: Array, cast: bool = False) -> Callable[[np.ndarray], Array]:
    """How to hand an array back: as a tensor if `example` is one, and in its dtype if asked to `cast`."""
    if isinstance(example, torch.Tensor):
        return lambda array: torch.from_numpy(array).to(example.dtype) if cast else torch.from_numpy(array)
    return lambda array: array.astype(example.dtype) if cast else array
