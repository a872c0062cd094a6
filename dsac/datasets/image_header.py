"""What stands in an image file beside its pixels: their size, the way up, the camera's EXIF numbers.

JPEG, PNG, WebP, TIFF and HEIC can hold EXIF data, which are a TIFF block in each of them.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from dsac.datasets.heif import heif_head, is_heif
from dsac.datasets.image_gps import GpsFix, gps_fix
from dsac.datasets.storage import HeldFile, open_file

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*")
_START_OF_SCAN = 0xDA
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_APP1 = 0xE1
_EXIF = b"Exif\0\0"
_WIDTH, _HEIGHT, _ORIENTATION, _EXIF_DIRECTORY = 0x100, 0x101, 0x112, 0x8769
_GPS_DIRECTORY = 0x8825


@dataclass(frozen=True)
class Header:
    size: tuple[int, int] | None = None  # (width, height) as stored; None where only decoding would tell
    orientation: int = 1  # how viewers show it: 1 as stored, 2 to 4 flipped, 5 to 8 transposed and flipped
    exif: Mapping[int, float | int] = field(default_factory=dict)  # numbers by tag
    gps: GpsFix | None = None  # where it was taken


@runtime_checkable
class DecodedPhoto(Protocol):
    """A photo that is no file of its own: pixels in memory, a frame of a video. `str` is its name."""

    @property
    def header(self) -> Header: ...

    def pixels(self) -> UInt8[np.ndarray, "H W 3"]:
        """RGB, as stored. Raises: `DatasetError`."""
        ...


PhotoSource = str | Path | HeldFile | DecodedPhoto


def read_header(path: PhotoSource) -> Header:
    """Reads little of a file where that is enough. Raises: `DatasetError` when it cannot be read."""
    if isinstance(path, DecodedPhoto):
        return path.header
    with open_file(path) as file:
        start = file.read(12)
        file.seek(0)
        if start.startswith(PNG):
            return header_of(_png_head(file))
        head = file.read(1 << 16)
        # colour profiles, depth maps and the like may come before a JPEG's frame header
        whole = _is_webp(start) or start.startswith(TIFF) or is_heif(start)
        if whole or (head.startswith(JPEG) and header_of(head).size is None):
            head += file.read()
        return header_of(head)


def header_of(data: bytes) -> Header:
    """Of the file, or of the part of it that `read_header` takes."""
    size: tuple[int, int] | None = None
    block = b""
    if data.startswith(JPEG):
        size, block = _jpeg_size(data), _jpeg_exif(data)
    elif data.startswith(PNG):
        size = struct.unpack(">II", data[16:24]) if len(data) >= 24 else None
        block = next((content for kind, content in _png_chunks(data) if kind == b"eXIf"), b"")
    elif _is_webp(data):
        chunks = dict(_webp_chunks(data))
        if len(extended := chunks.get(b"VP8X", b"")) >= 10:
            width, height = (1 + int.from_bytes(extended[at : at + 3], "little") for at in (4, 7))
            size = width, height
            block = chunks.get(b"EXIF", b"").removeprefix(_EXIF)
    elif data.startswith(TIFF):
        block = data
    elif is_heif(data) and (head := heif_head(data)) is not None:
        size, block = head
    try:
        exif = _numbers(block) if block else {}
    except struct.error:  # damaged
        exif = {}
    if block is data and {_WIDTH, _HEIGHT} <= exif.keys():
        size = int(exif[_WIDTH]), int(exif[_HEIGHT])
    orientation = 1 if is_heif(data) else exif.get(_ORIENTATION, 1)  # HEIC is decoded upright
    gps = gps_fix(block, int(exif[_GPS_DIRECTORY])) if _GPS_DIRECTORY in exif else None
    return Header(size, int(orientation) if orientation in range(1, 9) else 1, exif, gps)


def is_truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG stops before its end marker."""
    if data.startswith(PNG):
        return data.rfind(b"IEND") < 0
    if data.startswith(JPEG):
        scans = (start for marker, start, _ in _jpeg_segments(data) if marker == _START_OF_SCAN)
        scan = next(scans, len(data))
        return data.rfind(b"\xff\xd9", scan) < 0
    return False


def has_wrong_checksum(data: bytes) -> bool:
    """Whether pixels or what is needed to read them changed since a PNG was written."""
    at = len(PNG) if data.startswith(PNG) else len(data)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        vital = kind[:1].isupper()
        if vital and data[end : end + 4] != struct.pack(">I", zlib.crc32(memoryview(data)[at + 4 : end])):
            return True
        at = end + 4
    return False


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment's content up to the first scan."""
    at = 2
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


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    for marker, start, _ in _jpeg_segments(data):
        if marker in _FRAME_HEADERS and len(data) >= start + 5:
            height, width = struct.unpack(">HH", data[start + 1 : start + 5])
            return width, height
    return None


def _jpeg_exif(data: bytes) -> bytes:
    for marker, start, end in _jpeg_segments(data):
        if marker == _APP1 and data.startswith(_EXIF, start):
            return data[start + len(_EXIF) : end]
    return b""


def _png_head(file: BinaryIO | io.BufferedIOBase) -> bytes:
    """The file without what is neither size nor EXIF data, which may stand behind the pixels."""
    head = file.read(len(PNG))
    while len(lead := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", lead)
        if kind in (b"IHDR", b"eXIf"):
            head += lead + file.read(length + 4)
        else:
            file.seek(length + 4, 1)
    return head


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += length + 12


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _numbers(tiff: bytes) -> dict[int, float | int]:
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
        if _EXIF_DIRECTORY not in tags:
            break
        offset = int(tags[_EXIF_DIRECTORY])
    return tags
