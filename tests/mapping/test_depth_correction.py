"""What a depth camera gets wrong everywhere is told by frames that see the same corners from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Float
from recorded_depth import relative_depths, with_other_depth

from dsac.datasets import Frames
from dsac.geometry import Camera
from dsac.mapping.depth_correction import DepthCorrection
from dsac.mapping.landmark_choice import remember
from dsac.rooms import synthetic_scene

TRUE = np.array([0.02, -0.03, 0.01, 0.015, 0.02, 0.01])


def _measured(
    count: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, "M 2"], Float[np.ndarray, " M"]]:
    """Depths as a camera with the errors `TRUE` measures them, where, and the true inverse depths."""
    places = rng.uniform(-0.5, 0.5, (count, 2))
    depths = rng.uniform(1.0, 4.0, count)
    exact = DepthCorrection(TRUE, float(np.median(depths)))
    return depths, places, exact.inverse_depths(depths, places)


def test_errors_are_found_among_noise_and_outliers() -> None:
    rng = np.random.default_rng(0)
    depths, places, inverse = _measured(20_000, rng)
    sigmas = rng.uniform(0.005, 0.05, len(depths)) / depths
    votes = inverse + sigmas * rng.standard_normal(len(depths))
    wrong = rng.random(len(depths)) < 0.2
    votes[wrong] *= rng.uniform(0.8, 1.4, wrong.sum())
    found = DepthCorrection.fit(depths, places, votes, sigmas).inverse_depths(depths, places)
    before = np.abs(depths * inverse - 1)
    after = np.abs(found / inverse - 1)
    assert np.median(before) > 0.015
    assert np.median(after) < 0.002 and after.max() < 0.01


def test_few_votes_correct_little_and_none_nothing() -> None:
    rng = np.random.default_rng(1)
    depths, places, _ = _measured(5, rng)
    found = DepthCorrection.fit(depths, places, 1.05 / depths, np.full(5, 0.05))
    assert np.abs(found.inverse_depths(depths, places) * depths - 1).max() < 0.02
    nothing = np.zeros(0)
    none = DepthCorrection.fit(nothing, np.zeros((0, 2)), nothing, nothing)
    np.testing.assert_array_equal(none.inverse_depths(depths, places), 1 / depths)


def test_far_beyond_the_votes_a_correction_stays_small() -> None:
    correction = DepthCorrection(TRUE, 2.0)
    depths = np.array([1e3, 1e6])
    ratio = correction.inverse_depths(depths, np.full((2, 2), 0.5)) * depths
    assert ((ratio >= 0.9) & (ratio <= 1.1)).all()


def _measured_badly(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Too far by a part that grows across the image."""
    return depth * (1.02 + 0.04 * np.linspace(-0.5, 0.5, camera.size[0]))


@pytest.fixture(scope="module")
def walk() -> Frames:
    return synthetic_scene(num_mapping=80, num_query=1, size=(320, 240)).mapping[:12]


def _median_error(frames: Frames, truth: Frames) -> float:
    """Of the relative depths of landmarks in the frames that show them."""
    off = relative_depths(remember(frames, 1200).landmarks, truth) - 1
    return float(np.median(off.abs().numpy()))


def test_landmarks_of_a_bad_depth_camera_lie_on_the_surfaces(walk: Frames) -> None:
    bad = with_other_depth(walk, _measured_badly)
    assert _median_error(bad, walk) < 0.006
    assert _median_error(walk, walk) < 0.004
