"""What a path given for a scene means: its folder, or its `transforms.json` or COLMAP model in that folder."""

from __future__ import annotations

import posixpath
from pathlib import Path

from dsac.datasets.image_names import ENDINGS
from dsac.datasets.storage import Storage, is_remote

_OF_MODELS = ("sparse", "colmap", "dense", "models")


def storage_of(path: str | Path) -> Storage:
    """The scene's folder, with `Storage.chosen` where the path is of something in it."""
    storage = Storage(str(path))
    folder, file = posixpath.split(str(path) if is_remote(path) else Path(path).as_posix())
    if file.lower().endswith(".json") and Storage(folder or ".").has(file):
        return Storage(folder or ".", file)
    listing = storage.listing()
    is_model = any({f"cameras.{ending}", f"images.{ending}"} <= listing for ending in ("bin", "txt"))
    if is_model and "images" not in listing and not any(name.lower().endswith(ENDINGS) for name in listing):
        folder = str(path).rstrip("/") if is_remote(path) else Path(path).absolute().as_posix()
        inside: list[str] = []
        while (base := posixpath.basename(folder)).isdecimal() or base in _OF_MODELS or base.startswith("sfm"):
            folder, inside = posixpath.dirname(folder), [base, *inside]
        if inside:
            return Storage(folder, "/".join(inside))
    return storage
