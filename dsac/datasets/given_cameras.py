"""The cameras that people give with photos: one for all or one for each, as `Camera` or as a matrix K."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from torch import Tensor

from dsac.datasets.rigid import some
from dsac.datasets.storage import read_lines
from dsac.datasets.tables import numbers, unquoted
from dsac.errors import DatasetError
from dsac.geometry import Camera


def is_matrix(camera: Any) -> bool:
    """Whether this is the K of one camera."""
    try:
        return not isinstance(camera, Camera | Mapping) and np.shape(camera) == (3, 3)
    except ValueError:  # of rows that differ in length
        return False


def one_camera(camera: Any, size: tuple[int, int]) -> Camera:
    """A camera as it is, or that of K for an image of `size` (width, height); OpenCV's K, see `from_opencv`.

    Raises: `ValueError` for what is neither, and for a batch of cameras.
    """
    if isinstance(camera, Camera):
        if camera.focal_px.dim() != 1:
            raise ValueError(f"camera: expected one, got a batch of shape {tuple(camera.focal_px.shape[:-1])}")
        return camera
    if not is_matrix(camera):
        found = type(camera).__name__ + (f" {tuple(camera.shape)}" if hasattr(camera, "shape") else "")
        raise ValueError(f"camera: expected a dsac.Camera or K, a 3×3 matrix, got {found}")
    return Camera.from_opencv(camera if isinstance(camera, Tensor) else np.asarray(camera), None, size)


def of_each(given: Any, names: Sequence[str], what: str) -> dict[str, Any]:
    """One for all photos, or those in their order, or by name.

    Of a path the last part is enough, of a video's frames the video's name; what is given by name may have
    folders before it.
    Raises: `ValueError` for more or fewer than there are photos, or a photo that has none.
    """
    if isinstance(given, Mapping):
        known = {name: _key(name, given) for name in names}
        if missing := [name for name, key in known.items() if key is None]:
            raise ValueError(
                f"{what}: none for {missing[0]} (photos without: {len(missing)} of {len(names)}), "
                f"{f'but for {some([str(key) for key in given], 3)}' if given else 'nor for any other'}"
            )
        return {name: given[key] for name, key in known.items()}
    if isinstance(given, np.ndarray | Tensor):
        given = given.tolist()
    if not isinstance(given, Sequence) or isinstance(given, str) or is_matrix(given):
        return dict.fromkeys(names, given)
    if len(given) != len(names):
        raise ValueError(f"{what}: expected one for each of {len(names)} photos, got {len(given)}")
    return dict(zip(names, given, strict=True))


def _key(name: str, given: Mapping[str, Any]) -> str | None:
    """Under which a photo is known: its name, the last part of that, or a name with folders before it."""
    video = name.rpartition("#")[0] or name
    for key in (name, PurePath(name).name, video, PurePath(video).name):
        if key in given:
            return key
    longer = [key for key in given if str(key).endswith(f"/{name}")]
    return longer[0] if len(longer) == 1 else None


def read_cameras(path: str | Path) -> Camera | dict[str, Camera]:
    """Cameras of photos from a text of lines `NAME MODEL WIDTH HEIGHT PARAMS...`; a single line is all photos'.

    COLMAP's `cameras.txt` of one camera is such a text. Lines may be `NAME MODEL,WIDTH,HEIGHT,PARAMS...` too.
    Raises: `DatasetError` with the line.
    """
    cameras: dict[str, Camera] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line or line.startswith("#"):
            continue
        try:
            found = _LINE.match(line)
            if found is None:
                raise ValueError(f"expected `NAME MODEL WIDTH HEIGHT PARAMS...`, got `{line[:120]}`")
            name, model, width, height, params = found.groups()
            if (name := unquoted(name)) in cameras:
                raise ValueError(f"{name} has a camera already")
            cameras[name] = Camera.from_params(model.upper(), numbers(params), (int(width), int(height)))
        except ValueError as error:
            raise DatasetError(f"{path}, line {number}: {error}") from None
    if not cameras:
        raise DatasetError(f"{path}: expected cameras, `NAME MODEL WIDTH HEIGHT PARAMS...` a line, found none")
    return next(iter(cameras.values())) if len(cameras) == 1 else cameras


_LINE = re.compile(r"(.+?)[\s,;]+([A-Za-z][A-Za-z_]+)[\s,;]+(\d+)[\s,;]+(\d+)[\s,;]+(.+)$")
