"""Tensors and arrays of a caller, as the CPU kernels' loops want them, and back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from dsac.kernels.cpu_points import fill_rows
from dsac.kernels.solution import Array


class Rows:
    """Correspondences as the loops want them: (B, 5, N), centred points and pixels from the principal point."""

    def __init__(
        self,
        rotation: Array,
        translation: Array,
        pixels: Array,
        scene_points: Array,
        focal_px: Array,
        center_px: Array,
        weights: Array | None = None,
    ) -> None:
        self.dtype = np.float64 if numpy_array(scene_points).dtype.char == "d" else np.float32
        scene = real_array(scene_points, self.dtype)
        self.focal, middle = real_array(focal_px, np.float64), real_array(center_px, np.float64)
        self.points = np.empty((len(scene), 5, scene.shape[1]), self.dtype)  # rows contiguous for the loops
        self.shift = np.empty((len(scene), 3))
        turns, moves = real_array(rotation, np.float64), real_array(translation, np.float64)
        if len(moves) != len(scene):  # the loops do not look
            raise ValueError(f"poses: expected batch {len(scene)} like scene_points, got {len(moves)}")
        self.poses = np.empty((*moves.shape[:2], 3, 4))
        flat = real_array(pixels, self.dtype)
        fill_rows(flat, scene, middle, turns, moves, self.points, self.shift, self.poses)
        self.weights = np.ones(scene.shape[:2]) if weights is None else real_array(weights, self.dtype)

    def __getitem__(self, image: int) -> tuple[np.ndarray, ...]:
        """What the loops over the hypotheses of an image begin with."""
        return self.poses[image], self.points[image], self.weights[image], self.focal[image]


def uncentred(poses: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Poses (..., 3, 4) of points that were moved by -shift (..., 3), for the points themselves."""
    moved = poses.copy()
    moved[..., 3] -= (poses[..., :3] @ shift[..., None])[..., 0]
    return moved


def numpy_array(array: Array) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.detach().numpy()


def real_array(array: Array, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(numpy_array(array), dtype)


def like(example: Array, cast: bool = False) -> Callable[[np.ndarray], Array]:
    """How to hand an array back: as a tensor if `example` is one, and in its dtype if asked to `cast`."""
    if isinstance(example, np.ndarray):
        return lambda array: array.astype(example.dtype) if cast else array
    return lambda array: torch.from_numpy(array).to(example.dtype) if cast else torch.from_numpy(array)
