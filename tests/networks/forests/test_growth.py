"""Growth of trees: what they ask tells scene points apart, and leaves have the samples that descend to them."""

from __future__ import annotations

import numpy as np
import pytest

from dsac.networks.forests.growth import Grown, Growth, Samples, grow
from dsac.networks.forests.trees import Trees, descend

PAIRS = np.array([[0, 0], [0, 1], [1, -1]], np.int8)
GROWTH = Growth(PAIRS, 4.0, 0.01, least=5, num_tests=30, num_judged=100)


def _samples(count: int = 2000) -> Samples:
    """Pixels of two noisy photos, the scene point of which says what channel 1 shows there."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 50, (2, 20, 30, 2)).astype(np.int16)
    images[..., 1] = np.arange(600).reshape(20, 30) + 600 * np.arange(2)[:, None, None]
    image = rng.integers(0, 2, count).astype(np.int32)
    pixels = np.stack([rng.integers(0, 30, count), rng.integers(0, 20, count)], axis=-1).astype(np.int32)
    shown = images[image, pixels[:, 1], pixels[:, 0], 1]
    points = np.stack([shown / 100, 0 * shown, 2 - shown / 50], axis=-1).astype(np.float32)
    angle = rng.uniform(-0.3, 0.3, count)
    return Samples(
        images, image, pixels, np.stack([np.cos(angle), np.sin(angle)], axis=-1).astype(np.float32), points
    )


def _scatter(points: np.ndarray) -> float:
    return float(((points - points.mean(0)) ** 2).sum())


def _leaves(grown: Grown) -> list[np.ndarray]:
    return [grown.order[a:b] for a, b in zip(grown.starts[:-1], grown.starts[1:], strict=True)]


def test_leaves_have_the_samples_that_descend_to_them() -> None:
    samples = _samples()
    grown = grow(samples, GROWTH, 3)
    trees = Trees(grown.tests, grown.child, np.zeros(1, np.int32), 2)
    assert trees.num_leaves == len(grown.starts) - 1 > 50
    assert sorted(grown.order) == list(range(2000))
    agree = 0
    for leaf, rows in enumerate(_leaves(grown)):
        assert len(rows) >= GROWTH.least
        for k in range(2):
            some = rows[samples.image[rows] == k]
            agree += (
                descend(trees, samples.images[k], samples.pixels[some], samples.frames[some]) == leaf
            ).sum()
    assert agree > 0.99 * 2000  # but for places that rounding puts into another pixel


def test_a_tree_tells_scene_points_apart_by_what_is_seen() -> None:
    samples = _samples()
    within = sum(_scatter(samples.points[rows]) for rows in _leaves(grow(samples, GROWTH, 3)))
    assert within < 0.002 * _scatter(samples.points)


def test_the_root_takes_the_best_of_its_tests() -> None:
    """With one test whose values are known, the threshold is where the two sides scatter least."""
    samples = _samples(300)
    at_pixel = Growth(np.array([[1, -1]], np.int8), 1e-3, 0.01, least=5, num_tests=1, num_judged=300)
    grown = grow(samples, at_pixel, 0)
    shown = samples.images[samples.image, samples.pixels[:, 1], samples.pixels[:, 0], 1]
    left = shown < grown.tests[0, 6]
    taken = _scatter(samples.points[left]) + _scatter(samples.points[~left])
    # fifteen values of samples are tried: the middle one of them is hardly worse than the best
    best = min(
        _scatter(samples.points[shown < t]) + _scatter(samples.points[shown >= t]) for t in range(100, 1100, 10)
    )
    assert taken < 1.3 * best
    assert taken < 0.4 * _scatter(samples.points)


def test_the_same_seed_grows_the_same_tree_and_another_seed_another() -> None:
    samples = _samples(500)
    first, again, other = (grow(samples, GROWTH, seed) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.tests, other.tests)


def test_what_cannot_be_told_apart_is_one_leaf() -> None:
    samples = _samples(500)
    one_place = samples._replace(points=np.ones_like(samples.points))
    blank = samples._replace(images=np.zeros_like(samples.images))
    few = Samples(samples.images, *(x[:9] for x in samples[1:]))
    none = Samples(samples.images, *(x[:0] for x in samples[1:]))
    for given in (one_place, blank, few, none):
        grown = grow(given, GROWTH, 0)
        assert grown.child.tolist() == [~0] and grown.starts.tolist() == [0, len(given.points)]


def test_who_is_told_to_stop_splits_no_more() -> None:
    assert len(grow(_samples(500), GROWTH, 0, np.ones(1, bool)).child) == 1


@pytest.mark.wrong_input
def test_samples_that_do_not_go_together_are_refused() -> None:
    samples = _samples(100)
    for name, wrong in (
        ("images", {"images": samples.images.astype(np.float32)}),
        ("images", {"images": samples.images[0]}),
        ("image", {"image": samples.image + np.int32(1)}),
        ("image", {"image": samples.image[1:]}),
        ("pixels", {"pixels": samples.pixels + np.int32(15)}),
        ("pixels", {"pixels": samples.pixels.astype(np.int64)}),
        ("frames", {"frames": samples.frames[1:]}),
        ("frames", {"frames": samples.frames * np.nan}),
        ("points", {"points": samples.points + np.float32(np.inf)}),
    ):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            grow(samples._replace(**wrong), GROWTH, 0)
    for name, growth in (
        ("pairs", {"pairs": np.array([[0, 2]], np.int8)}),
        ("pairs", {"pairs": np.array([[-1, 0]], np.int8)}),
        ("pairs", {"pairs": PAIRS[:0]}),
        ("least", {"least": 0}),
        ("radius_px", {"radius_px": 0.0}),
        ("radius_px", {"radius_px": 3000.0}),
    ):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            grow(samples, GROWTH._replace(**growth), 0)
