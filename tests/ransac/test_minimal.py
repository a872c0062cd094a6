from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dsac.geometry import Pose
from dsac.ransac import P3P, Kabsch


def _solver_and_scene(kind, make_scene):
    correspondences, truth = make_scene(
        batch=2, inlier_ratio=1.0, noise_m=0.0 if kind == "p3p" else 0.01, depth=kind == "kabsch"
    )
    clean = correspondences.sanitised()
    solver = P3P() if kind == "p3p" else Kabsch()
    generator = torch.Generator().manual_seed(1)
    samples = torch.rand(2, 5, clean.pixels.shape[1], generator=generator).topk(solver.sample_size).indices
    return solver, clean, samples, truth


@pytest.mark.parametrize("kind", ["p3p", "kabsch"])
def test_minimal_sets_of_exact_points_give_the_exact_pose(kind, make_scene):
    correspondences, truth = make_scene(batch=2, inlier_ratio=1.0, noise_m=0.0, depth=True)
    solver, _, samples, _ = _solver_and_scene(kind, make_scene)
    hypotheses = solver(correspondences.sanitised(), samples)
    assert hypotheses.valid.all()
    assert hypotheses.sample_error.max() < 2e-6
    assert hypotheses.cam_from_world.center_distance(truth[:, None]).max() < 1e-8
    assert hypotheses.cam_from_world.rotation_error_deg(truth[:, None]).max() < 1e-6


@pytest.mark.parametrize("kind", ["p3p", "kabsch"])
def test_implicit_gradient_matches_finite_differences(kind, make_scene):
    """By scene points and by what they are compared with: pixels or camera points."""
    solver, clean, samples, _ = _solver_and_scene(kind, make_scene)
    name = "pixels" if kind == "p3p" else "camera_points"
    generator = torch.Generator().manual_seed(2)
    probe = torch.randn(2, 5, 12, generator=generator, dtype=torch.float64)

    def value(scene_points, targets):
        poses = solver(replace(clean, scene_points=scene_points, **{name: targets}), samples).cam_from_world
        return (torch.cat([poses.rotation.flatten(-2), poses.translation], dim=-1) * probe).sum()

    scene_points = clean.scene_points.clone().requires_grad_()
    targets = getattr(clean, name).clone().requires_grad_()
    gradients = torch.autograd.grad(value(scene_points, targets), (scene_points, targets))
    for direction_seed in range(4):
        generator.manual_seed(direction_seed)
        moves = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in (scene_points, targets)]
        step = 1e-5
        with torch.no_grad():
            ahead = value(scene_points + step * moves[0], targets + step * moves[1])
            behind = value(scene_points - step * moves[0], targets - step * moves[1])
        expected = sum((g * m).sum() for g, m in zip(gradients, moves, strict=True))
        torch.testing.assert_close((ahead - behind) / (2 * step), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["p3p", "kabsch"])
def test_degenerate_sets_are_invalid_with_zero_gradient(kind, make_scene):
    solver, clean, samples, _ = _solver_and_scene(kind, make_scene)
    scene_points = clean.scene_points.clone()
    scene_points[0] = scene_points[0, :1]  # one point for every pixel
    along = torch.arange(scene_points.shape[1], dtype=torch.float64)[:, None]
    scene_points[1] = along * torch.tensor([0.1, 0.2, 0.3])  # all on a line
    scene_points.requires_grad_()
    hypotheses = solver(replace(clean, scene_points=scene_points), samples)
    assert not hypotheses.valid.any()
    assert torch.isfinite(hypotheses.cam_from_world.matrix).all()
    assert torch.isinf(hypotheses.sample_error).all()
    (hypotheses.cam_from_world.translation.sum() + hypotheses.cam_from_world.rotation.sum()).backward()
    assert (scene_points.grad == 0).all()


def test_a_set_that_holds_a_row_twice_is_invalid(make_scene):
    _, clean, samples, _ = _solver_and_scene("p3p", make_scene)
    assert P3P()(clean, samples).valid.all()
    for twice in ([0, 1, 2, 0], [0, 1, 2, 2], [0, 0, 2, 3]):
        assert not P3P()(clean, samples[..., twice]).valid.any()


def test_the_fourth_point_chooses_among_the_solutions(make_scene):
    """A wrong fourth point changes which of the solutions of the same three points is taken."""
    _, clean, _, truth = _solver_and_scene("p3p", make_scene)
    generator = torch.Generator().manual_seed(3)
    samples = torch.rand(2, 200, clean.pixels.shape[1], generator=generator).topk(4).indices
    right = P3P()(clean, samples)
    assert right.cam_from_world.center_distance(truth[:, None]).max() < 1e-6
    moved = clean.pixels + 60 * torch.randn(clean.pixels.shape, generator=generator, dtype=torch.float64)
    only_fourth = torch.zeros_like(clean.pixels[..., 0], dtype=torch.bool)
    only_fourth.scatter_(1, samples[:, 0, 3:], True)
    wrong = P3P()(
        replace(clean, pixels=torch.where(only_fourth[..., None], moved, clean.pixels)), samples[:, :1]
    )
    three = samples[:, :1, :3]
    rows = torch.arange(2)[:, None, None]
    projected = clean.camera.project(wrong.cam_from_world[:, 0] @ clean.scene_points)[rows, three]
    assert (projected - clean.pixels[rows, three]).abs().max() < 1e-4
    assert (wrong.sample_error > right.sample_error[:, :1]).all()


def test_hypotheses_keep_dtype(make_scene):
    solver, clean, samples, truth = _solver_and_scene("p3p", make_scene)
    single = replace(
        clean,
        pixels=clean.pixels.float(),
        scene_points=clean.scene_points.float(),
        camera=clean.camera.to(torch.float32),
        weights=clean.weights.float(),
    )
    poses = solver(single, samples).cam_from_world
    assert poses.translation.dtype == torch.float32
    assert poses.to(torch.float64).center_distance(Pose.expand(truth[:, None], 2, 5)).median() < 1e-4
