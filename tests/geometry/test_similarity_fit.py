"""How one world lies in another, by points and by cameras that both know."""

from __future__ import annotations

import pytest
import torch

from dsac.geometry import Pose, Similarity, fit_cameras, fit_most_points, fit_points


def _randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


A_FROM_B = Similarity(Pose.exp(_randn(6, seed=1)), 2.5)
FAR_AWAY = Similarity(Pose(A_FROM_B.motion.rotation, 1e6 * _randn(3, seed=2)), 0.01)


def _assert_is(fit: Similarity, truth: Similarity, tolerance: float = 1e-9) -> None:
    points = _randn(9, 3, seed=7)
    size = truth.scale + truth.motion.translation.abs().max().item()
    torch.testing.assert_close(fit @ points, truth @ points, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("truth", [A_FROM_B, FAR_AWAY], ids=["near", "far away"])
@pytest.mark.parametrize("count", [3, 4, 20])
def test_exact_points_give_the_exact_transform(truth: Similarity, count: int) -> None:
    points = _randn(count, 3)
    _assert_is(fit_points(points, truth @ points), truth)
    flat = points * torch.tensor([1.0, 1.0, 0.0])
    _assert_is(fit_points(flat, truth @ flat), truth)


def test_the_fit_is_the_best_there_is_and_points_count_by_their_weights() -> None:
    points, weights = _randn(8, 3), torch.tensor([1.0, 2, 0.5, 1, 3, 1, 1, 0])
    noisy = A_FROM_B @ points + 0.1 * _randn(8, 3, seed=3)
    noisy[7] += 100.0  # of no weight

    def cost(similarity: Similarity) -> float:
        return (weights * (similarity @ points - noisy).square().sum(-1)).sum().item()

    fit = fit_points(points, noisy, weights)
    for i in range(7):  # nowhere in its neighbourhood is a better one
        step = torch.zeros(7, dtype=torch.float64)
        for size in (-1e-3, 1e-3):
            step[i] = size
            other = Similarity(Pose.exp(step[:6]) @ fit.motion, fit.scale * step[6].exp().item())
            assert cost(other) > cost(fit)


def test_a_rigid_fit_keeps_the_scale() -> None:
    points = _randn(8, 3)
    fit = fit_points(points, A_FROM_B @ points, rigid=True)
    assert fit.scale == 1.0
    torch.testing.assert_close(fit.motion.rotation, A_FROM_B.motion.rotation)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (_randn(2, 3), "three points or more, got 2"),
        (torch.ones(4, 3), "4 all at one place"),
        (_randn(5, 1) * _randn(3) + 0.001 * _randn(5, 3, seed=1), "5 in a line"),
    ],
)
def test_points_that_do_not_fix_it_are_refused(points: torch.Tensor, expected: str) -> None:
    apart = _randn(len(points), 3, seed=9)
    for here, there in ((points, apart), (apart, points)):
        with pytest.raises(ValueError, match=expected):
            fit_points(here, there)
        with pytest.raises(ValueError, match=expected):
            fit_most_points(here, there, 0.1)


@pytest.mark.parametrize("count", [10, 60])
def test_a_third_of_wrong_points_are_found_out(count: int) -> None:
    points = _randn(count, 3)
    there = A_FROM_B @ points + 0.01 * _randn(count, 3, seed=3)
    wrong = torch.arange(count) % 3 == 1
    there[wrong] += 2 * _randn(int(wrong.sum()), 3, seed=4)
    fit = fit_most_points(points, there, 0.06)
    assert (fit.agree == ~wrong).all()
    _assert_is(fit.a_from_b, A_FROM_B, 0.02)
    assert fit.residuals[~wrong].max() < 0.06 < fit.residuals[wrong].min()


# ---- cameras -----------------------------------------------------------------------------------------


def _cameras(count: int, in_line: bool = False) -> tuple[Pose, Pose]:
    """In b and a."""
    centers = _randn(count, 3) * (torch.tensor([1.0, 0, 0]) if in_line else 1.0)
    rotation = Pose.exp(_randn(count, 6, seed=5)).rotation
    cam_from_b = Pose(rotation, -(rotation @ centers[..., None])[..., 0])
    return cam_from_b, A_FROM_B.pose(cam_from_b)


@pytest.mark.parametrize("in_line", [False, True])
@pytest.mark.parametrize("count", [2, 3, 12])
def test_exact_cameras_give_the_exact_transform_in_a_line_too(count: int, in_line: bool) -> None:
    fit = fit_cameras(*_cameras(count, in_line))
    _assert_is(fit.a_from_b, A_FROM_B)
    assert fit.agree.all() and fit.residuals.max() < 1e-9


def test_wrong_and_noisy_cameras_do_little_harm() -> None:
    cam_from_b, cam_from_a = _cameras(30)
    noise = torch.cat([0.004 * _randn(30, 3, seed=6), 0.02 * _randn(30, 3, seed=7)], -1)
    wrong = torch.arange(30) % 3 == 0
    noise[wrong] = _randn(10, 6, seed=8)
    noise[wrong.nonzero()[:4, 0], :3] = 0.0  # turned rightly, at wrong places
    fit = fit_cameras(cam_from_b, Pose.exp(noise) @ cam_from_a)
    assert not (fit.agree & wrong).any() and fit.agree.sum() >= 18
    _assert_is(fit.a_from_b, A_FROM_B, 0.01)


def test_one_camera_is_enough_where_the_unit_is_the_same() -> None:
    cam_from_b, _ = _cameras(1)
    truth = Similarity(A_FROM_B.motion)
    _assert_is(fit_cameras(cam_from_b, truth.pose(cam_from_b), rigid=True).a_from_b, truth)


def test_cameras_that_do_not_fix_it_are_refused() -> None:
    cam_from_b, cam_from_a = _cameras(12)
    with pytest.raises(ValueError, match="2 or more, got 1"):
        fit_cameras(cam_from_b[:1], cam_from_a[:1])
    with pytest.raises(ValueError, match="most of 12 turned alike, found 1"):
        fit_cameras(cam_from_b, Pose.exp(_randn(12, 6, seed=8)))
    here = Pose(cam_from_b.rotation, torch.zeros(12, 3, dtype=torch.float64))
    shaking = A_FROM_B.pose(here)
    shaking = Pose(shaking.rotation, shaking.translation + 0.01 * _randn(12, 3, seed=9))
    for seen in (here, Pose(here.rotation, 1e-3 * _randn(12, 3, seed=2))):
        with pytest.raises(ValueError, match="a scale"):
            fit_cameras(seen, shaking)
