"""EuRoC MAV and recordings in its layout: `mav0/cam0` and the poses of the body.

A row of `mav0/state_groundtruth_estimate0/data.csv` (or `mocap0`) is `timestamp [ns], position, quaternion w x
y z`, world from the body; `T_BS` of the camera's `sensor.yaml` is body from camera. Intrinsics and distortion
are OpenCV's.
"""

from __future__ import annotations

import math
import re

import numpy as np
import torch

from dsac.datasets.format import Recording
from dsac.datasets.image_names import names_found
from dsac.datasets.listed_files import IMAGE_ENDINGS
from dsac.datasets.posed_files import Lens, PosedImages, image_size, pick
from dsac.datasets.rigid import rigid_from_matrices
from dsac.datasets.storage import Storage, read_lines
from dsac.datasets.tables import number_or_none, read_rows
from dsac.datasets.trajectory import files_by_time, read_trajectory, seconds
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose

LOOKS_FOR = "mav0/cam0/sensor.yaml (EuRoC)"
MAX_GAP = 0.02
_TRUTHS = ("state_groundtruth_estimate0", "mocap0")


def recognises(storage: Storage) -> bool:
    return _base(storage) is not None


def read(storage: Storage, truth: str | None, max_gap: float | None = None) -> Recording:
    """Frames of cam0 in the order of their times; the truth is `groundtruth`."""
    base = _base(storage)
    assert base is not None
    camera, body_from_cam = _sensor(storage.join(base, "cam0/sensor.yaml"))
    folder = next((t for t in _TRUTHS if storage.has(f"{base}/{t}/data.csv")), None)
    if folder is None:
        looked_for = ", ".join(storage.join(base, t, "data.csv") for t in _TRUTHS)
        raise DatasetError(f"{storage.path}: expected poses of the body, looked for {looked_for}")
    trajectory = read_trajectory(storage.join(base, folder, "data.csv"), scalar_first=True)
    names, times = _images(storage, base)
    rows, world_from_body = trajectory.at(names, times, MAX_GAP if max_gap is None else max_gap)
    cam_from_world = (world_from_body @ body_from_cam).inverse()
    names = pick(names, rows)
    images = PosedImages(names, cam_from_world, [camera] * len(names), storage.join(base, "cam0"))
    return images.recording(storage, "EuRoC MAV", "groundtruth", truth)


def _base(storage: Storage) -> str | None:
    if "mav0" in storage.listing() and storage.has("mav0/cam0/sensor.yaml"):
        return "mav0"
    return "." if "cam0" in storage.listing() and storage.has("cam0/sensor.yaml") else None


def _images(storage: Storage, base: str) -> tuple[list[str], np.ndarray]:
    """Names and times by `cam0/data.csv`, else by the files, which are named by their time."""
    prefix = "cam0/data" if base == "." else f"{base}/cam0/data"
    if storage.has(f"{prefix}.csv"):
        rows = read_rows(storage.join(f"{prefix}.csv"))
        timed = [(row.words, time) for row in rows if (time := number_or_none(row.words[0])) is not None]
        listed = [words[1] if len(words) > 1 else words[0] + ".png" for words, _ in timed]
        found = names_found(storage, listed, [prefix], IMAGE_ENDINGS)
        named = {f"{prefix}/{name}": time for name, (_, time) in zip(found, timed, strict=True)}
        names, times = list(named), seconds(np.array(list(named.values()), dtype=np.float64))
    else:
        names, times = files_by_time(storage, prefix, IMAGE_ENDINGS)
    if not names:
        raise DatasetError(f"{storage.join(prefix)}: expected images named by their time, found none")
    return names, times


def _sensor(path: str) -> tuple[Lens, Pose]:
    """Intrinsics, and the pose of the camera in the body."""
    text = "\n".join(line.partition("#")[0] for line in read_lines(path))
    width, height = _list(text, "resolution", 2, path)
    focal_x, focal_y, center_x, center_y = _list(text, "intrinsics", 4, path)
    K = [[focal_x, 0, center_x], [0, focal_y, center_y], [0, 0, 1]]
    distortion = _list(text, "distortion_coefficients", 4, path)
    model = re.search(r"distortion_model\s*:\s*['\"]?([\w-]+)", text)
    size = image_size(width, height, path)
    try:
        if model is None or model[1] in ("radial-tangential", "radtan", "plumb_bob"):
            camera = Camera.from_opencv(K, distortion, size)
        elif model[1] in ("equidistant", "equidist", "fisheye"):
            camera = Camera.from_opencv_fisheye(K, distortion, size)
        else:
            raise ValueError(f"expected radial-tangential or equidistant distortion, got {model[1]}")
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from None
    matrix = torch.tensor(_list(text, r"T_BS\s*:(?:[^\[]*?)data", 16, path), dtype=torch.float64).reshape(
        1, 4, 4
    )
    return Lens.of(camera, path), rigid_from_matrices(matrix[:, :3], lambda _: f"{path}, T_BS")[0]


def _list(text: str, key: str, count: int, path: str) -> list[float]:
    """The numbers of `key: [...]`."""
    found = re.search(rf"{key}\s*:\s*\[([^\]]*)\]", text)
    values = [number_or_none(word) for word in re.split(r"[\s,]+", found[1].strip())] if found else []
    if len(values) != count or not all(value is not None and math.isfinite(value) for value in values):
        raise DatasetError(f"{path}: expected `{key.split(chr(92))[0]}` as a list of {count} numbers")
    return [value for value in values if value is not None]
