"""Photos that say where they were taken, as phones write it."""

from __future__ import annotations

import struct
import zlib


def gps_block(
    latitude: float, longitude: float, height: float | None = None, sigma: float | None = None, order: str = "<"
) -> bytes:
    """A TIFF block with a GPS directory."""
    entries, values, number = b"", b"", 4 + 2 * (height is not None) + (sigma is not None)
    values_at = 26 + 2 + 12 * number + 4

    def rationals(tag: int, *numbers: float) -> bytes:
        nonlocal values
        entry = struct.pack(order + "HHII", tag, 5, len(numbers), values_at + len(values))
        values += b"".join(struct.pack(order + "II", round(1e6 * x), 1_000_000) for x in numbers)
        return entry

    for tag, angle, sides in ((1, latitude, b"NS"), (3, longitude, b"EW")):
        entries += struct.pack(order + "HHI4s", tag, 2, 2, sides[angle < 0 :][:1])
        minutes = abs(angle) % 1 * 60
        entries += rationals(tag + 1, int(abs(angle)), int(minutes), minutes % 1 * 60)
    if height is not None:
        entries += struct.pack(order + "HHI4s", 5, 1, 1, bytes([height < 0]))
        entries += rationals(6, abs(height))
    if sigma is not None:
        entries += rationals(31, sigma)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    main = struct.pack(order + "H", 1) + struct.pack(order + "HHII", 0x8825, 4, 1, 26) + bytes(4)
    return head + main + struct.pack(order + "H", number) + entries + bytes(4) + values


def in_jpeg(data: bytes, block: bytes) -> bytes:
    segment = b"Exif\0\0" + block
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def in_png(data: bytes, block: bytes) -> bytes:
    """Behind the first chunk, the header."""
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block
    return data[:33] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + data[33:]
