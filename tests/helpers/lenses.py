"""The same photos through another lens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
import torch

from dsac.datasets import FrameReader, Frames
from dsac.geometry import Camera


@dataclass(frozen=True)
class Lens:
    """The photos of a pinhole camera as another camera would have taken them."""

    reader: FrameReader
    pinhole: Camera
    camera: Camera
    has_depth: bool = True

    def read_image(self, name: str) -> np.ndarray:
        return self._bend(self.reader.read_image(name), cv2.INTER_LINEAR)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        return self._bend(self.reader.read_depth(name, self.pinhole), cv2.INTER_NEAREST)

    def _bend(self, image: np.ndarray, interpolation: int) -> np.ndarray:
        return cv2.remap(image, self._pixels[..., 0], self._pixels[..., 1], interpolation)

    @cached_property
    def _pixels(self) -> np.ndarray:
        """Of the pinhole image, the first at 0, that each pixel through the lens shows."""
        width, height = self.camera.size
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        rays = self.camera.unproject(torch.stack([x, y], -1).double().reshape(-1, 2))
        return self.pinhole.project(rays).reshape(height, width, 2).float().numpy() - 0.5


def through(frames: Frames, camera: Camera) -> Frames:
    return replace(frames, cameras=[camera], reader=Lens(frames.reader, frames.cameras[0], camera))
