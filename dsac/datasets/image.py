"""Image and depth files into arrays, and what their headers tell.

The EXIF orientation is ignored on purpose: intrinsics and poses belong to the pixels as they are stored.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from dsac.datasets.storage import open_file, read_bytes
from dsac.errors import DatasetError

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_START_OF_SCAN = 0xDA
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_APP1 = 0xE1
_EXIF = b"Exif\0\0"


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """RGB, 8 bit; grey, palette and 16-bit images are converted, an alpha channel is dropped.

    Raises: `DatasetError` when the file is missing, empty, truncated or no image.
    """
    return _decode(path, as_rgb=True)


def read_depth(path: str | Path) -> UInt16[np.ndarray, "H W"]:
    """A 16-bit depth image in the file's own units.

    Raises: `DatasetError` like `read_image`, and for an image of another kind.
    """
    depth = _decode(path, as_rgb=False)
    if depth.dtype != np.uint16 or depth.ndim != 2:
        channels = 1 if depth.ndim == 2 else depth.shape[2]
        raise DatasetError(
            f"{path}: expected depth as a 16-bit image of one channel, got {depth.dtype}, {channels} channels"
        )
    return depth


def read_image_size(path: str | Path) -> tuple[int, int]:
    """(width, height); JPEG and PNG are not decoded for it."""
    with open_file(path) as file:
        head = file.read(1 << 18)  # EXIF with a thumbnail takes at most 64 kB before the frame header
    if head.startswith(_PNG) and len(head) >= 24:
        return struct.unpack(">II", head[16:24])
    for marker, start, _ in _jpeg_segments(head):
        if marker in _FRAME_HEADERS and len(head) >= start + 5:
            height, width = struct.unpack(">HH", head[start + 1 : start + 5])
            return width, height
    height, width = read_image(path).shape[:2]
    return width, height


def read_exif_focal_px(path: str | Path) -> float | None:
    """The focal length in pixels that a JPEG's EXIF data implies, to a few percent; None = it does not say.

    From the 35-mm equivalent, which compares diagonals (CIPA DCG-001), else from the focal length in
    millimetres and the sensor's resolution. Meaningless for a cropped image.
    """
    data = read_bytes(path)
    segments = (data[start:end] for marker, start, end in _jpeg_segments(data) if marker == _APP1)
    exif = next((segment for segment in segments if segment.startswith(_EXIF)), None)
    if exif is None:
        return None
    try:
        tags = _exif_tags(exif[len(_EXIF) :])
    except struct.error:
        return None  # damaged EXIF data say nothing
    width, height = read_image_size(path)
    if (equivalent_mm := tags.get(0xA405, 0.0)) > 0:
        return equivalent_mm * math.hypot(width, height) / math.hypot(36, 24)
    focal_mm, resolution, original_width = (tags.get(tag, 0.0) for tag in (0x920A, 0xA20E, 0xA002))
    unit_mm = {2: 25.4, 3: 10.0, 4: 1.0}.get(int(tags.get(0xA210, 2)))
    if unit_mm is None or focal_mm <= 0 or resolution <= 0:
        return None
    scale = max(width, height) / original_width if original_width > 0 else 1.0
    return focal_mm * resolution / unit_mm * scale


def _decode(path: str | Path, as_rgb: bool) -> np.ndarray:
    import cv2  # here, because importing the package should not load it

    data = read_bytes(path)
    if not data:
        raise DatasetError(f"{path}: expected an image, got an empty file")
    if _is_truncated(data):  # decoders would fill the rest with grey and say nothing
        raise DatasetError(f"{path}: the image is truncated, its end is missing after {len(data)} bytes")
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION if as_rgb else cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DatasetError(f"{path}: expected an image, got {error.err}") from None
    if image is None:
        raise DatasetError(f"{path}: expected an image, got a file that no decoder knows or that is damaged")
    return image


def _is_truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG stops before its end marker."""
    if data.startswith(_PNG):
        return data.rfind(b"IEND") < 0
    if data.startswith(_JPEG):
        scans = (start for marker, start, _ in _jpeg_segments(data) if marker == _START_OF_SCAN)
        scan = next(scans, len(data))
        return data.rfind(b"\xff\xd9", scan) < 0
    return False


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment's content up to the first scan."""
    at = 2 if data.startswith(_JPEG) else len(data)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, at + 4, end
        if marker == _START_OF_SCAN:
            return
        at = end


def _exif_tags(tiff: bytes) -> dict[int, float | int]:
    """Numbers in the main directory of a TIFF block and in its EXIF directory, by tag."""
    order = "<" if tiff[:2] == b"II" else ">"
    tags: dict[int, float | int] = {}
    (offset,) = struct.unpack_from(order + "I", tiff, 4)
    for _ in range(2):
        (count,) = struct.unpack_from(order + "H", tiff, offset)
        for at in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, at)
            if kind == 3:
                (tags[tag],) = struct.unpack_from(order + "H", tiff, at + 8)
            elif kind == 4:
                (tags[tag],) = struct.unpack_from(order + "I", tiff, at + 8)
            elif kind == 5:
                (value_at,) = struct.unpack_from(order + "I", tiff, at + 8)
                above, below = struct.unpack_from(order + "II", tiff, value_at)
                tags[tag] = above / below if below else 0.0
        if 0x8769 not in tags:
            break
        offset = int(tags[0x8769])
    return tags
