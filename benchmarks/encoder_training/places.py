"""Places that the encoder learns from: rooms full of boxes, balls and columns that are covered with photos.

No two have the same layout. Half of a place's frames are taken from one side, the other half from another, so
that the same things are seen before other things, from other distances and angles, with exact depth and poses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8
from numpy.random import Generator

from dsac.datasets.image import read_image
from dsac.rooms import Material, Room, RoomBuilder, View, bake_light, develop, render_depth, render_light
from dsac.rooms import textures as paint
from dsac.rooms.builder import X, Y, Z

_PHOTOS = 36  # of all, in one place
_PHOTO_SHARE = 0.65  # of the surfaces that show a photo, the others are plain
_LIGHT_CELL = 0.15  # metres


@dataclass(frozen=True)
class PlaceFrames:
    """N rendered frames of a place; the second half is taken from elsewhere."""

    images: list[UInt8[np.ndarray, "H W 3"]]
    depths: list[Float32[np.ndarray, "H W"]]  # metres
    cam_from_world: Float64[np.ndarray, "N 3 4"]


def render_place(
    photos: list[Path], seed: int, num_frames: int, size: tuple[int, int], focal_px: float
) -> PlaceFrames:
    """Frames of one place.

    Raises: `DatasetError` when a photo is none.
    """
    rng = np.random.default_rng([seed, 7])
    extent = rng.uniform([4, 4.5, 2.5], [8, 8, 4])
    room = _furnished(rng, extent, photos)
    poses = _poses(rng, extent, num_frames)
    images, depths = [], []
    for pose in poses:
        view = View(pose[:, :3], pose[:, 3], focal_px, (size[0] / 2, size[1] / 2), size)
        noise = rng.normal(0, 1.2, (size[1], size[0], 3)).astype(np.float32)
        images.append(develop(render_light(room, [view]), float(rng.uniform(1.6, 2.8)), noise))
        depths.append(render_depth(room, view))
    return PlaceFrames(images, depths, poses)


# ---- what stands in it ---------------------------------------------------------------------------


class _Covers:
    """Materials at random: parts of some photos, and plain ones."""

    def __init__(self, b: RoomBuilder, photos: list[Path]) -> None:
        self.b = b
        chosen = b.rng.choice(len(photos), min(_PHOTOS, len(photos)), replace=False)
        self.photos = [b.material(_at_most(read_image(photos[i]), 640)) for i in chosen]
        colours = b.rng.integers(90, 235, (4, 3)).tolist()
        self.plain = [
            b.material(paint.speckled(b.rng, tuple(colour), b.rng.uniform(0.03, 0.3)), (0.6, 0.6))
            for colour in colours
        ]

    def photo(self) -> Material:
        width, height = self.b.rng.uniform(0.35, 1, 2)
        left, top = self.b.rng.uniform(0, [1 - width, 1 - height])
        return self.b.cut(self.photos[int(self.b.rng.integers(len(self.photos)))], left, top, width, height)

    def any(self) -> Material:
        return self.photo() if self.b.rng.random() < _PHOTO_SHARE else self.plain[int(self.b.rng.integers(4))]


def _furnished(rng: Generator, extent: np.ndarray, photos: list[Path]) -> Room:
    b = RoomBuilder(rng)
    cover = _Covers(b, photos)
    x, y, z = extent
    b.rectangle((0, 0, 0), x * X, y * Y, cover.any())
    b.rectangle((0, y, z), x * X, -y * Y, cover.plain[0])
    b.rectangle((x, 0, 0), -x * X, z * Z, cover.plain[1])  # south, behind the camera
    b.rectangle((0, y, 0), x * X, z * Z, cover.any())
    b.rectangle((x, y, 0), -y * Y, z * Z, cover.any())
    b.rectangle((0, 0, 0), y * Y, z * Z, cover.any())
    for _ in range(int(rng.integers(3, 9))):
        _picture(b, cover, extent)
    for _ in range(int(rng.integers(14, 34))):
        _stack(b, cover, extent)
    for _ in range(int(rng.integers(2, 7))):
        middle = (rng.uniform(0.3, x - 0.3), y * rng.uniform(0.4, 0.95))
        if rng.random() < 0.5:
            b.sphere((*middle, rng.uniform(0.3, 1.6)), rng.uniform(0.1, 0.35), cover.any())
        else:
            b.cylinder((*middle, 0.0), rng.uniform(0.4, 2) * Z, rng.uniform(0.05, 0.3), cover.any())
    lamps = [
        [*rng.uniform(0.5, [x - 0.5, y - 0.5]), z - 0.15, 0, 0, -1, *(0.037 * x * y * rng.uniform(0.7, 1.1, 3))]
        for _ in range(10)
    ]
    return bake_light(b.room(), np.array(lamps), _LIGHT_CELL)


def _picture(b: RoomBuilder, cover: _Covers, extent: np.ndarray) -> None:
    """On the north, east or west wall."""
    x, y, z = extent
    width = b.rng.uniform(0.3, 1.4)
    height = min(width * b.rng.uniform(0.6, 1.4), 0.7 * z)
    low = b.rng.uniform(0.2, z - height)
    along = b.rng.uniform(1 + width / 2, y - width / 2)
    foot, yaw = (
        ((b.rng.uniform(width / 2, x - width / 2), y - 0.03, low), 0.0),
        ((x - 0.03, along, low), -np.pi / 2),
        ((0.03, along, low), np.pi / 2),
    )[int(b.rng.integers(3))]
    b.framed(foot, width, height, cover.photo(), cover.plain[int(b.rng.integers(4))], yaw=yaw)


def _stack(b: RoomBuilder, cover: _Covers, extent: np.ndarray) -> None:
    """One to three boxes on top of each other, away from the camera's end of the room."""
    x, y, z = extent
    size = b.rng.uniform(0.15, 1.1, 3) * [1, 1, b.rng.uniform(0.5, 1.8)]
    px, py, pz = b.rng.uniform(0.3, x - 0.3), y * b.rng.uniform(0.35, 0.98), 0.0
    yaw = b.rng.uniform(0, 2 * np.pi)
    for _ in range(int(b.rng.integers(1, 4))):
        if pz + size[2] > z:
            break
        front, left, right, back, top = (cover.any() for _ in range(5))
        b.box((px, py, pz), tuple(size), top, yaw=yaw, front=front, left=left, right=right, back=back)
        pz += size[2]
        size = size * b.rng.uniform(0.4, 0.9)
        yaw += b.rng.uniform(-0.6, 0.6)


def _poses(rng: Generator, extent: np.ndarray, count: int) -> np.ndarray:
    """`cam_from_world` (N, 3, 4): from the south end towards the north, the halves from different sides."""
    x, y, _ = extent
    sides = [(0.1, 0.55), (0.45, 0.9)]
    if rng.random() < 0.5:
        sides.reverse()
    poses = np.empty((count, 3, 4))
    for i in range(count):
        elsewhere = i >= count // 2
        west, east = sides[int(elsewhere)]
        eye = rng.uniform([west * x, 0.04 * y, 0.9], [east * x, (0.45 if elsewhere else 0.35) * y, 1.9])
        target = rng.uniform([0.1 * x, 0.6 * y, 0.4], [0.9 * x, y, 1.8])
        forward = (target - eye) / np.linalg.norm(target - eye)
        level = np.cross(forward, Z) / np.linalg.norm(np.cross(forward, Z))
        down = np.cross(forward, level)
        c, s = np.cos(roll := 0.06 * rng.normal()), np.sin(roll)
        poses[i, :, :3] = c * level + s * down, c * down - s * level, forward
        poses[i, :, 3] = -poses[i, :, :3] @ eye
    return poses


def _at_most(image: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
