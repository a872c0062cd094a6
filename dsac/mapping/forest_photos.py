"""What forests learn from: photos as trees look at them, and pixels of theirs whose scene points are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int16, Int32, Int64

from dsac.datasets import Frame, Frames
from dsac.errors import DatasetError
from dsac.geometry import Camera
from dsac.mapping.buffer import Cells, FeatureBuffer, prefetched
from dsac.mapping.scene_shape import SceneShape
from dsac.networks.encoder import working_size
from dsac.networks.forests.forest import CHANNELS, DEPTH, STRIDE, channels_of, depth_channel

_PIXELS_KEPT = 10_000  # of a photo
_STRETCHES = 10  # of a recording


@dataclass(frozen=True, eq=False)
class ForestPhotos:
    """Photos at the working size, and pixels of theirs, those of one photo after those of another."""

    channels: Int16[np.ndarray, "B H W C"]  # the border of smaller photos goes on
    with_depth: bool  # it is among the channels
    typical_depth: float  # metres
    cameras: Sequence[Camera]
    cam_from_world: Float[torch.Tensor, "B 3 4"]
    known: KnownPixels

    @staticmethod
    def of(
        frames: Frames,
        short_side_px: int,
        *,
        with_depth: bool,
        seed: int,
        on_progress: Callable[[float], None],
    ) -> ForestPhotos:
        """Raises: `DatasetError` when hardly any pixel's scene point is known."""
        sizes = [working_size(frames.camera(i).size, short_side_px, STRIDE) for i in range(len(frames))]
        width, height = (max(sides) for sides in zip(*sizes, strict=True))
        channels = np.zeros((len(frames), height, width, CHANNELS), np.int16)
        depths, cameras, known = [], [], []

        def make(i: int) -> tuple[np.ndarray, np.ndarray, Camera, KnownPixels]:
            return _photo(frames[i], sizes[i], np.random.default_rng([seed, i]))

        for i, (image, depth, camera, pixels) in enumerate(
            prefetched(make, ((i,) for i in range(len(frames))))
        ):
            rest = (0, height - image.shape[0]), (0, width - image.shape[1])
            channels[i] = np.pad(image, (*rest, (0, 0)), mode="edge")
            depths.append(np.pad(depth, rest, mode="edge"))
            cameras.append(camera)
            known.append(pixels._replace(image=np.full_like(pixels.image, i)))
            on_progress((i + 1) / len(frames))
        pixels = KnownPixels(*(np.concatenate(parts) for parts in zip(*known, strict=True)))
        if not len(pixels.depth):
            raise DatasetError("no pixel of any mapping frame has a known scene point: expected depth")
        typical = float(np.median(pixels.depth))
        if with_depth:
            for image, depth in zip(channels, depths, strict=True):
                image[..., DEPTH] = depth_channel(depth, typical)
        assert frames.cam_from_world is not None
        poses = frames.cam_from_world.matrix[:, :3].float()
        return ForestPhotos(channels, with_depth, typical, cameras, poses, pixels)

    def __len__(self) -> int:
        return len(self.channels)

    def half(self, number: int) -> Int64[np.ndarray, " M"]:
        """Every other stretch of the recording, for even numbers the first; all of what has no halves."""
        is_odd = np.arange(len(self)) * _STRETCHES // len(self) % 2
        rows = np.flatnonzero(is_odd == number % 2)
        return rows if len(rows) else np.arange(len(self))

    def draw(self, images: Int64[np.ndarray, " M"], count: int, rng: np.random.Generator) -> KnownPixels:
        """At most `count` of the known pixels of each of these photos."""
        ends = np.searchsorted(self.known.image, images, side="right")
        rows = [
            begin + rng.permutation(end - begin)[:count]
            for begin, end in zip(np.searchsorted(self.known.image, images), ends, strict=True)
        ]
        return KnownPixels(*(array[np.concatenate(rows)] for array in self.known))

    def errors_px(self, pixels: KnownPixels, points: Float32[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
        """How far from some pixels these scene points are seen; infinite where they are behind the camera."""
        errors = np.full(len(points), np.inf)
        for i in np.unique(pixels.image):
            rows = np.flatnonzero(pixels.image == i)
            pose = self.cam_from_world[i]
            seen = torch.from_numpy(points[rows]) @ pose[:, :3].T + pose[:, 3]
            off = self.cameras[i].project(seen.double()) - torch.from_numpy(pixels.place[rows])
            errors[rows] = torch.where(seen[:, 2] > 0, off.norm(dim=-1), torch.inf).numpy()
        return errors

    def shape(self) -> SceneShape:
        """Raises: `DatasetError` when hardly any pixel's scene point is known."""
        known, cameras = self.known, self.cameras
        cells = Cells(
            torch.empty(len(known.points), 0),
            torch.from_numpy(known.points),
            torch.from_numpy(known.place).float(),
            torch.from_numpy(known.image),
        )
        focal, center = (
            torch.stack([getattr(c, name).float() for c in cameras]) for name in ("focal_px", "center_px")
        )
        return SceneShape.of(FeatureBuffer(cells, self.cam_from_world, focal, center))


class KnownPixels(NamedTuple):
    """Pixels with the scene points that they show."""

    image: Int32[np.ndarray, " N"]
    place: Int32[np.ndarray, "N 2"]  # columns to its left and rows above it
    depth: Float32[np.ndarray, " N"]  # metres
    points: Float32[np.ndarray, "N 3"]  # metres, world


def _photo(
    frame: Frame, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Int16[np.ndarray, "H W C"], Float32[np.ndarray, "H W"], Camera, KnownPixels]:
    """Channels, depth, camera and known pixels of a frame at the working size."""
    assert frame.depth is not None and frame.cam_from_world is not None
    image, full = frame.image[None], frame.depth
    if image.shape[-2:] != size[::-1]:  # as photos are resized for an encoder
        image = F.interpolate(image, size[::-1], mode="bilinear", antialias=True)
    depth = F.interpolate(full[None, None], size[::-1], mode="nearest")[0, 0]
    camera = frame.camera.rescale(size)
    row, column = np.nonzero(np.isfinite(full.numpy()) & (full.numpy() > 0))
    some = rng.permutation(len(row))[:_PIXELS_KEPT]
    exact = torch.from_numpy(np.stack([column[some], row[some]], axis=-1)) + 0.5
    z = full[row[some], column[some]].double()
    points = frame.cam_from_world.inverse() @ (frame.camera.unproject(exact.double()) * z[:, None])
    to_working = torch.tensor(size, dtype=torch.float64) / torch.tensor(frame.camera.size)
    place = (exact * to_working).round().clamp(max=torch.tensor(size) - 1)
    pixels = KnownPixels(
        np.zeros(len(some), np.int32), place.int().numpy(), z.float().numpy(), points.float().numpy()
    )
    return channels_of(image[0]), depth.numpy(), camera, pixels
