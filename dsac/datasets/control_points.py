"""Control points: places known in two worlds, as surveyors hand them over, and clicks on them in photos.

name  x y z  X Y Z                 a line, the name may be missing; X Y Z are the same place in the other world
photo.jpg  u v  X Y Z              a click: which pixel of a photo shows it; a line for each photo that does
name,x,y,z,lat,lon,height          a first line that names latitude and longitude: the other world is the Earth
[{"name": "door", "x": 0.1, ...}]  the same in JSON, with these names
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.datasets.storage import read_lines, read_text
from dsac.datasets.tables import AT_THE_END, numbers_at_end, unquoted, words
from dsac.errors import DatasetError
from dsac.geometry import check_geo

_LATITUDE, _LONGITUDE = ("lat", "latitude"), ("lon", "lng", "long", "longitude")
_HEIGHT = ("height", "alt", "altitude")


@dataclass(frozen=True, eq=False)
class ControlPoints:
    names: list[str]
    here: Float[Tensor, "N 3"]  # float64
    there: Float[Tensor, "N 3"]  # the same places in the other world; if `on_earth` latitude, longitude, height
    on_earth: bool = False


class Click(NamedTuple):
    """Where a photo shows a place."""

    photo: str
    pixel: tuple[float, float]  # of the photo as viewers show it, (0.5, 0.5) is the first one's centre


@dataclass(frozen=True, eq=False)
class ClickedPoints:
    """Places that are known in the other world, and seen in photos."""

    clicks: list[list[Click]]  # of each place, in different photos
    there: Float[Tensor, "N 3"]  # as of `ControlPoints`
    on_earth: bool = False


def read_control_points(path: str | Path) -> ControlPoints:
    """Raises: `DatasetError` with the line."""
    names: list[str] = []
    rows, on_earth = _read(path, "x y z", "name")
    for place, name, _ in rows:
        if name in names:
            raise DatasetError(f"{place}: {name} is there already")
        names.append(name or f"point {len(names) + 1}")
    table = torch.tensor([values for _, _, values in rows], dtype=torch.float64)
    return ControlPoints(names, table[:, :3], table[:, 3:], on_earth)


def read_clicks(path: str | Path) -> ClickedPoints:
    """Clicks on one place are those with the same X, Y and Z. Raises: `DatasetError` with the line."""
    clicks: dict[tuple[float, ...], list[Click]] = {}
    rows, on_earth = _read(path, "u v", "photo")
    for place, photo, (u, v, *there) in rows:
        if not photo:
            raise DatasetError(f"{place}: expected the name of a photo before u v X Y Z, found none")
        of_point = clicks.setdefault(tuple(there), [])
        if photo in [click.photo for click in of_point]:
            raise DatasetError(f"{place}: {photo} shows that point already")
        of_point.append(Click(photo, (u, v)))
    return ClickedPoints(list(clicks.values()), torch.tensor(list(clicks), dtype=torch.float64), on_earth)


# ---- rows --------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    place: str  # for messages
    name: str
    values: list[float]


def _read(path: str | Path, here: str, kind: str) -> tuple[list[_Row], bool]:
    """Rows of a `kind` of name, what is known `here`, and X Y Z or latitude, longitude, height: on Earth."""
    expected = f"{'PHOTO' if kind == 'photo' else '[NAME]'} {here} X Y Z"
    of_json = read_text(path).lstrip()[:1] in ("[", "{")
    read = _json_rows(path, here.split(), kind) if of_json else _text_rows(path, len(here.split()), expected)
    rows, on_earth = list(read[0]), read[1]
    if not rows:
        raise DatasetError(f"{path}: expected control points, `{expected}` a line, found none")
    for place, _, values in rows if on_earth else ():
        try:
            check_geo((values[-3], values[-2], values[-1]))
        except ValueError as error:
            raise DatasetError(f"{place}: {error}") from None
    return rows, on_earth


def _text_rows(path: str | Path, num_here: int, expected: str) -> tuple[Iterator[_Row], bool]:
    count = num_here + 3
    lines = [
        (f"{path}, line {number}", line)
        for number, whole in enumerate(read_lines(path), 1)
        if (line := whole.partition("#")[0].strip(AT_THE_END))
    ]
    columns: list[int] | None = None  # where latitude, longitude, height stand; None: they do not
    if lines and not numbers_at_end(f" {lines[0][1]}", count)[1]:
        (place, head), *lines = lines
        columns = _columns(words(head), place)

    def rows() -> Iterator[_Row]:
        for place, line in lines:
            name, values = numbers_at_end(f" {line}", count)
            if len(values) > count and (
                name or len(values) == count + 1
            ):  # a name that is a number, or ends so
                name, values = " ".join(words(line)[:-count]), values[-count:]
            if len(values) != count or not all(map(math.isfinite, values)):
                number = {5: "five", 6: "six"}[count]
                raise DatasetError(f"{place}: expected `{expected}`, {number} numbers, got `{line[:120]}`")
            if columns is not None:
                values = values[:-3] + [values[num_here + column] for column in columns]
            yield _Row(place, unquoted(name.strip()), values)

    return rows(), columns is not None


def _columns(head: list[str], place: str) -> list[int] | None:
    """Where latitude, longitude and height stand among the last three columns; None where they are X Y Z."""
    last = [unquoted(word).casefold() for word in head[-3:]]
    found = [next((i for i, word in enumerate(last) if word in kind), None) for kind in (_LATITUDE, _LONGITUDE)]
    if found == [None, None]:
        return None
    latitude, longitude = found
    if latitude is None or longitude is None or len(last) < 3:
        raise DatasetError(
            f"{place}: expected lat, lon and height over the last three columns, got `{' '.join(last)}`"
        )
    return [latitude, longitude, 3 - latitude - longitude]


def _json_rows(path: str | Path, here: list[str], kind: str) -> tuple[Iterator[_Row], bool]:
    try:
        points = json.loads(read_text(path))
    except ValueError as error:
        raise DatasetError(f"{path}: expected JSON, {error}") from None
    points = points if isinstance(points, list) else [points]
    keys = [key for point in points if isinstance(point, dict) for key in point]
    on_earth = any(key.casefold() in _LATITUDE for key in keys)
    there = [_LATITUDE, _LONGITUDE, _HEIGHT] if on_earth else [("X",), ("Y",), ("Z",)]
    wanted = [*((key,) for key in here), *there]

    def rows() -> Iterator[_Row]:
        for number, point in enumerate(points, 1):
            place, known = f"{path}, point {number}", point if isinstance(point, dict) else {}
            said = (next((known[key] for key in known if _is(key, names)), None) for names in wanted)
            values = [float(value) for value in said if isinstance(value, int | float) and math.isfinite(value)]
            if len(values) < len(wanted):
                expected = ", ".join(names[0] for names in wanted)
                raise DatasetError(f"{place}: expected numbers {expected}, got `{json.dumps(point)[:120]}`")
            yield _Row(place, str(known.get(kind, "")), values)

    return rows(), on_earth


def _is(key: str, names: tuple[str, ...]) -> bool:
    """Whether it is one of several names of one thing, in letters of any case; x and X are two things."""
    return key in names or (len(names) > 1 and key.casefold() in names)
