"""The residual of depth: how far from its measured point in the camera frame a scene point comes to lie."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.geometry import Pose
from dsac.kernels import Backend, Engine, point_engine
from dsac.ransac.residual import Expansion, PoseResidual, posed_rows, weights_of
from dsac.ransac.types import Correspondences, check_order, check_positive


@dataclass(frozen=True)
class PointDistance(PoseResidual):
    """Distance in metres between a moved scene point and what is measured of it.

    That is its camera point or, for a pixel without depth, its ray: both kinds of rows meet in one cost.

    Raises: `ValueError` for a threshold or maximum that is not above 0, and a maximum that is not above the
    threshold.
    """

    threshold_m: float | int = 0.1
    max_error_m: float | int | None = None  # None = ten thresholds
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        check_positive(threshold_m=self.threshold_m, max_error_m=self.max_error)
        check_order(threshold_m=self.threshold_m, max_error_m=self.max_error)

    @property
    def threshold(self) -> float | int:
        return self.threshold_m

    @property
    def max_error(self) -> float | int:
        return 10.0 * self.threshold_m if self.max_error_m is None else self.max_error_m

    def sanitise(self, correspondences: Correspondences) -> Correspondences:
        """Camera points 0 where there is no depth. Raises: `ValueError` when there are none at all."""
        points = correspondences.camera_points
        if points is None:
            raise ValueError("camera_points: expected (B, N, 3) for a solver of RGB-D, got None")
        measured = (torch.isfinite(points).all(-1) & (points[..., 2] > 0))[..., None]
        points = torch.where(measured, points, torch.zeros_like(points))
        return replace(correspondences, camera_points=points).sanitised()

    def targets(self, correspondences: Correspondences) -> Float[Tensor, "B N 4"]:
        """Homogeneous: (camera point, 1), or (unit direction of the ray, 0) where there is no depth."""
        points = correspondences.camera_points
        assert points is not None
        measured = points[..., 2:] > 0
        rays = torch.nn.functional.normalize(correspondences.camera.unproject(correspondences.pixels), dim=-1)
        return torch.cat([torch.where(measured, points, rays), measured.to(points)], dim=-1)

    def errors(self, cam_from_world: Pose, correspondences: Correspondences) -> Float[Tensor, "B H N"]:
        rows = posed_rows(self, cam_from_world, correspondences)
        return self.engine(*rows[:6]).errors(rows, self.max_error)  # all but the weights

    def expand(
        self, points_cam: Float[Tensor, "B K n 3"], targets: Float[Tensor, "B #K n 4"], like: Correspondences
    ) -> Expansion:
        point, measured = targets[..., :3], targets[..., 3:]
        offset = points_cam - measured * point
        along = (offset * point).sum(-1, keepdim=True)
        residual = offset - (1 - measured) * along * point  # across the ray where there is no depth
        with torch.no_grad():
            eye = torch.eye(3, dtype=points_cam.dtype, device=points_cam.device)
            across = eye - ((1 - measured) * point)[..., :, None] * point[..., None, :]
            across = across.expand(*points_cam.shape, 3)
        return Expansion(
            square=residual.square().sum(-1),
            force=residual,
            stiffness=across,
            bending=torch.zeros_like(across),
            frozen_force=residual,
            defined=(measured[..., 0] > 0) | (along[..., 0] > 0),
        )

    def chance(self, correspondences: Correspondences) -> Float[Tensor, " B"]:
        """The threshold's ball, and its tube about a ray, against the box of the scene points.

        The box is two standard deviations long to every side. Once for each mode.
        """
        used = (weights_of(correspondences) > 0).to(correspondences.pixels)[..., None]
        count = used.sum(1).clamp_min(1)
        mean = (correspondences.scene_points * used).sum(1) / count
        spread = ((correspondences.scene_points - mean[:, None]).square() * used).sum(1) / count
        sides = 4 * spread.sqrt() + self.threshold_m
        assert correspondences.camera_points is not None
        measured = ((correspondences.camera_points[..., 2:] > 0) * used).sum(1)[:, 0] / count[:, 0]
        length = measured * 4 / 3 * self.threshold_m + (1 - measured) * sides.norm(dim=-1)
        volume = torch.pi * self.threshold_m**2 * length
        return (correspondences.modes * volume / sides.prod(-1)).clamp(max=1.0)

    def engine(self, *constants: Tensor, differentiable: tuple[Tensor, ...] = ()) -> Engine:
        return point_engine(self.backend, *constants, differentiable=differentiable)
