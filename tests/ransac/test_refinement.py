from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dsac.geometry import Pose
from dsac.ransac import PointDistance, ReprojectionError, RobustRefinement

RESIDUALS = {"rgb": ReprojectionError(10.0), "rgbd": PointDistance(0.1), "some depth": PointDistance(0.1, 2.0)}


def _start(make_scene, kind="rgb", noise_m=0.01, inlier_ratio=0.7):
    correspondences, truth = make_scene(batch=2, noise_m=noise_m, inlier_ratio=inlier_ratio, depth=True)
    generator = torch.Generator().manual_seed(5)
    weights = 0.5 + torch.rand(correspondences.pixels.shape[:2], generator=generator, dtype=torch.float64)
    clean = replace(correspondences, weights=weights)
    if kind == "some depth":
        holes = torch.arange(weights.shape[1]) % 3 > 0
        clean = replace(clean, camera_points=torch.where(holes[:, None], 0.0, clean.camera_points))
    increments = 0.01 * torch.randn(2, 3, 6, generator=generator, dtype=torch.float64)
    return clean, Pose.exp(increments) @ truth[:, None], truth


def _cost(residual, pose, clean):
    """Σ w ρ(e), written from the definition, by unbounded errors."""
    points_cam = pose @ clean.scene_points[:, None]
    front = points_cam[..., 2] > 0
    if residual is RESIDUALS["rgb"]:
        focal, center = clean.camera.focal_px[:, None, None], clean.camera.center_px[:, None, None]
        points = points_cam[..., :2] / points_cam[..., 2:] * focal + center
        square = (points - clean.pixels[:, None]).square().sum(-1)
    else:
        measured = clean.camera_points[:, None, :, 2] > 0
        to_point = (points_cam - clean.camera_points[:, None]).square().sum(-1)
        rays = clean.camera.unproject(clean.pixels)[:, None].expand_as(points_cam)
        to_ray = torch.linalg.cross(points_cam, rays).square().sum(-1) / rays.square().sum(-1)
        square = torch.where(measured, to_point, to_ray)
        front = measured | ((points_cam * rays).sum(-1) > 0)
    bounded = square * residual.threshold**2 / (square + residual.threshold**2)
    return (clean.weights[:, None] * torch.where(front, bounded, residual.threshold**2)).sum(-1)


def _hessian(residual, clean, pose):
    increment = torch.zeros(*pose.shape, 6, dtype=torch.float64, requires_grad=True)
    cost = _cost(residual, Pose.exp(increment) @ pose.detach(), clean).sum()
    gradient = torch.autograd.grad(cost, increment, create_graph=True)[0]
    rows = [torch.autograd.grad(gradient[..., k].sum(), increment, retain_graph=True)[0] for k in range(6)]
    return torch.stack(rows, dim=-1).detach()


def _unrolled(residual, clean, pose, steps):
    """Damped Newton steps with a fixed Hessian, every step seen by autograd."""
    metric = torch.linalg.inv(_hessian(residual, clean, pose))
    for _ in range(steps):
        increment = torch.zeros(*pose.shape, 6, dtype=torch.float64, requires_grad=True)
        cost = _cost(residual, Pose.exp(increment) @ pose, clean).sum()
        gradient = torch.autograd.grad(cost, increment, create_graph=True)[0]
        pose = Pose.exp(-0.7 * (metric @ gradient[..., None])[..., 0]) @ pose
    return pose


@pytest.mark.parametrize("kind", RESIDUALS)
def test_every_start_reaches_the_same_optimum(kind, make_scene):
    clean, poses, truth = _start(make_scene, kind)
    refined = RobustRefinement(RESIDUALS[kind], iterations=60)(poses, clean)
    spread = (refined.translation - refined.translation[:, :1]).abs().max()
    assert spread < 1e-9
    assert refined.center_distance(truth[:, None]).max() < 0.01
    increment = torch.zeros(2, 3, 6, dtype=torch.float64, requires_grad=True)
    cost = _cost(RESIDUALS[kind], Pose.exp(increment) @ refined, clean)
    gradient = torch.autograd.grad(cost.sum(), increment)[0]
    assert gradient.abs().max() < 1e-7 * cost.max()


@pytest.mark.parametrize("kind", RESIDUALS)
def test_implicit_gradient_equals_unrolled_autograd(kind, make_scene):
    clean, poses, _ = _start(make_scene, kind)
    residual = RESIDUALS[kind]
    start = RobustRefinement(residual, iterations=60)(poses[:, :1], clean).detach()
    points = clean.scene_points.clone().requires_grad_()
    weights = clean.weights.clone().requires_grad_()
    inputs = (points, weights)
    live = replace(clean, scene_points=points, weights=weights)
    probe = torch.randn(2, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    implicit = RobustRefinement(residual, iterations=60)(start, live)
    unrolled = _unrolled(residual, live, start, steps=30)
    expected = torch.autograd.grad((unrolled.translation * probe).sum(), inputs)
    actual = torch.autograd.grad((implicit.translation * probe).sum(), inputs)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-8 * float(e.abs().max()))


@pytest.mark.parametrize("kind", RESIDUALS)
def test_implicit_gradient_matches_finite_differences_of_the_optimum(kind, make_scene):
    clean, poses, _ = _start(make_scene, kind)
    refinement = RobustRefinement(RESIDUALS[kind], iterations=80)
    probe = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def value(points):
        refined = refinement(poses, replace(clean, scene_points=points))
        return (torch.cat([refined.rotation.flatten(-2), refined.translation], -1) * probe).sum()

    points = clean.scene_points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(points), points)
    for seed in range(3):
        move = torch.randn(points.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with torch.no_grad():
            slope = (value(points + 1e-6 * move) - value(points - 1e-6 * move)) / 2e-6
        torch.testing.assert_close(slope, (gradient * move).sum(), rtol=1e-5, atol=1e-7)


def test_gauss_newton_gradient_is_exact_only_without_residuals(make_scene):
    def gradients(noise_m, inlier_ratio):
        clean, poses, _ = _start(make_scene, "rgb", noise_m, inlier_ratio)
        results = []
        for approximate in (False, True):
            points = clean.scene_points.clone().requires_grad_()
            refinement = RobustRefinement(iterations=60, gauss_newton=approximate)
            refined = refinement(poses, replace(clean, scene_points=points))
            results.append(torch.autograd.grad(refined.translation.sum(), points)[0])
        return results

    exact, approximate = gradients(0.0, 1.0)
    torch.testing.assert_close(approximate, exact, rtol=1e-6, atol=1e-8)
    exact, approximate = gradients(0.01, 0.7)
    difference = (approximate - exact).norm() / exact.norm()
    assert 0.01 < difference < 1.0


def test_points_of_weight_zero_change_nothing_and_get_no_gradient(make_scene):
    clean, poses, _ = _start(make_scene)
    ignored = torch.arange(clean.pixels.shape[1]) % 3 == 0
    weights = torch.where(ignored, 0.0, clean.weights)
    results = []
    for offset in (0.0, 5.0):
        points = (clean.scene_points + offset * ignored[:, None]).requires_grad_()
        refined = RobustRefinement()(poses, replace(clean, scene_points=points, weights=weights))
        refined.translation.sum().backward()
        assert (points.grad[:, ignored] == 0).all()
        assert (points.grad[:, ~ignored] != 0).any()
        results.append(refined.translation.detach())
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-13)  # kernels centre all points


def test_a_pose_without_inliers_stays_and_keeps_its_own_gradient(make_scene):
    clean, poses, _ = _start(make_scene)
    increments = torch.full((2, 3, 6), 3.0, dtype=torch.float64, requires_grad=True)
    far = Pose.exp(increments) @ poses
    points = clean.scene_points.clone().requires_grad_()
    refined = RobustRefinement()(far, replace(clean, scene_points=points))
    torch.testing.assert_close(refined.matrix, far.matrix, rtol=0, atol=0)
    refined.translation.sum().backward()
    assert (points.grad == 0).all()
    assert (increments.grad != 0).any()


def test_few_points_per_pose_give_nearly_the_pose_of_all(make_scene):
    clean, poses, truth = _start(make_scene)
    points = clean.scene_points.clone().requires_grad_()
    refinement = RobustRefinement(max_points=100)
    refined = refinement(poses, replace(clean, scene_points=points), torch.Generator().manual_seed(0))
    assert refined.center_distance(truth[:, None]).max() < 0.03
    refined.translation.sum().backward()
    touched = (points.grad != 0).any(-1).sum(-1)
    assert ((touched >= 100) & (touched <= 150)).all()  # three poses draw nearly the same hundred


def test_points_that_do_not_fix_the_pose_pass_no_gradient(make_scene):
    """All on one line: the pose can turn about it."""
    clean, poses, truth = _start(make_scene)
    along = torch.linspace(-0.5, 0.5, clean.pixels.shape[1], dtype=torch.float64)[:, None]
    line_cam = along * torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64) + torch.tensor([0.0, 0.0, 2.0])
    points = (truth.inverse() @ line_cam.expand_as(clean.scene_points)).clone().requires_grad_()
    pixels = clean.camera.project(line_cam.expand_as(points))
    live = replace(clean, scene_points=points, pixels=pixels)
    refined = RobustRefinement()(truth[:, None], live)
    assert torch.isfinite(refined.matrix).all()
    refined.translation.sum().backward()
    assert (points.grad == 0).all()
