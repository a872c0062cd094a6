"""Frames of a scene: images with cameras and, where known, poses and depth.

`Frames` is a sequence that holds names, cameras and poses in memory and reads pixels only when a frame is
accessed, so a sequence of 100 000 frames costs megabytes and no decoding.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, overload, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from dsac.datasets.image import ENOUGH_PX
from dsac.datasets.rigid import some
from dsac.datasets.storage import read_bytes
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose, Similarity

logger = logging.getLogger(__name__)


# How well a focal length is known: exactly; as the mapping camera's, for the photo has its shape; from EXIF
# data, good to some percent; not at all.
Focal = Literal["known", "assumed", "rough", "unknown"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One photo."""

    name: str
    image: Float32[Tensor, "3 H W"]  # RGB in [0, 1]
    camera: Camera
    cam_from_world: Pose | None  # batch (), float64
    depth: Float32[Tensor, "H W"] | None = None  # metres along the optical axis, 0 where unknown
    focal: Focal = "known"


@runtime_checkable
class FrameReader(Protocol):
    """Where the pixels of a recording come from; one implementation per format."""

    @property
    def has_depth(self) -> bool: ...

    def read_image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        """RGB, 8 bit, at the camera's size, or a whole fraction of it that keeps `ENOUGH_PX`.

        Raises: `DatasetError` when the file cannot be decoded.
        """
        ...

    def read_depth(self, name: str, camera: Camera) -> Float32[np.ndarray, "H W"]:
        """Depth in metres, registered to the colour camera, 0 where unknown; called when `has_depth`."""
        ...


@runtime_checkable
class ChecksFiles(Protocol):
    """A `FrameReader` that can tell, for less than reading them, whether a frame's files are damaged."""

    def check(self, name: str, with_depth: bool) -> None:
        """Raises: `DatasetError`."""
        ...


@dataclass(frozen=True)
class ImageFile:
    """Where the image of a frame lies, and the (width, height) in which pixels are taken as they are stored."""

    path: str  # or a URL
    size: tuple[int, int] | None  # None: it is read upright, as viewers show it


@runtime_checkable
class ReadsImageFiles(Protocol):
    """A `FrameReader` whose images are files."""

    def image_file(self, name: str) -> ImageFile | None:
        """None = this image is none."""
        ...


def image_file(reader: FrameReader, name: str) -> ImageFile | None:
    """The file that a reader takes an image from; None = it has none."""
    return reader.image_file(name) if isinstance(reader, ReadsImageFiles) else None


def digest_of(reader: FrameReader, name: str) -> str:
    """Of the bytes of a frame's image file: 16 hexadecimal digits, or empty where it has none.

    Raises: `DatasetError` when it cannot be read.
    """
    file = image_file(reader, name)
    return "" if file is None else hashlib.blake2b(read_bytes(file.path), digest_size=8).hexdigest()


@dataclass(frozen=True, eq=False)
class NamedPoses:
    """Poses by image name, the contents of a poses file: ground truth or estimates."""

    names: list[str]
    cam_from_world: Pose  # batch (N,), float64
    focal_px: Float[Tensor, " N"] | None = None

    @property
    def index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def take(self, rows: Int[np.ndarray, " M"]) -> NamedPoses:
        """Some of the poses, by row."""
        picked = torch.from_numpy(rows)
        focal_px = None if self.focal_px is None else self.focal_px[picked]
        return NamedPoses([self.names[i] for i in rows], self.cam_from_world[picked], focal_px)


@dataclass(frozen=True, eq=False)
class Frames(
    Sequence
):  # of Frame; not Sequence[Frame], which a run-time type checker would test by reading one
    """Frames of one recording; indexing reads the pixels."""

    names: list[str]
    cameras: list[Camera]  # the different cameras, parameters float64
    camera_index: Int[np.ndarray, " N"]  # which camera each frame has
    cam_from_world: Pose | None  # batch (N,), float64; None = unknown
    reader: FrameReader
    focal: tuple[Focal, ...] | None = None  # how well each focal length is known; None = all are

    @property
    def has_depth(self) -> bool:
        return self.reader.has_depth

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Frame]:
        return (self._read(i) for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | Int[np.ndarray, " M"]) -> Frames: ...
    def __getitem__(self, index: int | slice | Sequence[int] | Int[np.ndarray, " M"]) -> Frame | Frames:
        """An integer reads that frame from disk; a slice or list of integers gives fewer frames, unread."""
        if isinstance(index, int | np.integer):
            return self._read(int(index))
        rows = np.ascontiguousarray(np.arange(len(self))[index])
        poses = None if self.cam_from_world is None else self.cam_from_world[torch.from_numpy(rows)]
        return replace(
            self,
            names=[self.names[i] for i in rows],
            camera_index=self.camera_index[rows],
            cam_from_world=poses,
            focal=None if self.focal is None else tuple(self.focal[i] for i in rows),
        )

    def camera(self, index: int) -> Camera:
        return self.cameras[self.camera_index[index]]

    def without_depth(self) -> Frames:
        """The same frames as a colour camera alone would have recorded them."""
        return replace(self, reader=_ColorOnly(self.reader)) if self.has_depth else self

    def without_damaged(self) -> Frames:
        """The frames whose files are whole, as far as that is known without decoding; one warning names others.

        Raises: `DatasetError` of the first when there is no other.
        """
        faults: dict[int, DatasetError] = {}
        for i, name in enumerate(self.names if isinstance(self.reader, ChecksFiles) else []):
            try:
                self.reader.check(name, self.has_depth)  # type: ignore[attr-defined]
            except DatasetError as error:
                faults[i] = error
        if not faults:
            return self
        first = next(iter(faults.values()))
        if len(faults) == len(self):
            raise first
        logger.warning(
            "%d of %d images are damaged, left out: %s (%s)",
            len(faults), len(self), some([self.names[i] for i in faults]), first,
        )  # fmt: skip
        return self[[i for i in range(len(self)) if i not in faults]]

    def within(self, world_from_map: Similarity) -> Frames:
        """The same frames in the frame of a map (and its unit of length) that lies so in this world."""
        if self.cam_from_world is None or world_from_map.is_identity:
            return self
        reader, scale = self.reader, world_from_map.scale
        return replace(
            self,
            cam_from_world=world_from_map.inverse().pose(self.cam_from_world),
            reader=_OtherUnit(reader, True, 1.0 / scale) if reader.has_depth and scale != 1.0 else reader,
        )

    def _read(self, index: int) -> Frame:
        name, camera = self.names[index], self.camera(index)
        pixels = self.reader.read_image(name)
        height, width = pixels.shape[:2]
        shrink = camera.size[0] // width if min(width, height) >= ENOUGH_PX else 1
        expect_size((width, height), camera, name, shrink)
        if shrink > 1:
            camera = camera.rescale((width, height))
        image = torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)
        depth = torch.from_numpy(self.reader.read_depth(name, camera)) if self.has_depth else None
        pose = None if self.cam_from_world is None else self.cam_from_world[index]
        return Frame(name, image, camera, pose, depth, "known" if self.focal is None else self.focal[index])


def expect_size(size: tuple[int, int], camera: Camera, name: str, shrink: int = 1) -> None:
    """That an image of (width, height) is the camera's, made so many times smaller. Raises: `DatasetError`."""
    if (shrink * size[0], shrink * size[1]) != camera.size:
        swapped = " (turned by a quarter, or width and height swapped)" if size == camera.size[::-1] else ""
        raise DatasetError(
            f"{name}: the image is {size[0]}x{size[1]}, "
            f"but its intrinsics are for {camera.size[0]}x{camera.size[1]}{swapped}"
        )


def distinct_cameras(cameras: Sequence[Camera]) -> tuple[list[Camera], Int[np.ndarray, " N"]]:
    """The different ones among those of N frames, in their order, and which of them each frame has."""
    distinct: dict[str, Camera] = {}
    texts = [camera.to_text() for camera in cameras]
    for text, camera in zip(texts, cameras, strict=True):
        distinct.setdefault(text, camera)
    rows = {text: row for row, text in enumerate(distinct)}
    return list(distinct.values()), np.array([rows[text] for text in texts], np.int64)


@dataclass(frozen=True)
class _ColorOnly:
    """The images of another reader."""

    reader: FrameReader
    has_depth: bool = False

    def read_image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        return self.reader.read_image(name)

    def read_depth(self, name: str, camera: Camera) -> Float32[np.ndarray, "H W"]:
        raise ValueError(f"{name}: depth was asked of frames without depth")

    def check(self, name: str, with_depth: bool) -> None:
        if isinstance(self.reader, ChecksFiles):
            self.reader.check(name, with_depth)

    def image_file(self, name: str) -> ImageFile | None:
        return image_file(self.reader, name)


@dataclass(frozen=True)
class _OtherUnit(_ColorOnly):
    """The images and depth of another reader, in another unit of length."""

    has_depth: bool = True
    unit: float = 1.0  # of this, a metre

    def read_depth(self, name: str, camera: Camera) -> Float32[np.ndarray, "H W"]:
        return self.reader.read_depth(name, camera) * np.float32(self.unit)


@dataclass(frozen=True, eq=False)
class Scene:
    """A place: frames that build the map, frames to localize, and every truth the recording comes with."""

    path: str
    format: str  # what the folder was recognised as, for people: "7-Scenes (SfM truth)"
    mapping: Frames
    query: Frames
    truths: Mapping[str, NamedPoses] = field(default_factory=dict)  # "sfm", "dslam": of all frames
    metric: bool = True  # whether lengths are metres; a model from photos alone has a scale of its own
    stores_turned: bool = False  # photos are read as stored, although viewers would rotate some of them
