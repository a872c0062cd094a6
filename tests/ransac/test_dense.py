"""The solver of queries. What it shares with `PoseSolver` is in `test_solver.py`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
import torch

from dsac.errors import BackendError
from dsac.geometry import Camera
from dsac.kernels import Engine, ImageRows, dispatch, engine, gpu
from dsac.kernels.solution import Solution
from dsac.ransac import Correspondences, DenseSolver, PoseSolver, ReprojectionError, Solver

pytest.importorskip("numba")


@pytest.mark.parametrize("kind", ["rgb", "rgbd"])
def test_few_right_rows_are_enough_in_either_dtype(kind, make_scene):
    """5 % are right. float64, as tensors born of numpy are, got the staged solver and found 1 of 20."""
    correspondences, truth = make_scene(20, (60, 80), 0.05, depth=True)
    solver = getattr(DenseSolver, kind)()
    for dtype in (torch.float32, torch.float64):
        cast = replace(
            correspondences,
            pixels=correspondences.pixels.to(dtype),
            scene_points=correspondences.scene_points.to(dtype),
            camera_points=correspondences.camera_points.to(dtype),
        )
        estimate = solver(cast)
        assert estimate.success.all()
        assert estimate.cam_from_world.center_distance(truth.to(dtype)).max() < 0.05
        for value in (estimate.cam_from_world.matrix, estimate.covariance, estimate.confidence):
            assert value.dtype == dtype


def test_an_input_that_needs_a_gradient_is_answered_by_the_search(make_scene):
    correspondences, _ = make_scene(3, (60, 80), 0.05, dtype=torch.float32)
    live = replace(correspondences, pixels=correspondences.pixels.clone().requires_grad_())
    ours, expected = DenseSolver.rgb()(live), DenseSolver.rgb()(correspondences)
    assert torch.equal(ours.cam_from_world.matrix, expected.cam_from_world.matrix)
    assert expected.success.all() and not ours.cam_from_world.matrix.requires_grad


def test_answers_lie_within_the_noise_at_half_outliers(make_scene):
    correspondences, truth = make_scene(3, (30, 40), 0.5, dtype=torch.float32, depth=True)
    for solver in (DenseSolver.rgb(), DenseSolver.rgbd()):
        estimate = solver(correspondences, torch.Generator().manual_seed(5))
        assert estimate.success.all()
        assert estimate.cam_from_world.center_distance(truth).max() < 0.01
        assert estimate.cam_from_world.rotation_error_deg(truth).max() < 0.3


def test_an_image_beside_a_lost_one_is_trusted_as_alone(make_scene):
    correspondences, _ = make_scene(batch=3, inlier_ratio=0.7, dtype=torch.float32)
    points = correspondences.scene_points.clone()
    points[1] = 5 * torch.randn(points[1].shape, generator=torch.Generator().manual_seed(1))
    together = DenseSolver.rgb()(replace(correspondences, scene_points=points))
    assert together.success.tolist() == [True, False, True]
    for i in (0, 2):
        alone = DenseSolver.rgb()(correspondences[i : i + 1])
        for name in ("covariance", "inliers", "confidence"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[i])
        assert torch.equal(alone.cam_from_world.matrix[0], together.cam_from_world.matrix[i])


def test_few_right_cells_of_a_flat_wall_are_localized_whatever_the_seed():
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(15) * 8 + 4.0, torch.arange(20) * 8 + 4.0, indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1).reshape(1, -1, 2)
    focal, center = torch.full((1, 2), 130.0), torch.tensor([[80.0, 60.0]])
    wall = torch.cat([(pixels - center) / focal, torch.ones(1, 300, 1)], dim=-1) * 3.0
    noisy = wall + 0.03 * torch.randn(wall.shape, generator=generator)
    correspondences = Correspondences(pixels, noisy, Camera(focal, center, (160, 120)), grid=(15, 20))
    solver = DenseSolver.rgb()
    for seed in range(40):
        estimate = solver(correspondences, torch.Generator().manual_seed(seed))
        assert estimate.success.item(), seed
        assert estimate.cam_from_world.center.norm() < 0.3


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_pixels_without_depth_count_by_their_rays(backend, make_scene):
    """Depth on a third of the pixels: the others are inliers too, and the pose is better for them."""
    batch = make_scene(batch=20, grid=(20, 30), inlier_ratio=0.9, noise_m=0.03, dtype=torch.float32, depth=True)
    correspondences, truth = batch
    holes = torch.arange(correspondences.pixels.shape[1]) % 3 > 0
    some = replace(
        correspondences,
        camera_points=torch.where(holes[:, None], torch.nan, correspondences.camera_points),
    )
    only = replace(some, weights=(~holes).float().expand(20, -1))
    solver = DenseSolver.rgbd(backend=backend)
    estimate, without = solver(some), solver(only)
    assert estimate.success.all() and without.success.all()
    assert (estimate.inliers[:, holes].double().mean(-1) > 0.7).all()
    assert not without.inliers[:, holes].any()
    error, error_without = (e.cam_from_world.center_distance(truth).mean() for e in (estimate, without))
    assert error < 0.9 * error_without


@pytest.mark.parametrize("kind", ["rgb", "rgbd"])
def test_where_a_backend_has_no_search_the_fallback_answers(kind, make_scene):
    correspondences, _ = make_scene(2, inlier_ratio=0.5, depth=True)
    dense, staged = (getattr(solver, kind)(backend="reference") for solver in (DenseSolver, PoseSolver))
    assert torch.equal(
        dense(correspondences).cam_from_world.matrix, staged(correspondences).cam_from_world.matrix
    )
    with pytest.raises(BackendError, match="its backend has no search here, and the solver has no fallback"):
        replace(dense, fallback=None)(correspondences)


def test_what_the_search_does_not_find_the_fallback_is_asked_for(make_scene):
    """By a search of the caller's that misses the second image."""
    correspondences, truth = make_scene(2, inlier_ratio=0.6, dtype=torch.float32)
    alone = DenseSolver(_Missing(), None)(correspondences)
    assert alone.success.tolist() == [True, False]
    estimate = DenseSolver(_Missing(), PoseSolver.rgb())(correspondences)
    assert estimate.success.all()
    assert estimate.cam_from_world.center_distance(truth).max() < 0.02
    assert torch.equal(estimate.cam_from_world.matrix[0], alone.cam_from_world.matrix[0])
    staged = PoseSolver.rgb()(correspondences[1:])
    assert torch.equal(estimate.cam_from_world.matrix[1], staged.cam_from_world.matrix[0])


@dataclass(frozen=True)
class _Missing(ReprojectionError):
    def engine(self, *constants: torch.Tensor, differentiable: tuple[torch.Tensor, ...] = ()) -> Engine:
        usual = super().engine(*constants, differentiable=differentiable)

        def search(rows: ImageRows, threshold: float, seed: int) -> Solution:
            assert usual.search is not None
            found = usual.search(rows, threshold, seed)
            missed = torch.tensor([0.0, 100.0])[:, None]
            return found._replace(translation=found.translation + missed)

        return replace(usual, search=search)


def test_both_solvers_answer_alike():
    for solver in (DenseSolver.rgb(), DenseSolver.rgbd(), PoseSolver.rgb()):
        assert isinstance(solver, Solver)


def test_what_a_solver_answers_prints_in_three_lines_and_is_json(make_scene):
    correspondences, truth = make_scene(2, (30, 40))
    both = DenseSolver.rgb()(correspondences)
    assert repr(both) == "PoseEstimate of 2 images, 2 localized"
    one = both[1:]
    said = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert said["success"] is True and said["inliers"] == int(one.num_inliers)
    assert said["center"] == pytest.approx(truth.center[1].tolist(), abs=0.02)
    assert torch.allclose(one.world_from_cam.translation, one.cam_from_world.center)
    assert said["position_sigma"] == pytest.approx(one.center_covariance[0].trace().sqrt().item())
    lines = repr(one).splitlines()
    assert len(lines) == 3 and f"± {said['position_sigma']:.3f}" in lines[1]
    lost = DenseSolver.rgb()(replace(correspondences[1:], weights=torch.zeros(1, 1200).double()))
    assert "not localized" in repr(lost) and lost.to_dict()["center"] is None
    with pytest.raises(TypeError, match="answer for 2 images"):
        both.to_dict()


@pytest.mark.parametrize("option", ["num_hypotheses", "selection", "sampling", "scoring", "refinement"])
def test_what_the_search_does_not_use_is_not_accepted(option):
    with pytest.raises(TypeError, match=option):
        DenseSolver.rgb(**{option: 64})


@pytest.mark.parametrize("kind", ["rgb", "rgbd"])
def test_a_gpu_answers_by_its_own_search(kind, make_scene, monkeypatch):
    """Its kernels take tensors of the CPU too, where a test can ask them."""
    monkeypatch.setattr(dispatch, "_obstacle", lambda name, *inputs: None if name == "gpu" else "not here")
    solve, calls = getattr(gpu, f"solve_{kind}"), []

    def counted(*inputs, **options):
        calls.append(len(inputs[0]))
        return solve(*inputs, **options)

    monkeypatch.setattr(gpu, f"solve_{kind}", counted)
    for engines in (engine._reprojection, engine._points):  # made once, of the functions that they find
        engines.cache_clear()
    correspondences, truth = make_scene(5, (60, 80), 0.05, dtype=torch.float32, depth=True)
    estimate = getattr(DenseSolver, kind)()(correspondences)
    for engines in (engine._reprojection, engine._points):
        engines.cache_clear()
    assert calls == [5] and estimate.success.all()
    assert (estimate.cam_from_world.center_distance(truth) < 0.02).all()
