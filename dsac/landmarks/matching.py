"""Matching: keypoints to described points by their descriptors, written out.

`matching_numba.py` has the fast `match_near`; `matcher.py` asks both for a photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from dsac.landmarks.described import DescribedPoints
from dsac.landmarks.keypoints import Keypoints

_LEAST_SIMILARITY = 0.6  # cosine of descriptors: anywhere in the map, and ...
LEAST_NEAR = 0.5  # ... near where a pose expects the point
_LOOKED_AT, _HARDLY_LESS, _LEAST_ALIKE = 48, 0.12, 0.7  # of places that look alike: similarities
_BLOCK = 256  # points that are compared with all keypoints at once: what the cache holds


@dataclass(frozen=True, eq=False)
class Pairs:
    """Keypoints with the points that they look like."""

    keypoints: Int[np.ndarray, " M"]
    points: Int[np.ndarray, " M"]
    similarity: Float32[np.ndarray, " M"]  # cosine of the descriptors

    @staticmethod
    def none() -> Pairs:
        return Pairs(np.zeros(0, int), np.zeros(0, int), np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.keypoints)


def match(points: DescribedPoints, keypoints: Keypoints) -> Pairs:
    """Keypoints and points each of which is the other's most similar one."""
    if len(points) == 0 or len(keypoints) == 0:
        return Pairs.none()
    known, asked = points.unit_descriptors, torch.from_numpy(keypoints.descriptors)
    similarity, nearest = torch.full((len(asked),), -1.0), torch.zeros(len(asked), dtype=torch.long)
    highest = torch.empty(len(known))  # similarity of each point with any keypoint
    for start in range(0, len(known), _BLOCK):
        block = slice(start, start + _BLOCK)
        alike: Tensor = asked @ known[block].T
        highest[block] = alike.amax(0)
        nearer = (alike.amax(1) > similarity).nonzero()[:, 0]
        similarity[nearer], place = alike[nearer].max(1)
        nearest[nearer] = start + place
    mutual = (similarity == highest[nearest]) & (similarity > _LEAST_SIMILARITY)
    rows = mutual.nonzero()[:, 0]
    return Pairs(rows.numpy(), nearest[rows].numpy(), similarity[rows].numpy())


def match_several(
    points: DescribedPoints, keypoints: Keypoints, most: int, apart: float
) -> tuple[Int[np.ndarray, "K most"], Float32[np.ndarray, "K most"]]:
    """The points that each keypoint looks like, the likest first and -1 where there are no more; similarities.

    Of points nearer to each other than `apart` (metres) the likest counts; hardly less alike than it are all.
    """
    shape = len(keypoints), most
    found, similarity = np.full(shape, -1), np.zeros(shape, np.float32)
    if len(points) == 0 or len(keypoints) == 0:
        return found, similarity
    asked = torch.from_numpy(keypoints.descriptors)
    looked_at = min(_LOOKED_AT, len(points))
    alike, rows = (x.numpy() for x in (asked @ points.unit_descriptors.T).topk(looked_at, dim=1))
    places = points.points.numpy()[rows]
    kept, number = np.full((*shape, 3), np.inf, np.float32), np.zeros(len(asked), int)
    for k in range(looked_at):
        elsewhere = np.linalg.norm(kept - places[:, k : k + 1], axis=-1).min(1) > apart
        like_it = alike[:, k] > np.maximum(alike[:, 0] - _HARDLY_LESS, _LEAST_ALIKE)
        new = np.flatnonzero(elsewhere & like_it & (number < most))
        at = new, number[new]
        found[at], similarity[at], kept[at] = rows[new, k], alike[new, k], places[new, k]
        number[new] += 1
    return found, similarity


def match_near(
    points: DescribedPoints,
    rows: Int[np.ndarray, " M"],
    expected: Float[np.ndarray, "M 2"],
    keypoints: Keypoints,
    radius: float | int,
) -> Pairs:
    """Keypoints and points, each the other's most similar one within `radius` pixels of where it is expected.

    `expected` are the pixels at which the points `rows` should appear.
    """
    if len(rows) == 0 or len(keypoints) == 0:
        return Pairs.none()
    alike = keypoints.descriptors @ points.unit_descriptors.numpy()[rows].T
    apart = np.linalg.norm(keypoints.pixels[:, None] - expected, axis=-1)
    alike[~(apart <= radius)] = -1
    nearest = alike.argmax(1)
    similarity = alike[np.arange(len(alike)), nearest]
    mutual = (alike.argmax(0)[nearest] == np.arange(len(alike))) & (similarity > LEAST_NEAR)
    return Pairs(np.flatnonzero(mutual), rows[nearest[mutual]], similarity[mutual])
