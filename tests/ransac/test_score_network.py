from __future__ import annotations

import pytest
import torch

from dsac.networks.score_network import ScoreArchitecture, ScoreNetwork
from dsac.ransac import DSAC, LearnedScore, MaxError, PoseSolver, ReprojectionError, noisy_poses

SMALL = ScoreArchitecture(widths=(8, 16), hidden=32)


def _small(seed: int = 0) -> ScoreNetwork:
    torch.manual_seed(seed)
    return ScoreNetwork(SMALL)


def test_the_published_network_has_six_million_parameters():
    assert 5.9e6 < sum(p.numel() for p in ScoreNetwork().parameters()) < 6.5e6


@pytest.mark.parametrize("grid", [(40, 40), (60, 80), (12, 20)])
def test_error_images_of_any_size_have_a_score_each(grid):
    errors = 150 * torch.rand(2, 3, *grid)
    network = _small()
    scores = network(errors)
    assert scores.shape == (2, 3)
    torch.testing.assert_close(scores[1, 2], network(errors[1:, 2:])[0, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores, network(errors.clamp(max=100.0)))
    assert (scores.flatten()[0] != scores.flatten()[1:]).all()
    assert network(errors[:0]).shape == (0, 3)


def test_noisy_poses_are_half_near_and_half_far(make_scene):
    _, truth = make_scene(batch=2)
    poses = noisy_poses(truth, 400, torch.Generator().manual_seed(0))
    assert poses.shape == (2, 400)
    degrees = poses.rotation_error_deg(truth[:, None])
    assert degrees[:, ::2].max() <= 2.0 + 1e-6
    assert 8.0 < degrees[:, 1::2].max() <= 10.0 + 1e-6
    moved = (poses @ truth[:, None].inverse()).log()[..., 3:].norm(dim=-1)
    assert moved[:, ::2].max() <= 0.002 + 1e-9
    assert 0.08 < moved[:, 1::2].max() <= 0.1 + 1e-9


def test_regression_on_noisy_poses_teaches_the_network_to_rank(make_scene):
    correspondences, truth = make_scene(batch=4, dtype=torch.float32)
    scoring = LearnedScore(_small(), ReprojectionError(max_error_px=100.0))
    optimizer = torch.optim.Adam(scoring.network.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(60):
        poses = noisy_poses(truth, 16, generator)
        loss = scoring.regression_loss(poses, MaxError()(poses, truth[:, None]), correspondences)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    poses = noisy_poses(truth, 64, generator)
    truths = MaxError()(poses, truth[:, None])
    with torch.no_grad():
        scores = scoring.network(scoring.error_image(poses, correspondences))
    ranked = torch.corrcoef(torch.stack([scores.flatten(), -truths.flatten()]))[0, 1]
    assert ranked > 0.7


def test_the_expected_loss_trains_the_network_and_the_points(make_scene):
    correspondences, truth = make_scene(dtype=torch.float32)
    points = correspondences.scene_points.clone().requires_grad_()
    network = _small()
    solver = PoseSolver.rgb(8, selection=DSAC(), scoring=LearnedScore(network))
    live = type(correspondences)(
        correspondences.pixels, points, correspondences.camera, grid=correspondences.grid
    )
    solver.expected_loss(live, truth, MaxError(), torch.Generator().manual_seed(0)).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    assert any((p.grad != 0).any() for p in network.parameters())
    assert torch.isfinite(points.grad).all() and (points.grad != 0).any()


def test_a_score_network_needs_the_grid(make_scene):
    correspondences, _ = make_scene(dtype=torch.float32)
    no_grid = type(correspondences)(
        correspondences.pixels, correspondences.scene_points, correspondences.camera
    )
    with pytest.raises(ValueError, match="grid"):
        PoseSolver.rgb(8, scoring=LearnedScore(_small()))(no_grid)
