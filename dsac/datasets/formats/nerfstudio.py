"""`transforms.json` of nerfstudio and instant-ngp, or `transforms_train.json`, `_val`, `_test` of NeRF's rooms.

Poses are world-from-camera matrices with OpenGL camera axes (x right, y up, z backward). Intrinsics are given
at the top or in each frame, in pixels from the image's corner, which is our convention too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from dsac.datasets.format import Recording, Split
from dsac.datasets.formats.nerfstudio_camera import Intrinsics, number_of
from dsac.datasets.frame import Frames, NamedPoses
from dsac.datasets.image import read_image_size
from dsac.datasets.image_names import names_found
from dsac.datasets.json_values import read_json
from dsac.datasets.posed_files import OPENGL_AXES, pick, poses_from_matrices
from dsac.datasets.recording import (
    DEPTH_ENDINGS,
    FileReader,
    ScaledDepth,
    check_no_repeats,
    find_images,
    find_registered_depth,
    of_the_images,
    pick_truth,
    sizes_by_name,
)
from dsac.datasets.storage import Storage
from dsac.errors import DatasetError
from dsac.geometry import Camera

LOOKS_FOR = "transforms.json or transforms_train.json (nerfstudio, instant-ngp, NeRF)"

_PARTS = ("train", "val", "test")  # the first is for mapping
_DEPTH = ("depth_file_path", "depth_path")  # nerfstudio's, instant-ngp's

Entry = Mapping[str, Any]  # a frame, with what stands at the top where it has nothing of its own


def recognises(storage: Storage) -> bool:
    return bool(_files(storage))


def read(storage: Storage, truth: str | None) -> Recording:
    """Frames in the file's order; the truth is `nerfstudio`, its scale whatever the file has.

    `train_filenames`, `val_filenames` and `test_filenames`, or files for each part, are the split: what is not
    for training is for queries.
    """
    entries = _load(storage)
    source = storage.join(_files(storage)[0])
    written = [_name(entry) for entry in entries]
    names = names_found(storage, written)
    check_no_repeats(names, source)
    matrices = [_matrix(entry, f"{source}, {name}") for entry, name in zip(entries, names, strict=True)]
    split = _split(entries, written, names)
    rows, cam_from_world = poses_from_matrices(names, matrices, source, OPENGL_AXES)
    entries, names = pick(entries, rows), pick(names, rows)
    pick_truth(storage.path, ["nerfstudio"], truth)
    poses = NamedPoses(names, cam_from_world)

    _, present = find_images(storage, names, ["."], source)
    entries, names = [entries[i] for i in present], [names[i] for i in present]
    cameras, camera_index = _cameras(storage, source, entries, names)
    depth = find_registered_depth(storage, _depth_names(storage, entries, names), cameras[camera_index[0]])
    sizes = sizes_by_name(names, cameras, camera_index)
    to_metres = ScaledDepth(
        _scale(entries[0], "integer_depth_scale", source),  # instant-ngp's
        _scale(entries[0], "applied_scale", source) or 1.0,  # nerfstudio's, from metres to the poses' unit
    )
    reader = FileReader(storage.path, ".", depth, to_metres, sizes)
    frames = Frames(names, cameras, camera_index, poses.take(present).cam_from_world, reader)
    metric = frames.has_depth and to_metres.world_per_metre == 1  # photos alone know no metres
    label = f"nerfstudio {' + '.join(_files(storage))}"
    return Recording(label, frames, {"nerfstudio": poses}, split, metric=metric)


def _files(storage: Storage) -> list[str]:
    if storage.chosen:
        return [storage.chosen] if storage.chosen.lower().endswith(".json") else []
    parts = [name for part in _PARTS if storage.has(name := f"transforms_{part}.json")]
    whole = ["transforms.json"] if storage.has("transforms.json") else []
    return parts if "transforms_train.json" in parts else whole or parts


def _load(storage: Storage) -> list[Entry]:
    """The frames of all files, each with a `file_path` and a `transform_matrix`; `_part` is the file's."""
    entries: list[Entry] = []
    seen: set[str] = set()
    for file in _files(storage):
        part = next((part for part in _PARTS if file == f"transforms_{part}.json"), None)
        path = storage.join(file)
        top = _load_object(path)
        frames = top.pop("frames")
        for i, frame in enumerate(frames):
            for key, type_ in (("file_path", str), ("transform_matrix", list)):
                if not isinstance(frame, dict) or not isinstance(frame.get(key), type_):
                    raise DatasetError(f"{path}: expected `{key}` in each frame, frame {i} has none")
            for key in _DEPTH:
                if not isinstance(depth := frame.get(key), str | None):
                    raise DatasetError(f"{path}, {frame['file_path']}: expected `{key}` as text, got {depth}")
            entry = {**top, **{key: value for key, value in frame.items() if value is not None}, "_part": part}
            if part and _name(entry) in seen:  # some exporters write the frames of `val` into `test` again
                continue
            seen.add(_name(entry))
            entries.append(entry)
    return entries


def _load_object(path: str) -> dict[str, Any]:
    top = read_json(path)
    frames = top.get("frames") if isinstance(top, dict) else None
    if not isinstance(frames, list) or not frames:
        raise DatasetError(f"{path}: expected an object with a list of `frames`")
    return top


def _name(entry: Entry) -> str:
    return entry["file_path"].removeprefix("./")


def _split(entries: Sequence[Entry], written: Sequence[str], names: Sequence[str]) -> Split | None:
    """The file's own; None = it has none."""
    part_of = {name: entry["_part"] for name, entry in zip(names, entries, strict=True)}
    listed = {part: entries[0].get(f"{part}_filenames") for part in _PARTS}
    listed = {part: files for part, files in listed.items() if isinstance(files, list)}
    if listed:
        found = dict(zip(written, names, strict=True))
        part_of = dict.fromkeys(names, None if listed.get("train") else "train")
        for part, files in listed.items():
            of_part = [str(file).removeprefix("./") for file in files]
            part_of.update({found.get(file, file): part for file in of_part})
    if set(part_of.values()) == {None}:
        return None
    mapping = [name for name, part in part_of.items() if part == "train"]
    return Split(mapping, [name for name, part in part_of.items() if part in ("val", "test")])


def _matrix(entry: Entry, where: str) -> torch.Tensor:
    try:
        matrix = torch.tensor(entry["transform_matrix"], dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # the last two for integers that are too large
        matrix = torch.empty(0)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise DatasetError(f"{where}: expected `transform_matrix` as 3x4 or 4x4 numbers")
    return matrix[:3]


def _cameras(
    storage: Storage, source: str, entries: Sequence[Entry], names: Sequence[str]
) -> tuple[list[Camera], Int[np.ndarray, " N"]]:
    """The distinct cameras, for the images as they are there, and the index of each frame's."""
    row_of: dict[Intrinsics, int] = {}
    cameras: list[Camera] = []
    rows: list[int] = []
    for entry, name in zip(entries, names, strict=True):
        try:
            intrinsics = Intrinsics.of(entry)
            if intrinsics not in row_of:  # nerfstudio reads photos as they are stored
                path = storage.join(name)
                cameras.append(intrinsics.camera(lambda path=path: read_image_size(path, as_stored=True)))
                row_of[intrinsics] = len(row_of)
        except ValueError as error:
            raise DatasetError(f"{source}, {name}: {error}") from None
        rows.append(row_of[intrinsics])
    index = np.array(rows, np.int64)
    return of_the_images(storage, ".", names, cameras, index), index


def _depth_names(storage: Storage, entries: Sequence[Entry], names: Sequence[str]) -> dict[str, str]:
    written = {
        name: entry[key].removeprefix("./")
        for name, entry in zip(names, entries, strict=True)
        for key in reversed(_DEPTH)
        if entry.get(key) is not None
    }
    return dict(zip(written, names_found(storage, list(written.values()), endings=DEPTH_ENDINGS), strict=True))


def _scale(entry: Entry, key: str, source: str) -> float | None:
    try:
        scale = number_of(key, entry.get(key))
    except ValueError as error:
        raise DatasetError(f"{source}: {error}") from None
    if scale is not None and not 1e-30 < scale < 1e30:
        raise DatasetError(f"{source}: expected `{key}` as a positive number, got {scale}")
    return scale
