"""The depth that people give with photos: a file, a folder of files, or arrays, in the photos' pixels."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from dsac.datasets.given_cameras import of_each
from dsac.datasets.image import DepthUnits, read_depth
from dsac.datasets.recording import DEPTH_ENDINGS, ScaledDepth, metres_per_depth_unit
from dsac.datasets.rigid import some
from dsac.datasets.storage import Storage
from dsac.errors import DatasetError
from dsac.geometry import Camera

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class GivenDepth:
    """Depth of one photo, as it is stored."""

    source: Path | DepthUnits
    scale: float | None = None  # metres per unit; None: a thousandth for whole numbers, 1 for others

    def units(self) -> DepthUnits:
        """Raises: `DatasetError` for a file that holds no depth."""
        return read_depth(self.source) if isinstance(self.source, Path) else self.source

    def metres(self, units: DepthUnits, camera: Camera) -> Float32[np.ndarray, "H W"]:
        """For the photo's camera, 0 where unknown. Raises: `DatasetError` for depth of another shape."""
        try:
            return ScaledDepth(self.scale)(units, camera)
        except ValueError as error:
            raise DatasetError(f"{self}: {error}") from None

    def __str__(self) -> str:
        return str(self.source) if isinstance(self.source, Path) else "depth"


def depth_given(depth: Any, names: Sequence[str], scale: float | None = None) -> dict[str, GivenDepth]:
    """By the photo's name; photos of a folder that have none there are named in a warning.

    Raises: `DatasetError` where nothing lies or no photo has any, `ValueError` for what is no depth.
    """
    _check_scale(scale)
    if isinstance(depth, str | os.PathLike) and Path(depth).is_dir():
        return _in_folder(Path(depth), names, scale)
    if _is_one(depth):
        one = _given(depth, scale)
        if len(names) != 1:
            raise ValueError(f"depth: expected a folder, or depth for each of {len(names)} photos, got one")
        return {names[0]: one}
    each = list(depth) if isinstance(depth, np.ndarray | Tensor) else depth
    if not isinstance(each, Sequence | Mapping):
        raise ValueError(f"depth: expected {_EXPECTED}, got {type(depth).__name__}")
    return {
        name: _given(value, scale) for name, value in of_each(each, names, "depth").items() if value is not None
    }


def depth_of_batch(depth: Any, scale: float | None, count: int, camera: Camera) -> Float32[Tensor, "B H W"]:
    """Of so many photos of a camera, one array for all of them or (H, W) for one. Raises: `ValueError`."""
    _check_scale(scale)
    units = _in_memory(depth, scale)
    units = units if units.ndim == 3 else units[None]
    if len(units) != count:
        raise ValueError(f"depth: expected (H, W) for each of {count} photos, got {units.shape}")
    try:
        return torch.from_numpy(np.stack([ScaledDepth(scale)(of_photo, camera) for of_photo in units]))
    except ValueError as error:
        raise ValueError(f"depth: {error}") from None


_EXPECTED = "a file, a folder, or an array (H, W) of floats in metres"


def _in_memory(depth: Any, scale: float | None) -> Float32[np.ndarray, "*B h w"]:
    """An array or tensor, in its own units. Raises: `ValueError`."""
    array = depth.detach().cpu().numpy() if isinstance(depth, Tensor) else np.asarray(depth)
    if array.ndim not in (2, 3) or 0 in array.shape or array.dtype.kind not in "fiu":
        raise ValueError(f"depth: expected {_EXPECTED}, got {array.dtype} {array.shape}")
    if array.dtype.kind != "f" and scale is None:
        raise ValueError(
            f"depth: expected floats in metres, got {array.dtype}; whole numbers need their unit, "
            "depth_scale=0.001 for millimetres"
        )
    return np.ascontiguousarray(array, np.float32)


def _check_scale(scale: Any) -> None:
    if scale is not None and (not isinstance(scale, Real) or not 0 < float(scale) < math.inf):
        raise ValueError(f"depth_scale: expected metres per unit, more than 0, got {scale}")


def _given(depth: Any, scale: float | None) -> GivenDepth:
    if isinstance(depth, str | os.PathLike):
        path = Path(depth)
        if not path.is_file():
            raise DatasetError(f"{path}: expected a depth image or a folder of them, found nothing there")
        return GivenDepth(path, scale)
    return GivenDepth(_in_memory(depth, scale), scale)


def _is_one(depth: Any) -> bool:
    if isinstance(depth, np.ndarray | Tensor):
        return depth.ndim != 3
    return isinstance(depth, str | os.PathLike)


def _in_folder(folder: Path, names: Sequence[str], scale: float | None) -> dict[str, GivenDepth]:
    """Files of the photos' names, with another ending; `depth_scale.txt` in the folder or beside it counts."""
    if scale is None:
        for place in (folder, folder.absolute().parent):
            scale = scale or metres_per_depth_unit(Storage(str(place)))
    found = {name: path for name in names if (path := _file_of(folder, name)) is not None}
    missing = [name for name in names if name not in found]
    if not found:
        stem = _stems(names[0])[-1]
        raise DatasetError(
            f"{folder}: expected depth under the photos' names, {stem}.png for {names[0]}, found none"
        )
    if missing:
        logger.warning(
            "%s: %d of %d photos have no depth there, they are localized without: %s",
            folder, len(missing), len(names), some(missing),
        )  # fmt: skip
    return {name: GivenDepth(path, scale) for name, path in found.items()}


def _file_of(folder: Path, name: str) -> Path | None:
    for stem in _stems(name):
        for ending in DEPTH_ENDINGS:
            if (path := folder / f"{stem}{ending}").is_file():
                return path
    return None


def _stems(name: str) -> list[str]:
    """Under which a photo's depth may lie, the most exact first; a video's frames have their whole names."""
    path = PurePath(name)
    whole = path if "#" in path.name else path.with_suffix("")
    return [str(whole), whole.name] if not path.is_absolute() else [whole.name]
