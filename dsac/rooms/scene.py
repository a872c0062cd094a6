"""A furnished room that is rendered on the spot: exact poses, depth and scene coordinates, nothing to download.

Hand-held walks for mapping and for queries; some queries are blurred by motion or badly exposed. The same
seed gives the same bytes on the same machine, however many threads render.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from numpy.random import Generator

from dsac.datasets.frame import Frames, NamedPoses, Scene
from dsac.datasets.poses_file import write_poses
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose
from dsac.rooms.furniture import furnished_room
from dsac.rooms.render import Room, View, develop, render_depth, render_light

DEPTH_UNIT = 0.0002  # metres per unit of the written depth: up to 13.1 m in 16 bit


def synthetic_scene(
    num_mapping: int = 200, num_query: int = 50, size: tuple[int, int] = (640, 480), seed: int = 0
) -> Scene:
    """The room as seen by a camera of 62.7° horizontal field of view; every frame is rendered when taken.

    World axes: x east, y north, z up, origin in a floor corner; the room is 5 m × 4 m × 2.7 m. Names are
    `mapping-000.jpg`, ... and `query-000.jpg`, ...; the truth is called "exact".
    """
    camera = Camera.simple(525 * size[0] / 640, size)
    room = _room_of(seed)
    noise = np.random.default_rng([seed, 1]).normal(0, 1.2, (size[1], size[0], 3)).astype(np.float32)
    shots = {
        "mapping": _mapping_walk(np.random.default_rng([seed, 2]), num_mapping),
        "query": _query_walk(np.random.default_rng([seed, 3]), num_query),
    }
    frames = {}
    for part, walk in shots.items():
        names = [f"{part}-{i:03d}.jpg" for i in range(len(walk.pose))]
        reader = _RoomReader(names, camera, walk, room, noise)
        frames[part] = Frames(names, [camera], np.zeros(len(names), np.int64), walk.pose, reader)
    names = frames["mapping"].names + frames["query"].names
    pose = Pose(
        torch.cat([walk.pose.rotation for walk in shots.values()]),
        torch.cat([walk.pose.translation for walk in shots.values()]),
    )
    exact = NamedPoses(names, pose, camera.focal_px[0].repeat(len(names)))
    return Scene("synthetic", "synthetic room", frames["mapping"], frames["query"], {"exact": exact})


def write_scene(
    scene: Scene, folder: str | Path, on_frame: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Write a synthetic scene as a plain folder that `dsac.load_scene` reads.

    JPEG images in `images`, 16-bit depth in `depth`, then the lists and last of all `poses.txt`.
    `on_frame(done, total)` is called after every frame.
    Raises: `DatasetError` when the folder cannot be written.
    """
    folder = Path(folder)
    frames = [(part, i) for part in (scene.mapping, scene.query) for i in range(len(part))]
    try:
        for part in ("images", "depth"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            for done, _ in enumerate(
                pool.map(lambda frame: _write_frame(frame[0], frame[1], folder), frames), 1
            ):
                on_frame(done, len(frames))
        (folder / "depth_scale.txt").write_text(f"{DEPTH_UNIT}\n")
        (folder / "mapping.txt").write_text("".join(f"{name}\n" for name in scene.mapping.names))
        (folder / "query.txt").write_text("".join(f"{name}\n" for name in scene.query.names))
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be written: {error.strerror or error}") from error
    write_poses(folder / "poses.txt", scene.truths["exact"])


def _write_frame(frames: Frames, index: int, folder: Path) -> None:
    name, reader = frames.names[index], frames.reader
    image = cv2.cvtColor(reader.read_image(name), cv2.COLOR_RGB2BGR)
    (folder / "images" / name).write_bytes(
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    )
    depth = np.round(reader.read_depth(name, frames.camera(index)) / DEPTH_UNIT).astype(np.uint16)
    png = cv2.imencode(".png", depth, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    (folder / "depth" / name).with_suffix(".png").write_bytes(png.tobytes())


# ---- frames --------------------------------------------------------------------------------------

_SHUTTER_STEPS = 10


@dataclass(frozen=True)
class _Shots:
    """How N photos are taken."""

    pose: Pose  # cam_from_world (N,), at the middle of the exposure
    exposure: np.ndarray  # (N,) factor
    shake: torch.Tensor  # (N, 6) motion of the camera while the shutter is open, as for `Pose.exp`


@dataclass(frozen=True)
class _RoomReader:
    """Renders frames by name; threads may share it."""

    names: list[str]
    camera: Camera
    shots: _Shots
    room: Room
    noise: np.ndarray  # (H, W, 3) in grey levels
    has_depth: bool = True

    def read_image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        i = self._index[name]
        pose, shake = self.shots.pose[i], self.shots.shake[i]
        moments = torch.linspace(-0.5, 0.5, _SHUTTER_STEPS).tolist() if shake.any() else [0.0]
        light = render_light(self.room, [self._view(Pose.exp(moment * shake) @ pose) for moment in moments])
        noise = np.roll(self.noise, (37 * i, 101 * i), (0, 1))
        return develop(light, float(self.shots.exposure[i]), noise)

    def read_depth(self, name: str, camera: Camera) -> Float32[np.ndarray, "H W"]:
        return render_depth(self.room, self._view(self.shots.pose[self._index[name]]))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def _view(self, pose: Pose) -> View:
        focal_px = float(self.camera.focal_px[0])
        center_x, center_y = self.camera.center_px.tolist()
        return View(
            pose.rotation.numpy(), pose.translation.numpy(), focal_px, (center_x, center_y), self.camera.size
        )


@lru_cache(maxsize=1)
def _room_of(seed: int) -> Room:
    return furnished_room(seed)


# ---- walks ---------------------------------------------------------------------------------------

_EXPOSURE = 1.1


def _mapping_walk(rng: Generator, count: int) -> _Shots:
    """There along the south wall and back through the middle, turning between the other three walls."""
    index = np.arange(count)
    back = index >= (count + 1) // 2
    way = np.where(back, 2 - 2 * index / count, 2 * index / count)  # from east to west and back
    sweep = 2 * np.pi * 1.5 * way
    pose = _hand_held(
        rng,
        center=np.column_stack([3.5 - 1.6 * way, np.where(back, 1.85, 1.05) + 0.15 * np.sin(sweep)]),
        height=np.where(back, 1.42, 1.56) + 0.1 * np.sin(2.3 * sweep),
        yaw=np.pi / 2 + np.where(back, 1, -1) * 0.95 * np.cos(sweep),
        pitch=-0.2 + 0.12 * np.sin(1.7 * sweep),
    )
    exposure = _EXPOSURE * (1 + 0.05 * _tremor(rng, count, 1)[:, 0])
    return _Shots(pose, exposure, torch.zeros(count, 6, dtype=torch.float64))


def _query_walk(rng: Generator, count: int) -> _Shots:
    """Between the two ways of mapping, other heights and angles; a quarter blurred, a fifth badly exposed."""
    index = np.arange(count)
    way = (index + 0.5) / max(count, 1)
    sweep = 2 * np.pi * 2.3 * way
    pose = _hand_held(
        rng,
        center=np.column_stack([3.2 - 1.0 * way, 1.45 + 0.2 * np.sin(2.2 * sweep)]),
        height=1.45 + 0.1 * np.sin(1.4 * sweep + 1),
        yaw=np.pi / 2 + 0.72 * np.sin(sweep + 0.4),
        pitch=-0.19 + 0.09 * np.sin(2.6 * sweep + 2),
    )
    shake = rng.normal(0, 1, (count, 6)) * np.repeat([0.005, 0.004], 3) * (index % 4 == 2)[:, None]
    badly = rng.choice([0.45, 0.6, 1.7, 2.1], count)
    exposure = _EXPOSURE * np.where(index % 5 == 3, badly, rng.uniform(0.9, 1.1, count))
    return _Shots(pose, exposure, torch.from_numpy(shake))


def _hand_held(
    rng: Generator, center: np.ndarray, height: np.ndarray, yaw: np.ndarray, pitch: np.ndarray
) -> Pose:
    """`cam_from_world` of a camera held at (center, height), looking towards yaw and up by pitch."""
    count = len(yaw)
    tremor = _tremor(rng, count, 6)
    position = np.column_stack([center, height]) + 0.015 * tremor[:, :3]
    yaw, pitch, roll = yaw + 0.02 * tremor[:, 3], pitch + 0.02 * tremor[:, 4], 0.04 * tremor[:, 5]
    forward = np.column_stack([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    level = np.column_stack([np.sin(yaw), -np.cos(yaw), np.zeros(count)])
    down = np.cross(forward, level)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    rotation = torch.from_numpy(np.stack([c * level + s * down, c * down - s * level, forward], axis=1))
    return Pose(rotation, -(rotation @ torch.from_numpy(position)[..., None])[..., 0])


def _tremor(rng: Generator, count: int, columns: int) -> np.ndarray:
    """Smooth noise (count, columns) of about unit size: what a hand does in `count` frames."""
    period = rng.uniform([6, 15, 40], [12, 30, 80], (columns, 3))
    phase = np.arange(count)[:, None, None] / period + rng.random((columns, 3))
    return np.sin(2 * np.pi * phase).sum(2) / np.sqrt(1.5)
