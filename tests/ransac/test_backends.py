"""Training takes the same steps on every backend: loss and gradients of the kernels equal the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from devices import NoWaiting

from dsac.errors import BackendError
from dsac.geometry import Pose
from dsac.kernels import reference
from dsac.ransac import DSAC, Argmax, MaxError, PoseSolver, ReprojectionError, RobustRefinement, SoftAM
from dsac.ransac.implicit import guarded_inverse
from dsac.ransac.uncertainty import pose_estimate

pytest.importorskip("numba")
from dsac.kernels.twins import trust  # noqa: E402


def _loss_and_gradients(backend, selection, correspondences, truth, seed=0):
    refinement = RobustRefinement(ReprojectionError(backend=backend), iterations=60)
    solver = PoseSolver.rgb(16, selection=selection, refinement=refinement, backend=backend)
    inputs = [correspondences.scene_points.clone(), correspondences.weights.clone()]
    points, weights = (x.requires_grad_() for x in inputs)
    live = replace(correspondences, scene_points=points, weights=weights)
    loss = solver.expected_loss(live, truth, MaxError(), torch.Generator().manual_seed(seed))
    return loss, torch.autograd.grad(loss.sum(), [points, weights])


def _scene(make_scene, **kind):
    correspondences, truth = make_scene(batch=2, inlier_ratio=0.7, **kind)
    generator = torch.Generator().manual_seed(1)
    weights = 0.5 + torch.rand(correspondences.pixels.shape[:2], generator=generator, dtype=torch.float64)
    weights[:, ::7] = 0.0
    return replace(correspondences, weights=weights.to(correspondences.pixels)), truth


@pytest.mark.parametrize("selection", [Argmax(), SoftAM(10.0), DSAC(10.0)], ids=["argmax", "softam", "dsac"])
@pytest.mark.parametrize("seed", range(3))
def test_expected_loss_and_its_gradients_are_those_of_the_reference(selection, seed, make_scene):
    scene = _scene(make_scene, seed=seed)
    loss, gradients = _loss_and_gradients("cpu", selection, *scene, seed)
    expected_loss, expected = _loss_and_gradients("reference", selection, *scene, seed)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=1e-9)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert theirs.norm() > 0
        assert (ours - theirs).norm() < 1e-5 * theirs.norm()  # the kernel's sigmoid is off by up to 1e-7


def test_float32_trains_on_the_kernels_with_nearly_the_gradients_of_float64(make_scene):
    correspondences, truth = _scene(make_scene)
    single = replace(
        correspondences,
        pixels=correspondences.pixels.float(),
        scene_points=correspondences.scene_points.float(),
        camera=correspondences.camera.to(torch.float32),
        weights=correspondences.weights.float(),
    )
    loss, gradients = _loss_and_gradients("auto", DSAC(10.0), single, truth.to(torch.float32))
    expected_loss, expected = _loss_and_gradients("reference", DSAC(10.0), correspondences, truth)
    torch.testing.assert_close(loss.double(), expected_loss, rtol=1e-2, atol=0)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert (ours.double() - theirs).norm() < 0.02 * theirs.norm()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_pose_that_is_refined_on_the_way_is_trusted_like_the_refined_pose(dtype, make_scene):
    correspondences, truth = make_scene(batch=3, inlier_ratio=0.5, dtype=dtype)
    correspondences = correspondences.sanitised()
    start = Pose.exp(0.01 * torch.randn(3, 6, generator=torch.Generator().manual_seed(3)).to(dtype)) @ truth
    residual = ReprojectionError(backend="cpu")
    refined = RobustRefinement()(start[:, None], correspondences)[:, 0]
    expected = pose_estimate(refined, residual, correspondences)
    single = dtype == torch.float32  # float32 ends where steps are lost in rounding
    tolerance = {"rtol": 1e-3, "atol": 1e-6} if single else {"rtol": 1e-7, "atol": 1e-12}
    for backend in ("cpu", "reference"):
        estimate = pose_estimate(start, ReprojectionError(backend=backend), correspondences, iterations=20)
        assert (estimate.cam_from_world.center_distance(start) > 1e-3).all()
        assert estimate.cam_from_world.center_distance(refined).max() < (1e-4 if single else 1e-9)
        for name in ("covariance", "confidence"):
            torch.testing.assert_close(getattr(estimate, name), getattr(expected, name), **tolerance)
        assert estimate.success.all() and (estimate.inliers == expected.inliers).float().mean() > 0.99


@pytest.mark.parametrize("inlier_ratio", [0.7, 0.1, 0.0])
def test_how_far_a_pose_is_trusted_is_as_the_reference_says(inlier_ratio, make_scene):
    correspondences, truth = make_scene(batch=3, inlier_ratio=inlier_ratio)
    weights = torch.rand(correspondences.pixels.shape[:2], generator=torch.Generator().manual_seed(1))
    weights[:, ::7] = 0.0
    correspondences = replace(correspondences, weights=weights.to(correspondences.pixels))
    pose = RobustRefinement(iterations=60)(truth[:, None], correspondences)[:, 0]
    residuals = (ReprojectionError(backend=backend) for backend in ("cpu", "reference"))
    ours, theirs = (pose_estimate(pose, residual, correspondences) for residual in residuals)
    assert theirs.success.all() == (inlier_ratio > 0) and not theirs.inliers.all()
    for name in ("inliers", "confidence", "success"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-12)
    for mine, expected in zip(ours.covariance, theirs.covariance, strict=True):
        known = torch.isfinite(expected)
        assert (torch.isfinite(mine) == known).all()
        assert (mine[known] - expected[known]).norm() <= 1e-6 * expected[known].norm()


@pytest.mark.parametrize("rank", range(7))
def test_where_points_do_not_determine_a_pose_the_covariance_is_infinite(rank):
    generator = torch.Generator().manual_seed(rank)
    rows = torch.randn(6, rank, generator=generator, dtype=torch.float64)
    matrix = rows @ rows.mT
    scale = torch.tensor([1e3, 1e-2, 1.0, 5.0, 1e4, 1e-3], dtype=torch.float64)
    matrix = scale[:, None] * matrix * scale
    expected, determined = guarded_inverse(matrix)
    inverse = np.empty((6, 6))
    assert trust._guarded_inverse(matrix.numpy(), inverse) == determined == (rank == 6)
    torch.testing.assert_close(torch.from_numpy(inverse), expected, rtol=1e-6, atol=0)


def test_a_second_derivative_is_refused(make_scene):
    correspondences, truth = _scene(make_scene)
    points = correspondences.scene_points.clone().requires_grad_()
    solver = PoseSolver.rgb(8, selection=DSAC(), backend="cpu")
    loss = solver.expected_loss(replace(correspondences, scene_points=points), truth, MaxError())
    (gradient,) = torch.autograd.grad(loss.sum(), points, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_gradients_by_pixels_come_from_the_reference(make_scene):
    correspondences, truth = _scene(make_scene, dtype=torch.float32)
    pixels = correspondences.pixels.clone().requires_grad_()
    live = replace(correspondences, pixels=pixels)
    PoseSolver.rgb(8).expected_loss(live, truth, MaxError()).sum().backward()
    assert (pixels.grad != 0).any()
    with pytest.raises(BackendError, match="has no gradient, and an input needs one"):
        PoseSolver.rgb(8, backend="cpu").expected_loss(live, truth, MaxError())


@pytest.mark.parametrize("kind", ["rgb", "rgbd"])
def test_on_a_device_the_host_waits_for_nothing_in_a_training_step(kind, make_scene, monkeypatch):
    """Of images and hypotheses at once; loops that end early on the CPU do not ask a device."""
    monkeypatch.setattr(reference, "settled", lambda done: False)
    correspondences, truth = make_scene(batch=3, inlier_ratio=0.7, depth=True)
    points = correspondences.scene_points.clone().requires_grad_()
    solver = PoseSolver.rgb(8, selection=SoftAM(), backend="reference")
    solver = solver if kind == "rgb" else PoseSolver.rgbd(8, selection=SoftAM(), backend="reference")
    generator = torch.Generator().manual_seed(0)
    with NoWaiting():
        live = replace(correspondences, scene_points=points)
        loss = solver.expected_loss(live, truth, MaxError(), generator)
    loss.sum().backward()
    assert (points.grad != 0).flatten(1).any(-1).all()
