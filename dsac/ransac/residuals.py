"""How far a correspondence is from a pose: in pixels (RGB) or in metres (RGB-D).

A residual is what scoring, refinement and the minimal solver share: its threshold tells inliers, and its
squared length s with the first and second derivatives by the point in the camera frame is all that the
implicit gradients of `implicit.py` need.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dsac.geometry import Pose
from dsac.kernels import Backend, kernels, reference
from dsac.kernels.arrays import PosedRows
from dsac.ransac.types import Correspondences, PoseEstimate, TrustRules, check_positive


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
        """What the moved scene points are compared with: pixels, camera points, rays."""
        ...

    def solve(self, correspondences: Correspondences, seed: int) -> Pose | None:
        """The pose of each image, drawn, solved, scored and refined in one kernel, where there is one."""
        ...

    def refine(self, cam_from_world: Pose, correspondences: Correspondences, iterations: int) -> Pose:
        """Poses at the optimum of the robust cost Σ w ρ(e); no gradient."""
        ...

    def optimum_increment(
        self, cam_from_world: Pose, correspondences: Correspondences
    ) -> Float[Tensor, "B K 6"] | None:
        """Zero increments of poses from `refine` with their derivative, where a kernel knows it."""
        ...

    def estimate(
        self, cam_from_world: Pose, correspondences: Correspondences, iterations: int, rules: TrustRules
    ) -> PoseEstimate | None:
        """Poses (batch (B,)) after `iterations` of `refine`, and their trust, where a kernel knows it."""
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

    def __post_init__(self) -> None:
        check_positive(threshold_px=self.threshold_px, max_error_px=self.max_error_px)

    @property
    def threshold(self) -> float | int:
        return self.threshold_px

    @property
    def max_error(self) -> float | int:
        return self.max_error_px

    def sanitise(self, correspondences: Correspondences) -> Correspondences:
        return correspondences.sanitised()

    def targets(self, correspondences: Correspondences) -> Float[Tensor, "B N 2"]:
        return correspondences.pixels

    def errors(self, cam_from_world: Pose, correspondences: Correspondences) -> Float[Tensor, "B H N"]:
        posed = self._posed(cam_from_world, correspondences, None)
        return kernels(self.backend, *posed[:6]).reprojection_error(posed, self.max_error_px)

    def soft_inlier_count(self, cam_from_world: Pose, correspondences: Correspondences) -> Float[Tensor, "B H"]:
        posed = self._posed(cam_from_world, correspondences, _weights(correspondences))
        return self._differentiable_kernels(posed).soft_inlier_count(
            posed, self.threshold_px, self.max_error_px
        )

    def solve(self, correspondences: Correspondences, seed: int) -> Pose | None:
        module = kernels(self.backend, correspondences.pixels, correspondences.scene_points)
        if not hasattr(module, "solve_rgb"):
            return None
        solution = module.solve_rgb(
            correspondences.pixels,
            correspondences.scene_points,
            correspondences.camera.focal_px,
            correspondences.camera.center_px,
            correspondences.weights,
            threshold_px=float(self.threshold_px),
            seed=seed,
        )
        return Pose(solution.rotation, solution.translation).to(correspondences.pixels)

    def refine(self, cam_from_world: Pose, correspondences: Correspondences, iterations: int) -> Pose:
        posed = self._posed(cam_from_world, correspondences, _weights(correspondences))
        with torch.no_grad():
            rotation, translation, _, _ = kernels(self.backend, *posed).refine(
                posed, self.threshold_px, iterations
            )
        return Pose(rotation, translation)

    def optimum_increment(
        self, cam_from_world: Pose, correspondences: Correspondences
    ) -> Float[Tensor, "B K 6"] | None:
        posed = self._posed(cam_from_world, correspondences, _weights(correspondences))
        module = self._differentiable_kernels(posed)
        if not hasattr(module, "optimum_increment"):
            return None
        return module.optimum_increment(posed, self.threshold_px)

    def estimate(
        self, cam_from_world: Pose, correspondences: Correspondences, iterations: int, rules: TrustRules
    ) -> PoseEstimate | None:
        posed = self._posed(cam_from_world[:, None], correspondences, _weights(correspondences))
        module = kernels(self.backend, *posed)
        if not hasattr(module, "pose_trust"):
            return None
        chance = self._chance(correspondences)
        rotation, translation, *trust = module.pose_trust(posed, self.threshold_px, iterations, chance, rules)
        return PoseEstimate(Pose(rotation, translation), *trust)

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
        return correspondences.pixels.new_full((len(correspondences),), self._chance(correspondences))

    def _chance(self, correspondences: Correspondences) -> float:
        width, height = correspondences.camera.size if self.window_px is None else (self.window_px,) * 2
        return min(1.0, torch.pi * self.threshold_px**2 / (width * height))

    def _posed(self, cam_from_world: Pose, c: Correspondences, weights: Tensor | None) -> PosedRows:
        rotation, translation = cam_from_world.rotation, cam_from_world.translation
        camera = c.camera.focal_px, c.camera.center_px
        return PosedRows(rotation, translation, c.pixels, c.scene_points, *camera, weights)

    def _differentiable_kernels(self, posed: PosedRows) -> ModuleType:
        """Kernels with a derivative by poses, scene points and weights."""
        differentiable = (posed.rotation, posed.translation, posed.scene_points, posed.weights)
        constants = (posed.pixels, posed.focal_px, posed.center_px)
        return kernels(self.backend, *constants, differentiable=differentiable)


@dataclass(frozen=True)
class PointDistance:
    """Distance in metres between a moved scene point and what is measured of it.

    That is its camera point or, for a pixel without depth, its ray: both kinds of rows meet in one cost.
    """

    threshold_m: float | int = 0.1
    max_error_m: float | int = 1.0
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        check_positive(threshold_m=self.threshold_m, max_error_m=self.max_error_m)

    @property
    def threshold(self) -> float | int:
        return self.threshold_m

    @property
    def max_error(self) -> float | int:
        return self.max_error_m

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

    def solve(self, correspondences: Correspondences, seed: int) -> Pose | None:
        module = kernels(self.backend, correspondences.pixels, correspondences.scene_points)
        if not hasattr(module, "solve_rgbd"):
            return None
        assert correspondences.camera_points is not None
        solution = module.solve_rgbd(
            correspondences.pixels,
            correspondences.scene_points,
            correspondences.camera_points[..., 2],
            correspondences.camera.focal_px,
            correspondences.camera.center_px,
            correspondences.weights,
            threshold_m=float(self.threshold_m),
            seed=seed,
        )
        return Pose(solution.rotation, solution.translation).to(correspondences.pixels)

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

    def optimum_increment(self, cam_from_world: Pose, correspondences: Correspondences) -> None:
        return None

    def estimate(
        self, cam_from_world: Pose, correspondences: Correspondences, iterations: int, rules: TrustRules
    ) -> None:
        return None

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

        The box is two standard deviations long to every side.
        """
        used = (_weights(correspondences) > 0).to(correspondences.pixels)[..., None]
        count = used.sum(1).clamp_min(1)
        mean = (correspondences.scene_points * used).sum(1) / count
        spread = ((correspondences.scene_points - mean[:, None]).square() * used).sum(1) / count
        sides = 4 * spread.sqrt() + self.threshold_m
        assert correspondences.camera_points is not None
        measured = ((correspondences.camera_points[..., 2:] > 0) * used).sum(1)[:, 0] / count[:, 0]
        length = measured * 4 / 3 * self.threshold_m + (1 - measured) * sides.norm(dim=-1)
        return (torch.pi * self.threshold_m**2 * length / sides.prod(-1)).clamp(max=1.0)


def inlier_mask(
    residual: Residual, cam_from_world: Pose, correspondences: Correspondences
) -> Bool[Tensor, "B H N"]:
    """Which sanitised correspondences count and agree with poses (batch (B, H)) within the threshold."""
    used = (_weights(correspondences) > 0)[:, None]
    return (residual.errors(cam_from_world, correspondences) < residual.threshold) & used


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
