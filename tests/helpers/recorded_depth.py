"""Depth as other cameras measure it, and how well landmarks fit the true one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from dsac.datasets import FrameReader, Frames
from dsac.geometry import Camera
from dsac.landmarks import Landmarks

Change = Callable[[np.ndarray, Camera], np.ndarray]  # from the depth of a frame, (H, W), to another


@dataclass(frozen=True)
class _OtherDepth:
    frames: FrameReader
    change: Change
    has_depth: bool = True

    def read_image(self, name: str) -> np.ndarray:
        return self.frames.read_image(name)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        return self.change(self.frames.read_depth(name, camera), camera).astype(np.float32)


def with_other_depth(frames: Frames, change: Change) -> Frames:
    return replace(frames, reader=_OtherDepth(frames.reader, change))


def relative_depths(landmarks: Landmarks, frames: Frames) -> torch.Tensor:
    """Depth of each landmark in the frame that it was cut from, relative to the depth that is true there."""
    ratios = []
    for i in range(len(frames)):
        frame = frames[i]
        assert frame.depth is not None and frame.cam_from_world is not None
        points_cam = frame.cam_from_world @ landmarks.points[landmarks.view == i].double()
        column, row = frame.camera.project(points_cam).long().T
        ratios.append(points_cam[:, 2] / frame.depth[row, column])
    return torch.cat(ratios)
