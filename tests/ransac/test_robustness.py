"""Whatever comes in, the answer is finite: a pose, or that there is none, and gradients without NaN."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsac.geometry import Pose
from dsac.ransac import DSAC, Argmax, Correspondences, DenseSolver, PoseSolver, WeightedError

# `make_scene` is a function without state, so examples may share it
_FUZZ = settings(max_examples=14, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HOPELESS = ("line", "point", "wrong", "one right", "no weight", "not finite")


def _spoilt(make_scene, kind: str, seed: int, dtype: torch.dtype) -> tuple[Correspondences, Pose]:
    """An image whose points do not determine a pose."""
    right = kind in ("behind", "one right", "no weight", "not finite")
    correspondences, truth = make_scene(
        inlier_ratio=1.0 if right else 0.0, noise_m=0.0, seed=seed, depth=True, dtype=dtype
    )
    generator = torch.Generator().manual_seed(seed)
    points = correspondences.scene_points
    camera_points = correspondences.camera_points
    assert camera_points is not None
    rows = points.shape[1]
    anywhere = 5 * torch.randn(points.shape, generator=generator, dtype=dtype)
    if kind == "line":
        points = torch.randn(1, rows, 1, generator=generator, dtype=dtype) * torch.ones(3, dtype=dtype)
    elif kind == "point":
        points = torch.ones_like(points)
    elif kind == "behind":
        points = truth.inverse() @ -camera_points
        camera_points = torch.full_like(camera_points, torch.nan)
    elif kind == "wrong":
        points = anywhere
    elif kind == "one right":
        points = torch.where(torch.arange(rows)[:, None] == 17, points, anywhere)
    elif kind == "not finite":
        points = torch.full_like(points, torch.nan)
        points[:, ::2] = torch.inf
    weights = torch.zeros(1, rows, dtype=dtype) if kind == "no weight" else None
    spoilt = replace(correspondences, scene_points=points, camera_points=camera_points, weights=weights)
    return spoilt, truth


@pytest.mark.parametrize("with_depth", [False, True])
@pytest.mark.parametrize(
    ("dense", "backend", "dtype"), [(False, "reference", torch.float64), (True, "auto", torch.float32)]
)
@_FUZZ
@given(kind=st.sampled_from(HOPELESS), seed=st.integers(0, 1000))
def test_what_determines_no_pose_is_not_localized(make_scene, with_depth, dense, backend, dtype, kind, seed):
    spoilt, _ = _spoilt(make_scene, kind, seed, dtype)
    solver = DenseSolver if dense else PoseSolver
    estimate = (solver.rgbd if with_depth else solver.rgb)(backend=backend)(spoilt)
    assert not estimate.success.any(), kind
    assert estimate.confidence.max() < 0.2
    assert torch.isfinite(estimate.cam_from_world.matrix).all()


@pytest.mark.parametrize("with_depth", [False, True])
@_FUZZ
# a camera turned by 180° sees a row of what was behind: there the pose is not the question
@given(kind=st.sampled_from((*HOPELESS, "behind")), seed=st.integers(0, 1000))
def test_what_determines_no_pose_gives_finite_losses_and_gradients(make_scene, with_depth, kind, seed):
    spoilt, truth = _spoilt(make_scene, kind, seed, torch.float32)
    points = spoilt.scene_points.clone().requires_grad_()
    make = PoseSolver.rgbd if with_depth else PoseSolver.rgb
    for selection in (Argmax(), DSAC()):
        live = replace(spoilt, scene_points=points)
        generator = torch.Generator().manual_seed(seed)
        loss = make(8, selection=selection).expected_loss(live, truth, WeightedError(), generator).sum()
        assert torch.isfinite(loss)
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss, points)
            assert torch.isfinite(gradient).all()


def test_rows_that_cannot_be_used_are_counted(make_scene):
    correspondences, _ = make_scene()
    points = correspondences.scene_points.clone()
    points[0, :3], points[0, 3:5] = torch.nan, torch.inf
    pixels = correspondences.pixels.clone()
    pixels[0, 5] = torch.nan
    weights = torch.ones_like(pixels[..., 0])
    weights[0, 6:10] = 0.0
    broken = replace(correspondences, scene_points=points, pixels=pixels, weights=weights)
    assert broken.usable.sum() == pixels.shape[1] - 10


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("with_depth", [False, True])
def test_a_coplanar_scene_is_localized(make_scene, backend, with_depth):
    correspondences, truth = make_scene(grid=(20, 30), inlier_ratio=1.0, depth=True, dtype=torch.float32)
    wall = correspondences.camera.unproject(correspondences.pixels) * 2.0
    scene = replace(correspondences, scene_points=truth.inverse() @ wall, camera_points=wall)
    estimate = (DenseSolver.rgbd if with_depth else DenseSolver.rgb)(backend=backend)(scene)
    assert estimate.success.all()
    assert estimate.cam_from_world.center_distance(truth).max() < 1e-3
