"""Image and depth files into arrays, and the contents of their headers.

Phones store the sensor's pixels and note in the EXIF data how to rotate them. Intrinsics and poses may
belong to the stored or to the upright photo: COLMAP takes pixels as stored, others rotate them first. The image
size of the camera decides; where no size is known, a photo is rotated upright, as every viewer shows it.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from dsac.datasets.heif import decode_heif, is_heif
from dsac.datasets.image_header import (
    JPEG,
    PNG,
    TIFF,
    DecodedPhoto,
    PhotoSource,
    has_wrong_checksum,
    header_of,
    is_truncated,
    read_header,
)
from dsac.datasets.storage import HeldFile, read_bytes
from dsac.errors import DatasetError

DepthUnits = UInt16[np.ndarray, "h w"] | Float32[np.ndarray, "h w"]
ENOUGH_PX = 720  # short side down to which large photos are read smaller: mapping looks at 480, seldom at more
_NPY = b"\x93NUMPY"
_LARGEST_SIDE = 2**31 - 1


def read_image(
    path: PhotoSource, size: tuple[int, int] | None = None, *, enough_px: int | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """RGB, 8 bit, upright; grey, palette and 16-bit images are converted, an alpha channel is dropped.

    With the `size` (width, height) that intrinsics are for, pixels stored in that size stay as they are stored.
    A JPEG is decoded at a half, a quarter or an eighth of its size where `enough_px` still fit into its short
    side: a tenth of the time for photos of twelve megapixels.
    Raises: `DatasetError` when the file is missing, empty, truncated or no image.
    """
    if isinstance(path, DecodedPhoto):
        image = path.pixels()
        return image if size == image.shape[1::-1] else turned(image, path.header.orientation)
    data = read_bytes(path)
    shrink = 1 if enough_px is None else _shrink(data, enough_px)
    image = _decode_colour(data, path, shrink)
    if size == (shrink * image.shape[1], shrink * image.shape[0]):
        return image
    return turned(image, header_of(data).orientation)


def read_depth(path: str | Path) -> DepthUnits:
    """A depth image in the file's own units: whole numbers of 16 bits, or floating-point numbers; `.npy` too.

    Raises: `DatasetError` like `read_image`, and for an image of another kind.
    """
    import cv2  # here, because importing the package should not load it

    data = read_bytes(path)
    depth = _load_npy(data, path) if data.startswith(_NPY) else _decode(data, path, cv2.IMREAD_UNCHANGED)
    depth = depth.squeeze(-1) if depth.ndim == 3 and depth.shape[-1] == 1 else depth
    whole = depth.dtype.kind in "iu" and depth.dtype.itemsize > 1
    if depth.size and depth.ndim == 2 and whole and 0 <= depth.min() and depth.max() < 2**16:
        return depth.astype(np.uint16)
    if depth.size and depth.ndim == 2 and depth.dtype.kind == "f":
        return depth.astype(np.float32)
    channels = depth.shape[-1] if depth.ndim == 3 else 1
    raise DatasetError(
        f"{path}: expected depth as an image of one channel, 16-bit whole numbers or floating-point numbers, "
        f"got {depth.dtype}, {channels} channels, {depth.size} values"
    )


def read_depth_size(path: str | Path) -> tuple[int, int]:
    """(width, height). Raises: `DatasetError` like `read_depth`."""
    size = read_header(path).size
    return read_depth(path).shape[1::-1] if size is None else size


def _load_npy(data: bytes, path: str | Path) -> np.ndarray:
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # numpy reads the header as Python, which fails in any way
        raise DatasetError(f"{path}: expected an array of numbers: {error}") from None


def check_image(path: str | Path) -> None:
    """Raises: `DatasetError` where reading the image would; JPEG and PNG are not decoded for that."""
    data = read_bytes(path)
    if header_of(data).size is None or not data.startswith((JPEG, PNG)):
        _decode_colour(data, path, 1)
    _check_whole(data, path)


def check_depth(path: str | Path) -> None:
    """Raises: `DatasetError` where reading the depth would, but for its kind."""
    data = read_bytes(path)
    if header_of(data).size is None or not data.startswith(PNG):
        read_depth(path)
    _check_whole(data, path)


def read_image_size(path: PhotoSource, as_stored: bool = False) -> tuple[int, int]:
    """(width, height) of the upright or the stored photo; most are not decoded for it."""
    header = read_header(path)
    width, height = header.size or read_image(path).shape[1::-1]
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
        raise DatasetError(f"{path}: expected an image, its header gives it {width}x{height} pixels")
    return (width, height) if as_stored or header.orientation < 5 else (height, width)


def read_orientation(path: PhotoSource) -> int:
    """How viewers turn the photo, see `Header`."""
    return read_header(path).orientation


def turn_when_read(path: PhotoSource, size: tuple[int, int] | None) -> int:
    """By which orientation `read_image` turns the photo, asked with that size; 1: not at all."""
    header = read_header(path)
    return 1 if header.size is not None and header.size == size else header.orientation


def is_stored_turned(path: str | Path, size: tuple[int, int]) -> bool:
    """Whether viewers would rotate this photo although intrinsics for `size` belong to its pixels as stored."""
    header = read_header(path)
    return header.orientation != 1 and header.size == size


def read_exif_focal_px(path: PhotoSource) -> float | None:
    """The focal length in pixels that a photo's EXIF data imply, to a few percent; None = unknown.

    From the 35-mm equivalent, which compares diagonals (CIPA DCG-001), else from the focal length in
    millimetres and the sensor's resolution. Meaningless for a cropped image.
    """
    tags = read_header(path).exif
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


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image, or its depth, as a viewer shows it: 2 to 4 flip it, 5 to 8 flip its transpose."""
    if orientation == 1:
        return image
    import cv2

    if orientation >= 5:
        image = cv2.transpose(image)
    if orientation in (2, 3, 6, 7):
        image = cv2.flip(image, 1)
    return cv2.flip(image, 0) if orientation in (3, 4, 7, 8) else image


_INVERSE = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


def _shrink(data: bytes, enough_px: int) -> int:
    """The factor by which a JPEG can be shrunk while decoding so that the size stays whole."""
    size = header_of(data).size if data.startswith(JPEG) else None
    if size is None:
        return 1
    fitting = (k for k in (8, 4, 2) if min(size) >= k * enough_px and size[0] % k == size[1] % k == 0)
    return next(fitting, 1)


def _decode_colour(data: bytes, path: str | Path | HeldFile, shrink: int) -> np.ndarray:
    import cv2

    if is_heif(data):
        try:
            return decode_heif(data)
        except ValueError as error:
            raise DatasetError(f"{path}: expected an image, got {error}") from None
    if shrink == 1:
        image = _decode(data, path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        # OpenCV turns TIFF upright whatever it is asked for
        return turned(image, _INVERSE[header_of(data).orientation]) if data.startswith(TIFF) else image
    reduced = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
    return cv2.cvtColor(_decode(data, path, reduced[shrink] | cv2.IMREAD_IGNORE_ORIENTATION), cv2.COLOR_BGR2RGB)


def _decode(data: bytes, path: str | Path | HeldFile, flags: int) -> np.ndarray:
    import cv2

    _check_whole(data, path)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DatasetError(f"{path}: expected an image, got {error.err}") from None
    if image is None:
        found = _other_kind(data) or "a file that no decoder knows or that is damaged"
        raise DatasetError(f"{path}: expected an image, got {found}")
    return image


def _check_whole(data: bytes, path: str | Path | HeldFile) -> None:
    if not data:
        raise DatasetError(f"{path}: expected an image, got an empty file")
    if is_truncated(data):  # decoders would fill the rest with grey and say nothing
        raise DatasetError(f"{path}: the image is truncated, its end is missing after {len(data)} bytes")
    if has_wrong_checksum(data):
        raise DatasetError(f"{path}: the image is damaged, a checksum in it is wrong")


def _other_kind(data: bytes) -> str | None:
    """What is no damaged file, and what to do; phones and cameras write such beside images."""
    if data.startswith(b"\x76\x2f\x31\x01"):
        return (
            "an EXR file, which OpenCV reads only if it was built with it and OPENCV_IO_ENABLE_OPENEXR=1 is set"
        )
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    return "a video" if brand not in (b"", b"avif", b"avis") else None
