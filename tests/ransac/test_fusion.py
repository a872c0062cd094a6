"""Two estimates of one pose: each counts as far as it is sure, and a contradiction is said."""

from __future__ import annotations

import torch

from dsac.geometry import Pose
from dsac.ransac import PoseEstimate, fused

START = Pose.exp(torch.tensor([[0.3, -0.2, 0.5, 1.0, 2.0, -0.5]], dtype=torch.float64))


def _estimate(increment: list[float], sigmas: list[float], confidence: float = 0.9) -> PoseEstimate:
    pose = Pose.exp(torch.tensor([increment], dtype=torch.float64)) @ START
    covariance = torch.diag(torch.tensor(sigmas, dtype=torch.float64).square())[None]
    yes = torch.ones(1, dtype=torch.bool)
    return PoseEstimate(pose, covariance, yes[:, None], torch.tensor([confidence]).double(), yes)


def test_along_each_direction_the_surer_estimate_counts_more() -> None:
    one = _estimate([0.0] * 6, [0.001, 0.001, 0.001, 0.1, 0.01, 0.02], 0.6)
    other = _estimate([0, 0, 0, 0.04, 0.01, 0.003], [0.1, 0.1, 0.1, 0.01, 0.01, 0.2])
    both = fused(one, other)
    step = (both.cam_from_world @ START.inverse()).log()[0]
    expected = [0, 0, 0, 0.04 * 100 / 101, 0.005, 0.003 / 101]
    assert torch.allclose(step, torch.tensor(expected, dtype=torch.float64), atol=1e-9)
    sigmas = both.covariance.diagonal(dim1=-2, dim2=-1).sqrt()[0, 3:]
    expected = torch.tensor([0.1, 0.01, 0.02]) / torch.tensor([101, 2, 1.01]).sqrt()
    assert torch.allclose(sigmas.float(), expected, rtol=1e-3)
    assert abs(both.confidence.item() - 0.9) < 1e-6 and both.success.all()


def test_it_does_not_matter_which_is_the_first() -> None:
    one, other = _estimate([0.0] * 6, [0.01] * 6), _estimate([0.002, 0, 0.004, 0.01, 0, 0.003], [0.02] * 6)
    a, b = fused(one, other).cam_from_world, fused(other, one).cam_from_world
    assert a.center_distance(b).item() < 1e-5 and a.rotation_error_deg(b).item() < 1e-3


def test_estimates_that_contradict_each_other_are_less_sure() -> None:
    sigmas = [0.001] * 3 + [0.01] * 3
    agreeing = fused(_estimate([0.0] * 6, sigmas), _estimate([0, 0, 0, 0.005, 0, 0], sigmas))
    apart = fused(_estimate([0.0] * 6, sigmas), _estimate([0, 0, 0, 0.3, 0, 0], sigmas))
    assert torch.allclose(agreeing.position_sigma_m, torch.tensor(0.01 * (3 / 2) ** 0.5).double())
    # half of the way between them is explained by what is said now
    assert 0.05 < apart.position_sigma_m.item() < 0.3
