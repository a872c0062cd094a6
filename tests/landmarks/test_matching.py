"""Described points are found by their descriptors, by the fast kernel as by the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dsac.geometry import Camera, Pose
from dsac.landmarks import DescribedPoints, GreyView, Keypoints, Matcher, matching_numba
from dsac.landmarks import matching as reference
from dsac.networks.local_features import NUM_VALUES
from dsac.ransac import DenseSolver

MODULES = [reference, matching_numba]
CAMERA = Camera.simple(300, (320, 240))
POSE = Pose.exp(torch.tensor([0.1, -0.2, 0.05, 0.3, 0.1, 0.2], dtype=torch.float64))


def _units(rng: np.random.Generator, count: int) -> np.ndarray:
    values = rng.normal(size=(count, NUM_VALUES))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def case() -> tuple[DescribedPoints, Keypoints, np.ndarray]:
    """Points; keypoints of a photo that show every second of them, noisily; and which."""
    rng = np.random.default_rng(0)
    points_cam = torch.from_numpy(rng.uniform((-1.5, -1.2, 3), (1.5, 1.2, 6), size=(300, 3)))
    points, descriptors = (POSE.inverse() @ points_cam).numpy(), _units(rng, 300)
    shown = np.arange(0, 300, 2)
    pixels = CAMERA.project(points_cam).numpy()[shown] + rng.normal(size=(150, 2))
    noisy = descriptors[shown] + 0.05 * rng.normal(size=(150, NUM_VALUES))
    noisy = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
    return DescribedPoints.of(points, descriptors), Keypoints(pixels, noisy), shown


def test_descriptors_keep_their_directions_in_a_byte_a_value(case):
    unit = _units(np.random.default_rng(1), 50)
    kept = DescribedPoints.of(np.zeros((50, 3)), unit)
    assert kept.descriptors.dtype == torch.int8
    assert (kept.unit_descriptors.numpy() * unit).sum(1).min() > 0.999


def test_matches_anywhere_are_each_others_best(case):
    known, keypoints, shown = case
    pairs = reference.match(known, keypoints)
    assert len(pairs) > 100
    assert np.array_equal(pairs.points, shown[pairs.keypoints])
    assert len(set(pairs.points.tolist())) == len(pairs)


def test_of_two_keypoints_like_one_point_the_liker_is_its_match(case):
    known, keypoints, shown = case
    farther = keypoints.descriptors + 0.04 * _units(np.random.default_rng(3), 150)
    farther = farther / np.linalg.norm(farther, axis=1, keepdims=True)
    twice = Keypoints(np.tile(keypoints.pixels, (2, 1)), np.concatenate([farther, keypoints.descriptors]))
    pairs = reference.match(known, twice)
    alike = (twice.descriptors.reshape(2, 150, -1) * known.unit_descriptors.numpy()[shown]).sum(-1)
    assert len(set(pairs.points.tolist())) == len(pairs) > 100
    assert np.array_equal(pairs.keypoints // 150, alike.argmax(0)[pairs.keypoints % 150])


def test_matches_do_not_depend_on_the_blocks_they_are_made_in(case, monkeypatch):
    known, keypoints, _ = case
    whole = reference.match(known, keypoints)
    monkeypatch.setattr(reference, "_BLOCK", 7)
    again = reference.match(known, keypoints)
    assert np.array_equal(whole.keypoints, again.keypoints)
    assert np.array_equal(whole.points, again.points)


@pytest.mark.parametrize("module", MODULES)
def test_matches_near_are_as_near_as_asked(module, case):
    known, keypoints, shown = case
    rows = np.arange(300)
    expected = CAMERA.project(POSE @ known.points.double()).numpy()
    pairs = module.match_near(known, rows, expected, keypoints, 2.0)
    apart = np.linalg.norm(keypoints.pixels[pairs.keypoints] - expected[pairs.points], axis=1)
    assert apart.max() <= 2.0
    assert 60 < len(pairs) < 149  # of noise of a pixel in x and y, an eighth lies farther
    assert np.array_equal(pairs.points, shown[pairs.keypoints])


@pytest.mark.parametrize("radius", [0.5, 3.0, 40.0, 1000.0])
def test_the_kernel_agrees_with_the_reference(radius, case):
    """Descriptors of few directions, so that many look alike."""
    known, keypoints, _ = case
    rng = np.random.default_rng(2)
    few = _units(rng, 12)
    known = DescribedPoints.of(known.points.numpy(), few[rng.integers(0, 12, 300)] + 0.1 * _units(rng, 300))
    descriptors = few[rng.integers(0, 12, 150)] + 0.1 * _units(rng, 150)
    keypoints = Keypoints(keypoints.pixels, descriptors)
    rows = rng.permutation(300)[:200]
    expected = rng.uniform(-60, (380, 300), size=(200, 2))
    one, other = (m.match_near(known, rows, expected, keypoints, radius) for m in MODULES)
    assert np.array_equal(one.keypoints, other.keypoints)
    assert np.allclose(one.similarity, other.similarity, atol=1e-5)
    assert np.array_equal(one.points, other.points)


@pytest.mark.parametrize("module", MODULES)
def test_without_points_or_keypoints_nothing_matches(module, case):
    known, keypoints, _ = case
    none = np.zeros(0, int)
    assert len(module.match_near(known, none, np.zeros((0, 2)), keypoints, 3)) == 0
    nobody = Keypoints(np.zeros((0, 2)), np.zeros((0, NUM_VALUES), np.float32))
    assert len(module.match_near(known, np.arange(3), np.zeros((3, 2)), nobody, 3)) == 0
    assert len(reference.match(known, nobody)) == 0
    assert (
        len(
            reference.match(
                DescribedPoints.of(np.zeros((0, 3)), _units(np.random.default_rng(0), 0)), keypoints
            )
        )
        == 0
    )


@pytest.mark.wrong_input
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"rows": np.array([0, 300])}, IndexError),
        ({"rows": np.array([-1, 3])}, IndexError),
        ({"expected": np.zeros((3, 2))}, ValueError),
        ({"radius": 0.0}, ValueError),
        ({"radius": float("nan")}, ValueError),
        ({"keypoints": (4, 9)}, ValueError),
        ({"keypoints": (3, NUM_VALUES)}, ValueError),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(case, change, error):
    known, keypoints, _ = case
    if "keypoints" in change:
        descriptors = np.zeros(change["keypoints"], np.float32)
        change = {"keypoints": Keypoints(np.zeros((4, 2)), descriptors)}
    arguments = {"rows": np.array([0, 1]), "expected": np.zeros((2, 2)), "keypoints": keypoints, "radius": 3.0}
    with pytest.raises(error):
        matching_numba.match_near(known, **(arguments | change))


@pytest.mark.wrong_input
def test_described_points_are_checked():
    points, descriptors = torch.zeros(4, 3), torch.zeros(4, NUM_VALUES, dtype=torch.int8)
    DescribedPoints(points, descriptors)
    for wrong in (points[:3], points.double(), points[:, :2], torch.full((4, 3), torch.nan)):
        with pytest.raises(ValueError, match="points"):
            DescribedPoints(wrong, descriptors)
    for wrong in (descriptors[:3], descriptors.float(), descriptors[:, :9]):
        with pytest.raises(ValueError, match="descriptors"):
            DescribedPoints(points, wrong)


def test_what_is_found_tells_the_pose(case):
    known, keypoints, _ = case
    matcher = Matcher(known, keypoints)
    estimate = DenseSolver.rgb(threshold_px=4.0)(matcher.anywhere().rows(CAMERA))
    assert estimate.success.item()
    assert estimate.cam_from_world[0].to(torch.float64).center_distance(POSE).item() < 0.02
    near = matcher.near(CAMERA, POSE, 5)
    assert len(near.pixels) >= len(matcher.anywhere().pixels)


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_keypoints_of_a_turned_photo_lie_where_they_are_in_the_photo(quarter_turns):
    image = _boxes()
    nothing = DescribedPoints.of(np.zeros((0, 3)), np.zeros((0, NUM_VALUES), np.float32))
    view = GreyView(image, Camera.simple(150, (192, 128)))
    upright = Matcher.of(nothing, view).keypoints.pixels
    turned = Matcher.of(nothing, view, quarter_turns).keypoints.pixels
    near = np.abs(turned[:, None] - upright).max(-1).min(1) <= 2.5
    assert near.mean() > 0.9
    assert len(turned) > 20


def _boxes() -> np.ndarray:
    """Boxes of many greys and sizes, in an image 192 wide and 128 high."""
    rng = np.random.default_rng(0)
    image = np.full((128, 192), 60, np.uint8)
    for _ in range(80):
        x, y = rng.integers(0, (180, 120))
        image[y : y + rng.integers(4, 20), x : x + rng.integers(4, 20)] = rng.integers(20, 235)
    return image
