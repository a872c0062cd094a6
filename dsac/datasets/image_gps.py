"""What an image's EXIF data say of where it was taken."""

from __future__ import annotations

import struct
from dataclasses import dataclass

# tags of the GPS directory
_LATITUDE, _LONGITUDE, _BELOW_SEA, _HEIGHT, _ERROR = 2, 4, 5, 6, 31


@dataclass(frozen=True)
class GpsFix:
    latitude: float  # degrees, north positive
    longitude: float  # degrees, east positive
    height: float | None  # metres, of most phones above the sea; None = not told
    sigma: float | None = None  # metres by which it may be off horizontally, as the receiver says


def gps_fix(tiff: bytes, offset: int) -> GpsFix | None:
    """Of the GPS directory at an offset of a TIFF block; None where it does not tell a place on Earth."""
    try:
        values = _values(tiff, offset)
    except struct.error:  # damaged
        return None
    latitude, longitude = (
        _degrees(values, tag, negative) for tag, negative in ((_LATITUDE, b"S"), (_LONGITUDE, b"W"))
    )
    if latitude is None or longitude is None or (latitude, longitude) == (0.0, 0.0):
        return None  # 0, 0 is what receivers write that have no fix
    height, error = (values[tag][0] if values.get(tag) else None for tag in (_HEIGHT, _ERROR))
    if height is not None and values.get(_BELOW_SEA) == [1.0]:
        height = -height
    return GpsFix(latitude, longitude, height, error if error and error > 0 else None)


def _degrees(values: dict[int, list[float] | bytes], tag: int, negative: bytes) -> float | None:
    """Of degrees, minutes, seconds, and the letter in the tag before."""
    parts, side = values.get(tag), values.get(tag - 1, b"")
    if not isinstance(parts, list) or not 1 <= len(parts) <= 3:
        return None
    angle = sum(part / 60**power for power, part in enumerate(parts))
    most = 90 if tag == _LATITUDE else 180
    is_negative = isinstance(side, bytes) and side[:1].upper() == negative
    return (-angle if is_negative else angle) if angle <= most else None


def _values(tiff: bytes, offset: int) -> dict[int, list[float] | bytes]:
    """Numbers and texts of a directory by tag; without those that a value of 0 / 0 leaves open."""
    order = "<" if tiff[:2] == b"II" else ">"
    found: dict[int, list[float] | bytes] = {}
    (entries,) = struct.unpack_from(order + "H", tiff, offset)
    for at in range(offset + 2, offset + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", tiff, at)
        if kind == 5 and count <= 3:
            (values_at,) = struct.unpack_from(order + "I", tiff, at + 8)
            pairs = struct.unpack_from(f"{order}{2 * count}I", tiff, values_at)
            if all(pairs[1::2]):
                found[tag] = [above / below for above, below in zip(pairs[::2], pairs[1::2], strict=True)]
        elif kind == 2:
            found[tag] = tiff[at + 8 : at + 8 + min(count, 4)]
        elif kind == 1:
            found[tag] = [float(tiff[at + 8])]
    return found
