"""Mistakes that recordings are made with, put into ones that are right: for `check_recordings.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from dsac import Camera, Frames, Pose
from dsac.checking.sample import SharedCorners
from dsac.datasets.conventions import Conventions, camera_axes, cosines

DepthOf = Callable[[Frames, str, Camera], np.ndarray]  # of a frame by its name, (H, W)


@dataclass(frozen=True)
class Mistake:
    """What is done to a recording, and what a check has to say of it."""

    cures: tuple[str, ...] = ()  # options, each of which mends it
    words: str = ""  # of a finding, where there is no option
    poses: Callable[[Pose], Pose] = lambda poses: poses
    camera: Callable[[Camera], Camera] = lambda camera: camera
    turned: bool = False  # images, and what they share, but not their cameras
    depth: DepthOf | None = None

    def made(self, frames: Frames, shared: SharedCorners) -> tuple[Frames, SharedCorners]:
        """A recording with it, and what its frames share."""
        assert frames.cam_from_world is not None
        poses, cameras = self.poses(frames.cam_from_world), [self.camera(camera) for camera in frames.cameras]
        reader = _OtherDepth(frames, self.depth) if self.depth else frames.reader
        made = replace(frames, cam_from_world=poses, cameras=cameras, reader=reader)
        if self.turned:
            return made.without_depth(), _turned_corners(shared).through(_of_turned_size)
        return made, shared.through(self.camera)

    def is_named(self, cure: str, findings: list[str]) -> bool:
        """By the options or the findings of a check."""
        if cure:
            return any(_same(cure, right) for right in self.cures)
        return bool(self.words) and any(self.words in finding for finding in findings)


def _same(cure: str, right: str) -> bool:
    """Whether two lists of options say the same, numbers to 3 %."""
    words, expected = cure.split(), right.split()
    return len(words) == len(expected) and all(map(_same_word, words, expected))


def _same_word(word: str, expected: str) -> bool:
    try:
        return abs(float(word) / float(expected) - 1) < 0.03
    except ValueError:
        return word == expected


@dataclass(frozen=True)
class _OtherDepth:
    """The images of a recording with other depth."""

    frames: Frames
    depth: DepthOf
    has_depth: bool = True

    def read_image(self, name: str) -> np.ndarray:
        return self.frames.reader.read_image(name)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        return self.depth(self.frames, name, camera).astype(np.float32)


def _xyzw(poses: Pose) -> Pose:
    w, x, y, z = poses.quaternion_wxyz.unbind(-1)
    return Pose.from_quaternion(torch.stack([x, y, z, w], dim=-1), poses.translation)


def _axes(letters: str) -> Callable[[Pose], Pose]:
    axes = camera_axes(letters)
    world = torch.diag(axes.new_tensor([1.0, 1.0, float(torch.linalg.det(axes).round())]))
    return lambda poses: Pose(axes.T @ poses.rotation @ world, poses.translation @ axes)


def _of_neighbours(step: int) -> Callable[[Pose], Pose]:
    return lambda poses: poses[(torch.arange(len(poses)) + step).clamp(0, len(poses) - 1)]


def _longer(scale: float) -> Callable[[Camera], Camera]:
    return Conventions(focal_scale=scale).camera


def _off_center(x: float, y: float) -> Callable[[Camera], Camera]:
    """By shares of the shorter side."""
    return lambda camera: replace(
        camera, center_px=camera.center_px + camera.center_px.new_tensor([x, y]) * min(camera.size)
    )


def _of_turned_size(camera: Camera) -> Camera:
    return replace(camera, size=camera.size[::-1])


def _turned_corners(shared: SharedCorners) -> SharedCorners:
    """Of images that are turned clockwise by a quarter."""

    def turned(of: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        heights = np.array([frame.camera.size[1] for frame in shared.frames])
        return np.stack([heights[of] - pixels[:, 1], pixels[:, 0]], axis=1)

    return replace(
        shared,
        pixels_first=turned(shared.first, shared.pixels_first),
        pixels_second=turned(shared.second, shared.pixels_second),
    )


def _times(scale: float) -> DepthOf:
    return lambda frames, name, camera: scale * frames.reader.read_depth(name, camera)


def _along_rays(frames: Frames, name: str, camera: Camera) -> np.ndarray:
    return frames.reader.read_depth(name, camera) / cosines(camera)


def _of_another_frame(step: int) -> DepthOf:
    def depth(frames: Frames, name: str, camera: Camera) -> np.ndarray:
        other = min(max(frames.names.index(name) + step, 0), len(frames) - 1)
        return frames.reader.read_depth(frames.names[other], camera)

    return depth


def _of_another_camera(focal_scale: float, aside: float) -> DepthOf:
    """With another focal length, so many metres to the right: pixels go where that camera sees their points."""

    def depth(frames: Frames, name: str, camera: Camera) -> np.ndarray:
        near = frames.reader.read_depth(name, camera)
        height, width = near.shape
        focal_px, center_px = camera.focal_px.numpy(), camera.center_px.numpy()
        columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        known = near > 0
        z = near[known]
        x = (columns[known] - center_px[0] - aside * focal_px[0] / z) * focal_scale + center_px[0]
        y = (rows[known] - center_px[1]) * focal_scale + center_px[1]
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        seen = np.full((height, width), np.inf, np.float32)
        np.minimum.at(seen, (y[inside].astype(int), x[inside].astype(int)), z[inside])
        filled = cv2.erode(seen, np.ones((2, 2)))  # what a longer focal length tears open
        seen = np.where(np.isinf(seen), filled, seen)
        return np.where(np.isinf(seen), 0, seen)

    return depth


ANOTHER_CAMERA, ANOTHER_TIME = "that of another camera", "fit what is seen"
MISTAKES: dict[str, Mistake] = {
    "poses inverted": Mistake(("--poses inverted",), poses=Pose.inverse),
    "x y z w": Mistake(("--quaternion xyzw",), poses=_xyzw),
    "x y z w of world from camera": Mistake(
        ("--quaternion xyzw --written world_from_cam",), poses=lambda poses: _xyzw(poses.inverse()).inverse()
    ),
    "x y z w and inverted": Mistake(
        ("--quaternion xyzw --poses inverted",), poses=lambda poses: _xyzw(poses.inverse())
    ),
    "OpenGL": Mistake(("--axes opengl",), poses=_axes("RUB")),
    "OpenGL and inverted": Mistake(
        ("--poses inverted --axes opengl",), poses=lambda poses: _axes("RUB")(poses).inverse()
    ),
    "left-handed": Mistake(("--axes unity",), poses=_axes("RUF")),
    "robot's axes": Mistake(("--axes ros",), poses=_axes("FLU")),
    "images one too early": Mistake(words="the frame before them", poses=_of_neighbours(1)),
    "images one too late": Mistake(words="the frame after them", poses=_of_neighbours(-1)),
    "focal length × 2": Mistake(("--focal-scale 0.5",), camera=_longer(2.0)),
    "focal length ÷ 2": Mistake(("--focal-scale 2",), camera=_longer(0.5)),
    "focal length + 5 %": Mistake(("--focal-scale 0.952",), camera=_longer(1.05)),
    "focal length − 5 %": Mistake(("--focal-scale 1.053",), camera=_longer(0.95)),
    "focal length + 10 %": Mistake(("--focal-scale 0.909",), camera=_longer(1.1)),
    "focal length − 10 %": Mistake(("--focal-scale 1.111",), camera=_longer(0.9)),
    "K of the turned image": Mistake(
        ("--center swapped", "--center middle"), camera=Conventions(center="swapped").camera
    ),
    "images turned, K not": Mistake(
        # or the principal point in words, where it is far from the middle
        ("--axes DLF --center swapped", "--axes DLF --center middle", "--axes DLF"),
        turned=True,
    ),
    "principal point a fifth off": Mistake(
        ("--center middle",), words="a principal point", camera=_off_center(0.15, -0.13)
    ),
    "depth × 0.2": Mistake(("--depth-scale 5",), depth=_times(0.2)),
    "depth × 5": Mistake(("--depth-scale 0.2",), depth=_times(5.0)),
    "depth × 1000": Mistake(("--depth-scale 0.001",), depth=_times(1000.0)),
    "depth along rays": Mistake(("--depth-along ray",), depth=_along_rays),
    "depth two frames late": Mistake(words=ANOTHER_TIME, depth=_of_another_frame(-2)),
    "depth three frames early": Mistake(words=ANOTHER_TIME, depth=_of_another_frame(3)),
    "depth not registered (585 px, 2.6 cm)": Mistake(
        words=ANOTHER_CAMERA, depth=_of_another_camera(585 / 525, 0.026)
    ),
    "depth 5 cm aside": Mistake(words=ANOTHER_CAMERA, depth=_of_another_camera(1.0, 0.05)),
}
