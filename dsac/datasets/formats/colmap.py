"""COLMAP models, binary or text, in `.`, `sparse`, `sparse/0`, ... (`_PLACES`); images in `images`, `.`, ...

Of several models (`sparse/0`, `sparse/1`: pieces that share no points) the one of most images is read.
"""

from __future__ import annotations

import io
import logging
import posixpath
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from dsac.datasets.format import Recording
from dsac.datasets.formats.colmap_points import metres_per_unit
from dsac.datasets.frame import Frames, NamedPoses
from dsac.datasets.image_names import SMALLER, names_found
from dsac.datasets.recording import (
    FileReader,
    ScaledDepth,
    check_no_repeats,
    depth_beside,
    find_images,
    of_the_images,
    pick_truth,
    sizes_by_name,
)
from dsac.datasets.rigid import finite_rows, rigid_from_quaternions
from dsac.datasets.storage import Storage, join, open_file, read_lines, unpack
from dsac.datasets.tables import as_number, fields, numbers, unquoted
from dsac.errors import DatasetError
from dsac.geometry import Camera
from dsac.geometry.camera_models import MODELS

logger = logging.getLogger(__name__)

LOOKS_FOR = (
    "cameras.bin + images.bin or cameras.txt + images.txt (COLMAP) here, in sparse, sparse/0 or the like"
)

# the first that has models; in each, the folders that are named by numbers too
_PLACES = (".", "sparse", "colmap/sparse", "colmap", "dense/sparse", "dense/0/sparse", "dense", "models")
_PANORAMA = 17
_NO_PANORAMA = "is EQUIRECTANGULAR, a panorama; expected images of less than 180 degrees: cut it into several"
_MODEL_OF_ID = {model.colmap_id: model for model in MODELS.values()}
_OF_NUMBERS = b"0123456789+-.eE,; \t"  # the characters of lines that hold nothing else
_IMAGE_LINE = "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"


def recognises(storage: Storage) -> bool:
    return bool(_models(storage))


class ModelImage(NamedTuple):
    """An image that is registered in a model, as the model has it."""

    image_id: int
    name: str
    camera_id: int
    pose: tuple[float, ...]  # qw qx qy qz tx ty tz


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames of the registered images; the truth is `colmap`, its scale whatever the model has.

    Depth in `depth` or `depths` of the scene is brought to it, and it is metric where the model's points agree.
    """
    models = _models(storage)
    folder = _largest(storage, models)
    ending, roots = models[folder], _image_folders(folder)
    cameras, images = read_model(storage.join(folder), ending)
    cameras_path, images_path = (storage.join(folder, f"{part}.{ending}") for part in ("cameras", "images"))
    found = names_found(storage, [image.name for image in images], roots)
    images = [image._replace(name=name) for image, name in zip(images, found, strict=True)]
    check_no_repeats([image.name for image in images], images_path)
    camera_row = {camera_id: row for row, camera_id in enumerate(cameras)}
    for _, name, camera_id, _ in images:
        if camera_id not in camera_row:
            raise DatasetError(f"{images_path}: {name} has camera {camera_id}, which {cameras_path} lacks")

    table = torch.tensor([image.pose for image in images], dtype=torch.float64).reshape(len(images), 7)
    rows = finite_rows(table, [image.name for image in images], images_path)
    images, table = [images[i] for i in rows], table[torch.from_numpy(rows)]
    names = [image.name for image in images]
    poses = rigid_from_quaternions(table[:, :4], table[:, 4:], lambda i: f"{images_path}, image {names[i]}")
    pick_truth(storage.path, ["colmap"], truth)

    image_folder, present = find_images(storage, names, roots, images_path)
    camera_index = np.array([camera_row[image.camera_id] for image in images], dtype=np.int64)[present]
    there = [names[i] for i in present]
    lenses = of_the_images(storage, image_folder, there, list(cameras.values()), camera_index)
    depth, scaled = depth_beside(storage, there, lenses[camera_index[0]])
    reader = FileReader(storage.path, image_folder, depth, scaled, sizes_by_name(there, lenses, camera_index))
    frames = Frames(there, lenses, camera_index, poses[torch.from_numpy(present)], reader)
    metric = False
    if depth:
        ids = [images[i].image_id for i in present]
        scale = metres_per_unit(storage.join(folder, f"points3D.{ending}"), frames, ids)
        metric = scale == 1
        frames = replace(frames, reader=_of_scale(reader, scaled, scale))
    kind = {"bin": "binary", "txt": "text"}[ending]
    truths = {"colmap": NamedPoses(names, poses)}
    return Recording(f"COLMAP model ({folder}, {kind})", frames, truths, metric=metric)


def read_model(folder: str, ending: str) -> tuple[dict[int, Camera], list[ModelImage]]:
    """Cameras by id and images of the model in a folder; `ending` is bin or txt."""
    cameras, images = (join(folder, f"{part}.{ending}") for part in ("cameras", "images"))
    if ending == "bin":
        return _read_cameras_binary(cameras), list(_read_images_binary(images))
    return read_cameras_text(cameras), list(_read_images_text(images))


def _of_scale(reader: FileReader, depth: ScaledDepth, metres_per_unit: float | None) -> FileReader:
    """With depth in the model's unit; without where it does not fit the model. The log says so."""
    if metres_per_unit is None:
        logger.warning(
            "%s: depth does not fit the COLMAP model's points, it is not used: is it of another camera, or of "
            "other images?", reader.path,
        )  # fmt: skip
        return replace(reader, depth_names={})
    if metres_per_unit == 1:
        return reader
    logger.warning(
        "%s: the COLMAP model's unit is %.4g m by the depth beside it, which is brought to the model's scale",
        reader.path, metres_per_unit,
    )  # fmt: skip
    return replace(reader, depth_to_metres=replace(depth, world_per_metre=1 / metres_per_unit))


def read_camera_text(path: str) -> Camera:
    """The one camera of all images, from COLMAP's text format. Raises: `DatasetError` for more or none."""
    cameras = list(read_cameras_text(path).values())
    if len(cameras) != 1:
        raise DatasetError(f"{path}: expected one camera for all images, got {len(cameras)}")
    return cameras[0]


def read_cameras_text(path: str) -> dict[int, Camera]:
    """Cameras by id from COLMAP's text format, `CAMERA_ID MODEL WIDTH HEIGHT PARAMS...` a line."""
    cameras = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line or line.startswith("#"):
            continue
        try:
            line, _, _ = line.partition("#")
            parts = next((parts for parts in fields(line) if len(parts) >= 4 and parts[0].isdecimal()), None)
            if parts is None:
                raise ValueError(f"expected `CAMERA_ID MODEL WIDTH HEIGHT PARAMS...`, got `{line[:120]}`")
            camera_id, model, width, height, *params = parts
            if model == "EQUIRECTANGULAR":
                raise ValueError(f"camera {camera_id} {_NO_PANORAMA}")
            camera = Camera.from_params(
                model.upper(), [as_number(value) for value in params], (_whole(width), _whole(height))
            )
            _add_camera(cameras, int(camera_id), camera)
        except ValueError as error:
            raise DatasetError(f"{path}, line {number}: {error}") from None
    return cameras


def _models(storage: Storage) -> dict[str, str]:
    """The models in the first place that has any: "bin" or "txt" by folder."""
    # nerfstudio's programs leave the model that they began with beside their own file
    of_nerfstudio = storage.has("transforms.json")
    of_hloc = sorted(name for name in storage.listing() if name.startswith("sfm"))
    for place in [storage.chosen] if storage.chosen else [*_PLACES, *of_hloc]:
        if of_nerfstudio and place.startswith("colmap") and not storage.chosen:
            continue
        numbered = sorted((name for name in storage.listing(place) if name.isdecimal()), key=int)
        for folders in ([place], [posixpath.join(place, name) for name in numbered]):
            found = {
                posixpath.normpath(folder): ending
                for folder in folders
                for ending in ("txt", "bin")
                if {f"cameras.{ending}", f"images.{ending}"} <= storage.listing(folder)
            }
            if found:
                return found
    return {}


def _largest(storage: Storage, models: dict[str, str]) -> str:
    """The folder of the model with most images; a word in the log on the others."""
    if len(models) == 1:
        return next(iter(models))
    counts = {
        folder: _count_images(storage.join(folder, f"images.{ending}")) for folder, ending in models.items()
    }
    largest = max(counts, key=counts.__getitem__)
    logger.warning(
        "%s: %d COLMAP models that share no world: %s is taken; images in each: %s",
        storage.path, len(counts), largest, ", ".join(f"{folder} {count}" for folder, count in counts.items()),
    )  # fmt: skip
    return largest


def _count_images(path: str) -> int:
    if path.endswith(".txt"):
        return sum(1 for _ in _read_images_text(path))
    with open_file(path) as file:
        return unpack(file, "<Q", path)[0]


def _image_folders(model: str) -> list[str]:
    """In the model's folder or those above it; where the scene is a model's folder, also above the scene."""
    parts = [] if model == "." else model.split("/")
    above = ["/".join(parts[:depth]) or "." for depth in range(len(parts), -1, -1)]
    above += [] if parts else ["..", "../.."]
    folders = [posixpath.join(place, name) for place in above for name in ("images", ".")]
    folders += [posixpath.join(place, name) for name in (*SMALLER, "input") for place in above]
    return list(dict.fromkeys(map(posixpath.normpath, folders)))


def _read_cameras_binary(path: str) -> dict[int, Camera]:
    cameras = {}
    with open_file(path) as file:
        (count,) = unpack(file, "<Q", path)
        for _ in range(count):
            camera_id, number, width, height = unpack(file, "<IiQQ", path)
            if number == _PANORAMA:
                raise DatasetError(f"{path}: camera {camera_id} {_NO_PANORAMA}")
            model = _MODEL_OF_ID.get(number)
            if model is None:
                raise DatasetError(
                    f"{path}: camera {camera_id} has COLMAP's model number {number}; expected one of "
                    f"{', '.join(MODELS)} (convert with `colmap image_undistorter`)"
                )
            num_params = (3 if model.one_focal else 4) + len(model.distortion)
            params = unpack(file, f"<{num_params}d", path)
            try:
                _add_camera(cameras, camera_id, Camera.from_params(model.name, params, (width, height)))
            except ValueError as error:
                raise DatasetError(f"{path}: camera {camera_id}: {error}") from None
    return cameras


def _add_camera(cameras: dict[int, Camera], camera_id: int, camera: Camera) -> None:
    if camera_id in cameras:
        raise ValueError(f"camera {camera_id} is there already; keep one of them")
    cameras[camera_id] = camera


def _read_images_binary(path: str) -> Iterator[ModelImage]:
    """The observed points are skipped unread."""
    with open_file(path) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        (count,) = unpack(file, "<Q", path)
        for _ in range(count):
            image_id, *pose, camera_id = unpack(file, "<I7dI", path)
            name = bytearray()
            while (byte := file.read(1)) not in (b"\0", b""):
                name += byte
            (num_points,) = unpack(file, "<Q", path)
            if 24 * num_points > size - file.tell():
                raise DatasetError(f"{path}: the file is truncated")
            file.seek(24 * num_points, io.SEEK_CUR)
            yield ModelImage(image_id, name.decode("utf-8", "replace"), camera_id, tuple(pose))


def _read_images_text(path: str) -> Iterator[ModelImage]:
    """An image is a line; in files that COLMAP writes a second one, perhaps empty, has the observed points.

    Files that people write may lack the second lines: each line says by itself what it is.
    """
    may_be_points = False
    for number, line in enumerate(read_lines(path), 1):
        if line.startswith("#"):
            continue
        if not line or (may_be_points and _holds_points(line)):
            may_be_points = False
            continue
        try:
            yield _parse_image(line)
        except ValueError:
            raise DatasetError(f"{path}, line {number}: expected `{_IMAGE_LINE}`, got `{line[:120]}`") from None
        may_be_points = True


def _holds_points(line: str) -> bool:
    """Whether a line is `X Y POINT3D_ID ...`; an image's has a name, or ten numbers if the name is a number."""
    if line.encode().translate(None, _OF_NUMBERS):
        return False
    try:
        return len(numbers(line) if "," in line or ";" in line else line.split()) % 3 == 0
    except ValueError:
        return False


def _parse_image(line: str) -> ModelImage:
    for parts in fields(line, 10):
        with suppress(ValueError):
            image_id, *pose, camera_id, name = parts
            if len(pose) == 7 and image_id.isdecimal():
                return ModelImage(
                    int(image_id), unquoted(name), int(camera_id), tuple(as_number(value) for value in pose)
                )
    raise ValueError


def _whole(text: str) -> int:
    value = float(text)
    if not value.is_integer():
        raise ValueError(f"expected a width and height in whole pixels, got {text}")
    return int(value)
