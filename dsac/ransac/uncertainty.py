"""How far a pose can be trusted: its covariance, and a confidence in [0, 1].

The covariance of a robust least squares estimate with normal matrix A = Σ u_i J_iᵀJ_i, u = w ρ', is for
residuals of d independent components (2 pixels, 3 metres) with spread independent of J

    Σ = v A⁻¹,     v = (Σu) · (Σ u² s/d) / (Σ w (ρ' + 2 ρ'' s/d))²

(the sandwich of M-estimation; without the robust weights v is the residual variance). It assumes independent
errors: predictions that are wrong together make it too small.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dsac.geometry import Pose
from dsac.ransac.residuals import Residual
from dsac.ransac.types import Correspondences

HALF_TRUST_DISTANCE = 0.05  # of the median depth: a centre as uncertain as this halves the confidence
HALF_TRUST_ANGLE = 0.09  # radians, 5°
CHANCE_FACTOR = 5.0  # times the inliers of chance: that excess gives half the confidence


def covariance_from_information(
    information: Float[Tensor, "B 6 6"],
    cam_from_world: Pose,  # batch (B,)
    residual: Residual,
    correspondences: Correspondences,
) -> Float[Tensor, "B 6 6"]:
    """Covariance of the increment; infinite on the diagonal where the points do not determine the pose."""
    assert correspondences.weights is not None
    errors = residual.errors(cam_from_world[:, None], correspondences)[:, 0].double()
    # what sits at the bound is behind the camera or hopeless; it weighs nothing
    weights = torch.where(errors < residual.max_error, correspondences.weights.double(), 0.0)
    components = residual.targets(correspondences).shape[-1]
    square = errors.square()
    kept = residual.threshold**2 / (residual.threshold**2 + square)
    pull = weights * kept**2
    stiffness = (pull * (1 - 4 * (1 - kept) / components)).sum(-1)
    scatter = (pull.square() * square / components).sum(-1)
    variance = pull.sum(-1) * scatter / stiffness.square().clamp_min(1e-30)

    inverse, determined = inverse_information(information.double())
    determined = determined & (stiffness > 0)
    covariance = inverse * variance[:, None, None]
    unknown = torch.diag_embed(torch.full_like(covariance[..., 0], torch.inf))
    return torch.where(determined[:, None, None], covariance, unknown).to(information.dtype)


def inverse_information(
    information: Float[Tensor, "B 6 6"],
) -> tuple[Float[Tensor, "B 6 6"], Bool[Tensor, " B"]]:
    """Inverse of a positive definite matrix, and where it is one (condition of the scaled one below 1e9)."""
    diagonal = information.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).rsqrt()
    values, vectors = torch.linalg.eigh(information * scale[..., None] * scale[..., None, :])
    determined = values[..., 0] > 1e-9 * values[..., -1].clamp_min(1e-30)
    inverse = (vectors / torch.where(determined[:, None], values, 1.0)[:, None, :]) @ vectors.mT
    return inverse * scale[..., None] * scale[..., None, :], determined


def chance_inliers(residual: Residual, correspondences: Correspondences) -> Float[Tensor, " B"]:
    """Inliers that a wrong pose can expect: its minimal set of four, and of the others by chance."""
    assert correspondences.weights is not None
    count = (correspondences.weights > 0).sum(-1)
    return 4 + count * residual.chance(correspondences)


def confidence(
    inliers: Bool[Tensor, "B N"],
    covariance: Float[Tensor, "B 6 6"],
    cam_from_world: Pose,  # batch (B,)
    residual: Residual,
    correspondences: Correspondences,
) -> Float[Tensor, " B"]:
    """In [0, 1]: rises with the inliers in excess of chance, falls with the pose's standard deviation.

    With n inliers, n0 by chance and x = max(n - n0, 0) / (5 n0), and with standard deviations σ_r of the
    rotation and σ_t of the translation against the median depth z of the inliers:

        x²/(1 + x²) · 1/(1 + (σ_r / 5°)² + (σ_t / 0.05 z)²)
    """
    expected = chance_inliers(residual, correspondences)
    excess = (inliers.sum(-1) - expected).clamp_min(0) / (CHANCE_FACTOR * expected)
    depth = (cam_from_world @ correspondences.scene_points)[..., 2]
    depth = torch.where(inliers, depth, torch.nan).nanmedian(-1).values.nan_to_num(1.0)
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    spread = variance[..., :3].sum(-1) / HALF_TRUST_ANGLE**2
    spread = spread + variance[..., 3:].sum(-1) / (HALF_TRUST_DISTANCE * depth).square().clamp_min(1e-30)
    return (excess.square() / (1 + excess.square()) / (1 + spread)).to(covariance.dtype)
