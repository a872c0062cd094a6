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

    def numpy(self) -> PosedRows:
        """Of arrays alone. Raises: `ValueError` for what is neither array nor tensor."""
        try:
            return PosedRows(*map(numpy_array, self))
        except AttributeError:
            self.check()
            raise


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
    shape = getattr(array, "shape", ())
    if len(shape) != 3:
        found = tuple(shape) if hasattr(array, "shape") else type(array).__name__
        raise ValueError(f"{name}: expected {expected}, got {found}")
    return shape[0], shape[1]


def check_array(name: str, array: Array, shape: tuple[int, ...]) -> None:
    """Raises: `ValueError` unless it is an array of floating-point numbers of this shape."""
    if isinstance(array, np.ndarray):
        known = array.dtype.kind == "f"
    elif isinstance(array, torch.Tensor):
        known = array.dtype.is_floating_point
    else:
        raise ValueError(f"{name}: expected an array {shape}, got {type(array).__name__}")
    if array.shape != shape:
        raise ValueError(f"{name}: expected {shape}, got {tuple(array.shape)}")
    if not known:
        raise ValueError(f"{name}: expected floating-point numbers, got {array.dtype}")


def check_positive(name: str, value: float | int) -> None:
    """Raises: `ValueError` unless it is a finite number above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected more than 0, got {value}")


def check_count(name: str, value: int, least: int = 0) -> None:
    """Raises: `ValueError` unless it is a whole number, `least` or more."""
    if not (isinstance(value, (int, np.integer)) and value >= least):
        raise ValueError(f"{name}: expected a whole number from {least} up, got {value}")


# ---- to numpy and back -------------------------------------------------------------------------------


def numpy_array(array: Any) -> Any:
    """A tensor as an array. Raises: `AttributeError` for what is neither, `TypeError` for one on a device."""
    if array is None or isinstance(array, np.ndarray):
        return array
    if array.dtype is torch.bfloat16:  # which numpy does not know
        array = array.float()
    return array.detach().numpy() if array.requires_grad else array.numpy()


def like(example: Array, cast: bool = False) -> Callable[[np.ndarray], Array]:
    """How to hand an array back: as a tensor if `example` is one, and in its dtype if asked to `cast`."""
    if isinstance(example, np.ndarray):
        return lambda array: array.astype(example.dtype) if cast else array
    if not cast:
        return torch.from_numpy
    dtype = _NUMPY_TYPES.get(example.dtype)
    if dtype is None:
        return lambda array: torch.from_numpy(array).to(example.dtype)
    return lambda array: torch.from_numpy(
        array.astype(dtype, copy=False)
    )  # in half the time of a cast by torch


_NUMPY_TYPES = {torch.float32: np.float32, torch.float64: np.float64}
