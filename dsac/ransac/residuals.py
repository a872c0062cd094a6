"""How far a correspondence is from a pose: in pixels (RGB) or in metres (RGB-D).

A residual is what scoring, refinement and the minimal solver share: its threshold tells inliers, and its
squared length s with the first and second derivatives by the point in the camera frame is all that the
implicit gradients of `implicit.py` need.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dsac.geometry import Pose
from dsac.kernels import Backend, kernels, reference
from dsac.ransac.types import Correspondences


@runtime_checkable
class Residual(Protocol):
    """What drawing, scoring and the expected loss ask of a problem. Batches: poses `(B,H)`, rows `(B,N)`."""

    @property
    def threshold(self) -> float | int: ...

    @property
    def max_error(self) -> float | int: ...

    def sanitise(self, correspondences: Correspondences) -> Correspondences:
        """Weight 0 and finite values for the rows that this residual cannot use."""
        ...

    def errors(self, cam_from_world: Pose, correspondences: Correspondences) -> Float[Tensor, "B H N"]:
        """Length of the residual, at most `max_error`; differentiable."""
        ...

    def soft_inlier_count(self, cam_from_world: Pose, correspondences: Correspondences) -> Float[Tensor, "B H"]:
        """Σ_i w_i sigmoid(5/τ (τ - e_i)); differentiable."""
        ...


@runtime_checkable
class PoseResidual(Residual, Protocol):
    """A residual of camera poses: with what refinement, implicit gradients and the covariance need."""

    def targets(self, correspondences: Correspondences) -> Float[Tensor, "B N t"]:
        """What the moved scene points are compared with: pixels or camera points."""
        ...

    def refine(self, cam_from_world: Pose, correspondences: Correspondences, iterations: int) -> Pose:
        """Poses at the optimum of the robust cost Σ w ρ(e); no gradient."""
        ...

    def expand(
        self, points_cam: Float[Tensor, "B K n 3"], targets: Float[Tensor, "B #K n t"], like: Correspondences
    ) -> Expansion:
        """The square and its derivatives at points in the camera frames of `like`."""
        ...

    def chance(self, correspondences: Correspondences) -> Float[Tensor, " B"]:
        """The probability that a point of a wrong pose is an inlier."""
        ...


@dataclass(frozen=True)
class Expansion:
    """The residual r(X) of points X in the camera frame, to second order."""

    square: Float[Tensor, "B K n"]  # rᵀr
    force: Float[Tensor, "B K n 3"]  # Jᵀr
    stiffness: Float[Tensor, "B K n 3 3"]  # JᵀJ; no gradient
    bending: Float[Tensor, "B K n 3 3"]  # Σ_k r_k ∂²r_k/∂X²; no gradient
    frozen_force: Float[Tensor, "B K n 3"]  # Jᵀr where J passes no gradient: Gauss-Newton's view
    defined: Bool[Tensor, "B K n"]  # in front of the camera


@dataclass(frozen=True)
class ReprojectionError:
    """Distance in pixels between a pixel and the projection of its scene point."""

    threshold_px: float | int = 10.0
    max_error_px: float | int = 100.0
    backend: Backend = "auto"
    window_px: float | int | None = (
        None  # side of the square that each pixel was searched for in; None = the image
    )

    @property
    def threshold(self) -> float | int:
        return self.threshold_px

    @property
    def max_error(self) -> float | int:
        return self.max_error_px

    def sanitise(self, correspondences: Correspondences) -> Correspondences:
        return correspondences.sanitised(correspondences.usable)

    def targets(self, correspondences: Correspondences) -> Float[Tensor, "B N 2"]:
        return correspondences.pixels

    def errors(self, cam_from_world: Pose, correspondences: Correspondences) -> Float[Tensor, "B H N"]:
        arguments = self._arguments(cam_from_world, correspondences)
        return kernels(self.backend, *arguments).reprojection_error(*arguments, self.max_error_px)

    def soft_inlier_count(self, cam_from_world: Pose, correspondences: Correspondences) -> Float[Tensor, "B H"]:
        arguments = (*self._arguments(cam_from_world, correspondences), _weights(correspondences))
        return kernels(self.backend, *arguments).soft_inlier_count(
            *arguments, self.threshold_px, self.max_error_px
        )

    def refine(self, cam_from_world: Pose, correspondences: Correspondences, iterations: int) -> Pose:
        arguments = (*self._arguments(cam_from_world, correspondences), _weights(correspondences))
        with torch.no_grad():
            rotation, translation, _, _ = kernels(self.backend, *arguments).refine(
                *arguments, self.threshold_px, iterations
            )
        return Pose(rotation, translation)

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

    def chance(self, correspondences: Correspondences) -> Float[Tensor, " B"]:
        """Area of the threshold's disc against that of the image, or of the window."""
        width, height = correspondences.camera.size if self.window_px is None else (self.window_px,) * 2
        area = min(1.0, torch.pi * self.threshold_px**2 / (width * height))
        return correspondences.pixels.new_full((len(correspondences),), area)

    def _arguments(self, cam_from_world: Pose, c: Correspondences) -> tuple[Tensor, ...]:
        rotation, translation = cam_from_world.rotation, cam_from_world.translation
        return rotation, translation, c.pixels, c.scene_points, c.camera.focal_px, c.camera.center_px


@dataclass(frozen=True)
class PointDistance:
    """Distance in metres between a camera point (from depth) and its moved scene point."""

    threshold_m: float | int = 0.1
    max_error_m: float | int = 1.0

    @property
    def threshold(self) -> float | int:
        return self.threshold_m

    @property
    def max_error(self) -> float | int:
        return self.max_error_m

    def sanitise(self, correspondences: Correspondences) -> Correspondences:
        """Rows without a camera point get weight 0. Raises: `ValueError` when there are none at all."""
        if correspondences.camera_points is None:
            raise ValueError("camera_points: expected (B, N, 3) for a solver of RGB-D, got None")
        depth = torch.isfinite(correspondences.camera_points).all(-1)
        return correspondences.sanitised(correspondences.usable & depth)

    def targets(self, correspondences: Correspondences) -> Float[Tensor, "B N 3"]:
        assert correspondences.camera_points is not None
        return correspondences.camera_points

    def errors(self, cam_from_world: Pose, correspondences: Correspondences) -> Float[Tensor, "B H N"]:
        return reference.point_distance(
            cam_from_world.rotation,
            cam_from_world.translation,
            self.targets(correspondences),
            correspondences.scene_points,
            self.max_error_m,
        )

    def soft_inlier_count(self, cam_from_world: Pose, correspondences: Correspondences) -> Float[Tensor, "B H"]:
        errors = self.errors(cam_from_world, correspondences)
        return reference.soft_count(errors, _weights(correspondences), self.threshold_m)

    def refine(self, cam_from_world: Pose, correspondences: Correspondences, iterations: int) -> Pose:
        rotation, translation, _, _ = reference.refine_points(
            cam_from_world.rotation,
            cam_from_world.translation,
            self.targets(correspondences),
            correspondences.scene_points,
            _weights(correspondences),
            self.threshold_m,
            iterations,
        )
        return Pose(rotation, translation)

    def expand(
        self, points_cam: Float[Tensor, "B K n 3"], targets: Float[Tensor, "B #K n 3"], like: Correspondences
    ) -> Expansion:
        residual = points_cam - targets
        eye = torch.eye(3, dtype=residual.dtype, device=residual.device).expand(*residual.shape, 3)
        return Expansion(
            square=residual.square().sum(-1),
            force=residual,
            stiffness=eye,
            bending=torch.zeros_like(eye),
            frozen_force=residual,
            defined=torch.ones_like(residual[..., 0], dtype=torch.bool),
        )

    def chance(self, correspondences: Correspondences) -> Float[Tensor, " B"]:
        """Volume of the threshold's ball against the box of two standard deviations about the scene points."""
        weights = (_weights(correspondences) > 0).to(correspondences.pixels)[..., None]
        count = weights.sum(1).clamp_min(1)
        mean = (correspondences.scene_points * weights).sum(1) / count
        spread = ((correspondences.scene_points - mean[:, None]).square() * weights).sum(1) / count
        sides = 4 * spread.sqrt() + self.threshold_m
        return (4 / 3 * torch.pi * self.threshold_m**3 / sides.prod(-1)).clamp(max=1.0)


def gather_rows(values: Float[Tensor, "B N c"], rows: Tensor) -> Float[Tensor, "B H k c"]:
    """`values` of row indices `(B,H,k)`."""
    flat = rows.flatten(1)[..., None].expand(-1, -1, values.shape[-1])
    return values.gather(1, flat).unflatten(1, rows.shape[1:])


def row_subset(correspondences: Correspondences, rows: Tensor, weights: Tensor) -> Correspondences:
    """One image per row set: rows and weights `(B,K,n)` make correspondences of batch B·K with n rows."""
    camera = correspondences.camera
    images = torch.arange(len(correspondences), device=rows.device).repeat_interleave(rows.shape[1])
    points = correspondences.camera_points
    return replace(
        correspondences,
        pixels=gather_rows(correspondences.pixels, rows).flatten(0, 1),
        scene_points=gather_rows(correspondences.scene_points, rows).flatten(0, 1),
        camera=camera[images],
        camera_points=None if points is None else gather_rows(points, rows).flatten(0, 1),
        weights=weights.flatten(0, 1),
        grid=None,
    )


def _weights(correspondences: Correspondences) -> Tensor:
    assert correspondences.weights is not None, "sanitised correspondences have weights"
    return correspondences.weights
