"""Where a photo shows the described points of a map.

matcher = Matcher.of(described, view)
matcher.anywhere()                                # in the map, without a pose
matcher.near(camera, cam_from_world, radius)      # where a pose shows them: surer, and more of them
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from dsac.geometry import Camera, Pose
from dsac.kernels import is_at_once
from dsac.landmarks.described import DescribedPoints
from dsac.landmarks.keypoints import Keypoints
from dsac.landmarks.matching import Pairs, match, match_near
from dsac.landmarks.view import GreyView
from dsac.ransac import Correspondences

NUM_KEYPOINTS = 1000  # of a photo, at most
_LESS_THAN_ANY = 0.45  # similarity that weighs nothing


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
        near = match_near
        if not is_at_once():
            from dsac.landmarks.matching_numba import match_near as near  # Numba: a second to load

        points_cam = cam_from_world.to(torch.float64) @ self.known.points.double()
        in_front = (points_cam[:, 2] > 0).nonzero()[:, 0]
        pixels = camera.project(points_cam[in_front])
        inside = ((pixels > -radius) & (pixels < torch.tensor(camera.size) + radius)).all(-1)
        rows = in_front[inside].numpy()
        return self._found(near(self.known, rows, pixels[inside].numpy(), self.keypoints, radius))

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
