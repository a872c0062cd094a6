"""A place and two walks through it as a scene: photos, exact poses and depth, nothing to download."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from numpy.random import Generator

from dsac.datasets.frame import Frames, NamedPoses, Scene
from dsac.datasets.poses_file import write_poses
from dsac.datasets.storage import folder_written_whole
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose
from dsac.rooms.render import develop, render_depth, render_light
from dsac.rooms.surfaces import Room
from dsac.rooms.visibility import View
from dsac.rooms.walks import Shots

DEPTH_UNIT = 0.0002  # metres per unit of the written depth: up to 13.1 m in 16 bit, enough indoors

Walk = Callable[[Generator, int], Shots]  # so many photos on the way


def walked_scene(
    room: Room,
    mapping: Walk,
    query: Walk,
    counts: tuple[int, int],
    size: tuple[int, int],
    seed: int,
    farthest: float = np.inf,
) -> Scene:
    """What a phone sees on two walks: a camera of 62.7° horizontal field of view, as many photos as `counts`.

    Of the seed's generators, 1 to 3 are the noise's and the walks'; 0, and from 4 on, are the place's.
    """
    noise, mapping_rng, query_rng = (np.random.default_rng([seed, number]) for number in (1, 2, 3))
    camera = Camera.simple(525 * size[0] / 640, size)
    there, later = mapping(mapping_rng, counts[0]), query(query_rng, counts[1])
    return render_scene(room, camera, there, later, noise, farthest)


def render_scene(
    room: Room,
    camera: Camera,
    mapping: Shots,
    query: Shots,
    rng: Generator,
    farthest: float = np.inf,
    places: Mapping[str, list[str]] | None = None,
) -> Scene:
    """Frames that are rendered when taken; `rng` draws the noise of the camera's sensor.

    Depth is known up to `farthest` metres: what is behind (the sky) has none.
    Names are `mapping-000.jpg`, ... and `query-000.jpg`, ...; the truth is called "exact". Where `places` says
    of each frame of "mapping" and "query" where it is taken, it is counted there: `room-07/mapping-000.jpg`.
    """
    width, height = camera.size
    noise = rng.normal(0, 1.2, (height, width, 3)).astype(np.float32)
    shots = {"mapping": mapping, "query": query}
    frames = {}
    for part, walk in shots.items():
        names = _names(part, places[part] if places else [""] * len(walk.cam_from_world))
        reader = _RoomReader(names, camera, walk, room, noise, farthest)
        frames[part] = Frames(names, [camera], np.zeros(len(names), np.int64), walk.cam_from_world, reader)
    names = frames["mapping"].names + frames["query"].names
    pose = Pose.cat([mapping.cam_from_world, query.cam_from_world])
    exact = NamedPoses(names, pose, camera.focal_px[0].repeat(len(names)))
    return Scene("synthetic", "synthetic room", frames["mapping"], frames["query"], {"exact": exact})


def _names(part: str, places: list[str]) -> list[str]:
    counted: Counter[str] = Counter()
    names = []
    for place in places:
        names.append(posixpath.join(place, f"{part}-{counted[place]:03d}.jpg"))
        counted[place] += 1
    return names


def view_of(camera: Camera, cam_from_world: Pose) -> View:
    """What the renderer takes: a pinhole camera at one pose."""
    center_x, center_y = camera.center_px.tolist()
    rotation, translation = cam_from_world.rotation.numpy(), cam_from_world.translation.numpy()
    return View(rotation, translation, float(camera.focal_px[0]), (center_x, center_y), camera.size)


def write_scene(
    scene: Scene,
    folder: str | Path,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
    depth_unit: float | None = DEPTH_UNIT,
) -> None:
    """Write a synthetic scene as a plain folder that `dsac.load_scene` reads; whole or not at all.

    JPEG images in `images`, 16-bit depth in `depth` (of `depth_unit` metres, unknown where that does not
    reach; None: no depth), the lists and `poses.txt`. `on_frame(done, total)` is called after every frame.
    Raises: `DatasetError` when the folder has anything in it or cannot be written.
    """
    folder = Path(folder)
    frames = [(part, i) for part in (scene.mapping, scene.query) for i in range(len(part))]
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be written: {error.strerror or error}") from error
    with folder_written_whole(folder) as temporary:
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            written = pool.map(lambda frame: _write_frame(frame[0], frame[1], temporary, depth_unit), frames)
            try:
                for done, _ in enumerate(written, 1):
                    on_frame(done, len(frames))
            except BaseException:  # Ctrl-C does not wait for thousands of frames
                pool.shutdown(cancel_futures=True)
                raise
        if depth_unit is not None:
            (temporary / "depth_scale.txt").write_text(f"{depth_unit}\n")
        (temporary / "mapping.txt").write_text("".join(f"{name}\n" for name in scene.mapping.names))
        (temporary / "query.txt").write_text("".join(f"{name}\n" for name in scene.query.names))
        write_poses(temporary / "poses.txt", scene.truths["exact"])


def _write_frame(frames: Frames, index: int, folder: Path, depth_unit: float | None) -> None:
    name, reader = frames.names[index], frames.reader
    image = cv2.cvtColor(reader.read_image(name), cv2.COLOR_RGB2BGR)
    _write(folder / "images" / name, cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
    if depth_unit is not None:
        depth = np.round(reader.read_depth(name, frames.camera(index)) / depth_unit)
        depth = np.where(depth > np.iinfo(np.uint16).max, 0, depth).astype(np.uint16)
        png = cv2.imencode(".png", depth, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        _write((folder / "depth" / name).with_suffix(".png"), png)


def _write(path: Path, data: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


# ---- frames --------------------------------------------------------------------------------------

_SHUTTER_STEPS = 10


@dataclass(frozen=True)
class _RoomReader:
    """Renders frames by name; threads may share it."""

    names: list[str]
    camera: Camera
    shots: Shots
    room: Room
    noise: np.ndarray  # (H, W, 3) in grey levels
    farthest: float
    has_depth: bool = True

    def read_image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        i = self._index[name]
        pose, shake = self.shots.cam_from_world[i], self.shots.shake[i]
        moments = torch.linspace(-0.5, 0.5, _SHUTTER_STEPS).tolist() if shake.any() else [0.0]
        views = [view_of(self.camera, Pose.exp(moment * shake) @ pose) for moment in moments]
        light = render_light(self.room, views)
        noise = np.roll(self.noise, (37 * i, 101 * i), (0, 1))
        return develop(light, float(self.shots.exposure[i]), noise)

    def read_depth(self, name: str, camera: Camera) -> Float32[np.ndarray, "H W"]:
        depth = render_depth(self.room, view_of(self.camera, self.shots.cam_from_world[self._index[name]]))
        return np.where(depth > self.farthest, np.float32(0), depth)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}
