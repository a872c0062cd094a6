"""The functions of `reference.py` by the same names, on the CPU, and their gradients in closed form.

Arrays are torch CPU tensors or numpy arrays; what comes out is of the kind and the floating dtype of the
scene points, and the loops compute in it, too. The first call of a process loads the compiled code from Numba's
cache.

Raises: `ValueError` for arrays whose shapes or types do not go together, and for options without meaning.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from dsac.kernels.arrays import (
    Array,
    PosedRows,
    check_array,
    check_count,
    check_positive,
    leading_axes,
    like,
    numpy_array,
)
from dsac.kernels.twins import backward, poses, trust
from dsac.kernels.twins.rows import Rows


def p3p(bearings: Array, points: Array) -> tuple[Array, Array, Array]:
    """Rotations (M, 4, 3, 3), translations (M, 4, 3), which exist (M, 4), of bearings and points (M, 3, 3)."""
    size, _ = leading_axes("points", points, "(M, 3, 3)")
    arrays = numpy_array(bearings), numpy_array(points)
    for name, array in zip(("bearings", "points"), arrays, strict=True):
        check_array(name, array, (size, 3, 3))
    rotations, translations = np.empty((size, 4, 3, 3)), np.empty((size, 4, 3))
    valid = np.empty((size, 4), np.bool_)
    sets = (np.ascontiguousarray(x, np.float64) for x in arrays)
    poses.p3p_sets(*sets, rotations, translations, valid)
    kind = like(points, cast=True)
    return kind(rotations), kind(translations), like(points)(valid)


def reprojection_error(posed: PosedRows, max_error_px: float | int) -> Array:
    """Errors (B, H, N) in pixels; weights do not matter."""
    check_positive("max_error_px", max_error_px)
    rows = Rows(posed)
    errors = np.empty((*rows.poses.shape[:2], rows.points.shape[-1]), rows.dtype)
    for b in range(len(errors)):
        poses.reprojection_errors(rows.poses[b], rows.points[b], rows.focal[b], float(max_error_px), errors[b])
    return like(posed.scene_points, cast=True)(errors)


def soft_inlier_count(posed: PosedRows, threshold_px: float | int, max_error_px: float | int) -> Array:
    """Σ_i w_i sigmoid(β (τ - e_i)) (B, H) with β = 5/τ.

    Tensors are differentiable once, in all arguments but pixels and camera.
    """
    check_positive("threshold_px", threshold_px)
    check_positive("max_error_px", max_error_px)
    differentiable = (posed.rotation, posed.translation, posed.scene_points, posed.weights)
    if torch.is_grad_enabled() and any(getattr(array, "requires_grad", False) for array in differentiable):
        return _SoftInlierCount.apply(threshold_px, max_error_px, *_tensors(posed))
    return _counted(posed, threshold_px, max_error_px)


def _counted(posed: PosedRows, threshold_px: float | int, max_error_px: float | int) -> Array:
    rows = Rows(posed)
    counts = np.empty(rows.poses.shape[:2], rows.dtype)
    for b in range(len(counts)):
        poses.soft_counts(*rows[b], float(threshold_px), float(max_error_px), counts[b])
    return like(posed.scene_points, cast=True)(counts)


def refine(posed: PosedRows, threshold_px: float | int, iterations: int) -> tuple[Array, Array, Array, Array]:
    """Poses of least Σ w_i ρ(e_i), ρ(e) = e²τ²/(e² + τ²).

    Rotations (B, K, 3, 3), translations (B, K, 3), inliers (B, K, N), normal matrices (B, K, 6, 6).
    """
    check_positive("threshold_px", threshold_px)
    check_count("iterations", iterations)
    rows = Rows(posed)
    size, selected = rows.poses.shape[:2]
    inliers = np.empty((size, selected, rows.points.shape[-1]), np.bool_)
    matrices = np.empty((size, selected, 6, 6))
    for b in range(size):
        poses.refine_poses(*rows[b], float(threshold_px), int(iterations), inliers[b], matrices[b])
    kind = like(posed.scene_points, cast=True)
    found = rows.uncentred_poses()
    return kind(found[..., :3]), kind(found[..., 3]), like(posed.scene_points)(inliers), kind(matrices)


def pose_trust(
    posed: PosedRows, threshold_px: float | int, iterations: int, chance: float, rules: Any
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Poses, one an image, after at most so many iterations of `refine`, and how far to trust them.

    Rotations (B, 3, 3), translations (B, 3), covariance (B, 6, 6) of the increment from the left, rad² and m²,
    infinite on the diagonal where it is unknown, inliers (B, N), confidence (B,), success (B,). `rules` are a
    `TrustRules`, `chance` is the probability that a point of a wrong pose is an inlier.
    """
    check_positive("threshold_px", threshold_px)
    check_count("iterations", iterations)
    check_count("rules.tiles", rules.tiles, least=1)
    if not 0 <= chance <= 1:
        raise ValueError(f"chance: expected 0 to 1, got {chance}")
    rows = Rows(posed, poses=1)
    size, count = len(rows.points), rows.points.shape[-1]
    covariance, inliers = np.empty((size, 6, 6)), np.empty((size, count), np.bool_)
    confidence, success = np.empty(size), np.empty(size, np.bool_)
    for b in range(size):
        confidence[b], success[b] = trust.pose_trust(
            *rows[b], float(threshold_px), int(iterations), chance, rules, inliers[b : b + 1], covariance[b]
        )
    kind, same = like(posed.scene_points, cast=True), like(posed.scene_points)
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
    posed: PosedRows, threshold_px: float | int, max_error_px: float | int, cotangent: Array
) -> tuple[Array, Array, Array, Array]:
    """What a cotangent (B, H) of `soft_inlier_count` gives rotation, translation, scene points and weights."""
    check_positive("threshold_px", threshold_px)
    check_positive("max_error_px", max_error_px)
    rows = Rows(posed)
    check_array("cotangent", cotangent, rows.poses.shape[:2])
    scores = np.ascontiguousarray(numpy_array(cotangent), rows.dtype)
    grad_poses = np.empty_like(rows.poses)
    grad_points, grad_weights = np.zeros_like(rows.points[:, :3]), np.zeros_like(rows.weights)
    for b in range(len(scores)):
        backward.soft_counts_gradient(
            *rows[b], float(threshold_px), float(max_error_px), scores[b],
            grad_poses[b], grad_points[b], grad_weights[b],
        )  # fmt: skip
    # the sums Σ f Yᵀ were about the centre of the points
    grad_poses[..., :3] += grad_poses[..., 3:] * rows.shift[:, None, None, :]
    kind = like(posed.scene_points, cast=True)
    return (
        kind(grad_poses[..., :3]),
        kind(grad_poses[..., 3]),
        kind(grad_points.swapaxes(1, 2)),
        kind(grad_weights),
    )


def refine_gradient(
    posed: PosedRows, threshold_px: float | int, cotangent: Array
) -> tuple[Array, Array, Array]:
    """What a cotangent (B, K, 6) of the increments of refined poses gives scene points and weights.

    The poses are what `refine` returned. By the implicit function theorem, with the full second derivative. The
    third result (B, K) says which poses their points determine; the others pass nothing.
    """
    check_positive("threshold_px", threshold_px)
    rows = Rows(posed)
    check_array("cotangent", cotangent, (*rows.poses.shape[:2], 6))
    pulls = np.ascontiguousarray(numpy_array(cotangent), np.float64)
    grad_points, grad_weights = np.zeros_like(rows.points[:, :3]), np.zeros_like(rows.weights)
    determined = np.empty(pulls.shape[:2], np.bool_)
    for b in range(len(pulls)):
        backward.refinement_gradient(
            *rows[b], float(threshold_px), pulls[b], grad_points[b], grad_weights[b], determined[b]
        )
    kind = like(posed.scene_points, cast=True)
    return kind(grad_points.swapaxes(1, 2)), kind(grad_weights), like(posed.scene_points)(determined)


def optimum_increment(posed: PosedRows, threshold_px: float | int) -> torch.Tensor:
    """Zero increments (B, K, 6) of poses from `refine`, with their derivative by points and weights."""
    posed.check()
    check_positive("threshold_px", threshold_px)
    return _OptimumIncrement.apply(threshold_px, *_tensors(posed))


def _tensors(posed: PosedRows) -> PosedRows:
    return PosedRows(*(None if x is None else torch.as_tensor(x) for x in posed))


class _SoftInlierCount(torch.autograd.Function):
    @staticmethod
    def forward(ctx, threshold_px, max_error_px, *arrays):
        ctx.save_for_backward(*arrays)
        ctx.bounds = threshold_px, max_error_px
        return _counted(PosedRows(*arrays), threshold_px, max_error_px)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        posed = PosedRows(*ctx.saved_tensors)
        threshold_px, max_error_px = ctx.bounds
        gradients = soft_inlier_count_gradient(posed, threshold_px, max_error_px, cotangent)
        rotation, translation, points, weights = gradients
        weights = None if posed.weights is None else weights
        return None, None, rotation, translation, None, points, None, None, weights


class _OptimumIncrement(torch.autograd.Function):
    @staticmethod
    def forward(ctx, threshold_px, *arrays):
        ctx.save_for_backward(*arrays)
        ctx.threshold_px = threshold_px
        translation = PosedRows(*arrays).translation
        return translation.new_zeros(*translation.shape[:2], 6)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        posed = PosedRows(*ctx.saved_tensors)
        points, weights, _ = refine_gradient(posed, ctx.threshold_px, cotangent)
        weights = None if posed.weights is None else weights
        return None, None, None, None, points, None, None, weights
