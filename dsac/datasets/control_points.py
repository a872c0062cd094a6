"""Control points: places that are known in two worlds, as surveyors hand them over.

name  x y z  X Y Z                 a line, the name may be missing; X Y Z are the same place in the other world
name,x,y,z,lat,lon,height          a first line that names latitude and longitude: the other world is the Earth
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.datasets.storage import read_lines
from dsac.datasets.tables import AT_THE_END, numbers_at_end, unquoted, words
from dsac.errors import DatasetError
from dsac.geometry import check_geo

_LINE = "[NAME] x y z X Y Z"
_LATITUDE, _LONGITUDE = ("lat", "latitude"), ("lon", "lng", "long", "longitude")


@dataclass(frozen=True, eq=False)
class ControlPoints:
    names: list[str]
    here: Float[Tensor, "N 3"]  # float64
    there: Float[Tensor, "N 3"]  # the same places in the other world; if `on_earth` latitude, longitude, height
    on_earth: bool = False


def read_control_points(path: str | Path) -> ControlPoints:
    """Raises: `DatasetError` with the line."""
    names: list[str] = []
    rows: list[list[float]] = []
    columns: list[int] | None = None  # where latitude, longitude, height stand; None: they do not
    for number, line in enumerate(read_lines(path), 1):
        line = line.partition("#")[0].strip(AT_THE_END)
        if not line:
            continue
        place = f"{path}, line {number}"
        name, values = numbers_at_end(f" {line}", 6)
        if not rows and not values:
            columns = _columns(words(line), place)
            continue
        if len(values) > 6 and (name or len(values) == 7):  # a name that is a number, or ends with one
            name, values = " ".join(words(line)[:-6]), values[-6:]
        if len(values) != 6 or not all(map(math.isfinite, values)):
            raise DatasetError(f"{place}: expected `{_LINE}`, six numbers, got `{line[:120]}`")
        if columns is not None:
            values = values[:3] + [values[3 + column] for column in columns]
            try:
                check_geo((values[3], values[4], values[5]))
            except ValueError as error:
                raise DatasetError(f"{place}: {error}") from None
        name = unquoted(name.strip()) or f"point {len(rows) + 1}"
        if name in names:
            raise DatasetError(f"{place}: {name} is there already")
        names.append(name)
        rows.append(values)
    if not rows:
        raise DatasetError(f"{path}: expected control points, `{_LINE}` a line, found none")
    table = torch.tensor(rows, dtype=torch.float64)
    return ControlPoints(names, table[:, :3], table[:, 3:], columns is not None)


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
