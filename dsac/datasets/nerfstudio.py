"""`transforms.json` of nerfstudio and instant-ngp.

Poses are world-from-camera matrices with OpenGL camera axes (x right, y up, z backward). Intrinsics are given
at the top or in each frame, in pixels from the image's corner, which is our convention too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dsac.datasets.format import Recording
from dsac.datasets.frame import Frames, NamedPoses
from dsac.datasets.image import read_image_size
from dsac.datasets.recording import (
    FileReader,
    ScaledDepth,
    check_no_repeats,
    find_depth,
    find_images,
    pick_truth,
    sizes_by_name,
)
from dsac.datasets.rigid import finite_rows, rigid_from_matrices
from dsac.datasets.storage import Storage, read_bytes
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose

LOOKS_FOR = "transforms.json (nerfstudio, instant-ngp)"

_INTRINSICS = ("fl_x", "fl_y", "cx", "cy", "w", "h", "k1", "k2", "k3", "k4", "p1", "p2", "camera_angle_x")
_METRES_PER_DEPTH_UNIT = 0.001
_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "OPENCV_FISHEYE")


def recognises(storage: Storage) -> bool:
    return storage.has("transforms.json")


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames in the file's order; the truth is `nerfstudio`, its scale whatever the file has."""
    path = storage.join("transforms.json")
    top, entries = _load(path)
    names = [entry["file_path"].removeprefix("./") for entry in entries]
    check_no_repeats(names, path)
    matrices = torch.stack(
        [_matrix(entry, f"{path}, {name}") for entry, name in zip(entries, names, strict=True)]
    )
    rows = finite_rows(matrices, names, path)
    entries, names = [entries[i] for i in rows], [names[i] for i in rows]
    pick_truth(storage.path, ["nerfstudio"], truth)

    world_from_opengl = rigid_from_matrices(matrices[torch.from_numpy(rows)], lambda i: f"{path}, {names[i]}")
    y_and_z_turned = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    world_from_cam = Pose(world_from_opengl.rotation * y_and_z_turned, world_from_opengl.translation)
    poses = NamedPoses(names, world_from_cam.inverse())

    _, present = find_images(storage, names, ["."], path)
    entries, names = [entries[i] for i in present], [names[i] for i in present]
    cameras, camera_index = _cameras(storage, path, top, entries, names)
    depth_names = {
        name: entry["depth_file_path"]
        for name, entry in zip(names, entries, strict=True)
        if entry.get("depth_file_path") is not None
    }
    depth = find_depth(storage, depth_names)
    sizes = sizes_by_name(names, cameras, camera_index)
    reader = FileReader(storage.path, ".", depth, ScaledDepth(_METRES_PER_DEPTH_UNIT), sizes)
    frames = Frames(names, cameras, camera_index, poses.take(present).cam_from_world, reader)
    # a depth camera measures metres, photos do not
    return Recording("nerfstudio transforms.json", frames, {"nerfstudio": poses}, metric=frames.has_depth)


def _load(path: str) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    """The top object and its frames, each with a `file_path` and a `transform_matrix`."""
    try:
        top = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: expected JSON: {error}") from None
    frames = top.get("frames") if isinstance(top, dict) else None
    if not isinstance(frames, list) or not frames:
        raise DatasetError(f"{path}: expected an object with a list of `frames`")
    for i, frame in enumerate(frames):
        for key, type_ in (("file_path", str), ("transform_matrix", list)):
            if not isinstance(frame, dict) or not isinstance(frame.get(key), type_):
                raise DatasetError(f"{path}: expected `{key}` in each frame, frame {i} has none")
        if not isinstance(depth := frame.get("depth_file_path"), str | None):
            raise DatasetError(f"{path}, {frame['file_path']}: expected `depth_file_path` as text, got {depth}")
    return top, frames


def _matrix(entry: Mapping[str, Any], where: str) -> torch.Tensor:
    try:
        matrix = torch.tensor(entry["transform_matrix"], dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # the last two for integers that are too large
        matrix = torch.empty(0)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise DatasetError(f"{where}: expected `transform_matrix` as 3x4 or 4x4 numbers")
    return matrix[:3]


def _cameras(
    storage: Storage,
    path: str,
    top: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    names: Sequence[str],
) -> tuple[list[Camera], np.ndarray]:
    """The distinct cameras, and the index of each frame's."""
    row_of: dict[tuple, int] = {}
    cameras: list[Camera] = []
    index = np.empty(len(entries), np.int64)
    for i, (entry, name) in enumerate(zip(entries, names, strict=True)):
        try:
            values = {key: _number(key, _either(entry, top, key)) for key in _INTRINSICS}
        except ValueError as error:
            raise DatasetError(f"{path}, {name}: {error}") from None
        model = str(_either(entry, top, "camera_model") or "OPENCV")
        key = (model, *values.values())
        if key not in row_of:
            row_of[key] = len(cameras)
            if values["w"] is None or values["h"] is None:  # nerfstudio reads photos as they are stored
                values["w"], values["h"] = map(float, read_image_size(storage.join(name), as_stored=True))
            try:
                cameras.append(_camera(model, values))
            except ValueError as error:
                raise DatasetError(f"{path}, {name}: {error}") from None
        index[i] = row_of[key]
    return cameras, index


def _either(entry: Mapping[str, Any], top: Mapping[str, Any], key: str) -> Any:
    """A frame's own value, else the one at the top."""
    return top.get(key) if entry.get(key) is None else entry[key]


def _number(key: str, value: Any) -> float | None:
    """A finite number or, where there is none, None."""
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"expected `{key}` as a finite number, got {str(value)[:80]}")
    return number


def _camera(model: str, values: Mapping[str, float | None]) -> Camera:
    if model not in _MODELS:
        raise ValueError(f"expected `camera_model` among {', '.join(_MODELS)}, got {model[:80]}")

    def value(key: str, default: float = 0.0) -> float:
        given = values[key]
        return default if given is None else given

    width, height = value("w"), value("h")
    if not (width.is_integer() and height.is_integer()):
        raise ValueError(f"expected `w` and `h` in whole pixels, got {width}, {height}")
    focal_x = values["fl_x"]
    if focal_x is None:
        angle = values["camera_angle_x"]
        if angle is None:
            raise ValueError("no intrinsics: expected `fl_x` or `camera_angle_x`, at the top or in the frame")
        if not 0 < angle / 2 < math.pi / 2:
            raise ValueError(f"expected `camera_angle_x` between 0 and pi, got {angle}")
        focal_x = width / 2 / math.tan(angle / 2)
    size = (int(width), int(height))
    pinhole = [focal_x, value("fl_y", focal_x), value("cx", width / 2), value("cy", height / 2)]
    if model == "OPENCV_FISHEYE":
        return Camera.from_params(model, [*pinhole, *(value(key) for key in ("k1", "k2", "k3", "k4"))], size)
    if value("k3") or value("k4"):
        raise ValueError("k3 and k4 other than 0 are understood for OPENCV_FISHEYE only")
    distortion = [value(key) for key in ("k1", "k2", "p1", "p2")]
    if model != "OPENCV" or not any(distortion):
        return Camera.from_params("PINHOLE", pinhole, size)
    return Camera.from_params("OPENCV", [*pinhole, *distortion], size)
