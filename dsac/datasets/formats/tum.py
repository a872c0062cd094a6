"""TUM RGB-D: `rgb.txt`, `depth.txt` and `groundtruth.txt`, brought together by their timestamps; ICL-NUIM too.

`groundtruth.txt` has lines `timestamp tx ty tz qx qy qz qw`, world from camera. Depth is registered to colour,
in 1/5000 m unless `depth_scale.txt` says otherwise. ICL-NUIM's camera has y up and a negative fy: camera and
world are mirrored in y, so that lengths and reprojection stay and both are right-handed.
"""

from __future__ import annotations

import logging
import re
from typing import NamedTuple

import numpy as np

from dsac.datasets.colmap import read_cameras_text
from dsac.datasets.format import Recording
from dsac.datasets.posed_files import Lens, PosedImages, image_size, pick
from dsac.datasets.recording import ScaledDepth
from dsac.datasets.storage import Storage
from dsac.datasets.tables import (
    IMAGE_ENDINGS,
    as_number,
    files_with,
    folder_names,
    read_depth_scale,
    read_numbers,
    read_rows,
)
from dsac.datasets.trajectory import pair_by_time, read_trajectory, seconds
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose

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
_CALIBRATION = re.compile(r"(calib|calibration|camera|cameras|intrinsics?|k)\b.*|intrinsics?_.*", re.IGNORECASE)
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
    lens, y_up = _lens(storage)
    if y_up:
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
        [lens] * len(names),
        storage.path,
        {names[i]: depth.names[j] for i, j in depth_of.items()},
        ScaledDepth(read_depth_scale(storage, default=METRES_PER_UNIT)),
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
        if len(row.words) < 4 or as_number(row.words[0]) is None or as_number(row.words[2]) is None:
            raise DatasetError(f"{row.place}: expected `timestamp file timestamp file`, got `{row.words}`")
        for time, file in (row.words[0:2], row.words[2:4]):
            pairs["depth" in file.lower()].append((float(time), file.removeprefix("./")))
    colour, depth = (_stamped([f for _, f in found], [t for t, _ in found]) for found in pairs.values())
    return colour, depth


def _list(storage: Storage, name: str) -> _Stamped:
    names, times = [], []
    for row in read_rows(storage.join(name)):
        times += row.numbers("timestamp filename", 0, 1)
        if len(row.words) < 2:
            raise DatasetError(f"{row.place}: expected `timestamp filename`, got `{row.words[0]}`")
        names.append(" ".join(row.words[1:]).removeprefix("./"))
    if not names:
        raise DatasetError(f"{storage.join(name)}: expected lines `timestamp filename`, found none")
    return _stamped(names, times)


def _folder(storage: Storage, folder: str) -> _Stamped:
    """Images named by their time."""
    stamps = {name: as_number(name.rpartition(".")[0]) for name in files_with(storage, folder, IMAGE_ENDINGS)}
    timed = {f"{folder}/{name}": time for name, time in stamps.items() if time is not None}
    if folder == "rgb" and not timed:
        raise DatasetError(
            f"{storage.path}: expected rgb.txt with lines `timestamp filename`, or images in rgb "
            "named by their time"
        )
    return _stamped(list(timed), list(timed.values()))


def _stamped(names: list[str], times: list[float]) -> _Stamped:
    return _Stamped(names, seconds(np.array(times, dtype=np.float64)))


def _lens(storage: Storage) -> tuple[Lens, bool]:
    """Intrinsics and whether y points up: of a file, else those published for the folder's name."""
    if storage.has("cameras.txt"):
        path = storage.join("cameras.txt")
        cameras = list(read_cameras_text(path).values())
        if len(cameras) != 1:
            raise DatasetError(f"{path}: expected one camera for all images, got {len(cameras)}")
        return Lens.of(cameras[0], path), False
    files = [name for name in files_with(storage, ".", [".txt"]) if _CALIBRATION.fullmatch(name)]
    if files:
        path = storage.join(files[0])
        return _lens_of_numbers(read_numbers(path), path)
    name = "/".join(folder_names(storage)[-2:]).lower()
    for pattern, numbers in _PUBLISHED.items():
        if found := re.search(pattern, name):
            logger.info("%s: intrinsics published for %s are taken", storage.path, found[0])
            return _lens_of_numbers([640, 480, *_as_matrix(numbers)], storage.path)
    raise DatasetError(
        f"{storage.path}: no intrinsics; add a cameras.txt with the line `1 PINHOLE WIDTH HEIGHT FX FY CX CY` "
        "(freiburg1, 2 or 3 in the folder's name stands for TUM's own cameras)"
    )


def _as_matrix(numbers: tuple[float, ...]) -> list[float]:
    focal_x, focal_y, center_x, center_y, *distortion = numbers
    return [focal_x, 0, center_x, 0, focal_y, center_y, 0, 0, 1, *distortion]


def _lens_of_numbers(values: list[float], path: str) -> tuple[Lens, bool]:
    """From OpenCV's `[width height] (fx fy cx cy | 3x3 matrix) [k1 k2 p1 p2 [k3 ...]]`."""
    size = None
    if len(values) > 10 and values[3] == values[5] == 0:
        size, values = image_size(values[0], values[1], path), values[2:]
    if len(values) < 9 or any(values[i] for i in (1, 3, 6, 7)) or values[8] != 1:
        values = _as_matrix(tuple(values)) if len(values) >= 4 else []
    y_up = len(values) > 8 and values[4] < 0
    try:
        if not values:
            raise ValueError("expected at least `fx fy cx cy`")
        K = np.abs(np.array(values[:9]).reshape(3, 3))
        camera = Camera.from_opencv(K, values[9:] or None, size or (1, 1))
        if y_up and camera.distortion is not None:
            raise ValueError("a negative fy beside distortion is not understood")
    except ValueError as error:
        raise DatasetError(f"{path}: expected [width height] fx fy cx cy [k1 k2 p1 p2 [k3]]: {error}") from None
    return Lens(camera.model, tuple(camera.params.tolist()), size, path), y_up
