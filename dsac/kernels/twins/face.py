"""The functions of `reference.py` by the same names, on the CPU, and their gradients in closed form.

Arrays are torch CPU tensors or numpy arrays; what comes out is of the kind and the floating dtype that came in,
and the loops compute in it, too. The first call of a process loads the compiled code from Numba's cache.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from dsac.kernels.arrays import Array, like, real_array
from dsac.kernels.twins import backward, poses, trust
from dsac.kernels.twins.rows import Rows


def p3p(bearings: Array, points: Array) -> tuple[Array, Array, Array]:
    """Rotations (M, 4, 3, 3), translations (M, 4, 3), which exist (M, 4), of bearings and points (M, 3, 3)."""
    size = len(points)
    rotations, translations = np.empty((size, 4, 3, 3)), np.empty((size, 4, 3))
    valid = np.empty((size, 4), np.bool_)
    sets = real_array(bearings, np.float64), real_array(points, np.float64)
    poses.p3p_sets(*sets, rotations, translations, valid)
    kind = like(points, cast=True)
    return kind(rotations), kind(translations), like(points)(valid)


def reprojection_error(
    rotation: Array,
    translation: Array,
    pixels: Array,
    scene_points: Array,
    focal_px: Array,
    center_px: Array,
    max_error_px: float | int,
) -> Array:
    """Errors (B, H, N) in pixels of poses (B, H, 3, 3), (B, H, 3)."""
    rows = Rows(rotation, translation, pixels, scene_points, focal_px, center_px)
    errors = np.empty((*rows.poses.shape[:2], rows.points.shape[-1]), rows.dtype)
    for b in range(len(errors)):
        poses.reprojection_errors(rows.poses[b], rows.points[b], rows.focal[b], float(max_error_px), errors[b])
    return like(scene_points, cast=True)(errors)


def soft_inlier_count(
    rotation: Array,
    translation: Array,
    pixels: Array,
    scene_points: Array,
    focal_px: Array,
    center_px: Array,
    weights: Array,
    threshold_px: float | int,
    max_error_px: float | int,
) -> Array:
    """Σ_i w_i sigmoid(β (τ - e_i)) (B, H) with β = 5/τ, of poses (B, H, 3, 3), (B, H, 3).

    Tensors are differentiable once, in all arguments but pixels and camera.
    """
    differentiable = (rotation, translation, scene_points, weights)
    if torch.is_grad_enabled() and any(getattr(array, "requires_grad", False) for array in differentiable):
        return _SoftInlierCount.apply(
            rotation,
            translation,
            pixels,
            scene_points,
            focal_px,
            center_px,
            weights,
            threshold_px,
            max_error_px,
        )
    rows = Rows(rotation, translation, pixels, scene_points, focal_px, center_px, weights)
    counts = np.empty(rows.poses.shape[:2], rows.dtype)
    for b in range(len(counts)):
        poses.soft_counts(*rows[b], float(threshold_px), float(max_error_px), counts[b])
    return like(scene_points, cast=True)(counts)


def refine(
    rotation: Array,
    translation: Array,
    pixels: Array,
    scene_points: Array,
    focal_px: Array,
    center_px: Array,
    weights: Array,
    threshold_px: float | int,
    iterations: int,
) -> tuple[Array, Array, Array, Array]:
    """Poses of least Σ w_i ρ(e_i), ρ(e) = e²τ²/(e² + τ²); inliers (B, K, N), normal matrices (B, K, 6, 6)."""
    rows = Rows(rotation, translation, pixels, scene_points, focal_px, center_px, weights)
    size, selected = rows.poses.shape[:2]
    inliers = np.empty((size, selected, rows.points.shape[-1]), np.bool_)
    matrices = np.empty((size, selected, 6, 6))
    for b in range(size):
        poses.refine_poses(*rows[b], float(threshold_px), int(iterations), inliers[b], matrices[b])
    kind = like(scene_points, cast=True)
    found = rows.uncentred_poses()
    return kind(found[..., :3]), kind(found[..., 3]), like(scene_points)(inliers), kind(matrices)


def pose_trust(
    rotation: Array,
    translation: Array,
    pixels: Array,
    scene_points: Array,
    focal_px: Array,
    center_px: Array,
    weights: Array,
    threshold_px: float | int,
    iterations: int,
    chance: float,
    rules: tuple,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Poses (B, 1, 3, 3), (B, 1, 3) after at most so many iterations of `refine`, and how far to trust them.

    Rotations (B, 3, 3), translations (B, 3), covariance (B, 6, 6) of the increment from the left, rad² and m²,
    infinite on the diagonal where it is unknown, inliers (B, N), confidence (B,), success (B,). `rules` are a
    `TrustRules`, `chance` is the probability that a point of a wrong pose is an inlier.
    """
    rows = Rows(rotation, translation, pixels, scene_points, focal_px, center_px, weights)
    size, count = len(rows.points), rows.points.shape[-1]
    covariance, inliers = np.empty((size, 6, 6)), np.empty((size, count), np.bool_)
    confidence, success = np.empty(size), np.empty(size, np.bool_)
    for b in range(size):
        confidence[b], success[b] = trust.pose_trust(
            *rows[b], float(threshold_px), int(iterations), chance, rules, inliers[b : b + 1], covariance[b]
        )
    kind, same = like(scene_points, cast=True), like(scene_points)
    found = rows.uncentred_poses()[:, 0]
    return (
        kind(found[..., :3]),
        kind(found[..., 3]),
        kind(covariance),
        same(inliers),
        kind(confidence),
        same(success),
    )


# ---- gradients ---------------------------------------------------------------------------------------


def soft_inlier_count_gradient(
    rotation: Array,
    translation: Array,
    pixels: Array,
    scene_points: Array,
    focal_px: Array,
    center_px: Array,
    weights: Array,
    threshold_px: float | int,
    max_error_px: float | int,
    cotangent: Array,
) -> tuple[Array, Array, Array, Array]:
    """What a cotangent (B, H) of `soft_inlier_count` gives rotation, translation, scene points and weights."""
    rows = Rows(rotation, translation, pixels, scene_points, focal_px, center_px, weights)
    scores = real_array(cotangent, rows.dtype)
    grad_poses = np.empty_like(rows.poses)
    grad_points, grad_weights = np.zeros_like(rows.points[:, :3]), np.zeros_like(rows.weights)
    for b in range(len(scores)):
        backward.soft_counts_gradient(
            *rows[b], float(threshold_px), float(max_error_px), scores[b],
            grad_poses[b], grad_points[b], grad_weights[b],
        )  # fmt: skip
    # the sums Σ f Yᵀ were about the centre of the points
    grad_poses[..., :3] += grad_poses[..., 3:] * rows.shift[:, None, None, :]
    kind = like(scene_points, cast=True)
    return (
        kind(grad_poses[..., :3]),
        kind(grad_poses[..., 3]),
        kind(grad_points.swapaxes(1, 2)),
        kind(grad_weights),
    )


def refine_gradient(
    rotation: Array,
    translation: Array,
    pixels: Array,
    scene_points: Array,
    focal_px: Array,
    center_px: Array,
    weights: Array,
    threshold_px: float | int,
    cotangent: Array,
) -> tuple[Array, Array, Array]:
    """What a cotangent (B, K, 6) of the increments of refined poses gives scene points and weights.

    The poses are what `refine` returned. By the implicit function theorem, with the full second derivative. The
    third result (B, K) says which poses their points determine; the others pass nothing.
    """
    rows = Rows(rotation, translation, pixels, scene_points, focal_px, center_px, weights)
    pulls = real_array(cotangent, np.float64)
    grad_points, grad_weights = np.zeros_like(rows.points[:, :3]), np.zeros_like(rows.weights)
    determined = np.empty(pulls.shape[:2], np.bool_)
    for b in range(len(pulls)):
        backward.refinement_gradient(
            *rows[b], float(threshold_px), pulls[b], grad_points[b], grad_weights[b], determined[b]
        )
    kind = like(scene_points, cast=True)
    return kind(grad_points.swapaxes(1, 2)), kind(grad_weights), like(scene_points)(determined)


def optimum_increment(
    rotation: torch.Tensor,
    translation: torch.Tensor,
    pixels: torch.Tensor,
    scene_points: torch.Tensor,
    focal_px: torch.Tensor,
    center_px: torch.Tensor,
    weights: torch.Tensor,
    threshold_px: float | int,
) -> torch.Tensor:
    """Zero increments (B, K, 6) of poses from `refine`, with their derivative by points and weights."""
    return _OptimumIncrement.apply(
        rotation, translation, pixels, scene_points, focal_px, center_px, weights, threshold_px
    )


class _SoftInlierCount(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        ctx.save_for_backward(*arguments[:7])
        ctx.bounds = arguments[7:]
        return soft_inlier_count(*arguments)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        arguments = (*ctx.saved_tensors, *ctx.bounds, cotangent)
        rotation, translation, points, weights = soft_inlier_count_gradient(*arguments)
        return rotation, translation, None, points, None, None, weights, None, None


class _OptimumIncrement(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        ctx.save_for_backward(*arguments[:7])
        ctx.bounds = arguments[7:]
        return arguments[1].new_zeros(*arguments[1].shape[:2], 6)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        arguments = (*ctx.saved_tensors, *ctx.bounds, cotangent)
        points, weights, _ = refine_gradient(*arguments)
        return None, None, None, points, None, None, weights, None
