"""How far a correspondence is from a pose, and what the steps of the solver ask of that.

A residual is what scoring, refinement and the minimal solver share: its threshold tells inliers, and its
squared length s with the first and second derivatives by the point in the camera frame is all that the
implicit gradients of `implicit.py` need. What a backend computes of it faster is its `Engine`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dsac.geometry import Pose
from dsac.kernels import Engine, PosedRows, full_precision
from dsac.ransac.types import Correspondences


@runtime_checkable
class Residual(Protocol):
    """What drawing, scoring and the expected loss ask of a problem. Batches: poses `(B,H)`, rows `(B,N)`."""

    @property
    def threshold(self) -> float | int:
        """Errors below it are inliers."""
        ...

    @property
    def max_error(self) -> float | int:
        """Above the threshold."""
        ...

    def sanitise(self, correspondences: Correspondences) -> Correspondences:
        """Weight 0 and finite values for the rows that this residual cannot use; twice is as good as once."""
        ...

    def errors(self, cam_from_world: Pose, correspondences: Correspondences) -> Float[Tensor, "B H N"]:
        """Length of the residual, at most `max_error`; differentiable."""
        ...


@runtime_checkable
class PoseResidual(Residual, Protocol):
    """A residual of camera poses: with what search, refinement, implicit gradients and the covariance need."""

    def targets(self, correspondences: Correspondences) -> Float[Tensor, "B N t"]:
        """What the moved scene points are compared with: pixels, camera points, rays."""
        ...

    def expand(
        self, points_cam: Float[Tensor, "B K n 3"], targets: Float[Tensor, "B #K n t"], like: Correspondences
    ) -> Expansion:
        """The square and its derivatives at points in the camera frames of `like`."""
        ...

    def chance(self, correspondences: Correspondences) -> float | Float[Tensor, " B"]:
        """The probability that a point of a wrong pose is an inlier: one for all images, or for each."""
        ...

    def engine(self, *constants: Tensor, differentiable: tuple[Tensor, ...] = ()) -> Engine:
        """What computes with this residual on such tensors; none of the `constants` may need a gradient."""
        ...


@dataclass(frozen=True, eq=False)
class Expansion:
    """The residual r(X) of points X in the camera frame, to second order."""

    square: Float[Tensor, "B K n"]  # rᵀr
    force: Float[Tensor, "B K n 3"]  # Jᵀr
    stiffness: Float[Tensor, "B K n 3 3"]  # JᵀJ; no gradient
    bending: Float[Tensor, "B K n 3 3"]  # Σ_k r_k ∂²r_k/∂X²; no gradient
    frozen_force: Float[Tensor, "B K n 3"]  # Jᵀr where J passes no gradient: Gauss-Newton's view
    defined: Bool[Tensor, "B K n"]  # in front of the camera


# ---- what any residual tells -------------------------------------------------------------------------


def inliers(residual: Residual, cam_from_world: Pose, correspondences: Correspondences) -> Bool[Tensor, "B N"]:
    """Which correspondences, as a caller has them, agree with a pose (batch (B,)) within the threshold."""
    check_batch(cam_from_world, correspondences)
    pose = cam_from_world.to(correspondences.pixels)
    with full_precision(correspondences.pixels.device.type):
        found = inlier_mask(residual, pose[:, None], residual.sanitise(correspondences))[:, 0]
    return found[:, : correspondences.pixels.shape[1]]


def inlier_mask(
    residual: Residual, cam_from_world: Pose, correspondences: Correspondences
) -> Bool[Tensor, "B H N"]:
    """Which sanitised correspondences count and agree with poses (batch (B, H)) within the threshold."""
    used = (weights_of(correspondences) > 0)[:, None]
    errors = residual.errors(cam_from_world, correspondences)
    found = (errors < residual.threshold) & used
    if correspondences.modes > 1:
        rows = likeliest_rows(errors, correspondences)
        found &= torch.zeros_like(found).scatter_(-1, rows, True)
    return found


# ---- rows --------------------------------------------------------------------------------------------


def posed_rows(residual: PoseResidual, cam_from_world: Pose, c: Correspondences) -> PosedRows:
    """Poses (batch (B, H)) and correspondences, as the residual's engine takes them."""
    return PosedRows(
        cam_from_world.rotation,
        cam_from_world.translation,
        residual.targets(c),
        c.scene_points,
        c.camera.focal_px,
        c.camera.center_px,
        c.weights,
    )


def differentiable_engine(residual: PoseResidual, rows: PosedRows) -> Engine:
    """For what has a derivative by poses, scene points and weights in every backend."""
    assert rows.weights is not None
    differentiable = (rows.rotation, rows.translation, rows.scene_points, rows.weights)
    return residual.engine(rows.pixels, rows.focal_px, rows.center_px, differentiable=differentiable)


def gather_rows(values: Float[Tensor, "B N c"], rows: Tensor) -> Float[Tensor, "B H k c"]:
    """`values` of row indices `(B,H,k)`."""
    flat = rows.flatten(1)[..., None].expand(-1, -1, values.shape[-1])
    return values.gather(1, flat).unflatten(1, rows.shape[1:])


def likeliest_rows(errors: Float[Tensor, "B H N"], correspondences: Correspondences) -> Int[Tensor, "B H n"]:
    """Of each pixel's modes the row that counts with the least error; no gradient."""
    modes = correspondences.modes
    used = (weights_of(correspondences) > 0)[:, None]
    errors = torch.where(used, errors.detach(), torch.inf).unflatten(-1, (-1, modes))
    return errors.argmin(-1) + modes * torch.arange(errors.shape[-2], device=errors.device)


def exclusive(residual: Residual, cam_from_world: Pose, correspondences: Correspondences) -> Correspondences:
    """The same rows, of which for each pixel the one counts that suits a pose (batch (B,)) best."""
    if correspondences.modes == 1:
        return correspondences
    rows = likeliest_rows(residual.errors(cam_from_world[:, None], correspondences), correspondences)[:, 0]
    weights = weights_of(correspondences)
    return replace(correspondences, weights=torch.zeros_like(weights).scatter(1, rows, weights.gather(1, rows)))


def row_subset(correspondences: Correspondences, rows: Tensor, weights: Tensor) -> Correspondences:
    """One image per row set: rows and weights `(B,K,n)` make correspondences of batch B·K with n rows."""
    camera = correspondences.camera
    images = torch.arange(len(correspondences), device=rows.device).repeat_interleave(rows.shape[1])
    points, covariances = correspondences.camera_points, correspondences.covariances
    if covariances is not None:
        covariances = gather_rows(covariances, rows).flatten(0, 1)
    return replace(
        correspondences,
        pixels=gather_rows(correspondences.pixels, rows).flatten(0, 1),
        scene_points=gather_rows(correspondences.scene_points, rows).flatten(0, 1),
        camera=camera[images],
        camera_points=None if points is None else gather_rows(points, rows).flatten(0, 1),
        weights=weights.flatten(0, 1),
        covariances=covariances,
        grid=None,
        modes=1,
    )


def of_pixels(correspondences: Correspondences, pixels: Int[Tensor, " P"]) -> Correspondences:
    """Some pixels of one sanitised image (B = 1), with all their modes."""
    modes = correspondences.modes
    rows = (modes * pixels[:, None] + torch.arange(modes, device=pixels.device)).reshape(1, 1, -1)
    return replace(
        row_subset(correspondences, rows, weights_of(correspondences)[:, None].gather(-1, rows)), modes=modes
    )


def weights_of(correspondences: Correspondences) -> Float[Tensor, "B N"]:
    assert correspondences.weights is not None, "sanitised correspondences have weights"
    return correspondences.weights


def check_batch(cam_from_world: Pose, correspondences: Correspondences) -> None:
    """Raises: `ValueError` when there is not one pose for each image."""
    expected = (len(correspondences),)
    if cam_from_world.shape != expected:
        raise ValueError(f"cam_from_world: expected batch {expected}, got {tuple(cam_from_world.shape)}")
