"""Preemptive RANSAC: its energies one by one, exact poses, and the same answer each time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dsac.geometry import Pose
from dsac.ransac import Correspondences, PreemptiveSolver
from dsac.ransac.preemptive import KabschRefinement, energies

MODES = 3


@pytest.fixture
def ambiguous(make_scene):
    """Of each pixel's modes one is right, by turns."""

    def make(**options) -> tuple[Correspondences, Pose]:
        c, truth = make_scene(depth=True, **options)
        generator = torch.Generator().manual_seed(4)
        batch, count = c.pixels.shape[:2]
        wrong = 2 * torch.randn(batch, count, MODES, 3, generator=generator, dtype=torch.float64)
        wrong[:, torch.arange(count), torch.arange(count) % MODES] = 0
        assert c.camera_points is not None
        return replace(
            c,
            pixels=c.pixels.repeat_interleave(MODES, 1),
            scene_points=(c.scene_points[:, :, None] + wrong.to(c.scene_points)).flatten(1, 2),
            camera_points=c.camera_points.repeat_interleave(MODES, 1),
            modes=MODES,
        ), truth

    return make


@pytest.mark.parametrize("kind", ["rgb", "rgbd"])
def test_energies_count_pixels_one_by_one(kind, ambiguous):
    c, truth = ambiguous()
    residual = getattr(PreemptiveSolver, kind)().residual
    weights = torch.ones_like(c.pixels[..., 0])
    weights[:, ::4] = 0
    rows = residual.sanitise(replace(c, weights=weights))
    off = {"rgb": 0.005, "rgbd": 0.02}[kind] * torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(0))
    poses = Pose.exp(off.double()) @ truth[:, None]
    errors = residual.errors(poses, rows)
    found = energies(residual, errors, rows)[0]
    for h in range(5):
        expected = 0
        for pixel in range(0, c.pixels.shape[1], MODES):
            near = [
                row
                for row in range(pixel, pixel + MODES)
                if weights[0, row] > 0 and errors[0, h, row] < residual.threshold
            ]
            expected += len(near) > 0
        assert found[h] == expected
    assert 0 < found.min() < found.max()


@pytest.mark.parametrize(("kind", "dtype"), [("rgb", torch.float32), ("rgbd", torch.float64)])
def test_exact_modes_give_the_exact_pose(kind, dtype, ambiguous):
    c, truth = ambiguous(batch=2, noise_m=0.0, inlier_ratio=0.7, dtype=dtype)
    solver = getattr(PreemptiveSolver, kind)(num_hypotheses=32)
    estimate = solver(c)
    assert estimate.success.all() and (estimate.confidence > 0.5).all()
    assert estimate.cam_from_world.center_distance(truth).max() < 1e-3
    assert estimate.inliers.shape == c.pixels.shape[:2]
    assert torch.equal(solver.inliers(estimate.cam_from_world, c), estimate.inliers)
    again = solver(c)
    assert torch.equal(again.cam_from_world.matrix, estimate.cam_from_world.matrix)


def test_the_refinement_is_kabsch_on_the_rows_that_count(make_scene):
    c, truth = make_scene(inlier_ratio=1.0, noise_m=0.0, depth=True)
    points = c.scene_points.clone()
    points[:, ::3] += 1.0
    weights = torch.ones_like(points[..., 0])
    weights[:, ::3] = 0
    start = Pose.identity(1, 1, dtype=torch.float64)
    rows = replace(c, scene_points=points, weights=weights)
    assert KabschRefinement()(start, rows)[:, 0].center_distance(truth).item() < 1e-9
    weights[:, 2:] = 0  # one row is left
    assert torch.equal(KabschRefinement()(start, rows).matrix, start.matrix)


def test_photos_that_show_nothing_are_not_localized(make_scene):
    c, _ = make_scene(depth=True)
    points = 5 * torch.randn(c.scene_points.shape, generator=torch.Generator().manual_seed(1)).double()
    assert not PreemptiveSolver.rgb()(replace(c, scene_points=points)).success.any()
    few = Correspondences(c.pixels[:, :2], points[:, :2], c.camera)
    assert not PreemptiveSolver.rgb()(few).success.any()


@pytest.mark.wrong_input
@pytest.mark.parametrize("field", ["num_hypotheses", "batch"])
def test_numbers_that_cannot_be_are_refused(field):
    with pytest.raises(ValueError, match=f"^{field}: expected more than 0, got 0"):
        replace(PreemptiveSolver.rgb(), **{field: 0})
