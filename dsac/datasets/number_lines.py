"""Lines of numbers as people's programs, spreadsheets and languages write them.

Between fields stand spaces or tabs, semicolons, or commas; a comma may also be the decimal mark. A line is read
in the first of these ways in which it holds the numbers that it should:

    a.png 1 0 0 0 1.5 2 3       a.png 1,0 0,0 0,0 0,0 1,5 2,0 3,0
    a.png;1;0;0;0;1,5;2;3       a.png, 1, 0, 0, 0, 1.5, 2, 3
    a.png,1,0,0,0,1.5,2,3
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

_SEPARATORS = [re.compile(way) for way in (r"\s+", r"\s*;\s*|,\s+|\s+", r"\s*[,;]\s*|\s+")]
_AT_THE_END = ",; \t"  # spreadsheets fill rows up


def as_number(text: str) -> float:
    """Raises: `ValueError` for anything but one number."""
    return float(text.replace(",", ".", 1))


def fields(line: str, most: int = 0) -> Iterator[list[str]]:
    """The line's fields in each way of reading it, the rest of it in the last if there are more than `most`."""
    for separator in _SEPARATORS:
        yield separator.split(line.rstrip(_AT_THE_END), max(0, most - 1))


def numbers(line: str) -> list[float]:
    """Raises: `ValueError` for a line that holds anything else."""
    *ways, last = fields(line)
    for parts in ways:
        with suppress(ValueError):
            return [as_number(part) for part in parts]
    return [as_number(part) for part in last]


def numbers_at_end(line: str, least: int) -> tuple[str, list[float]]:
    """What stands before, and the numbers; as many as there are when no way of reading gives `least`."""
    line = line.rstrip(_AT_THE_END)
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
