"""Described points: scene points that are known by a descriptor, wherever they appear in a photo.

Landmarks are found by their patches where a pose says that they should be, exactly; these, among a
photo's keypoints (`keypoints.py`), without a pose, to a pixel or two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32, Int8
from torch import Tensor
from torch.nn.functional import normalize

from dsac.networks.local_features import NUM_VALUES

_UNIT = 254.0  # stored for 1: what is larger than 1/2 is cut, 64 values of unit length are 1/8 each


@dataclass(frozen=True, eq=False)
class DescribedPoints:
    """L scene points with the descriptors of mapping images that show them. On the CPU.

    A point that was seen from several sides or distances stands here once for each.
    Raises: `ValueError` when shapes, types or values do not fit together: kernels read these arrays unchecked.
    """

    points: Float[Tensor, "L 3"]  # metres, the map's frame
    descriptors: Int8[Tensor, "L 64"]  # of unit length, times 254

    def __post_init__(self) -> None:
        count = len(self.points)
        for name, width, dtype in (("points", 3, torch.float32), ("descriptors", NUM_VALUES, torch.int8)):
            value = getattr(self, name)
            if value.shape != (count, width) or value.dtype != dtype or value.device.type != "cpu":
                raise ValueError(
                    f"described points' {name}: expected {dtype} ({count}, {width}) on the CPU, "
                    f"got {value.dtype} {tuple(value.shape)} on {value.device}"
                )
        if not torch.isfinite(self.points).all():
            raise ValueError("described points' points: expected finite numbers")

    @staticmethod
    def of(points: Float[np.ndarray, "L 3"], descriptors: Float32[np.ndarray, "L 64"]) -> DescribedPoints:
        """Of descriptors of unit length."""
        small = torch.from_numpy(descriptors * _UNIT).round().clamp(-127, 127).to(torch.int8)
        return DescribedPoints(torch.from_numpy(points).float(), small)

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def unit_descriptors(self) -> Float32[Tensor, "L 64"]:
        return normalize(self.descriptors.float(), dim=-1)

    def tensors(self) -> dict[str, Tensor]:
        """What a map file holds of them; `from_tensors` reads it."""
        return {"points": self.points, "descriptors": self.descriptors}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> DescribedPoints:
        """Raises: `KeyError` when one is missing, `ValueError` when they do not fit together."""
        return DescribedPoints(tensors["points"], tensors["descriptors"])
