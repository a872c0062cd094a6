"""Keypoints: the corners of a grey image (Shi & Tomasi, CVPR 1994), each with the descriptor of its place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from dsac.networks.local_features import load_local_features

_LEAST_QUALITY = 0.005  # of the clearest corner's
_SPACING_PX = 4


@dataclass(frozen=True, eq=False)
class Keypoints:
    """K corners, the clearest first. On the CPU."""

    pixels: Float[np.ndarray, "K 2"]
    descriptors: Float32[np.ndarray, "K 64"]  # of unit length

    @staticmethod
    def of(grey: UInt8[np.ndarray, "H W"], count: int) -> Keypoints:
        """At most `count`, at the centres of pixels."""
        return _found(np.ascontiguousarray(grey).tobytes(), grey.shape, count)

    def __len__(self) -> int:
        return len(self.pixels)


@lru_cache(maxsize=8)  # several regions are asked of one photo, in up to four turns
def _found(levels: bytes, shape: tuple[int, ...], count: int) -> Keypoints:
    """Of a grey image of (height, width)."""
    grey = np.frombuffer(levels, np.uint8).reshape(shape).copy()
    found = cv2.goodFeaturesToTrack(grey, count, _LEAST_QUALITY, _SPACING_PX)
    pixels = np.zeros((0, 2)) if found is None else found[:, 0].round().astype(np.float64) + 0.5
    return Keypoints(pixels, load_local_features().describe(grey, pixels))
