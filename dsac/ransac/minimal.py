"""Step two: a pose from each minimal set.

    minimal(correspondences, samples) -> Hypotheses

The pose is found without autograd and differentiated by the implicit function theorem (`implicit.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from dsac.geometry import Pose
from dsac.kernels import p3p, reference
from dsac.ransac.implicit import implicit_pose, where_pose
from dsac.ransac.point_distance import PointDistance
from dsac.ransac.reprojection import ReprojectionError
from dsac.ransac.residual import gather_rows, row_subset
from dsac.ransac.types import Correspondences, Hypotheses


@runtime_checkable
class MinimalSolver(Protocol):
    @property
    def sample_size(self) -> int:
        """Points k of a minimal set."""
        ...

    def __call__(self, correspondences: Correspondences, samples: Int[Tensor, "B H k"]) -> Hypotheses:
        """Poses of the sets; degenerate ones are `valid=False`, identity and without gradient."""
        ...


@dataclass(frozen=True)
class P3P:
    """Pose from three pixels and scene points; a fourth chooses among the up to four solutions."""

    residual: ReprojectionError = ReprojectionError()

    @property
    def sample_size(self) -> int:
        return 4

    def __call__(self, correspondences: Correspondences, samples: Int[Tensor, "B H 4"]) -> Hypotheses:
        shape = samples.shape[:2]
        with torch.no_grad():
            ones = torch.ones_like(samples, dtype=correspondences.pixels.dtype)
            sets = row_subset(correspondences, samples, ones)  # batch B·H, 4 rows
            bearings = sets.camera.unproject(sets.pixels)
            rotation, translation, valid = p3p(
                self.residual.backend, bearings[:, :3].contiguous(), sets.scene_points[:, :3].contiguous()
            )
            # thousands of sets of four points: the reference is one call, the CPU kernels one per set
            error = ReprojectionError(backend="reference").errors(Pose(rotation, translation), sets).amax(-1)
            repeated = (samples[..., :3] == samples[..., 3:]).any(-1).flatten()
            valid = valid & ~repeated[:, None]
            error = torch.where(valid, error, torch.inf)  # (B·H, 4 solutions)
            best = error.argmin(-1)
            rows = torch.arange(len(best), device=best.device)
            cam_from_world = Pose(rotation, translation)[rows, best].reshape(*shape)
            valid = valid[rows, best].reshape(shape)
            error = error[rows, best].reshape(shape)
        return _with_gradient(cam_from_world, valid, error, correspondences, samples, 3, self.residual)


@dataclass(frozen=True)
class Kabsch:
    """Pose from three camera points and scene points; a set with a pixel without depth is degenerate."""

    residual: PointDistance = PointDistance()

    @property
    def sample_size(self) -> int:
        return 3

    def __call__(self, correspondences: Correspondences, samples: Int[Tensor, "B H 3"]) -> Hypotheses:
        shape = samples.shape[:2]
        with torch.no_grad():
            targets = gather_rows(self.residual.targets(correspondences), samples)
            camera_points, measured = targets[..., :3], targets[..., 3] > 0
            scene_points = gather_rows(correspondences.scene_points, samples)
            rotation, translation, valid = reference.kabsch(
                camera_points.flatten(0, 1), scene_points.flatten(0, 1)
            )
            cam_from_world = Pose(rotation, translation).reshape(*shape)
            error = (cam_from_world @ scene_points - camera_points).norm(dim=-1).amax(-1)
            valid = valid.reshape(shape) & measured.all(-1)
            error = torch.where(valid, error, torch.inf)
        return _with_gradient(cam_from_world, valid, error, correspondences, samples, 3, self.residual)


def _with_gradient(
    cam_from_world: Pose,
    valid: Tensor,
    error: Tensor,
    correspondences: Correspondences,
    samples: Tensor,
    size: int,
    residual: ReprojectionError | PointDistance,
) -> Hypotheses:
    """The hypotheses, differentiable in the first `size` points of their sets where one asks for it."""
    identity = Pose.identity(
        *valid.shape, dtype=cam_from_world.translation.dtype, device=cam_from_world.translation.device
    )
    cam_from_world = where_pose(valid, cam_from_world, identity)
    targets = residual.targets(correspondences)
    if torch.is_grad_enabled() and (targets.requires_grad or correspondences.scene_points.requires_grad):
        rows = samples[..., :size]
        points = gather_rows(correspondences.scene_points, rows)
        weights = valid[..., None].to(points).expand(rows.shape)
        cam_from_world, _ = implicit_pose(
            cam_from_world,
            residual,
            points,
            gather_rows(targets, rows),
            weights,
            correspondences,
            robust=False,
        )
    return Hypotheses(cam_from_world, samples, valid, error)
