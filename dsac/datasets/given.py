"""The door for photos as people have them: paths, bytes, open files, PIL images, arrays, tensors.

Behind it each is a `PhotoSource` with a name: a path, a file in memory, or pixels in memory with what EXIF data
say. Nothing is decoded here that does not have to be.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dsac.datasets.image_header import Header, PhotoSource
from dsac.datasets.storage import HeldFile
from dsac.errors import DatasetError

_EXPECTED = "a path, bytes, a file opened in binary mode, a PIL image, an array (H, W, 3) or a tensor (3, H, W)"
_CHANNELS = (1, 3, 4)  # grey, colours, colours with transparency


@dataclass(frozen=True, eq=False)
class HeldPixels:
    """A decoded photo that somebody has in memory."""

    name: str
    image: UInt8[np.ndarray, "H W 3"]  # RGB, as stored
    header: Header

    def __str__(self) -> str:
        return self.name

    def pixels(self) -> UInt8[np.ndarray, "H W 3"]:
        return self.image


def photos_given(photos: object, bgr: bool = False) -> list[PhotoSource]:
    """One photo or several, as anybody has them.

    One without a name is `photo`, of several they are `photo-0`, `photo-1`, and so on.
    `bgr`: the channels of arrays and tensors are in OpenCV's order.
    Raises: `ValueError` for what is no photo; `DatasetError` for a file or PIL image that cannot be read.
    """
    if _is_one(photos) or not isinstance(photos, Iterable):
        return [_given(photos, "photo", bgr)]
    return [_given(photo, f"photo-{i}", bgr) for i, photo in enumerate(photos)]


def _is_one(given: Any) -> bool:
    if isinstance(given, np.ndarray | Tensor):
        return given.ndim < 4
    return isinstance(given, str | bytes | bytearray | memoryview | os.PathLike) or hasattr(given, "read")


def batch_of(images: Tensor) -> Float[Tensor, "B 3 H W"]:
    """Photos in memory, already as a network has them: (3, H, W) or (B, 3, H, W).

    Raises: `ValueError`.
    """
    whole = images.dtype == torch.uint8
    if (
        images.ndim not in (3, 4)
        or images.shape[-3] not in _CHANNELS
        or not (whole or images.is_floating_point())
    ):
        raise ValueError(
            "image: expected a tensor (3, H, W) or (B, 3, H, W) of floats from 0 to 1, or uint8, "
            f"got {images.dtype} {tuple(images.shape)}"
        )
    if not whole and images.numel():
        least, most = images.aminmax()
        _check_range(least.item(), most.item(), "image")
    images = images.float() / 255 if whole else images
    images = images[..., :3, :, :].expand(*images.shape[:-3], 3, -1, -1)
    return images[None] if images.ndim == 3 else images


def _given(photo: Any, name: str, bgr: bool) -> PhotoSource:
    if isinstance(photo, str | os.PathLike):
        return Path(os.fspath(photo)) if "://" not in str(photo) else str(photo)
    if isinstance(photo, bytes | bytearray | memoryview):
        return HeldFile(name, bytes(photo))
    if _is_pil(photo):
        return _of_pil(photo, _own_name(photo, "filename") or name)
    if isinstance(photo, Tensor):
        return _of_array(_rows_first(photo, name), name, bgr)
    if hasattr(photo, "read"):
        return _of_file(photo, _own_name(photo, "name") or name)
    if hasattr(photo, "__array__"):
        return _of_array(np.asarray(photo), name, bgr)
    raise ValueError(f"{name}: expected {_EXPECTED}, got {type(photo).__name__}")


def _own_name(photo: object, attribute: str) -> str:
    """What an open file or a PIL image remembers of its path; empty if nothing."""
    name = getattr(photo, attribute, "")
    return os.fspath(name) if isinstance(name, str | os.PathLike) else ""


def _of_file(file: Any, name: str) -> HeldFile:
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # ValueError: closed, or no text in this encoding
        raise DatasetError(f"{name}: expected an open file in binary mode: {error}") from None
    if not isinstance(data, bytes):
        raise ValueError(
            f"{name}: expected a file opened in binary mode ('rb'), it gives {type(data).__name__}"
        )
    if not data:
        raise DatasetError(
            f"{name}: expected an image, got a file at its end; seek(0) takes it to its beginning"
        )
    return HeldFile(name, data)


# ---- pixels in memory ------------------------------------------------------------------------------


def _of_array(array: np.ndarray, name: str, bgr: bool) -> HeldPixels:
    shape = array.shape
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in _CHANNELS) or 0 in shape:
        last = "; channels stand last in an array" if array.ndim == 3 and shape[0] in _CHANNELS else ""
        raise ValueError(f"{name}: expected an image (H, W, 3), (H, W, 4) or (H, W), got {shape}{last}")
    image = _eight_bits(array, name).reshape(*shape[:2], -1)
    image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., 2::-1] if bgr else image[..., :3]
    return HeldPixels(name, np.ascontiguousarray(image), Header((shape[1], shape[0])))


def _eight_bits(array: np.ndarray, name: str) -> UInt8[np.ndarray, "*shape"]:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        whole = "; if its values use all 16 bits, give (image // 256).astype('uint8')"
        hint = whole if array.dtype == np.uint16 else ""
        raise ValueError(f"{name}: expected uint8, or floats from 0 to 1, got {array.dtype}{hint}")
    _check_range(float(array.min()), float(array.max()), name)
    return (array.clip(0, 1) * 255).round().astype(np.uint8)


def _check_range(least: float, most: float, name: str) -> None:
    """Of an image of floats; what resizing adds beyond 0 and 1 is none to speak of.

    Raises: `ValueError`.
    """
    if math.isfinite(least) and math.isfinite(most) and -1 <= least and most <= 2:
        return
    hint = "; divide by 255" if 0 <= least and 2 < most <= 256 else ""
    raise ValueError(f"{name}: expected floats from 0 to 1, got {least:g} to {most:g}{hint}")


def _rows_first(tensor: Tensor, name: str) -> np.ndarray:
    """torch and torchvision have the channels before the rows."""
    if tensor.ndim != 3 or tensor.shape[0] not in _CHANNELS:
        last = "; channels stand first in a tensor" if tensor.ndim == 3 and tensor.shape[2] in _CHANNELS else ""
        raise ValueError(f"{name}: expected a tensor (3, H, W), got {tuple(tensor.shape)}{last}")
    array = tensor.detach().cpu().permute(1, 2, 0)
    return (array.float() if array.is_floating_point() else array).numpy()


# ---- PIL, which is no dependency -------------------------------------------------------------------

_ORIENTATION, _EXIF_DIRECTORY = 0x112, 0x8769


def _is_pil(photo: object) -> bool:
    """Whoever has such an image has imported the package."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(photo, module.Image)


def _of_pil(photo: Any, name: str) -> HeldPixels:
    if photo.mode in ("I", "F"):
        raise ValueError(f"{name}: expected a PIL image of 8 or 16 bits, got one of mode {photo.mode}")
    try:
        deep = photo.mode.startswith("I;16")
        image = np.asarray(photo) >> 8 if deep else np.array(photo.convert("RGB"))
        exif = photo.getexif()
        tags = {**exif, **exif.get_ifd(_EXIF_DIRECTORY)}
    except Exception as error:  # of a file that it opened and reads now
        raise DatasetError(f"{name}: PIL cannot read the image: {error}") from None
    numbers = {tag: float(value) for tag, value in tags.items() if isinstance(value, Real)}
    numbers = {tag: value for tag, value in numbers.items() if math.isfinite(value)}
    turn = numbers.get(_ORIENTATION, 1)
    header = Header(photo.size, int(turn) if turn in range(1, 9) else 1, numbers)
    image = np.repeat(image[..., None], 3, axis=2) if deep else image
    return HeldPixels(name, image.astype(np.uint8), header)
