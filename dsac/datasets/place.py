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
    if "images" not in listing and not any(name.lower().endswith(ENDINGS) for name in listing):
        if _has_model(storage, ".") or any(_has_model(storage, name) for name in listing if name.isdecimal()):
            folder = str(path).rstrip("/") if is_remote(path) else Path(path).absolute().as_posix()
            inside: list[str] = []
            while _is_of_models(folder, inside):
                folder, inside = posixpath.dirname(folder), [posixpath.basename(folder), *inside]
            if inside:
                return Storage(folder, "/".join(inside))
    return storage


def _has_model(storage: Storage, folder: str) -> bool:
    listing = storage.listing(folder)
    return any({f"cameras.{ending}", f"images.{ending}"} <= listing for ending in ("bin", "txt"))


def _is_of_models(folder: str, inside: list[str]) -> bool:
    """Whether a recording lies further out; `inside` are the folders that are left already."""
    if inside and "images" in Storage(folder).listing():
        return False
    above, base = posixpath.split(folder)
    if base.isdecimal():  # a recording may be called so, too
        return not inside or posixpath.basename(above) in _OF_MODELS
    return base in _OF_MODELS or base.startswith("sfm")
