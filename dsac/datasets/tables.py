"""Texts with numbers, as programs, people and spreadsheets write them, and files listed by name."""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.datasets.image_names import ENDINGS
from dsac.datasets.rigid import some
from dsac.datasets.storage import Storage, is_remote, read_lines, read_text
from dsac.errors import DatasetError

logger = logging.getLogger(__name__)

IMAGE_ENDINGS = (*ENDINGS, ".ppm", ".pgm")


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
    """The lines that are neither blank nor comments, split at spaces, tabs, commas and semicolons.

    `#` begins a comment. Raises: `DatasetError` for a file that is missing or no text.
    """
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        words = re.split(r"[\s,;]+", line.partition("#")[0].strip(" \t,;"))
        if words != [""]:
            rows.append(Row(f"{path}, line {number}", words))
    return rows


def read_numbers(path: str) -> list[float]:
    """All numbers of a small text; brackets count as spaces. Raises: `DatasetError` for other words."""
    text = " ".join(line.partition("#")[0] for line in read_lines(path))
    values = [number_or_none(word) for word in re.split(r"[\s,;\[\]()]+", text) if word]
    if None in values:
        raise DatasetError(f"{path}: expected numbers, got `{text.strip()[:120]}`")
    return [value for value in values if value is not None]


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


def read_json(path: str) -> Any:
    """Raises: `DatasetError` for what is no JSON."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{path}: expected JSON, which has no comments and no comma before a bracket: {error}"
        ) from None


def json_numbers(entry: Mapping[str, Any], keys: Sequence[str], where: str) -> list[float]:
    """Finite numbers of a JSON object by key. Raises: `DatasetError` that names the first that is missing."""
    values = []
    for key in keys:
        number = json_number(entry.get(key))
        if number is None or not math.isfinite(number):
            raise DatasetError(f"{where}: expected `{key}` as a number, got {str(entry.get(key))[:80]}")
        values.append(number)
    return values


def json_list(entry: Any, key: str | int, count: int, where: str) -> list[float]:
    """The first numbers, perhaps NaN, of a list in a JSON object or list. Raises: `DatasetError` for fewer."""
    try:
        values = [json_number(value) for value in entry[key][:count]]
    except (KeyError, IndexError, TypeError):
        values = []
    if len(values) < count or None in values:
        raise DatasetError(f"{where}: expected `{key}` as {count} numbers")
    return [value for value in values if value is not None]


def json_number(value: Any) -> float | None:
    """None for what is no number in JSON, or one that is too large; it may be NaN or infinite."""
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        return None


def number_or_none(word: str) -> float | None:
    """None = no number."""
    try:
        return float(word)
    except ValueError:
        return None


def files_with(storage: Storage, folder: str, endings: Sequence[str]) -> list[str]:
    """Names of the files with one of these endings, `2.png` before `10.png`; macOS' `._` files are none."""
    names = (name for name in storage.listing(folder) if not name.startswith("."))
    return sorted((name for name in names if name.lower().endswith(tuple(endings))), key=natural_order)


def files_by_number(files: Sequence[str], count: int, source: str) -> dict[int, str]:
    """Number -> file, of those named by a number below `count`; one warning names the others, left out."""
    found = {int(name.partition(".")[0]): name for name in files if re.fullmatch(r"\d{1,12}\.\w+", name)}
    found = {number: name for number, name in found.items() if number < count}
    if without := sorted(set(files) - set(found.values()), key=natural_order):
        logger.warning(
            "%s: %d of %d images have no pose, left out: %s", source, len(without), len(files), some(without)
        )
    return found


def natural_order(name: str) -> tuple[list[str | int], str]:
    """A key that sorts runs of digits as numbers."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def stem(name: str) -> str:
    """A file's name up to its endings: `frame-000001` of `data/frame-000001.color.jpg`.

    Dots inside numbers stay: `1305031102.1753` of `rgb/1305031102.1753.png`.
    """
    return re.sub(r"(\.[A-Za-z_]\w*)+$", "", name.rpartition("/")[2])


def folder_names(storage: Storage) -> list[str]:
    """The names of the folder and of those that it lies in, the outermost first."""
    path = storage.path if is_remote(storage.path) else os.path.abspath(storage.path)
    return [name for name in re.split(r"[/\\]+", path) if name]


def pair_files(images: Sequence[str], others: Sequence[str], source: str) -> dict[str, str]:
    """Image -> the other file whose name begins alike; where no name does, files pair in their order.

    Images without another file are left out and named in a warning.
    Raises: `DatasetError` when no name begins alike and the counts differ, and for two files of one image.
    """
    other_of: dict[str, str] = {}
    for name in others:
        if (first := other_of.setdefault(stem(name), name)) != name:
            raise DatasetError(f"{source}: {first} and {name} are for the same image; keep one of them")
    found = {image: other_of[stem(image)] for image in images if stem(image) in other_of}
    if not found and len(images) == len(others):
        return dict(zip(sorted(images), sorted(others), strict=True))
    if images and not found:
        raise DatasetError(
            f"{source}: {len(others)} files for {len(images)} images, and none is named like {images[0]}"
        )
    if lost := [image for image in images if image not in found]:
        logger.warning(
            "%s: %d of %d images have no file there, left out: %s", source, len(lost), len(images), some(lost)
        )
    return found
