"""Cambridge Landmarks: `dataset_train.txt` and `dataset_test.txt`, photos of facades.

A line is `name X Y Z W P Q R`: the camera's position in the world, and the quaternion, real part first, that
turns the world's axes into the camera's (x right, y down, z forward). Focal lengths are those of
`reconstruction.nvm`, for images of 1920x1080, else 1670 pixels, as the field takes; lens distortion is
neglected, as the field does.
"""

from __future__ import annotations

import logging
import re

import torch

from dsac.datasets.format import Recording, Split
from dsac.datasets.image import read_image_size
from dsac.datasets.image_names import names_found
from dsac.datasets.listed_files import stem
from dsac.datasets.posed_files import Lens, PosedImages, pick
from dsac.datasets.rigid import finite_rows, rigid_from_quaternions
from dsac.datasets.storage import Storage
from dsac.datasets.tables import Row, number_or_none, read_rows
from dsac.errors import DatasetError
from dsac.geometry import Pose

logger = logging.getLogger(__name__)

LOOKS_FOR = "dataset_train.txt or dataset_test.txt (Cambridge Landmarks)"
FOCAL_PX = 1670.0  # of images 1920 pixels wide, where no reconstruction.nvm is
_WIDTH = 1920
_LINE = "name X Y Z W P Q R"


def recognises(storage: Storage) -> bool:
    return storage.first(["dataset_train.txt", "dataset_test.txt"]) is not None


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames in the order of the lists; `dataset_train.txt` is for mapping, the truth is `dataset`."""
    rows = {part: _rows(storage, f"dataset_{part}.txt") for part in ("train", "test")}
    listed = [row for part in rows.values() for row in part]
    if not listed:
        raise DatasetError(f"{storage.path}: expected lines `{_LINE}` in dataset_train.txt, found none")
    found = names_found(storage, [row.words[0] for row in listed])
    names = [name if storage.has(name) else "/".join(re.split(r"[/\\]+", name)[-2:]) for name in found]
    table = torch.tensor([row.numbers(_LINE, 1, 7) for row in listed], dtype=torch.float64)
    kept = finite_rows(table, names, storage.path)
    table = table[torch.from_numpy(kept)]
    turned = rigid_from_quaternions(table[:, 3:], table[:, :3], lambda i: listed[kept[i]].place)
    moved = -(turned.rotation @ table[:, :3, None])[..., 0]
    split_at = len(rows["train"])
    split = Split(*([names[i] for i in kept if (i < split_at) == first] for first in (True, False)))
    names = pick(names, kept)
    images = PosedImages(names, Pose(turned.rotation, moved), _lenses(storage, names), storage.path)
    return images.recording(storage, "Cambridge Landmarks", "dataset", truth, split=split)


def _rows(storage: Storage, file: str) -> list[Row]:
    """The lines with a pose; the headings, which have none, are passed over."""
    if not storage.has(file):
        return []
    rows = read_rows(storage.join(file))
    first = next((i for i, row in enumerate(rows) if _has_pose(row)), len(rows))
    return rows[first:]


def _has_pose(row: Row) -> bool:
    return len(row.words) >= 8 and all(number_or_none(word) is not None for word in row.words[1:8])


def _lenses(storage: Storage, names: list[str]) -> list[Lens]:
    """The focal length of each image, for the width of the first image that is there."""
    present = next((name for name in names if storage.has(name)), None)
    size = (_WIDTH, 1080) if present is None else read_image_size(storage.join(present))
    scale = max(size) / _WIDTH
    focals = _read_nvm(storage) if storage.has("reconstruction.nvm") else {}
    unknown = [name for name in names if _key(name) not in focals]
    if unknown:
        logger.warning(
            "%s: %d of %d images have no focal length in reconstruction.nvm, %g px of %d are taken",
            storage.path, len(unknown), len(names), FOCAL_PX, _WIDTH,
        )  # fmt: skip
    values = [scale * focals.get(_key(name), FOCAL_PX) for name in names]
    return [Lens("SIMPLE_PINHOLE", (focal,), source=storage.path) for focal in values]


def _read_nvm(storage: Storage) -> dict[str, float]:
    """Focal length by image, of VisualSFM's lines `name focal qw qx qy qz x y z k 0`."""
    path = storage.join("reconstruction.nvm")
    lines = [row.words for row in read_rows(path)]
    at = next((i for i, line in enumerate(lines) if re.fullmatch(r"\d{1,9}", " ".join(line))), None)
    if at is None:
        raise DatasetError(f"{path}: expected the count of images on a line of its own, found none")
    focals = {}
    for line in lines[at + 1 : at + 1 + int(lines[at][0])]:
        focal = number_or_none(line[1]) if len(line) > 10 else None
        if focal is None or not focal > 0:
            raise DatasetError(f"{path}: expected lines `name focal qw qx qy qz x y z k 0`, got `{line[:3]}`")
        focals[_key(line[0])] = focal
    return focals


def _key(name: str) -> str:
    """Sequence and image without the ending, which differs between the model and the images."""
    *folders, file = name.replace("\\", "/").split("/")
    return "/".join([*folders[-1:], stem(file)])
