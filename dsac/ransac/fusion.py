"""One pose of two estimates that rest on different measurements: each counts as far as it is sure.

With information I = C⁻¹ of each and the second's increment d₂ from the first, the likeliest increment is
(I₁ + I₂)⁻¹ I₂ d₂. Where the two lie farther apart than they say, χ² = d₂ᵀ (C₁ + C₂)⁻¹ d₂ above its six degrees
of freedom, the result is so much less sure (Birge, 1932).
"""

from __future__ import annotations

from dataclasses import replace

import torch

from dsac.geometry import Pose
from dsac.ransac.types import PoseEstimate


def fused(first: PoseEstimate, second: PoseEstimate) -> PoseEstimate:
    """Poses of the same photos, all of which both know; inliers are the first's, confidence the higher one."""
    pose = first.cam_from_world.to(torch.float64)
    apart = (second.cam_from_world.to(torch.float64) @ pose.inverse()).log()[..., None]
    covariances = first.covariance.double(), second.covariance.double()
    weights = [torch.linalg.inv(covariance) for covariance in covariances]
    covariance = torch.linalg.inv(weights[0] + weights[1])
    step = covariance @ (weights[1] @ apart)
    square = apart.mT @ torch.linalg.solve(covariances[0] + covariances[1], apart)
    return replace(
        first,
        cam_from_world=(Pose.exp(step[..., 0]) @ pose).to(first.covariance),
        covariance=(covariance * (square / 6).clamp_min(1.0)).to(first.covariance),
        confidence=torch.maximum(first.confidence, second.confidence),
    )
