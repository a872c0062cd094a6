"""Answers and gradients are the same whatever is set around the solver: autocast, the default dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dsac.geometry import Pose
from dsac.networks.score_network import ScoreArchitecture, ScoreNetwork
from dsac.ransac import (
    DSAC,
    Correspondences,
    DenseSolver,
    LearnedScore,
    MaxError,
    PoseSolver,
    ReprojectionError,
    SoftAM,
    WeightedError,
    noisy_poses,
)

pytest.importorskip("numba")


@pytest.fixture(params=["rgb", "rgbd"])
def compute(request, make_scene):
    """A function that answers, trains and measures one scene, and a second one that adds the gradients."""
    scene = make_scene(batch=2, inlier_ratio=0.5, dtype=torch.float32, depth=True)
    torch.manual_seed(0)
    network = ScoreNetwork(ScoreArchitecture(widths=(4,), hidden=8))
    return lambda: [*_answers(request.param, *scene), *_losses(request.param, *scene, network)]


def _answers(kind: str, correspondences: Correspondences, truth: Pose) -> list[Tensor]:
    results = []
    for backend in ("auto", "reference"):
        solver = getattr(DenseSolver, kind)(backend=backend)
        found = solver(correspondences)
        results += [found.cam_from_world.matrix, found.covariance, found.confidence, found.inliers]
        results.append(solver.inliers(truth, correspondences))
    return results


def _losses(kind: str, correspondences: Correspondences, truth: Pose, network: ScoreNetwork) -> list:
    """Values, and functions that give gradients when everything else is over."""
    results = []
    steps = ((SoftAM(), MaxError(), "auto", None), (DSAC(), WeightedError(), "reference", 100))
    for selection, loss, backend, max_points in steps:
        solver = getattr(PoseSolver, kind)(8, selection=selection, backend=backend)
        solver = replace(solver, refinement=replace(solver.refinement, max_points=max_points))
        points = correspondences.scene_points.clone().requires_grad_()
        live, generator = replace(correspondences, scene_points=points), torch.Generator().manual_seed(0)
        pool = solver.hypotheses(live, generator)
        refined = solver.refined(pool, live, generator)
        expected = solver.expected_loss(live, truth, loss, generator)
        alone = loss(refined.cam_from_world, truth[:, None])
        results += [pool.cam_from_world.matrix, pool.scores, refined.cam_from_world.matrix, expected, alone]
        total = expected.sum() + alone.sum()
        results.append(lambda total=total, points=points: torch.autograd.grad(total, points)[0])
    noisy = noisy_poses(truth, 4, torch.Generator().manual_seed(0))
    learned = LearnedScore(network, ReprojectionError())
    pool = PoseSolver.rgb(8, scoring=learned).hypotheses(correspondences, torch.Generator().manual_seed(0))
    return [*results, noisy.matrix, learned.error_image(noisy, correspondences), pool.scores]


def _values(results: list[Tensor | Callable[[], Tensor]]) -> list[Tensor]:
    return [result.detach() if isinstance(result, Tensor) else result() for result in results]


def test_autocast_changes_nothing(compute):
    expected = _values(compute())
    with torch.autocast("cpu", torch.bfloat16):
        results = compute()
    for ours, theirs in zip(_values(results), expected, strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


def test_the_default_dtype_changes_nothing(compute):
    expected = _values(compute())
    torch.set_default_dtype(torch.float64)
    try:
        results = _values(compute())
    finally:
        torch.set_default_dtype(torch.float32)
    for ours, theirs in zip(results, expected, strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
