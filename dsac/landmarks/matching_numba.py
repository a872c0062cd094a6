"""Matching of keypoints to the points that a pose shows near them; `matching.py` says what is computed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from dsac.kernels.jit import kernel
from dsac.landmarks.described import DescribedPoints
from dsac.landmarks.keypoints import Keypoints
from dsac.landmarks.matching import LEAST_NEAR, Pairs


def match_near(
    points: DescribedPoints,
    rows: Int[np.ndarray, " M"],
    expected: Float[np.ndarray, "M 2"],
    keypoints: Keypoints,
    radius: float | int,
) -> Pairs:
    """As in `matching.py`. Raises: `ValueError`, `IndexError` for arrays that do not fit together."""
    if len(rows) == 0 or len(keypoints) == 0:
        return Pairs.none()
    known = points.unit_descriptors
    if expected.shape != (len(rows), 2):
        raise ValueError(f"expected: expected ({len(rows)}, 2), got {expected.shape}")
    if not (0 <= rows.min() and rows.max() < len(known)):
        raise IndexError(f"rows: expected less than {len(known)}, got {rows.min()} to {rows.max()}")
    asked = np.ascontiguousarray(keypoints.descriptors, np.float32)
    if asked.shape != (len(keypoints), known.shape[1]) or keypoints.pixels.shape != (len(keypoints), 2):
        raise ValueError(f"descriptors: expected ({len(keypoints)}, {known.shape[1]}), got {asked.shape}")
    if not radius > 0:
        raise ValueError(f"radius: expected more than 0, got {radius}")
    nearest, similarity = _nearest(
        np.ascontiguousarray(known.numpy()), np.ascontiguousarray(rows, np.int64),
        np.ascontiguousarray(expected, np.float64), asked,
        np.ascontiguousarray(keypoints.pixels, np.float64), float(radius),
    )  # fmt: skip
    found = np.flatnonzero((nearest >= 0) & (similarity > LEAST_NEAR))
    return Pairs(found, rows[nearest[found]], similarity[found])


@kernel
def _nearest(known, rows, expected, asked, pixels, radius):
    """For each keypoint the index of the mutually most similar expected one, -1 for none, and the cosine.

    Keypoints are listed by squares of side `radius`, of which nine can hold the neighbours of a pixel.
    """
    count = len(pixels)
    left, top = pixels[:, 0].min(), pixels[:, 1].min()
    across = int((pixels[:, 0].max() - left) / radius) + 1
    down = int((pixels[:, 1].max() - top) / radius) + 1
    starts = np.zeros(across * down + 1, np.int64)
    square = np.empty(count, np.int64)
    for k in range(count):
        square[k] = int((pixels[k, 1] - top) / radius) * across + int((pixels[k, 0] - left) / radius)
        starts[square[k] + 1] += 1
    for s in range(across * down):
        starts[s + 1] += starts[s]
    held, listed = starts[:-1].copy(), np.empty(count, np.int64)
    for k in range(count):
        listed[held[square[k]]] = k
        held[square[k]] += 1

    nearest, similarity = np.full(count, -1), np.full(count, np.float32(-1))
    chosen = np.full(len(rows), -1)
    for m in range(len(rows)):
        u, v = expected[m]
        if not (left - radius <= u and u <= left + (across + 1) * radius):
            continue
        if not (top - radius <= v and v <= top + (down + 1) * radius):
            continue
        column, row = int(np.floor((u - left) / radius)), int(np.floor((v - top) / radius))
        best = np.float32(-1)
        for y in range(max(0, row - 1), min(down, row + 2)):
            for x in range(max(0, column - 1), min(across, column + 2)):
                for i in range(starts[y * across + x], starts[y * across + x + 1]):
                    k = listed[i]
                    if (pixels[k, 0] - u) ** 2 + (pixels[k, 1] - v) ** 2 > radius * radius:
                        continue
                    alike = np.float32(0)
                    for c in range(known.shape[1]):
                        alike += known[rows[m], c] * asked[k, c]
                    if alike > best:
                        best, chosen[m] = alike, k
                    if alike > similarity[k]:
                        similarity[k], nearest[k] = alike, m
    for k in range(count):
        if nearest[k] >= 0 and chosen[nearest[k]] != k:
            nearest[k] = -1
    return nearest, similarity
