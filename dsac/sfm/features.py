"""Keypoints of a photo whose camera is not known, and which of them two photos share.

SIFT (Lowe 2004), with the square roots of its descriptors. Which photos are matched at all is decided by their
largest keypoints alone, a hundredth of the work (Wu 2013): these are seen from afar and in blurred photos, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from dsac.networks.sift import clear_matches, sift

LARGEST_SIDE_PX = 1600
NUM_KEYPOINTS = 3000
_NUM_LARGEST = 200
_ALL_PAIRS_OF = 40  # photos: so few are matched each with each
_MOST_ALIKE = 20
_NEIGHBOURS = (1, 2, 4, 8)  # in the order of names, which mostly is that of recording
_RATIO = 0.8  # best to second best distance of descriptors
_LEAST_SIMILARITY = 0.75
_LEAST_SHARED, _LEAST_SHARE, _MANY_SHARED = 20, 0.35, 60  # matches of two photos that agree


@dataclass(frozen=True)
class Features:
    """Of one photo, the largest keypoint first."""

    pixels: Float32[np.ndarray, "K 2"]  # in the photo as it was given
    descriptors: UInt8[np.ndarray, "K 128"]  # of length 512


def detect(image: UInt8[np.ndarray, "H W 3"]) -> Features:
    """The strongest keypoints of a photo, which is looked at in `LARGEST_SIDE_PX` if it is larger."""
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, LARGEST_SIDE_PX / max(grey.shape))
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    found = sift(grey, NUM_KEYPOINTS)
    by_size = np.argsort(-found.sizes, kind="stable")
    pixels = found.pixels[by_size] * (np.array(image.shape[1::-1]) / np.array(grey.shape[::-1]))
    bytes_of = (512 * found.descriptors[by_size]).round().clip(0, 255).astype(np.uint8)
    return Features(pixels.astype(np.float32), bytes_of)


def match(a: UInt8[np.ndarray, "K 128"], b: UInt8[np.ndarray, "L 128"]) -> Int[np.ndarray, "M 2"]:
    """Rows of descriptors that are each other's nearest neighbours, clearly."""
    rows, columns, _ = clear_matches(_unit(a) @ _unit(b).T, _RATIO, _LEAST_SIMILARITY)
    return np.stack([rows, columns], axis=1)


def agreeing(
    a: Float32[np.ndarray, "M 2"], b: Float32[np.ndarray, "M 2"], error_px: float
) -> tuple[Float[np.ndarray, "3 3"], Bool[np.ndarray, " M"]] | None:
    """The fundamental matrix F, bᵀ F a = 0, of matched pixels, and which of them agree with it.

    None where so few do that it may be by chance: fifteen of forty wrong matches find one.
    """
    import cv2

    if len(a) < _LEAST_SHARED:
        return None
    try:
        F, agree = cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, error_px, 0.999, 2000)
    except cv2.error:  # OpenCV's way to say that no sample of the matches gives one
        return None
    shared = 0 if F is None or F.shape != (3, 3) else np.count_nonzero(agree)
    if shared < _LEAST_SHARED or (shared < _MANY_SHARED and shared < _LEAST_SHARE * len(a)):
        return None
    return F, agree[:, 0] > 0


def pairs_to_match(descriptors: Sequence[UInt8[np.ndarray, "_ 128"]]) -> list[tuple[int, int]]:
    """Of photos in the order of their names: those that look alike and those that are near in it."""
    count = len(descriptors)
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    if count <= _ALL_PAIRS_OF:
        return pairs
    alike = np.zeros((count, count), np.int64)
    for i, j in pairs:
        alike[i, j] = alike[j, i] = len(match(descriptors[i][:_NUM_LARGEST], descriptors[j][:_NUM_LARGEST]))
    chosen = {(i, i + step) for step in _NEIGHBOURS for i in range(count - step)}
    for i, row in enumerate(alike):
        best = np.argsort(-row, kind="stable")[:_MOST_ALIKE].tolist()
        chosen |= {(min(i, j), max(i, j)) for j in best if row[j] > 0}
    return sorted(chosen)


def _unit(descriptors: UInt8[np.ndarray, "K 128"]) -> Float32[np.ndarray, "K 128"]:
    numbers = descriptors.astype(np.float32)
    return numbers / np.maximum(np.linalg.norm(numbers, axis=1, keepdims=True), 1.0)
