"""Files for people: whether they can be written is known before the work, and they are written whole."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dsac.datasets.storage import write_atomically
from dsac.errors import DatasetError


def prepare_folder(path: Path) -> None:
    """Make the folder of a file. Raises: `DatasetError` when the file could not be written there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise DatasetError(f"{path}: expected a folder that can be written, got: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises: `DatasetError`."""
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written: {error.strerror}") from error
