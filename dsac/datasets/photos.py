"""Photos without poses, to be localized: files, all images of a folder, frames of a video, pixels in memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from dsac.datasets.frame import Focal, Frames, distinct_cameras
from dsac.datasets.given import photos_given
from dsac.datasets.given_cameras import of_each, one_camera
from dsac.datasets.given_depth import GivenDepth, depth_given
from dsac.datasets.heif import HEIF_ENDINGS, can_read_heif
from dsac.datasets.image import (
    ENOUGH_PX,
    read_exif_focal_px,
    read_image,
    read_image_size,
    read_orientation,
    turn_when_read,
    turned,
)
from dsac.datasets.image_gps import GpsFix
from dsac.datasets.image_header import PhotoSource, read_header
from dsac.datasets.image_names import unread
from dsac.datasets.storage import is_litter, is_remote
from dsac.datasets.video import is_video, video_photos
from dsac.errors import DatasetError
from dsac.geometry import Camera

logger = logging.getLogger(__name__)

_AUTO = "auto"  # for a focal length that is to be solved
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


def load_photos(
    photos: Any,
    *,
    camera: Any = None,
    focal_px: Any = None,
    mapping_camera: Camera | None = None,
    as_stored: bool = False,
    bgr: bool = False,
    depth: Any = None,
    depth_scale: float | None = None,
    every: int | None = None,
    on_progress: Callable[[str, float], None] = lambda name, fraction: None,
) -> Frames:
    """Frames without poses: of one photo, or of a list, each in any form that `photos_given` knows.

    A file keeps the name given, an image in a folder is named by its path there, a frame of a video by the
    video's and its number, `video.mp4#000123`. Of a video these are the sharp frames that show something new,
    or one of `every` so many; `on_progress` (name, fraction) tells of the search for them.

    All photos have `camera`, a `Camera` or OpenCV's matrix K, or a pinhole camera with `focal_px`; or each has
    its own in a list or by its name. Without either, `mapping_camera`, which the place was recorded with,
    serves unless their EXIF data contradict it, and the focal length in the EXIF data for the others; where
    there is none it is unknown, as with "auto" for `focal_px`. `Frames.focal` says how well each is known, and
    warnings sum it up. A camera serves for photos of its aspect ratio in any size, and, turned by a quarter,
    for those of a phone held the other way.

    Photos are upright unless `as_stored`; with `camera`, photos that are stored in its size stay as stored.
    The channels of arrays are in OpenCV's order if `bgr`.
    `depth`, registered to the photo as it is stored: a file or an array (H, W) for one photo, for several a
    folder with files of their names, or a list or names with either. Arrays are in metres; `depth_scale` is
    the metres per unit of others and of files, which are else in millimetres if in whole numbers, and in metres
    if not. It is turned as its photo is, and of the photo's shape in any size: a pixel takes its nearest.
    Files in a folder that are no photos are passed over, those that might be are named in one warning.
    A photo that cannot be read, or whose camera is unknown, raises `DatasetError` when it is accessed.
    Raises: `DatasetError` for a path that is neither a file nor a folder of images, for two photos of one name,
    when no photo can be read, or where no depth is found; `ValueError` for what is no photo, for a camera that
    is none, for cameras, focal lengths or depth that are not as many as the photos, for a focal length that is
    not positive, and for depth in whole numbers without a unit.
    """
    if camera is not None and focal_px is not None:
        raise ValueError("focal_px: expected either camera or focal_px, got both")
    files = _files(photos_given(photos, bgr), every, on_progress)
    lenses = {} if camera is None else of_each(camera, list(files), "camera")
    focals = {} if focal_px is None else of_each(focal_px, list(files), "focal_px")
    for value in focals.values():
        if value != _AUTO and (not isinstance(value, Real) or not 0 < float(value) < math.inf):
            raise ValueError(f"focal_px: expected a positive focal length in pixels or {_AUTO!r}, got {value}")
    cameras: dict[str, Camera] = {}
    known: dict[str, Focal] = {}
    unusable: dict[str, DatasetError] = {}
    if camera is not None:
        cameras = {name: _of_given(lenses[name], path, as_stored) for name, path in files.items()}
    else:
        for name, path in files.items():
            try:
                size = read_image_size(path, as_stored)
                if (given := focals.get(name)) is None:
                    cameras[name], known[name] = _likely(path, size, mapping_camera)
                elif given == _AUTO:
                    cameras[name], known[name] = usual_camera(size), "unknown"
                else:
                    cameras[name] = Camera.simple(given, size)
            except DatasetError as error:
                unusable[name] = error
        if not cameras:
            raise next(iter(unusable.values()))
        _warn_of_cameras(cameras, known, mapping_camera)
    sizes = {name: c.size for name, c in cameras.items()} if camera is not None or as_stored else {}
    stand_in = next(iter(cameras.values()))  # for photos that raise when they are accessed
    all_cameras = [cameras.get(name, stand_in) for name in files]
    distinct, index = distinct_cameras(all_cameras)
    depths = {} if depth is None else depth_given(depth, list(files), depth_scale)
    reader = _Photos(files, sizes, unusable, depths)
    everyone: list[Focal] = [known.get(name, "known") for name in files]
    focal = tuple(everyone) if known else None
    return Frames(list(files), distinct, index, None, reader, focal)


def gps_of_photos(photos: Frames) -> dict[str, GpsFix]:
    """Where photos of `load_photos` say that they were taken, by name; without those that do not say."""
    assert isinstance(photos.reader, _Photos)
    files = photos.reader.files
    found = {name: read_header(files[name]).gps for name in photos.names if name not in photos.reader.unusable}
    return {name: fix for name, fix in found.items() if fix is not None}


@dataclass(frozen=True)
class _Photos:
    files: dict[str, PhotoSource]
    sizes: dict[str, tuple[int, int]]  # photos stored in this size are read as stored
    unusable: dict[str, DatasetError]  # raised when that photo is accessed
    depths: dict[str, GivenDepth]

    @property
    def has_depth(self) -> bool:
        return bool(self.depths)

    def read_image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        if name in self.unusable:
            raise self.unusable[name]
        return read_image(self.files[name], self.sizes.get(name), enough_px=ENOUGH_PX)

    def read_depth(self, name: str, camera: Camera) -> Float32[np.ndarray, "H W"]:
        if (given := self.depths.get(name)) is None:
            return np.zeros(camera.size[::-1], np.float32)
        units = given.units()
        turn = turn_when_read(self.files[name], self.sizes.get(name))
        (height, width), (wide, high) = units.shape, camera.size
        is_turned = turn >= 5 and (width - height) * (wide - high) > 0
        return given.metres(units if is_turned else turned(units, turn), camera)


def _files(
    sources: Sequence[PhotoSource], every: int | None, on_progress: Callable[[str, float], None]
) -> dict[str, PhotoSource]:
    files: dict[str, PhotoSource] = {}
    for source in sources:
        for name, file in _named(source, every, on_progress).items():
            if files.setdefault(name, file) != file:
                raise DatasetError(f"{file}: {files[name]} has the same name; give one folder at a time")
    if not files:
        raise DatasetError("expected images, got none")
    return files


def _named(
    source: PhotoSource, every: int | None, on_progress: Callable[[str, float], None]
) -> Mapping[str, PhotoSource]:
    """The photos of a file, a folder, a video, by name."""
    if not isinstance(source, str | Path):
        return {str(source): source}
    if is_remote(source):
        raise DatasetError(f"{source}: expected photos on this machine, got a URL")
    path = Path(source)
    if path.is_dir():
        return _in_folder(path)
    if not path.is_file():
        raise DatasetError(f"{path}: expected an image or a folder of images, found nothing there")
    if is_video(path):
        return video_photos(path, every, on_progress=lambda fraction: on_progress(str(path), fraction))
    return {str(path): path}


def _in_folder(path: Path) -> Mapping[str, PhotoSource]:
    endings = _SUFFIXES | HEIF_ENDINGS if can_read_heif() else _SUFFIXES
    files_there = [p for p in sorted(path.rglob("*")) if not is_litter(p.name) and p.is_file()]
    found = {p.relative_to(path).as_posix(): p for p in files_there if p.suffix.lower() in endings}
    others = unread(p.name for p in files_there if p.suffix.lower() not in endings)
    if not found:
        beside = f"; not read here: {others}" if others else ""
        raise DatasetError(f"{path}: expected a folder with images, found none in it{beside}")
    if others:
        logger.warning("%s: passed over, since they are not read here, %s", path, others)
    return found


def _likely(path: PhotoSource, size: tuple[int, int], mapping_camera: Camera | None) -> tuple[Camera, Focal]:
    """The camera that nobody told: of the mapping images or of EXIF data, and how well it is known."""
    exif_px = read_exif_focal_px(path)
    serving = None if mapping_camera is None else _serving(mapping_camera, path, size)
    if serving is not None and (exif_px is None or _agree(exif_px, serving)):
        return serving, "assumed"
    return (usual_camera(size), "unknown") if exif_px is None else (Camera.simple(exif_px, size), "rough")


def usual_camera(size: tuple[int, int]) -> Camera:
    """For photos of (width, height) of which nothing is known: between a phone's wide lens and a normal one."""
    return Camera.simple(0.8 * max(size), size)


def _warn_of_cameras(
    cameras: Mapping[str, Camera], known: Mapping[str, Focal], mapping_camera: Camera | None
) -> None:
    assumed, rough, unknown = (
        [cameras[name] for name, how in known.items() if how == which]
        for which in ("assumed", "rough", "unknown")
    )
    if assumed and mapping_camera is not None:
        logger.warning(
            "no camera given, the mapping images' is taken: %s (photos of its shape: %d)",
            mapping_camera.to_text(), len(assumed),
        )  # fmt: skip
    if rough:
        focal_px = [camera.focal_px[0].item() for camera in rough]
        logger.warning(
            "focal length from EXIF data, %.0f to %.0f px, solved anew with the pose (photos: %d)",
            min(focal_px), max(focal_px), len(rough),
        )  # fmt: skip
    if unknown:
        logger.warning(
            "no focal length known, it is solved with the pose; --focal-px tells it (photos: %d)", len(unknown)
        )


def _of_given(lens: Any, path: PhotoSource, as_stored: bool) -> Camera:
    """The camera as it serves for a photo; one that it does not serve for says so when it is read."""
    try:
        stored, upright = read_image_size(path, as_stored=True), read_image_size(path)
    except DatasetError:
        return one_camera(lens, (1, 1))
    camera = one_camera(lens, stored if as_stored else upright)
    if camera.size in (stored, upright):
        return camera
    return _serving(camera, path, stored if _same_shape(camera.size, stored) else upright) or camera


def _serving(camera: Camera, path: PhotoSource, size: tuple[int, int]) -> Camera | None:
    """The camera for a photo of `size`, larger or smaller or of a phone held the other way; None = for none."""
    if _same_shape(camera.size, size):
        return camera.rescale(size)
    if not _same_shape((camera.size[1], camera.size[0]), size):
        return None
    # EXIF data tell the way round; phones are held upright so that the sensor's image turns clockwise
    orientation, is_tall = read_orientation(path), size[0] < size[1]
    quarters = {8: 3}.get(orientation, 1) if is_tall else {3: 1}.get(orientation, 3)
    for _ in range(quarters):
        camera = camera.turn()
    return camera.rescale(size)


def _same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(size[0] * other[1] / (size[1] * other[0]) - 1) <= 0.01


def _agree(exif_focal_px: float, camera: Camera) -> bool:
    """EXIF data are rounded to millimetres (4 % at 26), and makers compare widths or diagonals (4 %)."""
    return abs(exif_focal_px / camera.focal_px[0].item() - 1) < 0.08
