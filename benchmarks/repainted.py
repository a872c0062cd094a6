"""A recording with depth as if panels had been put up in its place: flat pictures, hung in space.

Each pixel's ray meets a panel's plane, and shows the panel where that is nearer than what was measured. So all
frames agree on it exactly, things before it hide it, and depth says what is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from dsac.datasets import Frames
from dsac.datasets.frame import FrameReader
from dsac.geometry import Camera, Pose

_BEHIND = 0.08  # metres: so far behind what was measured a panel is still seen, which hides what it hangs on
_BLUR_PX = 0.7  # of the picture as the camera shows it: that of other edges in a photo


@dataclass(frozen=True)
class Panel:
    """A picture in space."""

    corner: np.ndarray  # (3,) metres, world frame: of the picture's top left
    right: np.ndarray  # (3,) metres, along its upper side
    down: np.ndarray  # (3,)
    picture: np.ndarray  # (H, W, 3) RGB

    def seen(self, camera: Camera, cam_from_world: Pose) -> tuple[np.ndarray, np.ndarray]:
        """Depth (H, W) at which each pixel of a pinhole camera shows it, infinite beside it; its colours."""
        rotation = cam_from_world.rotation.numpy()
        corner = rotation @ self.corner + cam_from_world.translation.numpy()
        right, down = rotation @ self.right, rotation @ self.down
        (width, height), (rows, columns) = camera.size, self.picture.shape[:2]
        (fx, fy), (cx, cy) = camera.focal_px.tolist(), camera.center_px.tolist()
        x, y = np.meshgrid((np.arange(width) + 0.5 - cx) / fx, (np.arange(height) + 0.5 - cy) / fy)
        rays = np.stack([x, y, np.ones_like(x)])
        # corner + a right + b down = depth · ray: homogeneous in (a, b, 1)
        a, b, third = np.tensordot(np.linalg.inv(np.stack([right, down, corner], 1)), rays, 1)
        depth = 1 / np.where(third > 0, third, np.nan)
        column, row = (columns * a * depth).astype(np.float32), (rows * b * depth).astype(np.float32)
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)  # NaN is not
        colors = cv2.remap(self.picture, column - 0.5, row - 0.5, cv2.INTER_LINEAR)
        return np.where(inside, depth, np.inf), cv2.GaussianBlur(colors, (0, 0), _BLUR_PX)


@dataclass(frozen=True)
class _Repainted:
    """Another reader's images and depth, with panels."""

    reader: FrameReader
    panels: Sequence[Panel]
    frames: Mapping[str, tuple[Camera, Pose]]
    has_depth: bool = True

    def read_image(self, name: str) -> np.ndarray:
        image = self.reader.read_image(name).copy()
        for shown, _, colors in self._seen(name):
            image[shown] = colors[shown]
        return image

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        depth = self.reader.read_depth(name, camera).copy()
        for shown, of_panel, _ in self._seen(name):
            depth[shown] = of_panel[shown]
        return depth

    def _seen(self, name: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each panel where it is seen, its depth and colours."""
        camera, pose = self.frames[name]
        nearest = self.reader.read_depth(name, camera)
        nearest = np.where(nearest > 0, nearest + _BEHIND, np.inf)
        seen = []
        for panel in self.panels:
            depth, colors = panel.seen(camera, pose)
            seen.append((depth < nearest, depth, colors))
            nearest = np.minimum(nearest, depth)
        return seen


def repainted(frames: Frames, panels: Sequence[Panel]) -> Frames:
    """The frames, which have depth and poses, with the panels in their place."""
    poses = frames.cam_from_world
    assert poses is not None
    known = {name: (frames.camera(i), poses[i]) for i, name in enumerate(frames.names)}
    return replace(frames, reader=_Repainted(frames.reader, panels, known))


def shares_shown(frames: Frames, panels: Sequence[Panel]) -> np.ndarray:
    """Of each of N frames the part of the image that shows panels (N,)."""
    reader = repainted(frames, panels).reader
    assert isinstance(reader, _Repainted)
    seen = [[shown for shown, _, _ in reader._seen(name)] for name in frames.names]
    return np.array([np.any(of_frame, axis=0).mean() if of_frame else 0.0 for of_frame in seen])
