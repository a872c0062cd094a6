"""JSON files, and numbers in them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dsac.datasets.storage import read_text
from dsac.errors import DatasetError


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
