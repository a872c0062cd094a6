"""Keypoints of a frame, and which of them two frames with known poses share.

SIFT (Lowe 2004) on the undistorted image. With the poses known, a keypoint's match must lie on its epipolar
line, which leaves few candidates and makes plain nearest-neighbour matching reliable.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int

from dsac.datasets import Frames
from dsac.mapping.views import plain_view
from dsac.networks.encoder import working_size
from dsac.networks.sift import clear_matches, sift

EPIPOLAR_PX = 2.0
_RATIO = 0.9  # best to second best descriptor distance, among the candidates on the line
_LEAST_SIMILARITY = 0.7


@dataclass(frozen=True)
class SiftKeypoints:
    """Of one frame, on the plane z = 1 of its undistorted camera."""

    plane: Float[np.ndarray, "K 2"]
    arrows: Float[np.ndarray, "K 2"]  # as long as the keypoint is large, along its orientation
    descriptors: Float32[np.ndarray, "K 128"]  # unit length
    focal_px: float

    def __len__(self) -> int:
        return len(self.plane)

    @property
    def rays(self) -> Float[np.ndarray, "K 3"]:
        return np.concatenate([self.plane, np.ones((len(self), 1))], axis=1)

    def take(self, rows: np.ndarray) -> SiftKeypoints:
        return SiftKeypoints(self.plane[rows], self.arrows[rows], self.descriptors[rows], self.focal_px)


@dataclass(frozen=True)
class Matches:
    """Keypoints of a first frame and of a second one that look alike and may show the same point."""

    first: Int[np.ndarray, " M"]
    second: Int[np.ndarray, " M"]
    ratio: Float[np.ndarray, " M"]  # of the descriptor's distance to that of the second best on the line


def detect(frames: Frames, index: int, short_side_px: int, num_keypoints: int) -> SiftKeypoints:
    """The strongest keypoints of one frame, found at this size of the image."""
    frame = frames[index]
    size = working_size(frame.camera.size, short_side_px, 8)
    view = plain_view(frame, size, 8)
    grey = cv2.cvtColor((view.image.permute(1, 2, 0).numpy() * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    found = sift(grey, num_keypoints)
    focal, center, pixels = view.camera.focal_px.numpy(), view.camera.center_px.numpy(), found.pixels
    column, row = (pixels // 8).astype(int).clip(0, np.array(view.inside.shape[::-1]) - 1).T
    # beside the photo, an undistorted view shows reflections of it
    shown = view.inside.numpy()[row, column] > 0
    arrows = found.sizes[:, None] * np.stack([np.cos(found.angles), np.sin(found.angles)], axis=1)
    return SiftKeypoints(
        (pixels[shown] - center) / focal,
        arrows[shown] / focal,
        found.descriptors[shown],
        float(focal.mean()),
    )


def match(a: SiftKeypoints, b: SiftKeypoints, b_from_a: Float[np.ndarray, "4 4"]) -> Matches:
    """Nearest neighbours of each other, clearly, among the keypoints on each epipolar line in image b."""
    none = np.zeros(0, int)
    if min(len(a), len(b)) < 2:
        return Matches(none, none, np.zeros(0))
    # of the epipolar planes, in frame b
    normals = np.cross(b_from_a[:3, 3], a.rays @ b_from_a[:3, :3].T)
    lengths = np.maximum(np.linalg.norm(normals[:, :2], axis=1), 1e-12)
    off_line = np.abs((normals / lengths[:, None]).astype(np.float32) @ b.rays.T.astype(np.float32))
    similarity = a.descriptors @ b.descriptors.T
    similarity[off_line > EPIPOLAR_PX / b.focal_px] = -1.0
    return Matches(*clear_matches(similarity, _RATIO, _LEAST_SIMILARITY))
