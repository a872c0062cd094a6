"""What a verb will write is checked before its work: a result that cannot be kept, a file that is not ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from dsac.errors import DatasetError, DsacError


def check_writable(
    path: Path, is_our_kind: Callable[[Path], bool] = lambda path: True, make_folder: bool = False
) -> None:
    """Find out before the work that the result could not be written, or would replace something else.

    Raises: `DsacError`.
    """
    folder = path.parent
    if make_folder:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DsacError(f"{folder}: cannot be created ({error.strerror})") from None
    if path.is_dir():
        raise DsacError(f"{path}: expected a file to write, got a folder")
    special = path.exists() and not path.is_file()  # a pipe, a device: written to, not replaced
    if not folder.is_dir():
        raise DsacError(f"{path}: its folder does not exist")
    if not (special or os.access(folder, os.W_OK)) or (path.exists() and not os.access(path, os.W_OK)):
        raise DsacError(f"{path}: not writable")
    if path.is_file() and path.stat().st_size > 0 and not is_our_kind(path):
        raise DsacError(f"{path}: already exists and is something else; give another name, or remove it first")


def is_map(path: Path) -> bool:
    from dsac.atlas import is_map_file

    return is_map_file(path)


def is_poses_file(path: Path) -> bool:
    from dsac.datasets import read_poses

    try:
        return read_poses(path) is not None
    except DatasetError:
        return False


def is_page(path: Path) -> bool:
    return path.read_bytes().startswith(b"<!doctype html>")


def is_table(path: Path) -> bool:
    return path.read_bytes().startswith(b"name,localized,")
