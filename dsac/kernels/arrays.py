"""What callers hand to the kernels: arrays, which may be tensors or numpy's, and the checks at every door.

Compiled loops do not look at shapes: of an array that is too short they would read beyond the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

Array = Any  # torch.Tensor or np.ndarray; shapes in the docstrings

_FLOATS = frozenset([*map(np.dtype, "efd"), torch.float16, torch.bfloat16, torch.float32, torch.float64])


class PosedRows(NamedTuple):
    """Poses `cam_from_world` of a batch of images, and the correspondences that they are compared with."""

    rotation: Array  # (B, H, 3, 3)
    translation: Array  # (B, H, 3)
    pixels: Array  # (B, N, 2)
    scene_points: Array  # (B, N, 3)
    focal_px: Array  # (B, 2)
    center_px: Array  # (B, 2)
    weights: Array | None = None  # (B, N); None = all 1

    def check(self, poses: int | None = None) -> None:
        """Raises: `ValueError` for the first array of another shape or type; `poses` says what H must be."""
        size, _ = check_rows(self.pixels, self.scene_points, self.focal_px, self.center_px, self.weights)
        if poses is None:
            _, poses = leading_axes("translation", self.translation, "(B, H, 3)")
        check_array("rotation", self.rotation, (size, poses, 3, 3))
        check_array("translation", self.translation, (size, poses, 3))


# ---- doors -------------------------------------------------------------------------------------------


def check_rows(
    pixels: Array, scene_points: Array, focal_px: Array, center_px: Array, weights: Array | None
) -> tuple[int, int]:
    """B and N of pixels (B, N, 2), scene points (B, N, 3), focal_px, center_px (B, 2) and weights (B, N).

    Raises: `ValueError` for the first of another shape, or that is no array of floating-point numbers.
    """
    size, count = leading_axes("scene_points", scene_points, "(B, N, 3)")
    check_array("scene_points", scene_points, (size, count, 3))
    check_array("pixels", pixels, (size, count, 2))
    check_array("focal_px", focal_px, (size, 2))
    check_array("center_px", center_px, (size, 2))
    if weights is not None:
        check_array("weights", weights, (size, count))
    return size, count


def leading_axes(name: str, array: Array, expected: str) -> tuple[int, int]:
    """The first two numbers of an array's shape. Raises: `ValueError` unless there are three."""
    shape = getattr(array, "shape", None)
    if shape is None or len(shape) != 3:
        raise ValueError(f"{name}: expected {expected}, got {_found(array)}")
    return shape[0], shape[1]


def check_array(name: str, array: Array, shape: tuple[int, ...]) -> None:
    """Raises: `ValueError` unless it is an array of floating-point numbers of this shape."""
    if getattr(array, "shape", None) != shape:
        raise ValueError(f"{name}: expected {shape}, got {_found(array)}")
    if array.dtype not in _FLOATS:
        raise ValueError(f"{name}: expected floating-point numbers, got {array.dtype}")


def check_positive(name: str, value: float | int) -> None:
    """Raises: `ValueError` unless it is a finite number above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected more than 0, got {value}")


def check_count(name: str, value: int, least: int = 0) -> None:
    """Raises: `ValueError` unless it is a whole number, `least` or more."""
    if not (isinstance(value, (int, np.integer)) and value >= least):
        raise ValueError(f"{name}: expected a whole number from {least} up, got {value}")


def _found(array: Array) -> str:
    shape = getattr(array, "shape", None)
    return type(array).__name__ if shape is None else str(tuple(shape))


# ---- to numpy and back -------------------------------------------------------------------------------


def numpy_array(array: Array) -> np.ndarray:
    if isinstance(array, np.ndarray):
        return array
    if array.device.type != "cpu":
        raise ValueError(f"expected arrays and tensors of the CPU, got a tensor on {array.device}")
    if array.dtype == torch.bfloat16:  # which numpy does not know
        array = array.float()
    return array.detach().numpy()


def real_array(array: Array, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(numpy_array(array), dtype)


def like(example: Array, cast: bool = False) -> Callable[[np.ndarray], Array]:
    """How to hand an array back: as a tensor if `example` is one, and in its dtype if asked to `cast`."""
    if isinstance(example, np.ndarray):
        return lambda array: array.astype(example.dtype) if cast else array
    return lambda array: torch.from_numpy(array).to(example.dtype) if cast else torch.from_numpy(array)
