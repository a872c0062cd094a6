"""Local features: the same place has the same descriptor, however large and bright the photo is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from dsac.networks.local_features import NUM_VALUES, STRIDE, LocalFeatures, load_local_features, sampled

SIZE = 280, 200  # no multiples of 32


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Boxes and discs of many greys and sizes."""
    rng = np.random.default_rng(0)
    image = np.full(SIZE[::-1], 90, np.uint8)
    for _ in range(120):
        x, y = (int(v) for v in rng.integers(0, SIZE))
        grey, size = int(rng.integers(20, 235)), int(rng.integers(6, 30))
        if rng.random() < 0.5:
            cv2.rectangle(image, (x, y), (x + size, y + size // 2 + 3), grey, -1)
        else:
            cv2.circle(image, (x, y), size // 2, grey, -1)
    return cv2.GaussianBlur(image, (0, 0), 0.7)


@pytest.fixture(scope="module")
def pixels(photo: np.ndarray) -> np.ndarray:
    """Corners away from the border."""
    found = cv2.goodFeaturesToTrack(photo, 100, 0.01, 8)[:, 0] + 0.5
    return found[((found > 40) & (found < np.array(SIZE) - 40)).all(1)].astype(np.float64)


def _known_again(first: np.ndarray, second: np.ndarray) -> float:
    """Share of descriptors whose likest one of the second is their own."""
    return float(((first @ second.T).argmax(1) == np.arange(len(first))).mean())


def test_descriptors_are_of_unit_length(photo, pixels):
    found = load_local_features().describe(photo, pixels)
    assert found.shape == (len(pixels), NUM_VALUES)
    assert len(pixels) > 30
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_exposure_does_not_matter(photo, pixels):
    features = load_local_features()
    darker = (0.5 * photo.astype(float) + 20).astype(np.uint8)
    assert _known_again(features.describe(photo, pixels), features.describe(darker, pixels)) > 0.97


def test_places_are_known_again_in_a_moved_photo(photo, pixels):
    """By no whole number of cells."""
    features, moved = load_local_features(), np.roll(photo, (9, 13), (0, 1))
    assert _known_again(features.describe(photo, pixels), features.describe(moved, pixels + (13, 9))) > 0.9


def test_places_are_known_again_in_a_larger_photo(photo, pixels):
    features = load_local_features()
    larger = cv2.resize(photo, None, fx=1.3, fy=1.3)
    assert _known_again(features.describe(photo, pixels), features.describe(larger, 1.3 * pixels)) > 0.7


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (31, 33)])
def test_photos_of_any_size_have_descriptors(size):
    image = np.random.default_rng(0).integers(0, 255, size, np.uint8)
    assert np.isfinite(load_local_features().describe(image, np.array([[0.5, 0.5]]))).all()


def test_a_photo_of_one_colour_has_finite_descriptors():
    found = load_local_features().describe(np.full((96, 128), 130, np.uint8), np.array([[50.0, 50.0]]))
    assert np.isfinite(found).all()


def test_no_pixels_have_no_descriptors(photo):
    assert load_local_features().describe(photo, np.zeros((0, 2))).shape == (0, NUM_VALUES)


def test_descriptors_at_the_cells_centres_are_those_of_the_cells():
    descriptors = torch.nn.functional.normalize(torch.randn(1, NUM_VALUES, 4, 6), dim=1)
    centres = torch.tensor([[2, 1], [4, 2]])
    at = sampled(descriptors, (centres + 0.5) * STRIDE)
    assert torch.allclose(at, descriptors[0, :, [1, 2], [2, 4]].T, atol=1e-5)


def test_gradients_reach_all_weights():
    """For those who train it further."""
    network = LocalFeatures()
    descriptors = network(torch.rand(1, 1, 64, 96))
    (descriptors * torch.randn_like(descriptors)).sum().backward()
    missing = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing
