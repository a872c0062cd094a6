"""What each kernel computes, in torch, on any device, in float32 or float64.

The faster twins in `twins/face.py` have the same names and arguments and are compared with these. Arrays
only: the caller (`dsac.ransac`) has given weight 0 and finite values to the rows that must be ignored.

Shapes: M minimal sets, B images, H hypotheses, K selected poses, N correspondences. A pose is
`points_cam = rotation @ points_world + translation`; its increments are 6-vectors (rotation, translation)
applied from the left.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dsac.kernels.arrays import PosedRows
from dsac.kernels.precision import without_autocast
from dsac.kernels.reference_p3p import p3p

__all__ = [
    "kabsch",
    "p3p",
    "point_distance",
    "refine",
    "refine_points",
    "reprojection_error",
    "settled",
    "soft_count",
    "soft_inlier_count",
    "soft_inliers",
]

_TINY = 1e-12
_DAMPING = 1e-3  # of the diagonal, at the start; ten times less after each accepted step
# Gauss-Newton on a robust cost contracts by about 0.5 a step, always from the same side: longer steps converge
# in half as many (measured at 50 % outliers: 1e-4 cm from the optimum after 11 steps instead of 20).
_OVER_RELAXATION = 1.6


@without_autocast
def kabsch(
    camera_points: Float[Tensor, "M k 3"], scene_points: Float[Tensor, "M k 3"]
) -> tuple[Float[Tensor, "M 3 3"], Float[Tensor, "M 3"], Bool[Tensor, " M"]]:
    """The pose with the least squared distance between moved scene points and camera points (Kabsch 1976).

    Sets whose points coincide or lie on a line are `valid=False` with finite values. No gradient.
    """
    with torch.no_grad():
        x, y = camera_points.double(), scene_points.double()
        x_mean, y_mean = x.mean(1), y.mean(1)
        covariance = (x - x_mean[:, None]).mT @ (y - y_mean[:, None])
        u, s, vt = torch.linalg.svd(covariance)
        sign = torch.linalg.det(u @ vt)
        u = torch.cat([u[..., :2], u[..., 2:] * sign[:, None, None]], dim=-1)
        rotation = u @ vt
        translation = x_mean - (rotation @ y_mean[..., None])[..., 0]
        valid = s[:, 1] > 1e-6 * s[:, 0].clamp_min(_TINY)
    return rotation.to(scene_points.dtype), translation.to(scene_points.dtype), valid


@without_autocast
def reprojection_error(
    posed: PosedRows,
    max_error_px: float | int,
) -> Float[Tensor, "B H N"]:
    """Distance in pixels between each pixel and the projection of its scene point, at most `max_error_px`.

    Behind the camera or not finite: `max_error_px`, so that no hypothesis gains from such points.
    Differentiable in poses, pixels and scene points; the gradient is 0 where the maximum holds.
    """
    posed.check()
    x, y, z = _camera_axes(posed.rotation, posed.translation, posed.scene_points)
    front = z > 0
    inverse = torch.where(front, z, torch.ones_like(z)).reciprocal()
    measured = posed.pixels - posed.center_px[:, None]
    du = x * inverse * _column(posed.focal_px, 0) - _column(measured, 0)
    dv = y * inverse * _column(posed.focal_px, 1) - _column(measured, 1)
    return _bounded_norm(du * du + dv * dv, front, max_error_px)


@without_autocast
def point_distance(
    rotation: Float[Tensor, "B H 3 3"],
    translation: Float[Tensor, "B H 3"],
    targets: Float[Tensor, "B N 4"],
    scene_points: Float[Tensor, "B N 3"],
    max_error_m: float | int,
) -> Float[Tensor, "B H N"]:
    """Distance in metres between each moved scene point and its target, at most `max_error_m`.

    Targets are homogeneous: (camera point, 1), or (unit direction of a ray, 0), of which the point must lie in
    front.
    """
    offsets, usable = _point_offsets(_camera_axes(rotation, translation, scene_points), targets)
    x, y, z = offsets
    square = x * x + y * y + z * z
    return _bounded_norm(square, usable & torch.isfinite(square), max_error_m)


@without_autocast
def soft_inlier_count(
    posed: PosedRows,
    threshold_px: float | int,
    max_error_px: float | int,
) -> Float[Tensor, "B H"]:
    """Σ_i w_i sigmoid(β (τ - e_i)) with β = 5/τ (DSAC*, Brachmann and Rother 2021)."""
    return soft_count(reprojection_error(posed, max_error_px), _weights(posed), threshold_px)


@without_autocast
def soft_count(
    errors: Float[Tensor, "B H N"], weights: Float[Tensor, "B N"], threshold: float | int
) -> Float[Tensor, "B H"]:
    """The soft inlier count of given errors, in any unit."""
    return (torch.sigmoid(5.0 - errors * (5.0 / threshold)) @ weights[..., None])[..., 0]


@without_autocast
def soft_inliers(
    errors: Float[Tensor, "B H N"], weights: Float[Tensor, "B N"], threshold: float | int
) -> Float[Tensor, "B H N"]:
    """The terms of the soft inlier count."""
    return torch.sigmoid(5.0 - errors * (5.0 / threshold)) * weights[:, None]


@without_autocast
def refine(
    posed: PosedRows,
    threshold_px: float | int,
    iterations: int,
) -> tuple[Float[Tensor, "B K 3 3"], Float[Tensor, "B K 3"], Bool[Tensor, "B K N"], Float[Tensor, "B K 6 6"]]:
    """Poses with the least Σ_i w_i ρ(e_i) near the given ones, e_i the reprojection error in pixels.

    ρ(e) = e² τ² / (e² + τ²) is the smooth form of the truncated square min(e, τ)² (Geman and McClure 1985):
    it has a true optimum, which the implicit function theorem needs, and is more accurate than least squares
    on hard inliers. Points behind the camera count as ρ = τ². Levenberg-Marquardt; returns poses, inliers
    (e_i < τ) and the normal matrix Σ w_i ρ'(e_i²) J_iᵀJ_i in px². A pose with fewer than four inliers stays
    where it is. No gradient.
    """
    posed.check()
    measured = (posed.pixels - posed.center_px[:, None]) / posed.focal_px[:, None]
    fx, fy = _column(posed.focal_px, 0), _column(posed.focal_px, 1)

    def residual_rows(axes: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y, z = axes
        front = z > 0
        inverse = torch.where(front, z, torch.ones_like(z)).reciprocal()
        a, b = x * inverse, y * inverse
        du, dv = fx * (a - _column(measured, 0)), fy * (b - _column(measured, 1))
        slope_x, slope_y, zero = fx * inverse, fy * inverse, torch.zeros_like(a)
        rows = torch.stack(
            [-fx * a * b, fx * (1 + a * a), -fx * b, slope_x, zero, -slope_x * a, du]
            + [-fy * (1 + b * b), fy * a * b, fy * a, zero, slope_y, -slope_y * b, dv],
            dim=-2,
        )
        return rows.unflatten(-2, (2, 7)), front

    with torch.no_grad():
        return _levenberg_marquardt(
            residual_rows,
            posed.scene_points,
            _weights(posed),
            threshold_px,
            posed.rotation,
            posed.translation,
            iterations,
        )


@without_autocast
def refine_points(
    rotation: Float[Tensor, "B K 3 3"],
    translation: Float[Tensor, "B K 3"],
    targets: Float[Tensor, "B N 4"],
    scene_points: Float[Tensor, "B N 3"],
    weights: Float[Tensor, "B N"],
    threshold_m: float | int,
    iterations: int,
) -> tuple[Float[Tensor, "B K 3 3"], Float[Tensor, "B K 3"], Bool[Tensor, "B K N"], Float[Tensor, "B K 6 6"]]:
    """`refine` for RGB-D: e_i is the distance in metres between moved scene point and target."""
    direction = (1 - targets[..., 3:]) * targets[..., :3]  # of the ray, along which nothing is measured

    def residual_rows(axes: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y, z = axes
        (dx, dy, dz), usable = _point_offsets(axes, targets)
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        moves = torch.stack(
            [zero, z, -y, one, zero, zero] + [-z, zero, x, zero, one, zero] + [y, -x, zero, zero, zero, one],
            dim=-2,
        ).unflatten(-2, (3, 6))
        u = direction.mT[:, None, :, None]  # (B, 1, 3, 1, N)
        moves = moves - u * (u * moves).sum(-3, keepdim=True)
        return torch.cat([moves, torch.stack([dx, dy, dz], dim=-2)[..., None, :]], dim=-2), usable

    with torch.no_grad():
        return _levenberg_marquardt(
            residual_rows, scene_points, weights, threshold_m, rotation, translation, iterations
        )


def settled(done: Bool[Tensor, "*batch"]) -> bool:
    """Whether all are done, so that a loop may end early. A device is not asked: the host would wait for it."""
    return done.device.type == "cpu" and bool(done.all())


# ---- poses and residuals -----------------------------------------------------------------------------


def _weights(posed: PosedRows) -> Tensor:
    return torch.ones_like(posed.pixels[..., 0]) if posed.weights is None else posed.weights


def _camera_axes(rotation: Tensor, translation: Tensor, scene_points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x, y and z of the scene points in each camera, `(B,H,N)` each: three passes over contiguous memory."""
    # one product for all poses of an image: many products of 3x3 matrices take five times as long
    moved = (rotation.flatten(1, 2) @ scene_points.mT).unflatten(1, (-1, 3)) + translation[..., None]
    x, y, z = moved.unbind(-2)
    return x, y, z


def _point_offsets(
    axes: tuple[Tensor, Tensor, Tensor], targets: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """x, y, z from the targets, across the ray for those at infinity; which points are in front of these."""
    *point, measured = (_column(targets, i) for i in range(4))
    x, y, z = (axis - measured * target for axis, target in zip(axes, point, strict=True))
    along = (1 - measured) * (x * point[0] + y * point[1] + z * point[2])
    return (x - along * point[0], y - along * point[1], z - along * point[2]), (along > 0) | (measured > 0)


def _column(values: Tensor, index: int) -> Tensor:
    """Component `index` of `(B,2)` or `(B,N,2)` values, to broadcast against `(B,H,N)`."""
    column = values[..., index]
    return column[:, None, None] if column.ndim == 1 else column[:, None]


def _bounded_norm(square: Tensor, usable: Tensor, maximum: float) -> Tensor:
    """sqrt of `square` from 1e-6 to `maximum`, `maximum` where not usable; no gradient at either bound."""
    within = usable & (square < maximum**2)
    bounded = torch.where(within, square, torch.full_like(square, maximum**2))
    return bounded.clamp_min(_TINY).sqrt()


# ---- Levenberg-Marquardt on the robust cost ----------------------------------------------------------


def rotation_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Of a rotation vector (Rodrigues)."""
    eye, cross = torch.eye(3, dtype=vector.dtype, device=vector.device), cross_matrix(vector)
    angle = vector.norm(dim=-1)[..., None, None]
    half = torch.sinc(angle / (2 * math.pi))
    return eye + torch.sinc(angle / math.pi) * cross + 0.5 * half * half * (cross @ cross)


def cross_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """[v]×, whose product with x is v × x."""
    axes = torch.eye(3, dtype=vector.dtype, device=vector.device).expand(*vector.shape, 3)
    return torch.linalg.cross(axes, vector[..., None, :].expand_as(axes))  # row i: e_i × v


def _levenberg_marquardt(
    residual_rows: Callable[[tuple[Tensor, Tensor, Tensor]], tuple[Tensor, Tensor]],
    scene_points: Tensor,
    weights: Tensor,
    threshold: float | int,
    rotation: Tensor,
    translation: Tensor,
    iterations: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Poses, inliers and normal matrices at the least Σ w ρ.

    `residual_rows` tells of moved points, x, y, z (B, K, N) each, the rows (B, K, c, 7, N) of c residuals: six
    derivatives by the increment, then the residual, and whether a point is in front; otherwise it counts as τ².
    """

    def linearise(rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cost (B, K), Σ w ρ' [J r]ᵀ[J r] (B, K, 7, 7), which are inliers (B, K, N)."""
        rows, front = residual_rows(_camera_axes(rotation, translation, scene_points))
        square = rows[..., 6, :].square().sum(-2)
        kept = threshold**2 / (threshold**2 + square)
        cost = (weights[:, None] * torch.where(front, square * kept, threshold**2)).sum(-1)
        pull = weights[:, None] * front * kept * kept
        normal = ((rows * pull[..., None, None, :]) @ rows.mT).sum(-3)
        return cost, normal, front & (square < threshold**2) & (weights > 0)[:, None]

    eps = torch.finfo(rotation.dtype).eps
    cost, normal, inliers = linearise(rotation, translation)
    damping = torch.full_like(cost, _DAMPING)
    movable = (inliers.sum(-1) >= 4)[..., None]
    for _ in range(iterations):
        gradient = normal[..., :6, 6]
        step = _damped_step(normal[..., :6, :6], gradient, damping)
        step = _OVER_RELAXATION * torch.where(movable, step, 0.0)
        turn = rotation_matrix(step[..., :3])
        new_rotation = turn @ rotation
        new_translation = (turn @ translation[..., None])[..., 0] + step[..., 3:]
        new_cost, new_normal, new_inliers = linearise(new_rotation, new_translation)
        better = new_cost <= cost * (1 + 100 * eps)  # below this a difference is rounding
        # scale-free: what the step could gain, against the cost
        converged = -(gradient * step).sum(-1) <= eps**1.5 * cost
        rotation = torch.where(better[..., None, None], new_rotation, rotation)
        translation = torch.where(better[..., None], new_translation, translation)
        normal = torch.where(better[..., None, None], new_normal, normal)
        inliers = torch.where(better[..., None], new_inliers, inliers)
        cost = torch.where(better, new_cost, cost)
        damping = torch.where(better, 0.1 * damping, 10.0 * damping).clamp(1e-12, 1e6)
        if settled(converged):
            break
    eye = torch.eye(3, dtype=rotation.dtype, device=rotation.device)
    rotation = rotation @ (1.5 * eye - 0.5 * rotation.mT @ rotation)  # a Newton step back onto SO(3)
    return rotation, translation, inliers, normal[..., :6, :6]


def _damped_step(matrix: Tensor, gradient: Tensor, damping: Tensor) -> Tensor:
    """-(A + λ diag A)⁻¹ g in float64 and equilibrated; 0 where that is singular."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1).double()
    scale = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).rsqrt()
    scaled = matrix.double() * scale[..., None] * scale[..., None, :]
    scaled = scaled + torch.diag_embed(damping.double()[..., None].expand_as(scale))
    solution = torch.linalg.solve_ex(scaled, (gradient.double() * scale)[..., None])[0][..., 0]
    return torch.nan_to_num(-solution * scale, nan=0.0, posinf=0.0, neginf=0.0).to(gradient.dtype)
