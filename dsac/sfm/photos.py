"""Photos without poses, and what is guessed of the cameras that took them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dsac.datasets import Frames, load_photos, load_scene, read_exif_focal_px
from dsac.datasets.photos import usual_camera
from dsac.datasets.scene import is_recording
from dsac.errors import DatasetError
from dsac.geometry import Camera


@dataclass(frozen=True, eq=False)
class UnposedPhotos:
    """Frames without poses; photos of one size and focal length share a camera."""

    path: str
    frames: Frames
    knows_focal: list[bool]  # of each of `frames.cameras`: whether its focal length is more than a guess

    @staticmethod
    def of(path: str, frames: Frames, focal_px: Sequence[float | None]) -> UnposedPhotos:
        """Of frames as if nothing were known of them but the focal lengths given."""
        kinds = [(frames.camera(i).size, focal) for i, focal in enumerate(focal_px)]
        distinct = {kind: row for row, kind in enumerate(dict.fromkeys(kinds))}
        cameras = [Camera.simple(focal, size) if focal else usual_camera(size) for size, focal in distinct]
        index = np.array([distinct[kind] for kind in kinds], np.int64)
        frames = replace(frames.without_depth(), cameras=cameras, camera_index=index, cam_from_world=None)
        return UnposedPhotos(path, frames, [focal is not None for _, focal in distinct])


def load_unposed(path: str | Path, focal_px: float | None = None) -> UnposedPhotos:
    """The photos in a folder, or the mapping images of a recording that has poses, which are not looked at.

    The focal length is `focal_px`, else of a photo's EXIF data, else a guess.
    Raises: `DatasetError` like `load_photos` and `load_scene`; `ValueError` for a focal length not above 0.
    """
    if focal_px is not None and not 0 < focal_px < math.inf:
        raise ValueError(f"focal_px: expected a positive focal length in pixels, got {focal_px:g}")
    if is_recording(path):
        frames = load_scene(path).mapping
        exif = [None] * len(frames)
    else:
        frames = load_photos([path], focal_px=1.0)
        exif = [_exif_focal_px(Path(path) / name) for name in frames.names]
    return UnposedPhotos.of(str(path), frames, exif if focal_px is None else [focal_px] * len(frames))


def _exif_focal_px(path: Path) -> float | None:
    try:
        return read_exif_focal_px(path)
    except DatasetError:  # said when the photo is read
        return None
