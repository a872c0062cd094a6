"""Gradients of a pose at the optimum of its cost, by the implicit function theorem.

A solver without autograd has found the pose θ at which the cost Σ_i w_i ρ(s_i) is least, s_i the squared
residual of point Y_i. There the gradient g(θ, Y) of the cost by an increment of the pose vanishes, and stays
zero when Y moves, so

    dθ/dY = -G⁻¹ ∂g/∂Y        with G = ∂g/∂θ.

A pose that is applied the increment -G⁻¹ g(θ, Y), with θ and G held fixed and only g seen by autograd, has
exactly this derivative: one differentiable Newton step at the optimum. A minimal set is the same with three
points whose residuals are zero, Kabsch the same with residuals in metres.

With q = Jᵀr the pull of a residual on its point X = R Y + t in the camera, f = w ρ' q and S the second
derivative of the cost of a point by X,

    g = Σ (X × f, f)      G = Σ MᵀSM - ([f], 0)ᵀ M      M = (-[X], 1)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dsac.geometry import Pose, skew
from dsac.ransac.residual import PoseResidual
from dsac.ransac.types import Correspondences

# Smallest against largest eigenvalue of G, its diagonal scaled to one, below which a pose counts as not
# determined by its points and passes no gradient. Computed in float64, where rounding is at 1e-16.
_MIN_EIGENVALUE = 1e-9


def implicit_pose(
    cam_from_world: Pose,  # batch (B, K), at the optimum
    residual: PoseResidual,
    scene_points: Float[Tensor, "B #K n 3"],
    targets: Float[Tensor, "B #K n t"],
    weights: Float[Tensor, "B #K n"],
    like: Correspondences,
    *,
    robust: bool = True,
    gauss_newton: bool = False,
) -> tuple[Pose, Bool[Tensor, "B K"]]:
    """The same poses with their derivative by scene points, targets and weights, and which have one.

    `robust=False` takes ρ(s) = s. `gauss_newton` leaves out the curvature of residual and robust cost
    (exact only where all residuals are zero). Where G is singular or no minimum the gradient is zero.
    """
    pose = cam_from_world.detach().to(torch.float64)
    balance = force_balance(
        pose, residual, scene_points, targets, weights, like, robust=robust, gauss_newton=gauss_newton
    )
    with torch.no_grad():
        inverse, determined = guarded_inverse(balance.matrix)
    increment = -(inverse @ balance.gradients.sum(-2)[..., None])[..., 0]
    moved = Pose.exp(increment - increment.detach()) @ pose
    return moved.to(cam_from_world.translation.dtype), determined


@dataclass(frozen=True, eq=False)
class ForceBalance:
    """The gradient g = Σ g_i of the cost by an increment, point by point, and its own derivative G."""

    gradients: Float[Tensor, "B K n 6"]  # g_i = (X × f, f)
    matrix: Float[Tensor, "B K 6 6"]  # no gradient


def force_balance(
    pose: Pose,  # batch (B, K), float64
    residual: PoseResidual,
    scene_points: Float[Tensor, "B #K n 3"],
    targets: Float[Tensor, "B #K n t"],
    weights: Float[Tensor, "B #K n"],
    like: Correspondences,
    *,
    robust: bool = True,
    gauss_newton: bool = False,
) -> ForceBalance:
    """g and G at any pose, in float64."""
    points_cam = pose @ scene_points.double()
    local = residual.expand(points_cam, targets.double(), like)
    weights = torch.where(local.defined, weights.double(), 0.0)
    slope, curvature = _robust_derivatives(local.square, float(residual.threshold), robust)

    if gauss_newton:
        arm, force = points_cam.detach(), (weights * slope).detach()[..., None] * local.frozen_force
    else:
        arm, force = points_cam, (weights * slope)[..., None] * local.force
    with torch.no_grad():
        second = slope[..., None, None] * local.stiffness
        if not gauss_newton:
            outer = local.force[..., :, None] * local.force[..., None, :]
            second = second + slope[..., None, None] * local.bending + 2 * curvature[..., None, None] * outer
        matrix = second_derivative(points_cam, weights[..., None, None] * second)
        if not gauss_newton:
            matrix[..., :3, :] -= _turning_forces(points_cam, force)
    return ForceBalance(torch.cat([torch.linalg.cross(arm, force), force], dim=-1), matrix)


def where_pose(condition: Bool[Tensor, "*batch"], chosen: Pose, otherwise: Pose) -> Pose:
    """`torch.where` for poses."""
    return Pose(
        torch.where(condition[..., None, None], chosen.rotation, otherwise.rotation),
        torch.where(condition[..., None], chosen.translation, otherwise.translation),
    )


def _robust_derivatives(square: Tensor, threshold: float, robust: bool) -> tuple[Tensor, Tensor]:
    """ρ' and ρ'' by s of ρ = s τ²/(s + τ²), or of ρ = s."""
    if not robust:
        return torch.ones_like(square), torch.zeros_like(square)
    kept = threshold**2 / (threshold**2 + square)
    return kept**2, -2 * kept**3 / threshold**2


def second_derivative(
    points_cam: Float[Tensor, "*batch n 3"], second: Float[Tensor, "*batch n 3 3"]
) -> Float[Tensor, "*batch 6 6"]:
    """Σ MᵀSM with M = (-[X], 1), how a point moves with the increment of its pose."""
    eye = torch.eye(3, dtype=points_cam.dtype, device=points_cam.device).expand(*points_cam.shape, 3)
    moves = torch.cat([-skew(points_cam), eye], dim=-1)  # (B, K, n, 3, 6)
    # products of 3x3 matrices one by one are slow; three scaled copies, then one product over all points
    pulled = sum((second[..., :, i, None] * moves[..., i, None, :] for i in range(3)), torch.zeros_like(moves))
    return moves.flatten(-3, -2).mT @ pulled.flatten(-3, -2)


def _turning_forces(
    points_cam: Float[Tensor, "B K n 3"], force: Float[Tensor, "B K n 3"]
) -> Float[Tensor, "B K 3 6"]:
    """Σ [f] M = (Σ (f·X) 1 - X fᵀ, [Σ f])."""
    eye = torch.eye(3, dtype=force.dtype, device=force.device)
    power = (force * points_cam).sum((-2, -1))[..., None, None]
    return torch.cat([power * eye - points_cam.mT @ force, skew(force.sum(-2))], dim=-1)


def guarded_inverse(
    matrix: Float[Tensor, "*batch 6 6"],
) -> tuple[Float[Tensor, "*batch 6 6"], Bool[Tensor, "*batch"]]:
    """Inverse of the symmetric part, zero where it is not safely positive definite, and where it is."""
    symmetric = torch.nan_to_num(0.5 * (matrix + matrix.mT), nan=0.0, posinf=0.0, neginf=0.0)
    diagonal = symmetric.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).rsqrt()
    values, vectors = torch.linalg.eigh(symmetric * scale[..., None] * scale[..., None, :])
    determined = values[..., 0] > _MIN_EIGENVALUE * values[..., -1].clamp_min(1e-300)
    reciprocal = torch.where(determined[..., None], 1 / torch.where(values > 0, values, 1.0), 0.0)
    inverse = (vectors * reciprocal[..., None, :]) @ vectors.mT
    return inverse * scale[..., None] * scale[..., None, :], determined
