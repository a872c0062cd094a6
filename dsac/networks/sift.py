"""SIFT (Lowe 2004), with the square roots of its descriptors (Arandjelović 2012), and clear matches of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8


class SiftPoints(NamedTuple):
    """K keypoints of an image."""

    pixels: Float[np.ndarray, "K 2"]
    sizes: Float[np.ndarray, " K"]  # pixels, across
    angles: Float[np.ndarray, " K"]  # radians
    descriptors: Float32[np.ndarray, "K 128"]  # of unit length, but for rounding


def sift(grey: UInt8[np.ndarray, "H W"], most: int) -> SiftPoints:
    """The strongest keypoints of a grey image, `most` at most."""
    import cv2  # here, because importing the package should not load it

    points, descriptors = cv2.SIFT.create(most, contrastThreshold=0.01).detectAndCompute(grey, None)
    if descriptors is None:
        return SiftPoints(np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros((0, 128), np.float32))
    # OpenCV looks in an image of twice the size: what it finds is a quarter pixel too far right and down
    pixels = np.array([point.pt for point in points]) + 0.5 - 0.25
    sizes, angles = np.array([point.size for point in points]), np.deg2rad([point.angle for point in points])
    rooted = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-6))
    return SiftPoints(pixels, sizes, angles, rooted.astype(np.float32))


def clear_matches(
    similarity: Float32[np.ndarray, "K L"], ratio: float, least: float
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Rows and columns that are each other's most similar, by cosines of unit vectors; the matrix is used up.

    The second best column must be farther off: distances of best and second best have at most that `ratio`, the
    third result. Similarities are above `least`. Without two rows and columns there is no second best: nothing.
    """
    if min(similarity.shape) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    best = similarity.argmax(1)
    rows = np.arange(len(best))
    top = similarity[rows, best]
    mutual = similarity.max(0)[best] <= top
    similarity[rows, best] = -1.0
    second = similarity.max(1)
    distinct = (1 - top) < ratio**2 * (1 - second)  # squared distances are 2 - 2 similarity
    matched = np.flatnonzero(mutual & distinct & (top > least))
    return matched, best[matched], np.sqrt(np.maximum(1 - top[matched], 0) / (1 - second[matched]))
