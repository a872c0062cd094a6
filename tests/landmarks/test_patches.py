"""Patches are found where they are, by the fast kernel as by the reference."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dsac.landmarks import patches as reference
from dsac.landmarks import patches_numba
from dsac.landmarks.patches import PinholeView, SeenPoints, Visibility

MODULES = [reference, patches_numba]
RADIUS = 7


def _texture(rng: np.random.Generator, size: tuple[int, int] = (160, 120)) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.normal(size=size[::-1]).astype(np.float32), (0, 0), 2.0)
    return cv2.normalize(noise, None, 10, 245, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]


def _cut(image: np.ndarray, pixels: np.ndarray, radius: int = 8) -> np.ndarray:
    """Patches whose centre pixel is `pixels` (column, row)."""
    return np.stack([image[y - radius : y + radius + 1, x - radius : x + radius + 1] for x, y in pixels])


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image, patches of it, and the pixels that they show."""
    rng = np.random.default_rng(0)
    image = _texture(rng)
    pixels = rng.integers((25, 25), (135, 95), size=(40, 2))
    return image, _cut(image, pixels), pixels


@pytest.mark.parametrize("module", MODULES)
def test_patches_are_found_whatever_the_exposure(module, case):
    image, patches, pixels = case
    darker = (0.6 * image.astype(float) + 20).astype(np.uint8)
    guess = pixels + 0.5 + np.random.default_rng(1).uniform(-5, 5, size=pixels.shape)
    eyes = np.tile(np.eye(2), (len(pixels), 1, 1))
    found, scores = module.find_patches(darker, patches, np.arange(40), guess, eyes, radius=RADIUS)
    assert scores.min() > 0.9
    error = np.abs(found - pixels - 0.5)  # a parabola is not quite the correlation's shape
    assert np.median(error) < 0.1 and error.max() < 0.5


@pytest.mark.parametrize("module", MODULES)
def test_a_turned_and_zoomed_view_shows_the_patch_warped(module, case):
    image, patches, pixels = case
    angle, zoom = np.deg2rad(20), 1.2
    matrix = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([80.0, 60.0])
    # cv2 counts pixel centres from 0
    to_new = np.column_stack([matrix, middle - 0.5 - matrix @ (middle - 0.5)])
    turned = cv2.warpAffine(image, to_new, (160, 120), flags=cv2.INTER_LINEAR)
    there = (pixels + 0.5 - middle) @ matrix.T + middle
    inside = ((there > 20) & (there < (140, 100))).all(1)
    rows = np.flatnonzero(inside)
    warps = np.tile(matrix, (len(rows), 1, 1))
    found, scores = module.find_patches(turned, patches, rows, there[rows] + 2.3, warps, radius=RADIUS)
    assert len(rows) > 10 and scores.min() > 0.9
    error = np.abs(found - there[rows])
    assert np.median(error) < 0.15 and error.max() < 0.5
    plain = module.find_patches(turned, patches, rows, there[rows] + 2.3, 0 * warps + np.eye(2), radius=RADIUS)
    assert np.median(plain[1]) < np.median(scores) - 0.03, "without the warp the patches look different"


def test_the_kernel_agrees_with_the_reference(case):
    image, patches, pixels = case
    rng = np.random.default_rng(2)
    guess = pixels + rng.uniform(-9, 9, size=pixels.shape)  # some beyond the window
    warps = np.eye(2) + rng.normal(scale=0.15, size=(40, 2, 2))
    arguments = (image, patches, np.arange(40), guess, warps)
    slow, slow_scores = reference.find_patches(*arguments, radius=RADIUS)
    fast, fast_scores = patches_numba.find_patches(*arguments, radius=RADIUS)
    assert 10 < (slow_scores > 0.5).sum() < 40
    np.testing.assert_array_equal(np.isnan(fast), np.isnan(slow))
    np.testing.assert_allclose(fast_scores, slow_scores, atol=1e-4)
    np.testing.assert_allclose(fast, slow, atol=1e-2)


@pytest.mark.parametrize("module", MODULES)
def test_what_cannot_be_searched_for_is_not_found(module, case):
    image, patches, pixels = case
    flat = np.full_like(patches[:1], 128)
    centers = np.array([[80.0, 60.0], [2.0, 2.0], [np.nan, 60.0], [80.0, 60.0], [80.0, 60.0]])
    warps = np.stack([np.eye(2), np.eye(2), np.eye(2), 0 * np.eye(2), 0.3 * np.eye(2)])
    stack = np.concatenate([flat, patches])
    found, scores = module.find_patches(image, stack, np.array([0, 1, 1, 1, 1]), centers, warps, radius=RADIUS)
    assert np.isnan(found).all() and (scores == -1).all()


def test_the_same_patches_are_visible_to_the_kernel_as_to_the_reference():
    rng = np.random.default_rng(3)
    points = rng.uniform((-3, -2, -1), (3, 2, 6), size=(3000, 3))
    rays = points - rng.normal(scale=1.5, size=points.shape)
    turn, _ = cv2.Rodrigues(np.array([0.1, -0.3, 0.2]))
    pose = np.column_stack([turn, [0.2, -0.1, 0.5]])
    pixel_sizes = rng.uniform(0.5, 2.0, size=3000) * np.linalg.norm(rays, axis=1) / 500
    view = PinholeView(pose, np.array([500.0, 510.0]), np.array([330.0, 235.0]), (640, 480))
    limits = Visibility(margin_px=7.0, max_angle=0.7, max_zoom=1.8)
    seen = SeenPoints(points, rays, np.zeros((3000, 2, 3)), pixel_sizes)
    for most in (50, 3000):
        rows, expected = (
            module.visible_patches(seen, view, limits, most) for module in (patches_numba, reference)
        )
        assert 40 < len(rows) <= most
        np.testing.assert_array_equal(rows, expected)
    none = SeenPoints(*(x[:0] for x in seen))
    assert len(patches_numba.visible_patches(none, view, limits, 9)) == 0


WRONG = {
    "rows beyond the patches": dict(rows=np.array([0, 40])),
    "negative rows": dict(rows=np.array([-1, 0])),
    "rows of another number": dict(rows=np.arange(3)),
    "one patch without a batch": dict(patches=np.zeros((17, 17), np.uint8)),
    "patches of another type": dict(patches=np.zeros((40, 17, 17), np.float32)),
    "patches that are no squares": dict(patches=np.zeros((40, 17, 15), np.uint8)),
    "patches smaller than a template": dict(patches=np.zeros((40, 5, 5), np.uint8)),
    "an image in colour": dict(image=np.zeros((120, 160, 3), np.uint8)),
    "an image of another type": dict(image=np.zeros((120, 160), np.float32)),
    "warps of another number": dict(image_from_patch=np.zeros((1, 2, 2))),
    "no window": dict(radius=0),
}


@pytest.mark.parametrize("name", WRONG)
def test_arrays_that_do_not_fit_are_refused_before_machine_code_reads_them(name, case):
    image, patches, pixels = case
    arguments = dict(
        image=image,
        patches=patches,
        rows=np.array([0, 1]),
        centers=pixels[:2] + 0.5,
        image_from_patch=np.tile(np.eye(2), (2, 1, 1)),
        radius=RADIUS,
    )
    patches_numba.find_patches(**arguments)
    with pytest.raises((ValueError, IndexError), match="expected"):
        patches_numba.find_patches(**arguments | WRONG[name])
