"""COLMAP models, binary or text, in `.`, `sparse` or `sparse/0`; images in `images` or `.`."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import torch

from dsac.datasets.frame import Frames, NamedPoses
from dsac.datasets.recording import FileReader, Recording, find_images, pick_truth, sizes_by_name
from dsac.datasets.rigid import finite_rows, rigid_from_quaternions
from dsac.datasets.storage import Storage, open_file, read_lines
from dsac.errors import DatasetError
from dsac.geometry import Camera

LOOKS_FOR = "cameras.bin + images.bin or cameras.txt + images.txt (COLMAP) here, in sparse or in sparse/0"

# the models of COLMAP by their number in binary files, with their number of parameters
_BINARY_MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
}


def recognises(storage: Storage) -> bool:
    return _find_model(storage) is not None


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames of the registered images; the truth is `colmap`, its scale whatever the model has."""
    model = _find_model(storage)
    assert model is not None
    folder, ending = model
    cameras_path, images_path = (storage.join(folder, f"{part}.{ending}") for part in ("cameras", "images"))
    cameras = (_read_cameras_binary if ending == "bin" else read_cameras_text)(cameras_path)
    images = list((_read_images_binary if ending == "bin" else _read_images_text)(images_path))
    names = [name for name, _, _ in images]
    camera_row = {camera_id: row for row, camera_id in enumerate(cameras)}
    for name, camera_id, _ in images:
        if camera_id not in camera_row:
            raise DatasetError(f"{images_path}: {name} has camera {camera_id}, which {cameras_path} lacks")

    table = torch.tensor([values for _, _, values in images], dtype=torch.float64).reshape(len(images), 7)
    rows = finite_rows(table, names, images_path)
    names = [names[i] for i in rows]
    table = table[torch.from_numpy(rows)]
    poses = rigid_from_quaternions(table[:, :4], table[:, 4:], lambda i: f"{images_path}, image {names[i]}")
    pick_truth(storage.path, ["colmap"], truth)

    image_folder, present = find_images(storage, names, ["images", "."], images_path)
    camera_index = np.array([camera_row[images[i][1]] for i in rows], dtype=np.int64)
    models = list(cameras.values())
    reader = FileReader(storage.path, image_folder, sizes=sizes_by_name(names, models, camera_index))
    everything = Frames(names, models, camera_index, poses, reader)
    kind = {"bin": "binary", "txt": "text"}[ending]
    truths = {"colmap": NamedPoses(names, poses)}
    return Recording(f"COLMAP model ({folder}, {kind})", everything[present], truths, metric=False)


def read_cameras_text(path: str) -> dict[int, Camera]:
    """Cameras by id from COLMAP's text format, `CAMERA_ID MODEL WIDTH HEIGHT PARAMS...` a line."""
    cameras = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line or line.startswith("#"):
            continue
        try:
            camera_id, model, width, height, *params = line.split()
            cameras[int(camera_id)] = Camera.from_params(
                model, [float(value) for value in params], (int(width), int(height))
            )
        except ValueError as error:
            raise DatasetError(f"{path}, line {number}: {error}") from None
    return cameras


def _find_model(storage: Storage) -> tuple[str, str] | None:
    """(folder, "bin" or "txt") of the first model."""
    for folder in (".", "sparse", "sparse/0"):
        for ending in ("bin", "txt"):
            if {f"cameras.{ending}", f"images.{ending}"} <= storage.listing(folder):
                return folder, ending
    return None


def _read_cameras_binary(path: str) -> dict[int, Camera]:
    cameras = {}
    with open_file(path) as file:
        (count,) = _unpack(file, "<Q", path)
        for _ in range(count):
            camera_id, number, width, height = _unpack(file, "<IiQQ", path)
            if number not in _BINARY_MODELS:
                known = ", ".join(name for name, _ in _BINARY_MODELS.values())
                raise DatasetError(
                    f"{path}: camera {camera_id} has COLMAP's model number {number}; expected one of {known} "
                    f"(convert with `colmap image_undistorter`)"
                )
            model, num_params = _BINARY_MODELS[number]
            params = _unpack(file, f"<{num_params}d", path)
            try:
                cameras[camera_id] = Camera.from_params(model, params, (width, height))
            except ValueError as error:
                raise DatasetError(f"{path}: camera {camera_id}: {error}") from None
    return cameras


def _read_images_binary(path: str) -> Iterator[tuple[str, int, tuple[float, ...]]]:
    """(name, camera id, qw qx qy qz tx ty tz) of each image; the observed points are skipped unread."""
    with open_file(path) as file:
        (count,) = _unpack(file, "<Q", path)
        for _ in range(count):
            _, *pose, camera_id = _unpack(file, "<I7dI", path)
            name = bytearray()
            while (byte := file.read(1)) not in (b"\0", b""):
                name += byte
            (num_points,) = _unpack(file, "<Q", path)
            file.seek(24 * num_points, io.SEEK_CUR)
            yield name.decode("utf-8", "replace"), camera_id, tuple(pose)


def _read_images_text(path: str) -> Iterator[tuple[str, int, tuple[float, ...]]]:
    """Each image has two lines, the second (observed points) possibly empty."""
    lines = ((i, line) for i, line in enumerate(read_lines(path), 1) if not line.startswith("#"))
    for number, line in lines:
        if not line:
            continue
        try:
            _, *pose, camera_id, name = line.split(maxsplit=9)
            values = tuple(float(value) for value in pose)
            if len(values) != 7:
                raise ValueError(f"expected 7 numbers of a pose, got {len(values)}")
            yield name, int(camera_id), values
        except ValueError:
            raise DatasetError(
                f"{path}, line {number}: expected `IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME`, "
                f"got `{line[:120]}`"
            ) from None
        next(lines, None)


def _unpack(file: BinaryIO, layout: str, path: str) -> tuple:
    data = file.read(struct.calcsize(layout))
    if len(data) < struct.calcsize(layout):
        raise DatasetError(f"{path}: the file is truncated")
    return struct.unpack(layout, data)
