"""Arrays of a caller, which may be tensors or numpy's, as numpy arrays and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Array = Any  # torch.Tensor or np.ndarray; shapes in the docstrings


def numpy_array(array: Array) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.detach().numpy()


def real_array(array: Array, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(numpy_array(array), dtype)


def like(example: Array, cast: bool = False) -> Callable[[np.ndarray], Array]:
    """How to hand an array back: as a tensor if `example` is one, and in its dtype if asked to `cast`."""
    if isinstance(example, np.ndarray):
        return lambda array: array.astype(example.dtype) if cast else array
    return lambda array: torch.from_numpy(array).to(example.dtype) if cast else torch.from_numpy(array)
