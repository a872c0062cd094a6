"""Frames that are kept out of a map so that they can say how good it is, and frames put together again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, UInt8

from dsac.datasets.frame import ChecksFiles, FrameReader, Frames, ImageFile, Scene, image_file
from dsac.geometry import Camera, Pose

_EVERY, _BLOCKS = 8, 4


def hold_out(scene: Scene, in_blocks: bool = False) -> Scene:
    """The same scene with an eighth of its mapping frames for queries: every eighth, or four stretches.

    In stretches is harder: a frame's neighbours, which look almost the same, are kept out with it.
    Raises: `ValueError` for a scene that has query frames.
    """
    if len(scene.query):
        raise ValueError(f"hold_out: expected a scene without query frames, got {len(scene.query)}")
    count = len(scene.mapping)
    period = max(_EVERY, count / _BLOCKS) if in_blocks else _EVERY
    phase = (np.arange(count) + 0.5) / period % 1
    held = (phase >= 7 / 16) & (phase < 9 / 16)  # from the middle: both ends of the recording are mapped
    return replace(
        scene, mapping=scene.mapping[np.flatnonzero(~held)], query=scene.mapping[np.flatnonzero(held)]
    )


def joined(first: Frames, second: Frames) -> Frames:
    """Frames of one recording, in this order; poses are known where they are of both."""
    if not len(first) or not len(second):
        return first if len(first) else second
    poses = None
    if first.cam_from_world is not None and second.cam_from_world is not None:
        poses = Pose.cat([first.cam_from_world, second.cam_from_world])
    names = first.names + second.names
    readers = dict(zip(names, [first.reader] * len(first) + [second.reader] * len(second), strict=True))
    index = np.concatenate([first.camera_index, second.camera_index + len(first.cameras)])
    return Frames(names, first.cameras + second.cameras, index, poses, _ReaderOfEach(readers))


@dataclass(frozen=True)
class _ReaderOfEach:
    """A reader for each frame, by its name."""

    readers: Mapping[str, FrameReader]

    @property
    def has_depth(self) -> bool:
        return all(reader.has_depth for reader in self.readers.values())

    def read_image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        return self.readers[name].read_image(name)

    def read_depth(self, name: str, camera: Camera) -> Float32[np.ndarray, "H W"]:
        return self.readers[name].read_depth(name, camera)

    def check(self, name: str, with_depth: bool) -> None:
        reader = self.readers[name]
        if isinstance(reader, ChecksFiles):
            reader.check(name, with_depth)

    def image_file(self, name: str) -> ImageFile | None:
        return image_file(self.readers[name], name)
