"""Mapping frames that say little about the queries: parts of recordings for `far_views.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dsac import Frames, Pose, load_scene
from dsac.rooms import terrace_scene

NEAR_M, NEAR_DEG = 0.7, 30.0  # of the headset: 72 of its queries are so near to a mapping frame, 51 are not
PHOTOS = (5, 10, 20)


@dataclass(frozen=True)
class Recording:
    """A folder of the recordings, and what is measured in it; without one, the terrace that is rendered."""

    folder: str | None
    metric: bool = True


@dataclass(frozen=True)
class Part:
    """Frames to map and frames to ask, in groups that are reported apart."""

    mapping: Frames
    queries: dict[str, Frames]  # by what is added to the split's name
    unit: float  # what 100 % of the errors are, or a metre


@dataclass(frozen=True)
class Split:
    """One of the table's."""

    recording: Recording
    choose: Callable[[Frames, Frames], tuple[Frames, dict[str, Frames]]]  # from mapping and query frames

    def load(self, data: Path, most_queries: int) -> Part:
        """Raises: `DatasetError` for a recording that is not in the folder."""
        folder = self.recording.folder
        scene = terrace_scene() if folder is None else load_scene(data / folder)
        mapping, queries = self.choose(scene.mapping, scene.query)
        queries = {name: thinned(frames, most_queries) for name, frames in queries.items()}
        return Part(mapping, queries, 1.0 if self.recording.metric else diagonal(scene.mapping))


def thinned(frames: Frames, most: int) -> Frames:
    """Evenly spread frames, at most so many."""
    return frames[spread(len(frames), most)]


def spread(count: int, most: int) -> list[int]:
    """Evenly spread numbers below `count`, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def diagonal(frames: Frames) -> float:
    """Of the box about the cameras."""
    assert frames.cam_from_world is not None
    centers = frames.cam_from_world.center
    return float((centers.amax(0) - centers.amin(0)).norm())


def joined(first: Frames, second: Frames) -> Frames:
    """The frames of both lists of one recording, by name."""
    assert first.cam_from_world is not None and second.cam_from_world is not None
    both = replace(
        first,
        names=first.names + second.names,
        camera_index=np.concatenate([first.camera_index, second.camera_index]),
        cam_from_world=Pose.cat([first.cam_from_world, second.cam_from_world]),
    )
    return both[np.argsort(both.names, kind="stable")]


def others(frames: Frames, rows: list[int]) -> Frames:
    return frames[sorted({*range(len(frames))} - {*rows})]


def near(queries: Pose, mapping: Pose) -> np.ndarray:
    """Whether a mapping frame stands within `NEAR_M` and looks the same way within `NEAR_DEG`."""
    distance = torch.cdist(queries.center, mapping.center)
    cosine = queries.rotation[:, 2] @ mapping.rotation[:, 2].T
    return ((distance < NEAR_M) & (cosine > np.cos(np.deg2rad(NEAR_DEG)))).any(1).numpy()


def _parts(mapping: slice, queries: slice) -> Callable:
    return lambda frames, _: (frames[mapping], {"": frames[queries]})


def _every(step: int) -> Callable:
    def choose(mapping: Frames, query: Frames) -> tuple[Frames, dict[str, Frames]]:
        photos = joined(mapping, query)
        rows = [*range(0, len(photos), step)]
        return photos[rows], {"": others(photos, rows)}

    return choose


def _listed(mapping: Frames, query: Frames) -> tuple[Frames, dict[str, Frames]]:
    return mapping, {"": query}


def _poses_only(mapping: Frames, query: Frames) -> tuple[Frames, dict[str, Frames]]:
    return mapping.without_depth(), {"": query}


def _near_and_far(mapping: Frames, query: Frames) -> tuple[Frames, dict[str, Frames]]:
    assert mapping.cam_from_world is not None and query.cam_from_world is not None
    is_near = near(query.cam_from_world, mapping.cam_from_world)
    return mapping, {
        ", near": query[np.flatnonzero(is_near)],
        ", far": query[np.flatnonzero(~is_near)],
    }


def _photos(count: int) -> Callable:
    def choose(mapping: Frames, query: Frames) -> tuple[Frames, dict[str, Frames]]:
        rows = spread(len(mapping), count)
        return mapping[rows], {"": query if len(query) else others(mapping, rows)}

    return choose


RECORDINGS = {
    "kitchen": Recording("7scenes/redkitchen"),
    "south-building": Recording("south-building", metric=False),
    "fox": Recording("fox", metric=False),
    "hololens": Recording("hololens"),
    "door": Recording("door", metric=False),
}
SPLITS = {
    "kitchen, frames 0-89": Split(RECORDINGS["kitchen"], _parts(slice(0, 90), slice(100, 250))),
    "kitchen, frames 160-249": Split(RECORDINGS["kitchen"], _parts(slice(160, 250), slice(0, 150))),
    "south-building, every third": Split(RECORDINGS["south-building"], _every(3)),
    "south-building, every sixth": Split(RECORDINGS["south-building"], _every(6)),
    "fox, every fifth": Split(RECORDINGS["fox"], _every(5)),
    "hololens": Split(RECORDINGS["hololens"], _near_and_far),
    "door, by night": Split(RECORDINGS["door"], _listed),
    "terrace, from poses": Split(Recording(None), _poses_only),
}
SPLITS |= {
    f"{name}, {count} photos": Split(recording, _photos(count))
    for count in reversed(PHOTOS)
    for name, recording in RECORDINGS.items()
}
