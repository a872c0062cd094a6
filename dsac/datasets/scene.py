"""A folder becomes a scene: its format is recognised by its files, then its frames are split in two.

`mapping.txt` and `query.txt`, one image name a line, define the split in every format, before the format's own;
if only one of them is there, the other part is the rest; with neither, all frames are for mapping.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Container
from pathlib import Path

from dsac.datasets.format import Format, FormatByTime, ReadsStoredPhotos, Recording, Split
from dsac.datasets.formats import (
    ace,
    arkit_scenes,
    cambridge,
    colmap,
    euroc,
    folder,
    kitti,
    llff,
    nerfstudio,
    opensfm,
    polycam,
    record3d,
    ros_bag,
    scanner_app,
    scannet,
    seven_scenes,
    tum,
    twelve_scenes,
)
from dsac.datasets.frame import Frames, Scene
from dsac.datasets.image_names import name_among
from dsac.datasets.place import storage_of
from dsac.datasets.rigid import some
from dsac.datasets.storage import Storage, read_lines
from dsac.datasets.tables import AT_THE_END, unquoted
from dsac.datasets.unrecognised import not_recognised
from dsac.errors import DatasetError

logger = logging.getLogger(__name__)

# the first that recognises a folder reads it
FORMATS: tuple[Format, ...] = (
    twelve_scenes,  # its data folder looks like a sequence of 7-Scenes
    seven_scenes,
    colmap,
    nerfstudio,
    kitti,  # its poses.txt is another than a plain folder's
    folder,
    tum,
    ace,
    cambridge,
    scannet,
    euroc,
    opensfm,
    llff,
    arkit_scenes,
    polycam,
    record3d,
    scanner_app,
    ros_bag,
)


def load_scene(path: str | Path, truth: str | None = None, *, max_gap: float | None = None) -> Scene:
    """Frames with poses from a folder, a URL, or the `transforms.json` in a folder.

    `truth` names the poses to take where a recording has several (7-Scenes: `sfm`, `dslam`); the map and the
    queries then live in that truth's world. `Scene.truths` holds all of them.
    `max_gap` is how far apart in time an image and its pose may be, in the formats that say (TUM: 0.02).

    Raises: `DatasetError` that names the file and what to do.
    """
    storage = storage_of(path)
    formats: tuple[Format, ...] = (nerfstudio, colmap) if storage.chosen else FORMATS
    for reader in formats:
        if reader.recognises(storage):
            recording = _read(reader, storage, truth, max_gap)
            break
    else:
        raise DatasetError(not_recognised(storage, FORMATS))
    mapping, query = _split(storage, recording)
    logger.info("%s: %s, %d mapping and %d query frames", path, recording.format, len(mapping), len(query))
    _warn_of_equal_poses(str(path), recording.frames)
    return Scene(
        str(path), recording.format, mapping, query, recording.truths, recording.metric, _stores_turned(mapping)
    )


def is_recording(path: str | Path) -> bool:
    """Whether `load_scene` knows a format for this: whether there are poses."""
    storage = storage_of(path)
    return bool(storage.chosen) or any(reader.recognises(storage) for reader in FORMATS)


def _read(reader: Format, storage: Storage, truth: str | None, max_gap: float | None) -> Recording:
    if max_gap is None:
        return reader.read(storage, truth)
    if not isinstance(reader, FormatByTime):
        raise DatasetError(f"{storage.path}: max_gap is for poses that are found by time, here they are not")
    if not 0 <= max_gap < math.inf:
        raise DatasetError(f"max_gap: expected seconds, got {max_gap}")
    return reader.read(storage, truth, max_gap)


def _split(storage: Storage, recording: Recording) -> tuple[Frames, Frames]:
    """Mapping and query frames.

    Raises: `DatasetError` when neither list names a frame that is there, or both name the same frame.
    """
    frames = recording.frames
    row_of = {name: i for i, name in enumerate(frames.names)}
    named = {part: _read_names(storage, f"{part}.txt", row_of) for part in ("mapping", "query")}
    if named["mapping"] is None and named["query"] is None:
        split = recording.split or Split(frames.names, [])
    else:
        either = {*(named["mapping"] or []), *(named["query"] or [])}
        rest = [name for name in frames.names if name not in either]
        split = Split(*(rest if names is None else names for names in named.values()))
    _check_apart(storage.path, split)
    lost = [name for name in [*split.mapping, *split.query] if name not in row_of]
    if lost:
        logger.warning(
            "%s: %d images of the split have no image file or no pose, left out: %s",
            storage.path, len(lost), some(lost),
        )  # fmt: skip
    mapping, query = (
        [row_of[name] for name in names if name in row_of] for names in (split.mapping, split.query)
    )
    if not mapping and not query:
        example = f"; the first is {lost[0]}, the first frame {frames.names[0]}" if lost else ""
        raise DatasetError(f"{storage.path}: mapping.txt and query.txt name no frame that has a pose{example}")
    return frames[mapping], frames[query]


def _check_apart(path: str, split: Split) -> None:
    both = set(split.mapping) & set(split.query)
    if both:
        names = [name for name in split.query if name in both]
        raise DatasetError(
            f"{path}: {len(names)} frames are both for mapping and for query, they would be localized in a map "
            f"made of themselves; take them out of one list, mapping.txt or query.txt: {some(names)}"
        )


def _warn_of_equal_poses(path: str, frames: Frames) -> None:
    poses = frames.cam_from_world
    if poses is not None and len(frames) > 1 and bool((poses.matrix == poses[0].matrix).all()):
        logger.warning("%s: all %d poses are the same, what is made of them will be wrong", path, len(frames))


def _stores_turned(mapping: Frames) -> bool:
    """Whether any of a few photos is."""
    reader, names = mapping.reader, mapping.names[:: max(1, len(mapping) // _ASKED)]
    return isinstance(reader, ReadsStoredPhotos) and any(reader.stores_turned(name) for name in names)


_ASKED = 16


def _read_names(storage: Storage, file: str, frames: Container[str]) -> list[str] | None:
    if not storage.has(file):
        return None
    lines = (line for line in read_lines(storage.join(file)) if line and not line.startswith("#"))
    return list(dict.fromkeys(name_among(unquoted(line.rstrip(AT_THE_END)), frames) for line in lines))
