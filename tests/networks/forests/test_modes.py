"""Modes of leaves and of pixels: where points gather, by the reference and by the compiled loops alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dsac.networks.forests import modes as reference
from dsac.networks.forests import modes_numba
from dsac.networks.forests.modes import NUM_MODES, SMALLEST, Modes, isotropic

BOTH = [reference, modes_numba]


def _leaves(rng: np.random.Generator, count: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Points in one to four heaps a leaf; one leaf of a single point and one of none."""
    sizes = rng.integers(2, 90, count)
    sizes[3], sizes[5] = 1, 0
    heaps = rng.uniform(-2, 2, (count, 4, 3))
    points = [
        heaps[i, rng.integers(rng.integers(1, 5), size=size)] + 0.03 * rng.standard_normal((size, 3))
        for i, size in enumerate(sizes)
    ]
    return np.concatenate(points).astype(np.float32), np.append(0, sizes.cumsum())


def _agree(modes: list[Modes]) -> None:
    for first, second in zip(*modes, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


def test_the_compiled_modes_of_leaves_are_the_reference() -> None:
    points, starts = _leaves(np.random.default_rng(0))
    found = [module.leaf_modes(points, starts, 0.05) for module in BOTH]
    _agree(found)
    shares = found[0].probability
    assert (shares[5] == 0).all() and shares[3].tolist() == [1, 0, 0]
    assert (shares.sum(1) <= 1 + 1e-6).all() and (shares[:, 2] > 0).any()


@pytest.mark.parametrize("module", BOTH)
def test_modes_are_where_points_gather(module: object) -> None:
    rng = np.random.default_rng(1)
    heaps = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0]])
    points = np.repeat(heaps, (60, 30, 10), axis=0) + 0.02 * rng.standard_normal((100, 3))
    order = rng.permutation(100)
    starts = np.array([0, 100])
    found = module.leaf_modes(points[order].astype(np.float32), starts, 0.05)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found.points[0], heaps, atol=0.02)
    np.testing.assert_allclose(found.probability[0], [0.6, 0.3, 0.1], atol=1e-6)
    assert (np.abs(found.scale[0] - 0.0224) < 0.006).all()  # √(0.02² + (0.2 · 0.05)²)


def _covariances(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    root = rng.uniform(-0.03, 0.03, (*shape, 3, 3))
    row, column = np.triu_indices(3)
    return (root @ root.swapaxes(-1, -2) + 0.01**2 * np.eye(3))[..., row, column].astype(np.float32)


@pytest.mark.parametrize("module", BOTH)
def test_the_covariance_of_a_mode_is_that_of_its_points(module: object) -> None:
    """About the mode, and a little wider: so many points may agree by chance."""
    rng = np.random.default_rng(4)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    points = (rng.uniform(-1, 1, (60, 3)) * (0.05, 0.02, 0.0) @ turn + 3).astype(np.float32)  # flat
    found = module.leaf_modes(points, np.array([0, 60]), 0.1)  # type: ignore[attr-defined]
    off = points - found.points[0, 0]
    expected = off.T @ off / 60 + (SMALLEST * 0.1) ** 2 * np.eye(3)
    np.testing.assert_allclose(found.covariance[0, 0], expected[np.triu_indices(3)], rtol=1e-4, atol=1e-6)


def _forest(rng: np.random.Generator) -> tuple[np.ndarray, Modes]:
    """Leaves of four trees, none here and there, whose modes agree in part."""
    places = rng.uniform(-1, 1, (20, NUM_MODES, 3)).repeat(4, 0)
    modes = Modes(
        (places + 0.02 * rng.standard_normal(places.shape)).astype(np.float32),
        _covariances(rng, places.shape[:2]),
        rng.dirichlet(np.ones(NUM_MODES), 80).astype(np.float32),
    )
    modes.probability[::9, 1:] = 0
    leaves = rng.integers(0, 80, (4, 200)).astype(np.int32)
    leaves[:, :150] = 4 * rng.integers(0, 20, 150) + np.arange(4)[:, None]
    leaves[1, ::5] = -1
    leaves[:, 7] = -1
    return leaves, modes


def test_the_compiled_merging_is_the_reference() -> None:
    leaves, modes = _forest(np.random.default_rng(2))
    found = [module.merged(leaves, modes, 4, 0.02) for module in BOTH]
    _agree(found)
    assert (found[0].probability[7] == 0).all()
    assert (found[0].probability.sum(1) <= 1 + 1e-6).all()


@pytest.mark.parametrize("merged", [module.merged for module in BOTH])
def test_what_several_trees_say_is_one_mode_and_comes_first(merged: Callable) -> None:
    points = np.zeros((3, NUM_MODES, 3), np.float32)
    points[:, 0, 0], points[:, 1, 1] = [0.0, 0.01, 5.0], [1.0, 2.0, 3.0]
    spread = isotropic(np.full((3, NUM_MODES), 0.03**2))
    share = np.tile(np.array([0.6, 0.4, 0.0], np.float32), (3, 1))
    found = merged(np.array([[0], [1], [2]], np.int32), Modes(points, spread, share), 4, 0.03)
    np.testing.assert_allclose(found.points[0, 0], [0.005, 0, 0], atol=1e-4)
    np.testing.assert_allclose(found.probability[0], [0.4, 0.2, 0.4 / 3, 0.4 / 3], atol=1e-6)


@pytest.mark.wrong_input
@pytest.mark.parametrize("module", BOTH)
def test_arrays_that_do_not_go_together_are_refused(module: object) -> None:
    leaf_modes, merged = module.leaf_modes, module.merged  # type: ignore[attr-defined]
    points, starts = _leaves(np.random.default_rng(0))
    for name, arguments in (
        ("points", (points.astype(np.float64), starts)),
        ("points", (points[:, :2], starts)),
        ("starts", (points, starts[::-1])),
        ("starts", (points, starts + 1)),
        ("starts", (points, starts.astype(np.int32))),
        ("starts", (points, starts[:0])),
    ):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            leaf_modes(*arguments, 0.05)
    leaves, modes = _forest(np.random.default_rng(0))
    for name, arguments in (
        ("leaves", (leaves + np.int32(60), modes)),
        ("leaves", (leaves.astype(np.int64), modes)),
        ("leaves", (leaves[0], modes)),
        ("covariance", (leaves, modes._replace(covariance=modes.covariance[1:]))),
        ("points", (leaves, modes._replace(points=modes.points[..., :2]))),
    ):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            merged(*arguments, 4, 0.05)
