"""Step five: robust least squares from each selected pose.

    refinement(poses, correspondences, generator) -> poses (B, K)

The optimum is found without autograd and differentiated by the implicit function theorem (`implicit.py`).
It does not depend on the pose from which it was reached, so the only gradient is by the correspondences:
∂R/∂h of the paper's equation (1) is zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from dsac.geometry import Pose
from dsac.ransac.implicit import implicit_pose, where_pose
from dsac.ransac.reprojection import ReprojectionError
from dsac.ransac.residual import (
    PoseResidual,
    differentiable_engine,
    likeliest_rows,
    posed_rows,
    row_subset,
    weights_of,
)
from dsac.ransac.types import Correspondences


@runtime_checkable
class Refinement(Protocol):
    def __call__(
        self, poses: Pose, correspondences: Correspondences, generator: torch.Generator | None = None
    ) -> Pose: ...


@dataclass(frozen=True)
class RobustRefinement:
    """Levenberg-Marquardt on Σ w ρ(e), to its optimum.

    A pose with fewer than four inliers is left as it is, with the gradient it came with. Poses that their
    points do not determine, or where the optimum is none, pass no gradient.
    """

    residual: PoseResidual = ReprojectionError()
    iterations: int = 20
    # At most so many correspondences within 3τ, drawn for each pose; None = all. Refining all of DSAC's
    # hypotheses on 4800 points is most of a training step; 256 points make the step three to four times faster.
    max_points: int | None = None
    gauss_newton: bool = False  # gradient without the curvature of the residuals: the published approximation

    def __call__(
        self, poses: Pose, correspondences: Correspondences, generator: torch.Generator | None = None
    ) -> Pose:
        if correspondences.modes > 1:
            return self._of_modes(poses, correspondences, generator)
        every = self.max_points is None or self.max_points >= correspondences.pixels.shape[1]
        differentiable = torch.is_grad_enabled() and _needs_gradient(correspondences)
        if every and not differentiable and not (torch.is_grad_enabled() and poses.rotation.requires_grad):
            return optimum(self.residual, poses, correspondences, self.iterations)
        with torch.no_grad():
            errors = self.residual.errors(poses, correspondences)
        used, threshold = (weights_of(correspondences) > 0)[:, None], self.residual.threshold
        enough = ((errors < threshold) & used).sum(-1) >= 4
        if every:
            rows, start = correspondences, poses.detach()
        else:
            # what is at the maximum, up to rounding, may be anywhere
            near = (errors < min(3 * threshold, 0.999 * self.residual.max_error)) & used
            rows = self._draw(near, correspondences, generator)  # batch B·K, one pose each
            start = poses.detach().reshape(-1, 1)
        refined = optimum(self.residual, start, rows, self.iterations)
        if differentiable:
            refined = self._with_gradient(refined, rows)
        return where_pose(enough, refined.reshape(*poses.shape), poses)

    def _of_modes(
        self, poses: Pose, correspondences: Correspondences, generator: torch.Generator | None
    ) -> Pose:
        """By those modes that suit each pose best, chosen again from where they lead; then the gradient."""
        apart = poses.reshape(-1, 1)
        with torch.no_grad():
            pose = poses
            for _ in range(_CHOICES - 1):
                pose = optimum(self.residual, pose.reshape(-1, 1), self._likeliest(pose, correspondences),
                               self.iterations).reshape(*poses.shape)  # fmt: skip
        return self(apart, self._likeliest(pose, correspondences), generator).reshape(*poses.shape)

    def _likeliest(self, poses: Pose, correspondences: Correspondences) -> Correspondences:
        """One image for each pose, of each pixel the row that suits it best."""
        with torch.no_grad():
            rows = likeliest_rows(self.residual.errors(poses, correspondences), correspondences)
        weights = weights_of(correspondences)[:, None].expand(-1, rows.shape[1], -1).gather(-1, rows)
        return row_subset(correspondences, rows, weights)

    def _with_gradient(self, refined: Pose, rows: Correspondences) -> Pose:
        """The same poses with their derivative: from a kernel in closed form, else from autograd."""
        posed = posed_rows(self.residual, refined, rows)
        engine = differentiable_engine(self.residual, posed)
        if engine.optimum_increment is not None and not self.gauss_newton:
            return Pose.exp(engine.optimum_increment(posed, self.residual.threshold)) @ refined
        with_gradient, _ = implicit_pose(
            refined,
            self.residual,
            rows.scene_points[:, None],
            posed.pixels[:, None],
            weights_of(rows)[:, None],
            rows,
            gauss_newton=self.gauss_newton,
        )
        return with_gradient

    def _draw(
        self, near: Tensor, correspondences: Correspondences, generator: torch.Generator | None
    ) -> Correspondences:
        """The first `max_points` near rows in random order, as one image per pose."""
        assert self.max_points is not None
        device = near.device if generator is None else generator.device
        shape = (near.shape[0], 1, near.shape[-1])
        order = torch.rand(shape, generator=generator, dtype=torch.float32, device=device)
        order = torch.where(near, order.to(near.device), -1.0)
        picked, index = order.topk(self.max_points, dim=-1)
        weights = weights_of(correspondences)[:, None].expand(near.shape).gather(-1, index)
        return row_subset(correspondences, index, weights * (picked >= 0))


_CHOICES = 3  # of modes


@torch.no_grad()
def optimum(residual: PoseResidual, poses: Pose, correspondences: Correspondences, iterations: int) -> Pose:
    """Poses (batch (B, K)) after at most so many iterations towards the least Σ w ρ(e); no gradient."""
    rows = posed_rows(residual, poses, correspondences)
    rotation, translation = residual.engine(*rows[:6], weights_of(correspondences)).refine(
        rows, residual.threshold, iterations
    )
    return Pose(rotation, translation)


def _needs_gradient(correspondences: Correspondences) -> bool:
    inputs = (
        correspondences.pixels,
        correspondences.scene_points,
        correspondences.camera_points,
        correspondences.weights,
    )
    return any(x is not None and x.requires_grad for x in inputs)
