"""Pose and focal length together: exact without noise, honest with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dsac.geometry import Camera, Pose
from dsac.ransac import Correspondences, FocalFit, fit_focal, refocused

CAMERA = Camera.simple(500, (640, 480))


def _rows(pose: Pose, noise_px: float, outliers: int, generator: torch.Generator, count: int = 150):
    uniform = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    rays = CAMERA.unproject(uniform * torch.tensor(CAMERA.size))
    points = pose.inverse() @ (rays * (1.5 + 2.5 * torch.rand(count, 1, generator=generator).double()))
    pixels = CAMERA.project(pose @ points)
    pixels += noise_px * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    pixels[:outliers] += 80 * torch.randn(outliers, 2, generator=generator, dtype=torch.float64)
    return pixels[None], points[None]


def _pose(generator: torch.Generator, size: float = 0.3) -> Pose:
    return Pose.exp(size * torch.randn(6, generator=generator, dtype=torch.float64))


def _fit(rows, start: Pose, factor: float = 1.0) -> FocalFit:
    pixels, points = rows
    return fit_focal(Correspondences(pixels, points, refocused(CAMERA, factor)[None]), start, threshold_px=4.0)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.2])
def test_without_noise_both_are_exact(factor: float) -> None:
    generator = torch.Generator().manual_seed(1)
    pose = _pose(generator)
    fit = _fit(_rows(pose, 0.0, 0, generator), _pose(generator, 0.02) @ pose, factor)
    assert fit.success and fit.inliers.all()
    assert math.isclose(fit.factor * factor, 1.0, abs_tol=1e-6)
    assert fit.cam_from_world.center_distance(pose) < 1e-6


def test_what_it_states_of_its_errors_is_true() -> None:
    generator = torch.Generator().manual_seed(2)
    squares, of_focal = [], []
    for _ in range(150):
        pose = _pose(generator)
        fit = _fit(_rows(pose, 0.7, 20, generator), _pose(generator, 0.02) @ pose, 1.05)
        error = (pose @ fit.cam_from_world.inverse()).log().numpy()
        squares.append(error @ np.linalg.solve(fit.covariance[:6, :6], error))
        of_focal.append((fit.log_factor + math.log(1.05)) / fit.log_sigma)
    assert 4.5 < np.mean(squares) < 8.0  # six on average
    assert 0.7 < np.std(of_focal) < 1.25


def test_what_was_known_before_counts_by_its_standard_deviation() -> None:
    generator = torch.Generator().manual_seed(3)
    pose = _pose(generator)
    rows = _rows(pose, 0.7, 0, generator)
    fit = _fit(rows, pose, 1.1)
    same, fixed = fit.given(0.0, math.inf), fit.given(0.0, 1e-9)
    assert same.log_factor == fit.log_factor and np.allclose(same.covariance, fit.covariance)
    # as if only the pose had been solved, with the focal length as it was given
    assert abs(fixed.log_factor) < 1e-9 and fixed.log_sigma < 1e-8
    assert fixed.cam_from_world.center_distance(pose) > 5 * fit.cam_from_world.center_distance(pose)
    half = fit.given(0.0, fit.log_sigma)
    assert math.isclose(half.log_factor, fit.log_factor / 2) and half.log_sigma < fit.log_sigma
    assert math.isclose(fit.given(fit.log_factor, 0.01).log_factor, fit.log_factor)
    loose = fit.given(0.0, math.inf, slack=2.0)
    assert math.isclose(loose.log_sigma, 2 * fit.log_sigma)
    assert np.linalg.eigvalsh(loose.covariance - fit.covariance)[0] > -1e-12


def test_points_that_do_not_determine_it_are_no_success() -> None:
    generator = torch.Generator().manual_seed(4)
    pose = Pose.identity(dtype=torch.float64)
    few = _rows(pose, 0.0, 0, generator, count=8)
    assert not _fit(few, pose).success
    pixels = CAMERA.size[0] * torch.rand(100, 2, generator=generator, dtype=torch.float64)
    wall = pixels[None], 2.0 * CAMERA.unproject(pixels)[None]  # seen straight: a step and a zoom are the same
    fit = _fit(wall, pose)
    assert not fit.success or fit.log_sigma > 0.1
