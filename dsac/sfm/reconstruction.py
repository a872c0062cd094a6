"""From photos without poses to frames with poses; a folder keeps what was found.

    folder/sparse/0       a COLMAP model, of the photos as dsac reads them: upright, unless their recording says
    folder/images         of a video, its frames
    folder/photos.json    which photos it is of; written last, so that an interrupted one is made again

Photos are recognised by their pixels: a photo that is new, changed or gone begins it all again.
"""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch

from dsac.datasets import Frames, Scene
from dsac.datasets.formats.colmap import read_model
from dsac.datasets.rigid import rigid_from_quaternions, some
from dsac.datasets.storage import write_atomically
from dsac.datasets.video import is_video
from dsac.errors import DatasetError
from dsac.sfm.colmap import Photo, colmap_cameras, models, quiet_pycolmap, refine, two_views, write_database
from dsac.sfm.features import detect, pairs_to_match
from dsac.sfm.photos import UnposedPhotos, load_unposed
from dsac.sfm.video import frames_of_video

logger = logging.getLogger(__name__)

_VERSION = 1  # of how it is done
_PHOTOS, _MODEL = "photos.json", "sparse/0"
_LEAST = 3  # photos
_MANY = 0.25  # of the photos without a place
_HELP = "what helps is more photos that overlap, from places between them, of things with some texture"
Phase = Literal["video", "read", "features", "matching", "placing"]


@dataclass(frozen=True)
class SfmProgress:
    """Where it stands; handed to `on_progress`."""

    phase: Phase
    fraction: float  # of the phase, 0 to 1
    elapsed: float  # seconds since the start


Report = Callable[[SfmProgress], None]


def reconstruct_scene(
    path: str | Path,
    folder: str | Path,
    *,
    focal_px: float | None = None,
    seed: int = 0,
    threads: int = -1,
    on_progress: Report = lambda progress: None,
) -> Scene:
    """A scene of the photos in a folder, of a video, or of a recording's mapping images without its poses.

    All are for mapping. Of a video the sharp frames that show something new are written to `folder/images`.
    `focal_px` is a first guess at the photos' focal length; see `reconstruct` for the others.
    Raises: `DatasetError` like `load_unposed` and `reconstruct`.
    """
    source = path
    if is_video(path):
        source = frames_of_video(
            Path(path), Path(folder), lambda done: on_progress(SfmProgress("video", done, 0.0))
        )
    photos = load_unposed(source, focal_px)
    frames = reconstruct(photos, folder, seed=seed, threads=threads, on_progress=on_progress)
    return Scene(str(path), "photos, structure from motion", frames, frames[[]], metric=False)


def reconstruct(
    photos: UnposedPhotos,
    folder: str | Path,
    *,
    seed: int = 0,
    threads: int = -1,
    on_progress: Report = lambda progress: None,
) -> Frames:
    """The photos that find their place, with poses in a world and scale of their own, and cameras.

    What was found for the same photos is read from `folder`; else it is found and written there. Photos that
    are damaged or find no place are named in warnings. With one of the `threads` (-1: as many as there are
    cores) the same seed gives the same to the last digit.
    Raises: `DatasetError` when too few find a place, or pycolmap is missing; `OSError` for a folder that cannot
    be written.
    """
    folder, started = Path(folder), time.monotonic()

    def report(phase: Phase) -> Callable[[float], None]:
        return lambda fraction: on_progress(SfmProgress(phase, fraction, time.monotonic() - started))

    photos, digests = _readable(photos, report("read"))
    asked = _description(photos, digests, seed)
    if not _keeps(folder, asked):
        with quiet_pycolmap(photos.path) as pycolmap:
            cameras = colmap_cameras(pycolmap, photos.frames.cameras, photos.knows_focal)
            found = list(_found(photos.frames, report("features")))
            geometries = _geometries(pycolmap, found, threads, report("matching"))
            with TemporaryDirectory() as work:
                write_database(pycolmap, database := Path(work) / "database.db", cameras, found, geometries)
                placed = _counting(len(found), report("placing"))
                pieces = models(pycolmap, database, Path(work), seed, threads, placed)
                model = _largest(pieces, photos)
                refine(pycolmap, model, threads)
                report("placing")(1.0)
            _keep(model, folder, asked)
    return _posed(photos, folder / _MODEL)


def _readable(photos: UnposedPhotos, report: Callable[[float], None]) -> tuple[UnposedPhotos, list[int]]:
    """The photos that can be decoded, and a checksum of the pixels of each."""
    frames, digests, damaged = photos.frames, {}, {}
    for i, name in enumerate(frames.names):
        try:
            digests[i] = zlib.crc32(frames.reader.read_image(name).tobytes())
        except DatasetError as error:
            damaged[name] = error
        report((i + 1) / len(frames))
    if damaged:
        logger.warning(
            "%s: %d of %d photos are damaged, left out: %s (%s)",
            photos.path, len(damaged), len(frames), some(list(damaged)), next(iter(damaged.values())),
        )  # fmt: skip
    if len(digests) < _LEAST:
        raise DatasetError(f"{photos.path}: expected {_LEAST} photos or more, got {len(digests)}; {_HELP}")
    return replace(photos, frames=frames[list(digests)]), list(digests.values())


def _description(photos: UnposedPhotos, digests: list[int], seed: int) -> dict[str, Any]:
    """What the answer depends on, as JSON."""
    cameras = [camera.to_text() for camera in photos.frames.cameras]
    kinds = [cameras[row] for row in photos.frames.camera_index]
    each = {
        name: [digest, kind] for name, digest, kind in zip(photos.frames.names, digests, kinds, strict=True)
    }
    return {"version": _VERSION, "seed": seed, "photos": each}


def _keeps(folder: Path, asked: dict[str, Any]) -> bool:
    """Whether the folder has the answer to this."""
    try:
        return json.loads((folder / _PHOTOS).read_text()) == asked
    except (OSError, ValueError):
        return False


def _keep(model: Any, folder: Path, asked: dict[str, Any]) -> None:
    (folder / _PHOTOS).unlink(missing_ok=True)
    (folder / _MODEL).mkdir(parents=True, exist_ok=True)
    model.write_binary(str(folder / _MODEL))
    write_atomically(folder / _PHOTOS, json.dumps(asked, indent=1).encode())


def _found(frames: Frames, report: Callable[[float], None]) -> Iterator[Photo]:
    """With keypoints in pixels of the frame's camera, of which the image may be a smaller copy."""
    for i, name in enumerate(frames.names):
        image = frames.reader.read_image(name)
        features = detect(image)
        size = frames.camera(i).size
        pixels = features.pixels * np.float32(size[0] / image.shape[1])
        yield Photo(name, int(frames.camera_index[i]), max(size), replace(features, pixels=pixels))
        report((i + 1) / len(frames))


def _geometries(
    pycolmap: Any, photos: list[Photo], threads: int, report: Callable[[float], None]
) -> dict[tuple[int, int], Any]:
    """What pairs of photos share, of those that share something."""
    pairs = pairs_to_match([photo.features.descriptors for photo in photos])

    def shared(pair: tuple[int, int]) -> Any | None:
        return two_views(pycolmap, photos[pair[0]], photos[pair[1]])

    geometries = {}
    with ThreadPoolExecutor(os.cpu_count() if threads < 1 else threads) as pool:
        try:
            for i, geometry in enumerate(pool.map(shared, pairs)):
                if geometry is not None:
                    geometries[pairs[i]] = geometry
                report((i + 1) / len(pairs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return geometries


def _counting(count: int, report: Callable[[float], None]) -> Callable[[], None]:
    """To be called for each photo; COLMAP tries some several times."""
    done = 0

    def one_more() -> None:
        nonlocal done
        done = min(done + 1, count)
        report(done / count)

    return one_more


def _largest(pieces: list[Any], photos: UnposedPhotos) -> Any:
    """A word in the log on the others. Raises: `DatasetError` when there is none."""
    if not pieces:
        raise DatasetError(f"{photos.path}: none of {len(photos.frames)} photos found its place; {_HELP}")
    if len(pieces) > 1:
        sizes = ", ".join(str(piece.num_reg_images()) for piece in pieces)
        logger.warning(
            "%s: the photos fall into %d pieces, the largest is taken; photos in each: %s; %s",
            photos.path, len(pieces), sizes, _HELP,
        )  # fmt: skip
    return pieces[0]


def _posed(photos: UnposedPhotos, model: Path) -> Frames:
    """The photos that the model has, in their own order."""
    cameras, images = read_model(str(model), "bin")
    rows = {camera_id: row for row, camera_id in enumerate(cameras)}
    by_name = {image.name: image for image in images}
    names = photos.frames.names
    there = [i for i, name in enumerate(names) if name in by_name]
    found = [by_name[names[i]] for i in there]
    if lost := [name for name in names if name not in by_name]:
        doubt = f"; where so many do not, the poses of others may be wrong, too: {_HELP}"
        logger.warning(
            "%s: %d of %d photos found no place among the others, left out: %s%s",
            photos.path, len(lost), len(names), some(lost), doubt if len(lost) > _MANY * len(names) else "",
        )  # fmt: skip
    table = torch.tensor([image.pose for image in found], dtype=torch.float64)
    poses = rigid_from_quaternions(table[:, :4], table[:, 4:], lambda i: f"{model}, {found[i].name}")
    index = np.array([rows[image.camera_id] for image in found], np.int64)
    return replace(
        photos.frames[there], cameras=list(cameras.values()), camera_index=index, cam_from_world=poses
    )
