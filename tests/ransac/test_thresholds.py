"""Errors are cut at a largest one; thresholds lie below it, and what is cut counts nowhere as near."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from dsac.ransac import DenseSolver, PointDistance, PoseSolver, ReprojectionError, RobustRefinement


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ReprojectionError(10.0, 10.0),
            "max_error_px: expected more than threshold_px = 10.0, got 10.0",
        ),
        (lambda: ReprojectionError(150.0, 100.0), "max_error_px: expected more than threshold_px = 150.0"),
        (lambda: PointDistance(1.1, 1.0), "max_error_m: expected more than threshold_m = 1.1, got 1.0"),
        (
            lambda: replace(PoseSolver.rgb(), residual=_Capped()),
            "max_error: expected more than threshold = 2.0",
        ),
    ],
)
def test_a_largest_error_within_the_threshold_is_refused(make: Callable[[], object], message: str) -> None:
    """Errors are cut at the largest: below the threshold, everything would be an inlier."""
    with pytest.raises(ValueError, match=message):
        make()


class _Capped:
    """A caller's own residual, of anything."""

    threshold, max_error = 2.0, 1.0

    def sanitise(self, correspondences):
        return correspondences

    def errors(self, cam_from_world, correspondences):
        raise NotImplementedError


def test_the_largest_error_is_ten_thresholds() -> None:
    assert ReprojectionError(20).max_error == 200 and ReprojectionError().max_error == 100.0
    assert PointDistance(1.5).max_error == 15.0 and PointDistance().max_error == 1.0
    assert ReprojectionError(20, 30).max_error == 30


@pytest.mark.parametrize(
    "solver",
    [
        DenseSolver.rgbd(1.1),
        PoseSolver.rgbd(threshold_m=1.1, backend="reference"),
        DenseSolver.rgb(150, backend="reference"),
        PoseSolver.rgb(threshold_px=150),
    ],
    ids=["rgbd", "rgbd, staged", "rgb", "rgb, staged"],
)
def test_wide_thresholds_do_not_make_noise_a_success(solver, make_scene):
    correspondences, truth = make_scene(dtype=torch.float32, depth=True)
    generator = torch.Generator().manual_seed(1)
    noise = 5 * torch.randn(correspondences.scene_points.shape, generator=generator)
    noisy = replace(correspondences, scene_points=noise)
    estimate = solver(noisy)
    assert not estimate.success.any()
    assert estimate.num_inliers.max() < 0.7 * 240
    far = truth.center + 1000.0
    cam_from_far = replace(truth, translation=-(truth.rotation @ far[..., None])[..., 0])
    assert not solver.inliers(cam_from_far, noisy).any()


def test_points_at_the_largest_error_are_not_drawn_for_the_refinement(make_scene):
    """The maximum may lie below the three thresholds within which they are drawn."""
    correspondences, truth = make_scene(inlier_ratio=0.3)
    clean = correspondences.sanitised()
    poses = []
    for most in (20.0, None):
        refinement = RobustRefinement(ReprojectionError(10.0, most), max_points=100)
        poses.append(refinement(truth[:, None], clean, torch.Generator().manual_seed(0)))
    assert poses[0].center_distance(poses[1]).max() < 1e-3
    assert poses[0].center_distance(truth[:, None]).max() < 0.01
