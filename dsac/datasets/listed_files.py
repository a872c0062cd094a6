"""Files that a format knows by the ends, the numbers or the beginnings of their names."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence

from dsac.datasets.image_names import ENDINGS
from dsac.datasets.rigid import some
from dsac.datasets.storage import Storage, is_remote
from dsac.errors import DatasetError

logger = logging.getLogger(__name__)

IMAGE_ENDINGS = (*ENDINGS, ".ppm", ".pgm")


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
