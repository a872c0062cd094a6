"""One camera for all images of a recording, from a text beside them: COLMAP's line, or OpenCV's numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dsac.datasets.formats.colmap import read_camera_text
from dsac.datasets.listed_files import files_with
from dsac.datasets.posed_files import Lens, image_size
from dsac.datasets.storage import Storage
from dsac.datasets.tables import read_numbers
from dsac.errors import DatasetError

_NAMED = re.compile(r"(calib|calibration|camera|intrinsics?|k)(\b|_).*\.txt", re.IGNORECASE)
_EXPECTED = "[width height] (fx fy cx cy | 3x3 matrix) [k1 k2 p1 p2 [k3 ...]]"


class Calibration(NamedTuple):
    """Intrinsics; where fy is negative, the camera's y points up."""

    lens: Lens
    y_up: bool = False


def read_calibration(storage: Storage) -> Calibration | None:
    """Of `cameras.txt`, else of the first text named like `calibration.txt`; None where there is neither.

    Raises: `DatasetError` for what is no camera, or more than one.
    """
    if storage.has("cameras.txt"):
        path = storage.join("cameras.txt")
        return Calibration(Lens.of(read_camera_text(path), path))
    named = [name for name in files_with(storage, ".", [".txt"]) if _NAMED.fullmatch(name)]
    if not named:
        return None
    path = storage.join(named[0])
    return opencv_calibration(read_numbers(path), path)


def opencv_calibration(values: Sequence[float], path: str) -> Calibration:
    """From OpenCV's numbers, `[width height] (fx fy cx cy | 3x3 matrix) [k1 k2 p1 p2 [k3 ...]]`.

    Raises: `DatasetError` for others.
    """
    size = None
    if _begins_with_size(values):
        size, values = image_size(values[0], values[1], path), values[2:]
    if len(values) >= 9 and values[8] == 1 and not any(values[i] for i in (1, 3, 6, 7)):
        K, distortion = np.reshape(values[:9], (3, 3)), values[9:]
    elif len(values) >= 4:
        focal_x, focal_y, center_x, center_y, *distortion = values
        K = np.array([[focal_x, 0, center_x], [0, focal_y, center_y], [0, 0, 1]])
    else:
        raise DatasetError(f"{path}: expected {_EXPECTED}, got {len(values)} numbers")
    y_up = bool(K[1, 1] < 0)
    if y_up and any(distortion):
        raise DatasetError(f"{path}: expected a positive fy beside distortion, got {K[1, 1]:g}")
    K[1, 1] = abs(K[1, 1])
    return Calibration(Lens.from_opencv(K, distortion, path, size), y_up)


def _begins_with_size(values: Sequence[float]) -> bool:
    """Whether a matrix follows the first two, or a principal point stands where distortion would else."""
    if len(values) > 10 and values[3] == values[5] == 0:
        return True
    if len(values) < 6 or not min(values[:2]) > 0:
        return False
    return all(0.1 < value / side < 0.9 for value, side in zip(values[4:6], values[:2], strict=True))
