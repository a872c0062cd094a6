"""OpenSfM's `reconstruction.json`, also of OpenDroneMap: poses by axis-angle and translation.

Focal lengths and centres are in units of the longer side, counted from the image's middle. Of several
reconstructions the largest is taken. The scale is that of the reconstruction, which GPS makes about metres at
best.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from dsac.datasets.format import Recording
from dsac.datasets.json_values import json_list, json_numbers, read_json
from dsac.datasets.posed_files import Lens, PosedImages, image_size, pick
from dsac.datasets.rigid import finite_rows, rigid_from_vectors, some
from dsac.datasets.storage import Storage
from dsac.errors import DatasetError

logger = logging.getLogger(__name__)

LOOKS_FOR = "reconstruction.json (OpenSfM)"
_PLACES = ["reconstruction.json", "opensfm/reconstruction.json"]
# projection_type -> COLMAP's model and the keys of its coefficients
_MODELS = {
    "perspective": ("OPENCV", ("k1", "k2", "", "")),
    "simple_radial": ("OPENCV", ("k1", "", "", "")),
    "radial": ("OPENCV", ("k1", "k2", "", "")),
    "brown": ("FULL_OPENCV", ("k1", "k2", "p1", "p2", "k3", "", "", "")),
    "fisheye": ("OPENCV_FISHEYE", ("k1", "k2", "", "")),
    "fisheye_opencv": ("OPENCV_FISHEYE", ("k1", "k2", "k3", "k4")),
}


def recognises(storage: Storage) -> bool:
    return storage.first(_PLACES) is not None


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames in the order of the file; the truth is `opensfm`."""
    path = storage.join(storage.first(_PLACES) or _PLACES[0])
    shots, cameras = _largest(path)
    lenses = {name: _lens(camera, f"{path}, camera {name}") for name, camera in cameras.items()}
    unknown = [name for name, shot in shots.items() if lenses.get(_camera_of(shot)) is None]
    if unknown:
        kinds = {str(cameras.get(_camera_of(shots[name]), {}).get("projection_type")) for name in unknown}
        message = f"{path}: {len(unknown)} of {len(shots)} images have a camera without counterpart here "
        message += f"({', '.join(sorted(kinds))}), left out: {some(unknown)}"
        if len(unknown) == len(shots):
            raise DatasetError(message)
        logger.warning(message)
    names = [name for name in shots if name not in set(unknown)]
    places = [f"{path}, {name}" for name in names]
    values = [
        json_list(shots[name], "rotation", 3, place) + json_list(shots[name], "translation", 3, place)
        for name, place in zip(names, places, strict=True)
    ]
    table = torch.tensor(values, dtype=torch.float64)
    rows = finite_rows(table, names, path)
    table, names = table[torch.from_numpy(rows)], pick(names, rows)
    cam_from_world = rigid_from_vectors(table[:, :3], table[:, 3:], lambda i: f"{path}, {names[i]}")
    of_images = [lens for name in names if (lens := lenses[_camera_of(shots[name])]) is not None]
    images = PosedImages(names, cam_from_world, of_images, path)
    roots = ["images", "opensfm/images", "."]
    return images.recording(storage, "OpenSfM reconstruction", "opensfm", truth, roots=roots, metric=False)


def _largest(path: str) -> tuple[Mapping[str, Mapping[str, Any]], Mapping[str, Mapping[str, Any]]]:
    """The shots and cameras of the reconstruction with most shots."""
    found = read_json(path)
    parts = [part for part in found if _is_reconstruction(part)] if isinstance(found, list) else []
    if not parts:
        raise DatasetError(f"{path}: expected a list of reconstructions with `shots` and `cameras`, found none")
    largest = max(parts, key=lambda part: len(part["shots"]))
    if len(parts) > 1:
        logger.warning(
            "%s: the largest of %d reconstructions is taken, %d of %d images",
            path, len(parts), len(largest["shots"]), sum(len(part["shots"]) for part in parts),
        )  # fmt: skip
    return largest["shots"], largest["cameras"]


def _is_reconstruction(part: Any) -> bool:
    tables = [part.get(key) for key in ("shots", "cameras")] if isinstance(part, dict) else []
    return bool(tables) and all(
        isinstance(table, dict) and table and all(isinstance(entry, dict) for entry in table.values())
        for table in tables
    )


def _camera_of(shot: Mapping[str, Any]) -> str:
    return str(shot.get("camera"))


def _lens(camera: Mapping[str, Any], where: str) -> Lens | None:
    """None for a camera without counterpart."""
    model, keys = _MODELS.get(str(camera.get("projection_type")), ("", ()))
    if not model:
        return None
    width, height = json_numbers(camera, ["width", "height"], where)
    size = image_size(width, height, where)
    focal_x, focal_y = json_numbers(
        camera, ["focal_x", "focal_y"] if "focal_x" in camera else ["focal"] * 2, where
    )
    values = {key: 0.0 for key in ("", "c_x", "c_y", *keys)}
    given = [key for key in values if key in camera]
    values.update(zip(given, json_numbers(camera, given, where), strict=True))
    side = max(width, height)
    center_x, center_y = width / 2 + side * values["c_x"], height / 2 + side * values["c_y"]
    pinhole = (side * focal_x, side * focal_y, center_x, center_y)
    coefficients = tuple(values[key] for key in keys)
    if model != "OPENCV_FISHEYE" and not any(coefficients):
        model, coefficients = "PINHOLE", ()
    return Lens(model, (*pinhole, *coefficients), size, where)
