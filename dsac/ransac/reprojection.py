"""The residual of pixels: how far from a pixel its scene point is seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.geometry import Pose
from dsac.kernels import Backend, Engine, reprojection_engine
from dsac.ransac.residual import Expansion, PoseResidual, posed_rows
from dsac.ransac.types import Correspondences, check_order, check_positive


@dataclass(frozen=True)
class ReprojectionError(PoseResidual):
    """Distance in pixels between a pixel and the projection of its scene point.

    Raises: `ValueError` for a threshold, maximum or window that is not above 0, and a maximum that is not above
    the threshold.
    """

    threshold_px: float | int = 10.0
    max_error_px: float | int | None = None  # None = ten thresholds
    backend: Backend = "auto"
    # side of the square that each pixel was searched for in; None = the image
    window_px: float | int | None = None

    def __post_init__(self) -> None:
        check_positive(threshold_px=self.threshold_px, max_error_px=self.max_error, window_px=self.window_px)
        check_order(threshold_px=self.threshold_px, max_error_px=self.max_error)

    @property
    def threshold(self) -> float | int:
        return self.threshold_px

    @property
    def max_error(self) -> float | int:
        return 10.0 * self.threshold_px if self.max_error_px is None else self.max_error_px

    def sanitise(self, correspondences: Correspondences) -> Correspondences:
        return correspondences.sanitised()

    def targets(self, correspondences: Correspondences) -> Float[Tensor, "B N 2"]:
        return correspondences.pixels

    def errors(self, cam_from_world: Pose, correspondences: Correspondences) -> Float[Tensor, "B H N"]:
        rows = posed_rows(self, cam_from_world, correspondences)
        return self.engine(*rows[:6]).errors(rows, self.max_error)  # all but the weights

    def expand(
        self, points_cam: Float[Tensor, "B K n 3"], targets: Float[Tensor, "B #K n 2"], like: Correspondences
    ) -> Expansion:
        focal, center = (v[:, None, None].to(points_cam) for v in (like.camera.focal_px, like.camera.center_px))
        front = points_cam[..., 2] > 0
        depth = torch.where(front, points_cam[..., 2], torch.ones_like(points_cam[..., 2]))[..., None]
        slope = focal / depth  # du/dx and dv/dy
        plane = points_cam[..., :2] / depth
        residual = plane * focal + center - targets

        def pull(slope: Tensor, plane: Tensor) -> Tensor:
            """Jᵀr with J = [[a, 0, -a x], [0, b, -b y]], (a, b) the slope and (x, y) on the plane z = 1."""
            sideways = slope * residual
            return torch.cat([sideways, -(sideways * plane).sum(-1, keepdim=True)], dim=-1)

        with torch.no_grad():
            zero = torch.zeros_like(slope[..., 0])
            (a, b), (x, y) = slope.unbind(-1), plane.unbind(-1)
            # JᵀJ of the rows (a, 0, -a x) and (0, b, -b y)
            aax, bby = a * a * x, b * b * y
            corner = aax * x + bby * y
            stiffness = torch.stack([a * a, zero, -aax, zero, b * b, -bby, -aax, -bby, corner], dim=-1)
            # ∂²u/∂x∂z = -a/z, ∂²u/∂z² = 2 a x/z, and the same for v
            across = -slope / depth * residual
            along = -2 * (across * plane).sum(-1)
            p, q = across.unbind(-1)
            bending = torch.stack([zero, zero, p, zero, zero, q, p, q, along], dim=-1).unflatten(-1, (3, 3))
        return Expansion(
            square=residual.square().sum(-1),
            force=pull(slope, plane),
            stiffness=stiffness.unflatten(-1, (3, 3)),
            bending=bending,
            frozen_force=pull(slope.detach(), plane.detach()),
            defined=front,
        )

    def chance(self, correspondences: Correspondences) -> float:
        """Area of the threshold's disc against that of the image, or of the window; once for each mode."""
        width, height = correspondences.camera.size if self.window_px is None else (self.window_px,) * 2
        return min(1.0, correspondences.modes * torch.pi * self.threshold_px**2 / (width * height))

    def engine(self, *constants: Tensor, differentiable: tuple[Tensor, ...] = ()) -> Engine:
        return reprojection_engine(self.backend, *constants, differentiable=differentiable)
