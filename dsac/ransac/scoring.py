"""Step three: how good is each hypothesis, seen from all correspondences.

scoring(hypotheses, correspondences) -> scores (B, H)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dsac.geometry import Pose
from dsac.kernels import full_precision, reference
from dsac.ransac.reprojection import ReprojectionError
from dsac.ransac.residual import PoseResidual, Residual, differentiable_engine, posed_rows, weights_of
from dsac.ransac.types import Correspondences, Hypotheses


@runtime_checkable
class Scoring(Protocol):
    def __call__(self, hypotheses: Hypotheses, correspondences: Correspondences) -> Float[Tensor, "B H"]:
        """Of sanitised rows; higher is better; differentiable. Invalid hypotheses may get anything."""
        ...


def _once(values: Float[Tensor, "*batch N"], modes: int) -> Float[Tensor, "*batch n"]:
    """The largest of each pixel's modes."""
    return values if modes == 1 else values.unflatten(-1, (-1, modes)).amax(-1)


@dataclass(frozen=True)
class SoftInlierCount:
    """Soft inliers in percent of the total weight: 100 Σ_i w_i sigmoid(5/τ (τ - e_i)) / Σ_i w_i.

    Of a pixel's modes the largest term of both sums counts. DSAC*'s score: at temperature 1 the softmax has
    their scale of 100 on the count divided by N.
    """

    residual: Residual = ReprojectionError()

    def __call__(self, hypotheses: Hypotheses, correspondences: Correspondences) -> Float[Tensor, "B H"]:
        count = self._count(hypotheses.cam_from_world, correspondences)
        total = _once(weights_of(correspondences), correspondences.modes).sum(-1, keepdim=True)
        return 100 * count / torch.where(total > 0, total, torch.ones_like(total))

    def _count(self, cam_from_world: Pose, correspondences: Correspondences) -> Float[Tensor, "B H"]:
        """By the residual's engine, or from its errors where it has none."""
        residual, weights = self._pose_residual, weights_of(correspondences)
        if residual is None or correspondences.modes > 1:
            errors = self.residual.errors(cam_from_world, correspondences)
            terms = reference.soft_inliers(errors, weights, self.residual.threshold)
            return _once(terms, correspondences.modes).sum(-1)
        rows = posed_rows(residual, cam_from_world, correspondences)
        return differentiable_engine(residual, rows).soft_count(rows, residual.threshold, residual.max_error)

    @cached_property
    def _pose_residual(self) -> PoseResidual | None:
        return (
            self.residual if isinstance(self.residual, PoseResidual) else None
        )  # slow: it looks at every member


@dataclass(frozen=True)
class LearnedScore:
    """A network that looks at the image of errors of each hypothesis (DSAC).

    The network maps error images `(B,H,h,w)`, pixels or metres up to `max_error`, to scores `(B,H)`; rows of
    weight 0 have `max_error`. Correspondences need a `grid`.
    """

    network: nn.Module
    residual: Residual = ReprojectionError()

    def __call__(self, hypotheses: Hypotheses, correspondences: Correspondences) -> Float[Tensor, "B H"]:
        return self.network(self._error_image(hypotheses.cam_from_world, correspondences))

    def regression_loss(
        self, cam_from_world: Pose, pose_loss: Float[Tensor, "B H"], correspondences: Correspondences
    ) -> Float[Tensor, ""]:
        """L1 between the score of poses (B, H) and -10 times their loss: how DSAC trains the network first."""
        scores = self.network(self.error_image(cam_from_world, correspondences))
        return (scores + 10 * pose_loss.detach()).abs().mean()

    def error_image(self, cam_from_world: Pose, correspondences: Correspondences) -> Float[Tensor, "B H h w"]:
        """What the network sees of poses (B, H). Raises: `ValueError` when the rows are no grid."""
        with full_precision(correspondences.pixels.device.type):
            return self._error_image(cam_from_world, self.residual.sanitise(correspondences))

    def _error_image(self, cam_from_world: Pose, clean: Correspondences) -> Float[Tensor, "B H h w"]:
        if clean.grid is None:
            raise ValueError("grid: expected (h, w) of the correspondences for a score network, got None")
        errors = self.residual.errors(cam_from_world, clean)
        used = (weights_of(clean) > 0)[:, None]
        errors = torch.where(used, errors, float(self.residual.max_error))
        return -_once(-errors, clean.modes).unflatten(-1, clean.grid)


def noisy_poses(
    cam_from_world: Pose, count: int, generator: torch.Generator | None = None
) -> Pose:  # batch (B, count)
    """Truth plus noise, as DSAC trains its score network: half within 2° and 2 mm, half within 10° and 10 cm.

    Rotations by a uniform angle about a random axis, translations of uniform length in a random direction.
    """
    like = cam_from_world.translation
    shape = (*cam_from_world.shape, count)
    device = like.device if generator is None else generator.device

    def directions() -> Tensor:
        draw = torch.randn(*shape, 3, generator=generator, dtype=like.dtype, device=device)
        length = torch.rand(*shape, 1, generator=generator, dtype=like.dtype, device=device)
        return (torch.nn.functional.normalize(draw, dim=-1) * length).to(like.device)

    small = (torch.arange(count, device=like.device) % 2 == 0)[:, None]
    degrees = torch.where(small, 2.0, 10.0).to(like)
    metres = torch.where(small, 0.002, 0.1).to(like)
    noise = torch.cat([directions() * torch.deg2rad(degrees), directions() * metres], dim=-1)
    with full_precision(like.device.type):
        return Pose.exp(noise) @ cam_from_world[..., None]
