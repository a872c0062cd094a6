"""Step four: which hypotheses are worth refining, and with what weight.

    selection(hypotheses, generator) -> Selected: poses (B, K), weights (B, K)

The training loss is the weighted sum of the losses of the refined poses; the answer is the heaviest of them.
With the probabilities P(J) = softmax(scores / temperature) over the valid hypotheses:

    Argmax       the best-scored pose, weight 1; the choice has no gradient
    SoftAM       the mean pose Σ_J P(J) h_J, weight 1
    DSAC         all poses with weights P(J): the exact expected loss
    SampledDSAC  draws J ~ P with weights P(J)/P(J) /draws, the divisor without gradient: the gradient of the
                 weighted sum is then the score-function estimator E[l_J ∂log P(J) + ∂l_J]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dsac.geometry import Pose
from dsac.ransac.implicit import where_pose
from dsac.ransac.types import Hypotheses, check_positive


@dataclass(frozen=True, eq=False)
class Selected:
    """Poses worth refining."""

    cam_from_world: Pose  # batch (B, K)
    weights: Float[Tensor, "B K"]


@runtime_checkable
class Selection(Protocol):
    def __call__(self, hypotheses: Hypotheses, generator: torch.Generator | None = None) -> Selected: ...


class Temperature(nn.Module):
    """A softmax temperature learned towards a target entropy of the distribution, in bits (DSAC++).

    Add `temperature.loss(hypotheses)` to the training loss, and the parameter to the optimiser (DSAC++: Adam,
    1e-3).
    """

    def __init__(self, initial: float = 1.0, target_bits: float = 6.0) -> None:
        super().__init__()
        self.log_value = nn.Parameter(torch.tensor(math.log(initial)))
        self.target_bits = target_bits

    def forward(self) -> Tensor:
        return self.log_value.exp()

    def loss(self, hypotheses: Hypotheses) -> Float[Tensor, ""]:
        """Distance in bits between entropy and target, averaged over images; trains the temperature only."""
        detached = _masked_scores(hypotheses).detach()
        entropy = entropy_bits(torch.softmax(detached / self(), dim=-1))
        return (entropy - self.target_bits).abs().mean()


def entropy_bits(probabilities: Float[Tensor, "*batch H"]) -> Float[Tensor, "*batch"]:
    """Entropy of a distribution in bits; its gradient is finite at probability 0."""
    return -(probabilities * probabilities.clamp_min(1e-30).log2()).sum(-1)


@dataclass(frozen=True)
class Argmax:
    """Plain RANSAC: the best-scored hypothesis."""

    def __call__(self, hypotheses: Hypotheses, generator: torch.Generator | None = None) -> Selected:
        best = _masked_scores(hypotheses).argmax(-1, keepdim=True)
        return Selected(_pick(hypotheses.cam_from_world, best), torch.ones_like(best, dtype=_dtype(hypotheses)))


@dataclass(frozen=True)
class SoftAM:
    """The mean pose under the distribution."""

    temperature: float | int | Temperature = 1.0

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)

    def __call__(self, hypotheses: Hypotheses, generator: torch.Generator | None = None) -> Selected:
        weights = probabilities(hypotheses, self.temperature)
        heaviest = _pick(hypotheses.cam_from_world, weights.argmax(-1, keepdim=True))
        poses = where_pose(hypotheses.valid, hypotheses.cam_from_world, heaviest.expand(*weights.shape))
        return Selected(mean_pose(poses, weights, heaviest), torch.ones_like(weights[:, :1]))


def mean_pose(
    poses: Pose,  # batch (B, H)
    weights: Float[Tensor, "B H"],
    chart: Pose,  # batch (B, 1)
) -> Pose:  # batch (B, 1)
    """The weighted mean of poses as 6-vectors, like in the paper, but taken as increments to `chart`.

    The axis-angle vector of a rotation near π jumps, and such rotations are common in world coordinates.
    """
    increments = (poses @ chart.inverse()).log()
    return Pose.exp((weights[..., None] * increments).sum(-2, keepdim=True)) @ chart


@dataclass(frozen=True)
class DSAC:
    """All hypotheses with their probabilities.

    Those below `negligible` in every image of the batch are left out (published: 1e-4), at a cost to the
    loss of at most H times that, times their loss.
    """

    temperature: float | int | Temperature = 1.0
    negligible: float = 1e-4

    def __post_init__(self) -> None:
        _check_temperature(self.temperature)

    def __call__(self, hypotheses: Hypotheses, generator: torch.Generator | None = None) -> Selected:
        weights = probabilities(hypotheses, self.temperature)
        kept = max(1, int((weights >= self.negligible).sum(-1).max())) if len(weights) else 1
        weights, index = weights.topk(kept, dim=-1)
        return Selected(_pick(hypotheses.cam_from_world, index), weights)


@dataclass(frozen=True)
class SampledDSAC:
    """Hypotheses drawn with their probabilities; with one draw, DSAC as it is written at query time."""

    num_draws: int = 1
    temperature: float | int | Temperature = 1.0

    def __post_init__(self) -> None:
        check_positive(num_draws=self.num_draws)
        _check_temperature(self.temperature)

    def __call__(self, hypotheses: Hypotheses, generator: torch.Generator | None = None) -> Selected:
        weights = probabilities(hypotheses, self.temperature)
        device = weights.device if generator is None else generator.device
        cumulative = weights.detach().double().cumsum(-1)
        uniform = torch.rand(
            len(weights), self.num_draws, generator=generator, dtype=torch.float64, device=device
        )
        index = torch.searchsorted(cumulative, uniform.to(weights.device) * cumulative[:, -1:], right=True)
        index = index.clamp(max=weights.shape[-1] - 1)
        drawn = weights.gather(-1, index)
        one = drawn / drawn.detach().clamp_min(torch.finfo(drawn.dtype).tiny)
        return Selected(_pick(hypotheses.cam_from_world, index), one / self.num_draws)


def _check_temperature(temperature: float | int | Temperature) -> None:
    if not isinstance(temperature, Temperature):
        check_positive(temperature=temperature)


def probabilities(hypotheses: Hypotheses, temperature: float | int | Temperature = 1.0) -> Float[Tensor, "B H"]:
    """softmax(scores / temperature) over the valid hypotheses; uniform where there is none."""
    value = temperature() if isinstance(temperature, Temperature) else temperature
    return torch.softmax(_masked_scores(hypotheses) / value, dim=-1)


def _masked_scores(hypotheses: Hypotheses) -> Tensor:
    """Scores, and for invalid hypotheses a number so low that nothing valid is ever near it."""
    assert hypotheses.scores is not None, "score the hypotheses first"
    return torch.where(hypotheses.valid, hypotheses.scores, torch.full_like(hypotheses.scores, -1e9))


def _pick(poses: Pose, index: Tensor) -> Pose:
    rows = torch.arange(index.shape[0], device=index.device)[:, None]
    return poses[rows, index]


def _dtype(hypotheses: Hypotheses) -> torch.dtype:
    return hypotheses.cam_from_world.translation.dtype
