"""Photos without poses, to be localized: files, or all images of a folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from dsac.datasets.frame import Frames
from dsac.datasets.image import read_exif_focal_px, read_image, read_image_size
from dsac.errors import DatasetError
from dsac.geometry import Camera

logger = logging.getLogger(__name__)

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


def load_photos(
    paths: Sequence[str | Path], *, camera: Camera | None = None, focal_px: float | int | None = None
) -> Frames:
    """Frames without poses. A file is named as given, an image of a folder by its path in that folder.

    All photos have `camera`, or a pinhole with `focal_px`, or else each the focal length of its EXIF data; a
    warning tells the latter.
    Raises: `DatasetError` for a path that is no image or folder of images, for two photos of one name, or when
    no focal length is known; `ValueError` for one that is not positive.
    """
    if camera is not None and focal_px is not None:
        raise ValueError("focal_px: expected either camera or focal_px, got both")
    files = _files(paths)
    if camera is not None:
        cameras = dict.fromkeys(files, camera)
    elif focal_px is not None:
        cameras = {name: Camera.simple(focal_px, read_image_size(path)) for name, path in files.items()}
    else:
        cameras = {name: _exif_camera(path) for name, path in files.items()}
        focals = [float(c.focal_px[0]) for c in cameras.values()]
        logger.warning(
            "focal length from EXIF data, good to a few percent: %.0f to %.0f px (%d photos)",
            min(focals), max(focals), len(focals),
        )  # fmt: skip
    distinct: dict[tuple, int] = {}
    index = [
        distinct.setdefault((c.model, c.size, *c.params.tolist()), len(distinct)) for c in cameras.values()
    ]
    first = {number: c for number, c in reversed(list(zip(index, cameras.values(), strict=True)))}
    names = list(files)
    return Frames(names, [first[i] for i in range(len(distinct))], np.array(index), None, _Photos(files))


@dataclass(frozen=True)
class _Photos:
    files: dict[str, Path]
    has_depth: bool = False

    def read_image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        return read_image(self.files[name])

    def read_depth(self, name: str, camera: Camera) -> Float32[np.ndarray, "H W"]:
        raise ValueError(f"{name}: photos have no depth")


def _files(paths: Sequence[str | Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found = {
                p.relative_to(path).as_posix(): p
                for p in sorted(path.rglob("*"))
                if p.suffix.lower() in _SUFFIXES and p.is_file()
            }
            if not found:
                raise DatasetError(f"{path}: expected a folder with images, found none in it")
        elif path.is_file():
            found = {str(path): path}
        else:
            raise DatasetError(f"{path}: expected an image or a folder of images, found nothing there")
        for name, file in found.items():
            if files.setdefault(name, file) != file:
                raise DatasetError(f"{file}: {files[name]} has the same name; give one folder at a time")
    if not files:
        raise DatasetError("expected images, got none")
    return files


def _exif_camera(path: Path) -> Camera:
    focal_px = read_exif_focal_px(path)
    if focal_px is None:
        raise DatasetError(
            f"{path}: no focal length in its EXIF data; give it in pixels (--focal-px) or the --camera"
        )
    return Camera.simple(focal_px, read_image_size(path))
