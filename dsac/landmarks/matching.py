"""Matching: the keypoints of a photo with a map's described points.

    matcher = Matcher(known, keypoints)
    matcher.anywhere()                                # in the map, without a pose
    matcher.near(camera, cam_from_world, radius)      # where a pose shows them: surer, and more of them

`match_near` is the reference; `matching_numba.py` has the fast one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from dsac.geometry import Camera, Pose
from dsac.landmarks.described import DescribedPoints
from dsac.landmarks.keypoints import Keypoints
from dsac.landmarks.view import GreyView
from dsac.ransac import Correspondences

_LEAST_SIMILARITY = 0.6  # cosine of descriptors: anywhere in the map, and ...
LEAST_NEAR = 0.5  # ... near where a pose expects the point
_LESS_THAN_ANY = 0.45  # weighs nothing
NUM_KEYPOINTS = 1000  # of a photo, at most
_BLOCK = 256  # points that are compared with all keypoints at once: what the cache holds


@dataclass(frozen=True, eq=False)
class Found:
    """Described points that were found in a photo."""

    pixels: Float32[Tensor, "M 2"]
    points: Float32[Tensor, "M 3"]  # metres, the map's frame
    similarity: Float32[Tensor, " M"]

    def rows(self, camera: Camera) -> Correspondences:
        """As correspondences of one photo, by its pinhole camera."""
        weights = self.similarity - _LESS_THAN_ANY
        return Correspondences(
            self.pixels[None], self.points[None], camera[None].to(torch.float32), weights=weights[None]
        )


@dataclass(frozen=True, eq=False)
class Matcher:
    """Of the described points of a map with the keypoints of a photo."""

    known: DescribedPoints
    keypoints: Keypoints

    def anywhere(self) -> Found:
        return self._found(match(self.known, self.keypoints))

    def near(self, camera: Camera, cam_from_world: Pose, radius: float | int) -> Found:
        """Within `radius` pixels of where this pose (batch ()) shows them in the pinhole camera."""
        from dsac.landmarks.matching_numba import match_near  # Numba, which takes a second to load

        points_cam = cam_from_world.to(torch.float64) @ self.known.points.double()
        in_front = (points_cam[:, 2] > 0).nonzero()[:, 0]
        pixels = camera.project(points_cam[in_front])
        inside = ((pixels > -radius) & (pixels < torch.tensor(camera.size) + radius)).all(-1)
        rows = in_front[inside].numpy()
        return self._found(match_near(self.known, rows, pixels[inside].numpy(), self.keypoints, radius))

    @staticmethod
    def of(known: DescribedPoints, view: GreyView, quarter_turns: int = 0) -> Matcher:
        """With the keypoints of a photo, described as it looks turned counterclockwise.

        Descriptors do not stand a quarter turn. Pixels are those of the photo as it is.
        """
        turned = np.rot90(view.pixels, quarter_turns)
        keypoints = Keypoints.of(turned, NUM_KEYPOINTS)
        pixels, (height, width) = keypoints.pixels, turned.shape
        for _ in range(quarter_turns):  # clockwise, back again
            pixels = np.stack([height - pixels[:, 1], pixels[:, 0]], axis=-1)
            height, width = width, height
        return Matcher(known, replace(keypoints, pixels=pixels))

    def _found(self, pairs: Pairs) -> Found:
        pixels = torch.from_numpy(self.keypoints.pixels[pairs.keypoints]).float()
        return Found(pixels, self.known.points[pairs.points], torch.from_numpy(pairs.similarity))


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
