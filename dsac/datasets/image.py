"""Image and depth files into arrays, and the contents of their headers.

Phones store the sensor's pixels and note in the JPEG's EXIF data how to rotate them. Intrinsics and poses may
belong to the stored or to the upright photo: COLMAP takes pixels as stored, others rotate them first. The image
size of the camera decides; where no size is known, a photo is rotated upright, as every viewer shows it.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from dsac.datasets.storage import open_file, read_bytes
from dsac.errors import DatasetError

DepthUnits = UInt16[np.ndarray, "h w"] | Float32[np.ndarray, "h w"]
ENOUGH_PX = 720  # short side down to which large photos are read smaller: mapping looks at 480, seldom at more
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_NPY = b"\x93NUMPY"
_LARGEST_SIDE = 2**31 - 1
_START_OF_SCAN = 0xDA
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_APP1 = 0xE1
_EXIF = b"Exif\0\0"


def read_image(
    path: str | Path, size: tuple[int, int] | None = None, *, enough_px: int | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """RGB, 8 bit, upright; grey, palette and 16-bit images are converted, an alpha channel is dropped.

    With the `size` (width, height) that intrinsics are for, pixels stored in that size stay as they are stored.
    A JPEG is decoded at a half, a quarter or an eighth of its size where `enough_px` still fit into its short
    side: a tenth of the time for photos of twelve megapixels.
    Raises: `DatasetError` when the file is missing, empty, truncated or no image.
    """
    data = read_bytes(path)
    shrink = 1 if enough_px is None else _shrink(data, enough_px)
    image = _decode_colour(data, path, shrink)
    if size == (shrink * image.shape[1], shrink * image.shape[0]):
        return image
    return _turned(image, _orientation(data))


def read_depth(path: str | Path) -> DepthUnits:
    """A depth image in the file's own units: whole numbers of 16 bits, or floating-point numbers; `.npy` too.

    Raises: `DatasetError` like `read_image`, and for an image of another kind.
    """
    import cv2  # here, because importing the package should not load it

    data = read_bytes(path)
    depth = _load_npy(data, path) if data.startswith(_NPY) else _decode(data, path, cv2.IMREAD_UNCHANGED)
    depth = depth.squeeze(-1) if depth.ndim == 3 and depth.shape[-1] == 1 else depth
    whole = depth.dtype.kind in "iu" and depth.dtype.itemsize > 1
    if depth.ndim == 2 and whole and depth.size and 0 <= depth.min() and depth.max() < 2**16:
        return depth.astype(np.uint16)
    if depth.ndim == 2 and depth.dtype.kind == "f":
        return depth.astype(np.float32)
    channels = depth.shape[-1] if depth.ndim == 3 else 1
    raise DatasetError(
        f"{path}: expected depth as an image of one channel, 16-bit whole numbers or floating-point numbers, "
        f"got {depth.dtype}, {channels} channels"
    )


def read_depth_size(path: str | Path) -> tuple[int, int]:
    """(width, height). Raises: `DatasetError` like `read_depth`."""
    size = _stored_size(_read_head(path))
    return read_depth(path).shape[1::-1] if size is None else size


def _load_npy(data: bytes, path: str | Path) -> np.ndarray:
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except ValueError as error:
        raise DatasetError(f"{path}: expected an array of numbers: {error}") from None


def read_image_size(path: str | Path, as_stored: bool = False) -> tuple[int, int]:
    """(width, height) of the upright or the stored photo; JPEG and PNG are not decoded for it."""
    head = _read_head(path)
    width, height = _stored_size(head) or read_image(path).shape[1::-1]
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
        raise DatasetError(f"{path}: expected an image, its header gives it {width}x{height} pixels")
    return (width, height) if as_stored or _orientation(head) < 5 else (height, width)


def is_stored_turned(path: str | Path, size: tuple[int, int]) -> bool:
    """Whether viewers would rotate this photo although intrinsics for `size` belong to its pixels as stored."""
    head = _read_head(path)
    return _orientation(head) != 1 and _stored_size(head) == size


def read_exif_focal_px(path: str | Path) -> float | None:
    """The focal length in pixels that a JPEG's EXIF data implies, to a few percent; None = unknown.

    From the 35-mm equivalent, which compares diagonals (CIPA DCG-001), else from the focal length in
    millimetres and the sensor's resolution. Meaningless for a cropped image.
    """
    tags = _exif(_read_head(path))
    if not tags:
        return None
    width, height = read_image_size(path)
    if (equivalent_mm := tags.get(0xA405, 0.0)) > 0:
        return equivalent_mm * math.hypot(width, height) / math.hypot(36, 24)
    focal_mm, resolution, original_width = (tags.get(tag, 0.0) for tag in (0x920A, 0xA20E, 0xA002))
    unit_mm = {2: 25.4, 3: 10.0, 4: 1.0}.get(int(tags.get(0xA210, 2)))
    if unit_mm is None or focal_mm <= 0 or resolution <= 0:
        return None
    scale = max(width, height) / original_width if original_width > 0 else 1.0
    return focal_mm * resolution / unit_mm * scale


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """The image as a viewer shows it: 2 to 4 flip it, 5 to 8 flip its transpose."""
    if orientation == 1:
        return image
    import cv2

    if orientation >= 5:
        image = cv2.transpose(image)
    if orientation in (2, 3, 6, 7):
        image = cv2.flip(image, 1)
    return cv2.flip(image, 0) if orientation in (3, 4, 7, 8) else image


def _orientation(data: bytes) -> int:
    """1 to 8, from a JPEG's EXIF data; 1, upright as stored, where there is no valid entry."""
    orientation = _exif(data).get(0x0112, 1)
    return int(orientation) if orientation in range(1, 9) else 1


def _shrink(data: bytes, enough_px: int) -> int:
    """The factor by which a JPEG can be shrunk while decoding so that the size stays whole."""
    size = _stored_size(data) if data.startswith(_JPEG) else None
    if size is None:
        return 1
    fitting = (k for k in (8, 4, 2) if min(size) >= k * enough_px and size[0] % k == size[1] % k == 0)
    return next(fitting, 1)


def _decode_colour(data: bytes, path: str | Path, shrink: int) -> np.ndarray:
    import cv2

    if shrink == 1:
        return _decode(data, path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    reduced = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
    return cv2.cvtColor(_decode(data, path, reduced[shrink] | cv2.IMREAD_IGNORE_ORIENTATION), cv2.COLOR_BGR2RGB)


def _decode(data: bytes, path: str | Path, flags: int) -> np.ndarray:
    import cv2

    if not data:
        raise DatasetError(f"{path}: expected an image, got an empty file")
    if _is_truncated(data):  # decoders would fill the rest with grey and say nothing
        raise DatasetError(f"{path}: the image is truncated, its end is missing after {len(data)} bytes")
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


def _read_head(path: str | Path) -> bytes:
    with open_file(path) as file:
        head = file.read(1 << 16)
        # colour profiles, depth maps and the like may come before a JPEG's frame header
        return head + file.read() if head.startswith(_JPEG) and _stored_size(head) is None else head


def _stored_size(head: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG or PNG."""
    if head.startswith(_PNG) and len(head) >= 24:
        return struct.unpack(">II", head[16:24])
    for marker, start, _ in _jpeg_segments(head):
        if marker in _FRAME_HEADERS and len(head) >= start + 5:
            height, width = struct.unpack(">HH", head[start + 1 : start + 5])
            return width, height
    return None


def _exif(data: bytes) -> dict[int, float | int]:
    """A JPEG's EXIF numbers by tag; empty where they are missing or damaged."""
    for marker, start, end in _jpeg_segments(data):
        if marker == _APP1 and data.startswith(_EXIF, start):
            try:
                return _exif_tags(data[start + len(_EXIF) : end])
            except struct.error:
                return {}
    return {}


def _exif_tags(tiff: bytes) -> dict[int, float | int]:
    """Numbers in the main directory of a TIFF block and in its EXIF directory, by tag."""
    order = "<" if tiff[:2] == b"II" else ">"
    tags: dict[int, float | int] = {}
    (offset,) = struct.unpack_from(order + "I", tiff, 4)
    for _ in range(2):
        (count,) = struct.unpack_from(order + "H", tiff, offset)
        for at in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, type_ = struct.unpack_from(order + "HH", tiff, at)
            if type_ == 3:
                (tags[tag],) = struct.unpack_from(order + "H", tiff, at + 8)
            elif type_ == 4:
                (tags[tag],) = struct.unpack_from(order + "I", tiff, at + 8)
            elif type_ == 5:
                (value_at,) = struct.unpack_from(order + "I", tiff, at + 8)
                above, below = struct.unpack_from(order + "II", tiff, value_at)
                tags[tag] = above / below if below else 0.0
        if 0x8769 not in tags:
            break
        offset = int(tags[0x8769])
    return tags
