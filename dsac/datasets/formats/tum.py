"""TUM RGB-D: `rgb.txt`, `depth.txt` and `groundtruth.txt`, brought together by their timestamps; ICL-NUIM too.

`groundtruth.txt` has lines `timestamp tx ty tz qx qy qz qw`, world from camera. Depth is registered to colour,
in 1/5000 m unless `depth_scale.txt` says otherwise. ICL-NUIM's camera has y up and a negative fy: camera and
world are mirrored in y, so that lengths and reprojection stay and both are right-handed.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dsac.datasets.calibration import Calibration, opencv_calibration, read_calibration
from dsac.datasets.format import Recording
from dsac.datasets.image_names import names_found
from dsac.datasets.listed_files import IMAGE_ENDINGS, folder_names
from dsac.datasets.posed_files import PosedImages, pick
from dsac.datasets.recording import ScaledDepth, metres_per_depth_unit
from dsac.datasets.storage import Storage
from dsac.datasets.tables import number_or_none, read_rows
from dsac.datasets.trajectory import files_by_time, pair_by_time, read_trajectory, seconds
from dsac.errors import DatasetError
from dsac.geometry import Pose

logger = logging.getLogger(__name__)

LOOKS_FOR = "groundtruth.txt beside rgb.txt, associations.txt or rgb (TUM RGB-D, ICL-NUIM)"
MAX_GAP = 0.02
METRES_PER_UNIT = 1 / 5000

# fx fy cx cy k1 k2 p1 p2 k3 of OpenCV, by what stands in the folder's name
_PUBLISHED = {
    r"(?<![a-z])(freiburg|fr)[-_]?1(?!\d)": (
        517.3, 516.5, 318.6, 255.3, 0.2624, -0.9531, -0.0054, 0.0026, 1.1633,
    ),
    r"(?<![a-z])(freiburg|fr)[-_]?2(?!\d)": (
        520.9, 521.0, 325.1, 249.7, 0.2312, -0.7849, -0.0033, -0.0001, 0.9172,
    ),
    r"(?<![a-z])(freiburg|fr)[-_]?3(?!\d)": (535.4, 539.2, 320.1, 247.6),
    r"(?<![a-z])icl(?![a-z])|traj\d_(frei|loop)|(living|office)_?room_?traj|(?<![a-z])(lr|of)_?kt\d": (
        481.2, -480.0, 319.5, 239.5,
    ),
}  # fmt: skip
_ASSOCIATIONS = ["associations.txt", "associated.txt", "associate.txt", "association.txt"]
_Y_MIRRORED = (1.0, -1.0, 1.0)


class _Stamped(NamedTuple):
    """Files with the time of each."""

    names: list[str]
    times: np.ndarray


def recognises(storage: Storage) -> bool:
    if not storage.has("groundtruth.txt"):
        return False
    return storage.first(["rgb.txt", *_ASSOCIATIONS, "rgb"]) is not None


def read(storage: Storage, truth: str | None, max_gap: float | None = None) -> Recording:
    """Frames in the order of `rgb.txt`; the truth is `groundtruth`."""
    max_gap = MAX_GAP if max_gap is None else max_gap
    colour, depth = _listed(storage)
    trajectory = read_trajectory(storage.join("groundtruth.txt"))
    rows, world_from_cam = trajectory.at(colour.names, colour.times, max_gap)
    calibration = _calibration(storage)
    if calibration.y_up:
        mirror = world_from_cam.translation.new_tensor(_Y_MIRRORED)
        rotation = mirror[:, None] * world_from_cam.rotation * mirror
        world_from_cam = Pose(rotation, mirror * world_from_cam.translation)
    names = pick(colour.names, rows)
    depth_of = pair_by_time(colour.times[rows], depth.times, max_gap)
    if len(depth.names):
        logger.info(
            "%s: %d of %d images have depth within %g s", storage.path, len(depth_of), len(names), max_gap
        )
    images = PosedImages(
        names,
        world_from_cam.inverse(),
        [calibration.lens] * len(names),
        storage.path,
        {names[i]: depth.names[j] for i, j in depth_of.items()},
        ScaledDepth(metres_per_depth_unit(storage) or METRES_PER_UNIT),
    )
    return images.recording(storage, "TUM RGB-D", "groundtruth", truth)


def _listed(storage: Storage) -> tuple[_Stamped, _Stamped]:
    """Colour and depth images: of the lists, the associations, or folders whose files are named by time."""
    associations = storage.first(_ASSOCIATIONS)
    if storage.has("rgb.txt"):
        depth = _list(storage, "depth.txt") if storage.has("depth.txt") else _folder(storage, "depth")
        return _list(storage, "rgb.txt"), depth
    if associations is None:
        return _folder(storage, "rgb"), _folder(storage, "depth")
    path = storage.join(associations)
    pairs: dict[bool, list[tuple[float, str]]] = {False: [], True: []}
    for row in read_rows(path):
        if len(row.words) < 4 or number_or_none(row.words[0]) is None or number_or_none(row.words[2]) is None:
            raise DatasetError(f"{row.place}: expected `timestamp file timestamp file`, got `{row.words}`")
        for time, file in (row.words[0:2], row.words[2:4]):
            pairs["depth" in file.lower()].append((float(time), file))
    colour, depth = (
        _stamped(storage, [f for _, f in found], [t for t, _ in found]) for found in pairs.values()
    )
    return colour, depth


def _list(storage: Storage, name: str) -> _Stamped:
    names, times = [], []
    for row in read_rows(storage.join(name)):
        times += row.numbers("timestamp filename", 0, 1)
        if len(row.words) < 2:
            raise DatasetError(f"{row.place}: expected `timestamp filename`, got `{row.words[0]}`")
        names.append(" ".join(row.words[1:]))
    if not names:
        raise DatasetError(f"{storage.join(name)}: expected lines `timestamp filename`, found none")
    return _stamped(storage, names, times)


def _folder(storage: Storage, folder: str) -> _Stamped:
    """Images named by their time."""
    found = _Stamped(*files_by_time(storage, folder, IMAGE_ENDINGS))
    if folder == "rgb" and not found.names:
        raise DatasetError(
            f"{storage.path}: expected rgb.txt with lines `timestamp filename`, or images in rgb "
            "named by their time"
        )
    return found


def _stamped(storage: Storage, names: list[str], times: list[float]) -> _Stamped:
    found = names_found(storage, [name.removeprefix("./") for name in names], endings=IMAGE_ENDINGS)
    return _Stamped(found, seconds(np.array(times, dtype=np.float64)))


def _calibration(storage: Storage) -> Calibration:
    """Of a file, else what is published for the folder's name."""
    if (found := read_calibration(storage)) is not None:
        return found
    name = "/".join(folder_names(storage)[-2:]).lower()
    for pattern, numbers in _PUBLISHED.items():
        if match := re.search(pattern, name):
            logger.info("%s: intrinsics published for %s are taken", storage.path, match[0])
            lens, y_up = opencv_calibration(numbers, storage.path)
            return Calibration(replace(lens, size=(640, 480)), y_up)
    raise DatasetError(
        f"{storage.path}: no intrinsics; add a cameras.txt with the line `1 PINHOLE WIDTH HEIGHT FX FY CX CY` "
        "(freiburg1, 2 or 3 in the folder's name stands for TUM's own cameras)"
    )
