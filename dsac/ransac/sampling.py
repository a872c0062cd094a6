"""Step one: draw minimal sets.

sampling(correspondences, num_samples, sample_size, generator) -> samples (B, H, k)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dsac.ransac.types import Correspondences


@runtime_checkable
class Sampling(Protocol):
    def __call__(
        self,
        correspondences: Correspondences,
        num_samples: int,
        sample_size: int,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "B H k"]:
        """Row indices. A set that holds a row twice is degenerate, and so redrawn, in the minimal solver."""
        ...


@dataclass(frozen=True)
class UniformSampling:
    """Every row of positive weight with the same probability."""

    def __call__(
        self,
        correspondences: Correspondences,
        num_samples: int,
        sample_size: int,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "B H k"]:
        assert correspondences.weights is not None
        return _draw((correspondences.weights > 0).double(), num_samples, sample_size, generator)


@dataclass(frozen=True)
class WeightedSampling:
    """Every row with probability proportional to its weight."""

    def __call__(
        self,
        correspondences: Correspondences,
        num_samples: int,
        sample_size: int,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "B H k"]:
        assert correspondences.weights is not None
        return _draw(correspondences.weights.detach().double(), num_samples, sample_size, generator)


def _draw(
    weights: Float[Tensor, "B N"], num_samples: int, sample_size: int, generator: torch.Generator | None
) -> Int[Tensor, "B H k"]:
    """Independent draws by the inverse of the cumulative distribution."""
    cumulative = weights.cumsum(-1)
    shape = (len(weights), num_samples * sample_size)
    # the numbers are drawn where the generator lives, so that a CPU generator serves any device
    device = weights.device if generator is None else generator.device
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=device).to(weights.device)
    index = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return index.clamp(max=weights.shape[1] - 1).unflatten(1, (num_samples, sample_size))
