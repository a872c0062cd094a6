"""HEIC photos, as iPhones take them, by `pillow_heif` where the user has installed it.

It is no dependency of ours: an encoder under the GPL comes with it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

HEIF_ENDINGS = {".heic", ".heif"}
_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


class HeifHead(NamedTuple):
    size: tuple[int, int]  # (width, height) of the upright photo, which is what is decoded
    exif: bytes  # a TIFF block, or nothing


def is_heif(data: bytes) -> bool:
    """By the first twelve bytes."""
    return data[4:8] == b"ftyp" and data[8:12] in _BRANDS


def can_read_heif() -> bool:
    """Whether `pillow_heif` is there."""
    try:
        import pillow_heif  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        return False
    return True


def heif_head(data: bytes) -> HeifHead | None:
    """None when it cannot be read."""
    try:
        with _opened(data) as image:
            exif = image.info.get("exif") or b""
            return HeifHead(tuple(image.size), exif.removeprefix(b"Exif\0\0"))
    except ValueError:
        return None


def decode_heif(data: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """RGB, 8 bit, upright. Raises: `ValueError` that says why it cannot be read."""
    with _opened(data) as image:
        return np.array(image.to_pillow().convert("RGB"))


@contextmanager
def _opened(data: bytes) -> Iterator[Any]:
    if not can_read_heif():
        raise ValueError("a HEIC photo; `pip install pillow-heif` for it to be read, or convert it to JPEG")
    import pillow_heif  # type: ignore[import-not-found]

    try:
        yield pillow_heif.open_heif(io.BytesIO(data))
    except Exception as error:  # it fails in many ways
        raise ValueError(f"a damaged HEIC photo ({' '.join(str(error).split())})") from None
