from __future__ import annotations

import math

import pytest
import torch

from dsac.geometry import Pose
from dsac.ransac import (
    DSAC,
    Argmax,
    Hypotheses,
    MaxError,
    SampledDSAC,
    SoftAM,
    Temperature,
    WeightedError,
    entropy_bits,
    probabilities,
)


def _hypotheses(scores, valid=None, seed: int = 0) -> Hypotheses:
    scores = torch.tensor(scores, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    poses = Pose.exp(0.3 * torch.randn(*scores.shape, 6, generator=generator, dtype=torch.float64))
    valid = torch.ones_like(scores, dtype=torch.bool) if valid is None else torch.tensor(valid)
    samples = torch.zeros(*scores.shape, 4, dtype=torch.long)
    return Hypotheses(poses, samples, valid, torch.zeros_like(scores), scores)


def test_argmax_takes_the_best_valid_hypothesis():
    pool = _hypotheses([[1.0, 9.0, 5.0], [3.0, 2.0, 1.0]], [[True, False, True], [True, True, True]])
    selected = Argmax()(pool)
    assert selected.cam_from_world.shape == (2, 1)
    torch.testing.assert_close(selected.cam_from_world.translation[0, 0], pool.cam_from_world.translation[0, 2])
    torch.testing.assert_close(selected.cam_from_world.translation[1, 0], pool.cam_from_world.translation[1, 0])
    assert (selected.weights == 1).all()


def test_dsac_weighs_by_softmax_and_skips_what_is_negligible():
    pool = _hypotheses([[0.0, 5.0, 4.0, -30.0]])
    selected = DSAC(temperature=2.0)(pool)
    assert selected.cam_from_world.shape == (1, 3)
    expected = torch.softmax(torch.tensor([0.0, 2.5, 2.0, -15.0], dtype=torch.float64), dim=-1)
    torch.testing.assert_close(selected.weights[0], expected[[1, 2, 0]])
    assert DSAC(temperature=2.0, negligible=0.0)(pool).weights.shape == (1, 4)


def test_softam_is_the_hypothesis_when_there_is_one_and_half_way_between_two():
    one = SoftAM()(_hypotheses([[100.0, 0.0]]))
    pool = _hypotheses([[100.0, 0.0]])
    torch.testing.assert_close(one.cam_from_world.matrix, pool.cam_from_world[:, :1].matrix)
    pool = _hypotheses([[1.0, 1.0]])
    middle = SoftAM()(pool).cam_from_world
    angles = middle.rotation_error_deg(pool.cam_from_world)
    torch.testing.assert_close(angles[:, 0], angles[:, 1])


def test_softam_does_not_see_the_world_frame():
    """An axis-angle average in world coordinates breaks where rotations pass π; increments do not."""
    pool = _hypotheses([[1.0, 0.5, 0.2]])
    world_from_other = Pose.exp(torch.tensor([3.1, 0.4, -0.2, 5.0, 6.0, 7.0], dtype=torch.float64))
    other = Hypotheses(
        pool.cam_from_world @ world_from_other, pool.samples, pool.valid, pool.sample_error, pool.scores
    )
    expected = SoftAM()(pool).cam_from_world @ world_from_other
    torch.testing.assert_close(SoftAM()(other).cam_from_world.matrix, expected.matrix)


def test_draws_come_with_their_probabilities():
    pool = _hypotheses([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    expected = probabilities(pool)
    drawn = SampledDSAC(4000)(pool, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.weights.sum(-1), torch.ones(2, dtype=torch.float64))
    same = (drawn.cam_from_world.translation[:, :, None] == pool.cam_from_world.translation[:, None]).all(-1)
    frequency = same.double().mean(1)
    assert (frequency - expected).abs().max() < 4 * 0.5 / math.sqrt(4000)  # four standard errors


@pytest.mark.parametrize("selection", [Argmax(), SoftAM(), DSAC(), SampledDSAC(2)])
def test_a_pool_without_any_valid_hypothesis_is_finite(selection):
    pool = _hypotheses([[1.0, 2.0]], [[False, False]])
    selected = selection(pool, torch.Generator().manual_seed(0))
    assert torch.isfinite(selected.cam_from_world.matrix).all()
    torch.testing.assert_close(selected.weights.sum(-1), torch.ones(1, dtype=torch.float64))


def test_invalid_hypotheses_have_no_probability():
    pool = _hypotheses([[50.0, 0.0, 0.0]], [[False, True, True]])
    torch.testing.assert_close(probabilities(pool), torch.tensor([[0.0, 0.5, 0.5]], dtype=torch.float64))


def test_the_temperature_learns_the_target_entropy():
    pool = _hypotheses(torch.linspace(0, 40, 64)[None].tolist())
    temperature = Temperature(initial=1.0, target_bits=4.0)
    optimizer = torch.optim.Adam(temperature.parameters(), 0.05)
    assert abs(entropy_bits(probabilities(pool, temperature)).item() - 4.0) > 1.0
    for _ in range(200):
        optimizer.zero_grad()
        temperature.loss(pool).backward()
        optimizer.step()
    assert entropy_bits(probabilities(pool, temperature)).item() == pytest.approx(4.0, abs=0.1)


def test_entropy_counts_bits():
    even = torch.full((8,), 1 / 8, requires_grad=True)
    assert entropy_bits(even).item() == pytest.approx(3.0)
    certain = torch.tensor([1.0, 0.0], requires_grad=True)
    entropy_bits(certain).backward()
    assert entropy_bits(certain).item() == 0
    assert torch.isfinite(certain.grad).all()


def test_pose_losses_are_degrees_and_centimetres_of_the_camera_centre():
    truth = Pose.identity(dtype=torch.float64)
    turned = Pose.exp(torch.tensor([0.0, math.radians(3.0), 0.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    moved = Pose(torch.eye(3, dtype=torch.float64), torch.tensor([0.0, 0.02, 0.0], dtype=torch.float64))
    assert MaxError()(turned, truth).item() == pytest.approx(3.0)
    assert MaxError()(moved, truth).item() == pytest.approx(2.0)
    both = turned @ moved
    assert MaxError()(both, truth).item() == pytest.approx(3.0)
    assert WeightedError()(both, truth).item() == pytest.approx(5.0)
    assert WeightedError(per_metre=10.0)(both, truth).item() == pytest.approx(3.2)


def test_the_soft_clamp_is_continuous_and_slows_large_losses():
    truth = Pose.identity(dtype=torch.float64)
    for metres, expected in ((0.99, 99.0), (1.0, 100.0), (4.0, 200.0)):
        far = Pose(torch.eye(3, dtype=torch.float64), torch.tensor([metres, 0.0, 0.0], dtype=torch.float64))
        assert WeightedError()(far, truth).item() == pytest.approx(expected)
        assert MaxError(soft_clamp=100.0)(far, truth).item() == pytest.approx(expected)
        assert MaxError()(far, truth).item() == pytest.approx(100 * metres)


def test_a_pose_at_the_truth_has_loss_zero_and_a_finite_gradient():
    increment = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    for loss in (MaxError(), WeightedError()):
        value = loss(Pose.exp(increment), Pose.identity(dtype=torch.float64))
        assert value.item() == 0
        (gradient,) = torch.autograd.grad(value, increment)
        assert torch.isfinite(gradient).all()
