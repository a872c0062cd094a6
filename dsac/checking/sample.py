"""Which corners some frames of a recording share, found without believing its poses.

Corners are matched by their descriptors and kept where one fundamental matrix explains them, so that what is
left is right whatever the poses, the depth and the focal length are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from dsac.datasets import Frame, Frames
from dsac.errors import DatasetError
from dsac.geometry import Camera
from dsac.landmarks import SHORT_SIDE_PX, GreyView, Keypoints

_MOST_FRAMES = 30
_STEPS = (0, 2, 6)  # between frames of a long recording that stand close together: ten such groups
_CORNERS = 800
_LEAST_SIMILARITY = 0.82
_LEAST_SHARED = 20  # in a pair, ...
_LEAST_AGREED = 0.4  # ... which are that part of all that look alike: fewer are there by chance
_MOST_SHARED = 60  # in a pair, and ...
_MOST = 6000  # ... in all: more say nothing new
_LEAST_MOTION_PX = 8.0  # at a short side of 480: what hardly moves fits any poses
_FUNDAMENTAL_PX = 1.5


@dataclass(frozen=True, eq=False)
class Sampled:
    """One frame that was looked at."""

    index: int  # among all frames
    camera: Camera  # of the undistorted image
    keypoints: Keypoints
    detail: float  # how much detail is left at its own size, relative to half of it
    black: float  # share of the pixels
    white: float

    @staticmethod
    def of(index: int, frame: Frame) -> Sampled:
        """Of the frame with that number."""
        view = GreyView.of(frame.image, frame.camera)
        grey = view.pixels
        if min(frame.camera.size) < SHORT_SIDE_PX:  # as it was before
            grey = cv2.resize(grey, frame.camera.size, interpolation=cv2.INTER_AREA)
        black, white = (float(np.mean(extreme)) for extreme in (grey <= 10, grey >= 250))
        return Sampled(index, view.camera, Keypoints.of(view.pixels, _CORNERS), _detail(grey), black, white)


@dataclass(frozen=True, eq=False)
class SharedCorners:
    """M corners that two frames of a recording both show."""

    frames: list[Sampled]
    first: Int[np.ndarray, " M"]  # of `frames`
    second: Int[np.ndarray, " M"]
    pixels_first: Float[np.ndarray, "M 2"]
    pixels_second: Float[np.ndarray, "M 2"]
    unread: list[str]  # what is said of frames that cannot be read

    def __len__(self) -> int:
        return len(self.first)

    @property
    def indices(self) -> Int[Tensor, " F"]:
        """Of the frames that were looked at, among all."""
        return torch.tensor([frame.index for frame in self.frames])

    @cached_property
    def pairs(self) -> Int[np.ndarray, "P 2"]:
        """Frames that share corners."""
        return np.unique(np.stack([self.first, self.second], axis=1), axis=0)

    @property
    def partners(self) -> Int[np.ndarray, " F"]:
        """With how many others each frame shares corners."""
        return np.bincount(self.pairs.ravel(), minlength=len(self.frames))

    @cached_property
    def planes(self) -> tuple[Float[np.ndarray, "M 2"], Float[np.ndarray, "M 2"]]:
        """Of both, on the plane z = 1."""
        focal, center = (
            np.stack([getattr(frame.camera, name).numpy() for frame in self.frames])
            for name in ("focal_px", "center_px")
        )
        return (
            (self.pixels_first - center[self.first]) / focal[self.first],
            (self.pixels_second - center[self.second]) / focal[self.second],
        )

    @cached_property
    def focal_px(self) -> Float[np.ndarray, " M"]:
        """Of the second frame."""
        return np.array([frame.camera.focal_px.mean().item() for frame in self.frames])[self.second]

    def rays(self, focal_scale: float) -> tuple[Float[np.ndarray, "M 3"], Float[np.ndarray, "M 3"]]:
        """Of both, with z = 1, through cameras whose focal lengths are so much longer than was read."""
        first, second = (np.pad(p / focal_scale, ((0, 0), (0, 1)), constant_values=1.0) for p in self.planes)
        return first, second

    def thinned(self, most: int) -> SharedCorners:
        """At most so many, spread over all pairs."""
        kept = slice(None, None, max(1, -(-len(self) // most)))
        columns = ("first", "second", "pixels_first", "pixels_second")
        return replace(self, **{name: getattr(self, name)[kept] for name in columns})

    def through(self, change: Callable[[Camera], Camera]) -> SharedCorners:
        """The same corners of images by changed cameras."""
        return replace(self, frames=[replace(frame, camera=change(frame.camera)) for frame in self.frames])

    @staticmethod
    def of(frames: Frames, on_progress: Callable[[float], None] = lambda fraction: None) -> SharedCorners:
        """Of some tens of the frames: all of few, groups of neighbours of many."""
        sampled: list[Sampled] = []
        unread: list[str] = []
        chosen = chosen_frames(len(frames))
        frames = frames.without_depth()
        for done, index in enumerate(chosen):
            on_progress(0.6 * done / len(chosen))
            try:
                sampled.append(Sampled.of(index, frames[index]))
            except DatasetError as error:
                unread.append(str(error))
        return SharedCorners.among(sampled, unread, lambda fraction: on_progress(0.6 + 0.4 * fraction))

    @staticmethod
    def among(
        sampled: list[Sampled],
        unread: list[str],
        on_progress: Callable[[float], None] = lambda fraction: None,
        match: Match | None = None,
    ) -> SharedCorners:
        """Of frames that were looked at, in every pair; `match` is there for those who know some already."""
        pairs = list(combinations(range(len(sampled)), 2))
        found = []
        for done, (i, j) in enumerate(pairs):
            here, there = (match or matched)(sampled[i], sampled[j])
            if len(here) >= _LEAST_SHARED:
                found.append((np.full(len(here), i), np.full(len(here), j), here, there))
            on_progress((done + 1) / len(pairs))
        nothing = (np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2)), np.zeros((0, 2)))
        columns = [np.concatenate(column) for column in zip(nothing, *found, strict=True)]
        first, second, pixels_first, pixels_second = columns
        return SharedCorners(sampled, first, second, pixels_first, pixels_second, unread).thinned(_MOST)


def chosen_frames(count: int) -> list[int]:
    """Numbers of the frames to look at."""
    if count <= _MOST_FRAMES:
        return list(range(count))
    if count <= 3 * _MOST_FRAMES:
        return np.linspace(0, count - 1, _MOST_FRAMES).round().astype(int).tolist()
    starts = np.linspace(0, count - 1 - max(_STEPS), _MOST_FRAMES // len(_STEPS)).round().astype(int)
    return sorted({int(start + step) for start in starts for step in _STEPS})


Matched = tuple[Float[np.ndarray, "M 2"], Float[np.ndarray, "M 2"]]
Match = Callable[[Sampled, Sampled], Matched]


def matched(first: Sampled, second: Sampled) -> Matched:
    """Pixels of corners that are each other's most similar ones and that one fundamental matrix explains."""
    nothing = np.zeros((0, 2)), np.zeros((0, 2))
    a, b = first.keypoints, second.keypoints
    if len(a) < _LEAST_SHARED or len(b) < _LEAST_SHARED:
        return nothing
    alike: Float32[np.ndarray, "K L"] = a.descriptors @ b.descriptors.T
    nearest = alike.argmax(1)
    rows = np.arange(len(a))
    mutual = (alike.argmax(0)[nearest] == rows) & (alike[rows, nearest] > _LEAST_SIMILARITY)
    here, there = a.pixels[mutual], b.pixels[nearest[mutual]]
    if len(here) < _LEAST_SHARED:
        return nothing
    try:
        _, agreed = cv2.findFundamentalMat(here, there, cv2.USAC_FAST, _FUNDAMENTAL_PX, 0.99, 500)
    except cv2.error:  # OpenCV 5's way to say that there is none
        agreed = None
    if agreed is None:
        return nothing
    good = agreed[:, 0] > 0
    if good.sum() < max(_LEAST_SHARED, _LEAST_AGREED * len(here)):
        return nothing
    moved = np.linalg.norm(here - there, axis=1) > _LEAST_MOTION_PX
    kept = np.flatnonzero(good & moved)
    kept = kept[:: max(1, len(kept) // _MOST_SHARED)]
    return here[kept], there[kept]


def _detail(grey: UInt8[np.ndarray, "h w"]) -> float:
    """How steep the image is by how steep its half is, along the direction in which that is less."""
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    fine, coarse = (
        [cv2.meanStdDev(cv2.Sobel(pixels, cv2.CV_32F, *way))[1].item() ** 2 for way in ((1, 0), (0, 1))]
        for pixels in (grey, half)
    )
    return min(f / max(c, 1e-9) for f, c in zip(fine, coarse, strict=True))
