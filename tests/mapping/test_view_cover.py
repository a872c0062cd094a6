"""Points are chosen so that every view shows about as many, and none twice from the same side."""

from __future__ import annotations

import numpy as np
import pytest

from dsac.landmarks.patches import PinholeView
from dsac.mapping.view_cover import spread_over_views

FOCAL, SIZE = np.array([200.0, 200.0]), (320, 240)


def _view(x: float, yaw: float = 0.0) -> PinholeView:
    rotation = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    return PinholeView(
        np.column_stack([rotation, -rotation @ [x, 0, 0]]), FOCAL, np.array([160.0, 120.0]), SIZE
    )


def _wall(count: int, seed: int, x: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack([x + rng.uniform(-2, 2, count), rng.uniform(-1.5, 1.5, count), np.full(count, 4.0)])


def test_a_point_that_two_views_found_is_taken_once():
    points = _wall(100, seed=0)
    chosen = spread_over_views(np.tile(points, (2, 1)), np.repeat([0, 1], 100), [_view(0.0), _view(0.1)], 1000)
    assert not (chosen[:100] & chosen[100:]).any()
    taken = points[(chosen[:100] | chosen[100:])]
    assert len(taken) > 80  # those too near to others are left


def test_a_point_that_is_seen_from_another_side_is_taken_again():
    points = _wall(60, seed=1)
    from_the_side = _view(-6.0, yaw=np.deg2rad(55))
    chosen = spread_over_views(
        np.tile(points, (2, 1)), np.repeat([0, 1], 60), [_view(0.0), from_the_side], 1000
    )
    assert (chosen[:60] & chosen[60:]).sum() > 40


def test_views_that_see_little_keep_what_they_have():
    """Ninety views of one wall and one of another: the lonely one gets as many as any."""
    near, far = _wall(300, seed=2), _wall(50, seed=3, x=30.0)
    points = np.concatenate([np.tile(near, (9, 1)), far])
    owner = np.concatenate([np.repeat(np.arange(9), 300), np.full(50, 9)])
    views = [_view(0.01 * i) for i in range(9)] + [_view(30.0)]
    chosen = spread_over_views(points, owner, views, 100)
    assert chosen.sum() == 100
    assert chosen[-50:].sum() >= 40


@pytest.mark.parametrize("count", [1, 7, 60])
def test_no_more_than_asked_are_taken(count):
    chosen = spread_over_views(
        _wall(60, seed=4), np.repeat([0, 1, 2], 20), [_view(0.1 * i) for i in range(3)], count
    )
    assert chosen.sum() <= count
    assert chosen.any()


def test_of_nothing_nothing_is_taken():
    assert len(spread_over_views(np.zeros((0, 3)), np.zeros(0, int), [_view(0.0)], 10)) == 0
