"""Local features: the same keypoints with the same descriptors, however large and bright the photo is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from dsac.networks.local_features import (
    NUM_VALUES,
    STRIDE,
    Keypoints,
    LocalFeatures,
    load_local_features,
    sampled,
)

COUNT = 200


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Boxes and discs of many sizes, 200 high and 280 wide: no multiple of 32."""
    rng = np.random.default_rng(0)
    image = np.full((200, 280), 90, np.uint8)
    for _ in range(60):
        x, y = (int(v) for v in rng.integers(0, (280, 200)))
        grey, size = int(rng.integers(20, 235)), int(rng.integers(6, 30))
        if rng.random() < 0.5:
            cv2.rectangle(image, (x, y), (x + size, y + size // 2 + 3), grey, -1)
        else:
            cv2.circle(image, (x, y), size // 2, grey, -1)
    return cv2.GaussianBlur(image, (0, 0), 0.7)


@pytest.fixture(scope="module")
def keypoints(photo: np.ndarray) -> Keypoints:
    return load_local_features().detect(photo, COUNT)


def _repeated(first: Keypoints, second: Keypoints, moved: np.ndarray) -> float:
    """Share of the first's whose likest one of the second's is within 2 pixels of where it should be."""
    nearest = (first.descriptors @ second.descriptors.T).argmax(1)
    return float((np.abs(second.pixels[nearest] - moved).max(1) <= 2).mean())


def test_keypoints_lie_in_the_photo_apart_from_each_other_the_likeliest_first(photo, keypoints):
    assert 50 < len(keypoints) <= COUNT
    assert (keypoints.pixels > 0).all() and (keypoints.pixels < photo.shape[::-1]).all()
    apart = np.abs(keypoints.pixels[:, None] - keypoints.pixels).max(-1)
    assert apart[~np.eye(len(apart), dtype=bool)].min() > 2
    assert (np.diff(keypoints.scores) <= 0).all()
    assert np.allclose(np.linalg.norm(keypoints.descriptors, axis=1), 1, atol=1e-5)
    assert keypoints.descriptors.shape[1] == NUM_VALUES


def test_the_strongest_of_fewer_are_the_same(photo, keypoints):
    assert np.array_equal(load_local_features().detect(photo, 20).pixels, keypoints.pixels[:20])


def test_exposure_does_not_matter(photo, keypoints):
    darker = load_local_features().detect((0.5 * photo.astype(float) + 20).astype(np.uint8), COUNT)
    assert _repeated(keypoints, darker, keypoints.pixels) > 0.9


def test_a_moved_photo_has_its_keypoints_moved(photo, keypoints):
    moved = load_local_features().detect(np.roll(photo, (9, 13), (0, 1)), COUNT)
    inside = (keypoints.pixels + (40, 40) < photo.shape[::-1]).all(1) & (keypoints.pixels > 20).all(1)
    rows = np.flatnonzero(inside)
    assert len(rows) > 30
    assert _repeated(_rows(keypoints, rows), moved, keypoints.pixels[rows] + (13, 9)) > 0.75


def _rows(keypoints: Keypoints, rows: np.ndarray) -> Keypoints:
    return Keypoints(keypoints.pixels[rows], keypoints.descriptors[rows], keypoints.scores[rows])


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (31, 33)])
def test_photos_of_any_size_have_an_answer(size):
    image = np.random.default_rng(0).integers(0, 255, size, np.uint8)
    found = load_local_features().detect(image, 50)
    assert (found.pixels < (size[1], size[0])).all()


def test_a_photo_of_one_colour_has_no_keypoints():
    assert len(load_local_features().detect(np.full((96, 128), 130, np.uint8), 50)) == 0


def test_descriptors_at_the_cells_centres_are_those_of_the_cells():
    descriptors = torch.nn.functional.normalize(torch.randn(1, NUM_VALUES, 4, 6), dim=1)
    centres = torch.tensor([[2, 1], [4, 2]])
    at = sampled(descriptors, (centres + 0.5) * STRIDE)
    assert torch.allclose(at, descriptors[0, :, [1, 2], [2, 4]].T, atol=1e-5)


def test_gradients_reach_all_weights():
    """For those who train it further."""
    network = LocalFeatures()
    descriptors, likelihood = network(torch.rand(1, 1, 64, 96))
    ((descriptors * torch.randn_like(descriptors)).sum() + likelihood.square().sum()).backward()
    missing = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing
