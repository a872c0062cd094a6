"""Texts with numbers as people's programs, spreadsheets and languages write them.

Between fields stand spaces or tabs, semicolons, or commas; a comma may also be the decimal mark. A line is read
in the first of these ways in which it holds the numbers that it should:

    a.png 1 0 0 0 1.5 2 3       a.png 1,0 0,0 0,0 0,0 1,5 2,0 3,0
    a.png;1;0;0;0;1,5;2;3       a.png, 1, 0, 0, 0, 1.5, 2, 3
    a.png,1,0,0,0,1.5,2,3
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.datasets.storage import read_lines
from dsac.errors import DatasetError

_SEPARATORS = [re.compile(way) for way in (r"\s+", r"\s*;\s*|,\s+|\s+", r"\s*[,;]\s*|\s+")]
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d{1,17}([eE][-+]?\d+)?")  # more: nanoseconds
AT_THE_END = ",; \t"  # spreadsheets fill rows up


# ---- files -------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A line of a table."""

    place: str  # path and line, for messages
    words: list[str]

    def numbers(self, expected: str, first: int, count: int) -> list[float]:
        """`count` words from the `first` on. Raises: `DatasetError` that says what was expected."""
        values = [number_or_none(word) for word in self.words[first : first + count]]
        if len(values) < count or None in values:
            raise DatasetError(f"{self.place}: expected `{expected}`, got `{' '.join(self.words)[:120]}`")
        return [value for value in values if value is not None]


def read_rows(path: str) -> list[Row]:
    """The lines that are neither blank nor comments, in words; decimal commas are points.

    `#` begins a comment. Raises: `DatasetError` for a file that is missing or no text.
    """
    lines = (line.partition("#")[0].strip(AT_THE_END) for line in read_lines(path))
    return [Row(f"{path}, line {number}", words(line)) for number, line in enumerate(lines, 1) if line]


def read_numbers(path: str) -> list[float]:
    """All numbers of a small text; brackets, with a comma behind, count as spaces.

    Raises: `DatasetError` for other words.
    """
    text = " ".join(line.partition("#")[0].strip(AT_THE_END) + " " for line in read_lines(path))
    try:
        return numbers(re.sub(r"[\[\]()]\s*,?", " ", text).strip(AT_THE_END)) if text.strip() else []
    except ValueError:
        raise DatasetError(f"{path}: expected numbers, got `{text.strip()[:120]}`") from None


def read_pose_matrix(path: str) -> Float[Tensor, "3 4"]:
    """A rigid motion as 3x4 or 4x4 numbers, row by row; they may be NaN or infinite.

    Raises: `DatasetError` for another count, or a last row other than 0 0 0 1.
    """
    values = read_numbers(path)
    if len(values) not in (12, 16):
        raise DatasetError(f"{path}: expected a 4x4 matrix as 16 numbers, got {len(values)}")
    if len(values) == 16 and all(map(math.isfinite, values)) and values[12:] != [0, 0, 0, 1]:
        raise DatasetError(f"{path}: expected a matrix with the last row 0 0 0 1, got {values[12:]}")
    return torch.tensor(values[:12], dtype=torch.float64).reshape(3, 4)


# ---- lines -------------------------------------------------------------------------------------------


def as_number(text: str) -> float:
    """Raises: `ValueError` for anything but one number."""
    return float(text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text)


def number_or_none(word: str) -> float | None:
    """None = no number."""
    try:
        return float(word)
    except ValueError:
        return None


def fields(line: str, most: int = 0) -> Iterator[list[str]]:
    """The line's fields in each way of reading it, the rest of it in the last if there are more than `most`."""
    for separator in _SEPARATORS:
        yield separator.split(line.rstrip(AT_THE_END), max(0, most - 1))


def words(line: str) -> list[str]:
    """The line's fields, with decimal points where they have decimal commas."""
    *ways, last = fields(line)
    for parts in ways:
        if all(_DECIMAL_COMMA.fullmatch(part) for part in parts if not {",", ";"}.isdisjoint(part)):
            return [part.replace(",", ".") for part in parts]
    return last


def numbers(line: str) -> list[float]:
    """Raises: `ValueError` for a line that holds anything else."""
    return [float(word) for word in words(line)]


def numbers_at_end(line: str, least: int) -> tuple[str, list[float]]:
    """What stands before, and the numbers; as many as there are when no way of reading gives `least`."""
    line = line.rstrip(AT_THE_END)
    read: tuple[str, list[float]] = line, []
    for separator in _SEPARATORS:
        values: list[float] = []
        end = len(line)
        for cut in reversed(list(separator.finditer(line))):
            try:
                values.append(as_number(line[cut.end() : end]))
            except ValueError:
                break
            end = cut.start()
        if len(values) > len(read[1]):
            read = line[:end], values[::-1]
        if len(values) >= least:
            break
    return read


def unquoted(name: str) -> str:
    """A name without the quotation marks that spreadsheets put around it."""
    return name[1:-1] if len(name) > 2 and name[0] == name[-1] == '"' else name
