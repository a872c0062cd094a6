"""A scene becomes a folder in another format: images, depth, cameras, poses and the split.

Image files whose pixels are the frame's are copied byte for byte; other images become PNG, never lossy again.
Depth becomes PNG of 16 bits in a unit that reaches the farthest, 0 where it is unknown.
"""

from __future__ import annotations

import logging
import math
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from dsac.datasets.frame import Frames, Scene, distinct_cameras, expect_size, image_file
from dsac.datasets.image import read_image, read_image_size, read_orientation
from dsac.datasets.listed_files import IMAGE_ENDINGS
from dsac.datasets.rigid import some
from dsac.datasets.storage import folder_written_whole, is_remote, read_bytes
from dsac.datasets.writers import ace, colmap, nerfstudio, plain, tum
from dsac.datasets.writers.outgoing import Outgoing, Writer
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose

logger = logging.getLogger(__name__)

WRITERS: dict[str, Writer] = {
    "plain": plain,
    "colmap": colmap,
    "nerfstudio": nerfstudio,
    "tum": tum,
    "ace": ace,
}
_MOST_UNITS = 2**16 - 1


@dataclass(frozen=True, eq=False)
class SavedScene:
    """What was written."""

    names: list[str]  # mapping frames, then query frames, as that format has them
    num_mapping: int
    num_copied: int  # images that are the recording's own files; the others are PNG
    depth_unit: float  # metres per unit of depth; 0: there is none


def save_scene(
    scene: Scene,
    folder: str | Path,
    format: str = "plain",
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> SavedScene:
    """Write a scene into a new folder, which `load_scene` reads as the same frames; whole or not at all.

    Names stay, below the format's own folder of images. The log has a line for what the format cannot say, and
    for damaged images, which are left out. `on_progress` gets the fraction done.
    Raises: `DatasetError` for cameras that the format does not have, for a folder that is there and not empty
    or cannot be written, and for frames that cannot be read; `ValueError` for a format not in `WRITERS`, and
    for a scene without frames or poses.
    """
    if format not in WRITERS:
        raise ValueError(f"format: expected one of {', '.join(WRITERS)}, got {format}")
    if is_remote(folder):
        raise DatasetError(f"{folder}: expected a folder on this machine, got a URL")
    writer = WRITERS[format]
    with folder_written_whole(Path(folder)) as temporary:
        sources = _sources(scene, writer)
        passes = 2 if any(source.frames.has_depth for source in sources) else 1

        def progress(done: int, number: int) -> None:
            on_progress((number + done / len(sources)) / passes)

        out = _outgoing(scene, sources, writer)
        if passes == 2:
            out = _with_unit(out, sources, writer, progress)
        for row, source in enumerate(sources):
            source.write_image(temporary / writer.image_file(out, row))
            if row in out.with_depth:
                units = np.round(source.depth() / out.depth_unit).clip(0, _MOST_UNITS).astype(np.uint16)
                _write_png(temporary / writer.depth_file(out, row), units)
            progress(row + 1, passes - 1)
        writer.write(out, temporary)
    written = [writer.image_file(out, row) for row in range(len(sources))]
    _say_what_is_lost(scene.path, format, out)
    _say_new_names(scene.path, _given_names(sources), written)
    num_copied = sum(source.copied is not None for source in sources)
    return SavedScene(written, out.num_mapping, num_copied, out.depth_unit)


# ---- frames --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Source:
    """A frame as it is."""

    frames: Frames
    i: int
    is_query: bool
    copied: str | None  # its file, where readers of the new format see the same pixels in it

    @property
    def name(self) -> str:
        return self.frames.names[self.i]

    @property
    def camera(self) -> Camera:
        return self.frames.camera(self.i)

    def depth(self) -> Float32[np.ndarray, "H W"]:
        return self.frames.reader.read_depth(self.name, self.camera)

    def write_image(self, path: Path) -> None:
        """Raises: `DatasetError` for one of another size than its camera's."""
        import cv2  # here, because importing the package should not load it

        if self.copied is not None:
            expect_size(read_image_size(self.copied, as_stored=True), self.camera, self.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read_bytes(self.copied))
            return
        file, reader = image_file(self.frames.reader, self.name), self.frames.reader
        # a reader may give large photos smaller
        pixels = reader.read_image(self.name) if file is None else read_image(file.path, file.size)
        expect_size((pixels.shape[1], pixels.shape[0]), self.camera, self.name)
        _write_png(path, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


def _sources(scene: Scene, writer: Writer) -> list[_Source]:
    """Frames whose files are whole. Raises: `DatasetError` for cameras that the format does not have."""
    parts = [frames.without_damaged() for frames in (scene.mapping, scene.query)]
    frames = [_Source(part, i, part is parts[1], copied=None) for part in parts for i in range(len(part))]
    if not frames or any(part.cam_from_world is None for part in parts):
        raise ValueError("scene: expected frames with poses, got some without, or none")
    cameras, _ = distinct_cameras([source.camera for source in frames])
    try:
        writer.check(cameras)
    except ValueError as error:
        raise DatasetError(f"{scene.path}: {error}") from None
    says_size = writer.says_size(cameras)
    return [replace(source, copied=_file_to_copy(source, says_size)) for source in frames]


def _file_to_copy(source: _Source, says_size: bool) -> str | None:
    file = image_file(source.frames.reader, source.name)
    if file is None or not source.name.lower().endswith(IMAGE_ENDINGS):
        return None
    if read_orientation(file.path) == 1:
        return file.path
    as_stored = file.size == read_image_size(file.path, as_stored=True)
    return file.path if as_stored and says_size else None


def _outgoing(scene: Scene, sources: Sequence[_Source], writer: Writer) -> Outgoing:
    cameras, index = distinct_cameras([source.camera for source in sources])
    poses = [poses[source.i] for source in sources if (poses := source.frames.cam_from_world) is not None]
    num_mapping = sum(not source.is_query for source in sources)
    names = _names(sources, writer)
    return Outgoing(names, cameras, index, Pose.stack(poses).to(torch.float64), num_mapping, scene.metric)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())


# ---- names ---------------------------------------------------------------------------------------


def _given_names(sources: Sequence[_Source]) -> list[str]:
    """The frames', without the folder of images that all of them lie in."""
    names = [source.name for source in sources]
    folder = next((f for f in ("images/", "rgb/") if all(name.startswith(f) for name in names)), "")
    return [name.removeprefix(folder) for name in names]


def _names(sources: Sequence[_Source], writer: Writer) -> list[str]:
    """The names below the folder of images; no two stems are alike where there is depth, named by them."""
    with_depth = any(source.frames.has_depth for source in sources)
    given = _given_names(sources)
    taken: set[str] = set()
    names: list[str] = []
    for name, source in zip(given, sources, strict=True):
        stem, ending = posixpath.splitext(writer.spelled(_as_path(name)))
        if ending.lower() not in IMAGE_ENDINGS:
            stem, ending = stem + ending, ".png"
        ending = ending if source.copied is not None else ".png"
        spellings = chain([stem], (f"{stem}-{number}" for number in count(2)))
        key = "" if with_depth else ending
        stem = next(spelling for spelling in spellings if spelling + key not in taken)
        taken.add(stem + key)
        names.append(stem + ending)
    return names


def _as_path(name: str) -> str:
    """Without what leads out of a folder, breaks a line, or begins a comment."""
    parts = [part for part in re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", "_", name).split("/")]
    path = "/".join(part for part in parts if part not in ("", ".", "..")).strip()
    return re.sub(r'^[#"]', "_", path) or "image"


# ---- depth ---------------------------------------------------------------------------------------


def _with_unit(
    out: Outgoing, sources: Sequence[_Source], writer: Writer, progress: Callable[[int, int], None]
) -> Outgoing:
    """With the rows that have depth, and the unit it is written in: the format's own where that serves."""
    farthest: dict[int, float] = {}
    for row, source in enumerate(sources):
        if source.frames.has_depth and (depth := float(source.depth().max())) > 0:
            farthest[row] = depth
        progress(row + 1, 0)
    if not farthest:
        return out
    reach = max(farthest.values())
    usual = writer.DEPTH_UNIT
    serves = usual is not None and out.metric and reach <= usual * _MOST_UNITS
    unit = usual if serves and usual is not None else finest_unit(reach)
    return replace(out, with_depth=frozenset(farthest), depth_unit=unit)


def finest_unit(reach: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten of which 16 bits reach so far.

    Up to 65 m, whole millimetres stay whole, and so do TUM's fifths up to 13 m.
    """
    least = reach / _MOST_UNITS
    power = math.floor(math.log10(least))
    units = [float(f"{digit}e{power}") for digit in (1, 2, 5, 10)]
    return next((unit for unit in units if unit >= least), units[-1])


def _say_what_is_lost(path: str, format: str, out: Outgoing) -> None:
    writer = WRITERS[format]
    if out.metric and not (writer.ALWAYS_METRIC or out.depth_unit):
        logger.warning("%s: %s cannot say that lengths are metres, without depth", path, format)
    if not out.metric and (writer.ALWAYS_METRIC or out.depth_unit):
        logger.warning("%s: lengths have a scale of their own, %s will take them for metres", path, format)
    if out.depth_unit and writer.DEPTH_UNIT not in (None, out.depth_unit):
        logger.warning(
            "%s: depth is in units of %g, other than %s's usual %g: other programs have to be told",
            path, out.depth_unit, format, writer.DEPTH_UNIT,
        )  # fmt: skip


def _say_new_names(path: str, given: Sequence[str], written: Sequence[str]) -> None:
    changed = [
        f"{old} is {new}" for old, new in zip(given, written, strict=True) if not new.endswith(f"/{old}")
    ]
    if changed:
        logger.warning("%s: %d images have other names there: %s", path, len(changed), some(changed, 3))
