"""End-to-end training: it survives bad data, and it picks a mode where an average would be none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from dsac.geometry import Pose
from dsac.networks.score_network import ScoreArchitecture, ScoreNetwork
from dsac.ransac import (
    DSAC,
    Argmax,
    Correspondences,
    LearnedScore,
    MaxError,
    PoseSolver,
    ReprojectionError,
    SampledDSAC,
    SoftAM,
    Temperature,
    WeightedError,
)


def _spoilt(make_scene, step: int) -> tuple[Correspondences, Pose]:
    """Four images, each bad in its own way, and another every time."""
    correspondences, truth = make_scene(
        batch=4, grid=(8, 10), inlier_ratio=0.05, dtype=torch.float32, seed=step, depth=True
    )
    points = correspondences.scene_points.clone()
    points[1] = points[1, :2].repeat(40, 1)  # two points, again and again
    behind = truth[2].inverse() @ torch.tensor([[0.0, 0.0, -2.0]])
    points[2, ::2] = behind
    points[3] = 100 * torch.randn(points[3].shape, generator=torch.Generator().manual_seed(step))
    points[3, ::7] = (torch.nan, torch.inf, -torch.inf)[step % 3]
    return replace(correspondences, scene_points=points), truth


@pytest.mark.parametrize(
    ("kind", "selection"),
    [("rgb", SoftAM()), ("rgb", DSAC(Temperature())), ("rgbd", Argmax()), ("rgbd", SampledDSAC(2))],
)
def test_bad_data_leaves_no_nan_in_any_parameter(kind, selection, make_scene):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3))
    score_network = ScoreNetwork(ScoreArchitecture(widths=(4,), hidden=8))
    if kind == "rgb":
        learned = LearnedScore(score_network, ReprojectionError(max_error_px=100.0))
        solver = PoseSolver.rgb(4, selection=selection, scoring=learned)
    else:
        solver = PoseSolver.rgbd(4, selection=selection)
    solver = replace(solver, refinement=replace(solver.refinement, iterations=5))
    parts = nn.ModuleList([network, score_network])
    if isinstance(getattr(selection, "temperature", None), Temperature):
        parts.append(selection.temperature)
    optimizer = torch.optim.Adam(parts.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(0)
    moved = 0
    for step in range(25):
        correspondences, truth = _spoilt(make_scene, step)
        offset = network(correspondences.pixels / 640 - 0.5)
        live = replace(correspondences, scene_points=correspondences.scene_points + offset)
        hypotheses = solver.hypotheses(live, generator)
        loss = solver.expected_loss(live, truth, WeightedError(), generator, hypotheses)
        assert torch.isfinite(loss).all()
        total = loss.mean()
        if isinstance(getattr(selection, "temperature", None), Temperature):
            total = total + selection.temperature.loss(hypotheses)
        optimizer.zero_grad()
        total.backward()
        gradients = [p.grad for p in parts.parameters() if p.grad is not None]
        assert all(torch.isfinite(g).all() for g in gradients)
        moved += any((g != 0).any() for g in gradients)
        nn.utils.clip_grad_value_(parts.parameters(), 0.1)
        optimizer.step()
    assert moved > 10
    assert all(torch.isfinite(p).all() for p in parts.parameters())


def test_dsac_picks_a_mode_where_softam_stays_between_two(make_scene):
    """A repeated structure: every pixel shows one of two copies of a place, a metre apart.

    Both copies of what is predicted are offered to the solver, the scores cannot tell them apart, and the loss
    is the distance to the nearer of the two poses. SoftAM answers their mean, half a metre from both, and is
    still far from both after training. The hypotheses of DSAC belong to one mode each: its expected loss goes
    to zero.
    """
    correspondences, first = make_scene(grid=(8, 12), inlier_ratio=1.0, noise_m=0.005)
    copy_from_world = Pose(torch.eye(3, dtype=torch.float64), torch.tensor([1.0, 0, 0], dtype=torch.float64))
    second = first @ copy_from_world.inverse()
    rows = correspondences.pixels.shape[1]
    samples = torch.rand(1, 8, rows, generator=torch.Generator().manual_seed(1)).topk(4).indices
    samples = torch.cat([samples, samples + rows], dim=1)

    def nearer(cam_from_world: Pose, truth: Pose) -> torch.Tensor:
        loss = MaxError()
        return torch.minimum(loss(cam_from_world, truth), loss(cam_from_world, second[:, None]))

    def losses(selection) -> list[float]:
        solver = PoseSolver.rgb(selection=selection)
        points = correspondences.scene_points.clone().requires_grad_()
        optimizer = torch.optim.Adam([points], 1e-4)
        history = []
        for _ in range(25):
            both = replace(
                correspondences,
                pixels=correspondences.pixels.repeat(1, 2, 1),
                scene_points=torch.cat([points, copy_from_world @ points], dim=1),
                grid=None,
            )
            live = solver.residual.sanitise(both)
            hypotheses = solver.minimal(live, samples)
            hypotheses = replace(hypotheses, scores=torch.zeros(1, 16, dtype=torch.float64))
            loss = solver.expected_loss(live, first, nearer, hypotheses=hypotheses).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(loss.item())
        return history

    softam, dsac = losses(SoftAM()), losses(DSAC())
    assert min(softam) > 35  # centimetres
    assert dsac[0] > 0.1
    assert dsac[-1] < 0.05
