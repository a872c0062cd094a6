"""A COLMAP model, `sparse/0`, beside `images`; and `depth`, which COLMAP does not know.

Where there is depth, `points3D.txt` has some points of every image, each seen by that image alone: enough to
tell the scale of depth, and for programs that begin with points. Without depth it is empty.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from struct import pack
from typing import NamedTuple

import numpy as np
import torch

from dsac.datasets.image import read_depth, read_image
from dsac.datasets.writers.outgoing import (
    Outgoing,
    as_text,
    camera_line,
    write_depth_scale,
    write_lines,
    write_split,
)
from dsac.datasets.writers.plain import depth_file, image_file, spelled
from dsac.geometry import Camera
from dsac.geometry.camera_models import MODELS

__all__ = ["check", "depth_file", "image_file", "says_size", "spelled", "write"]

DEPTH_UNIT = None
ALWAYS_METRIC = False
_POINTS = 50_000  # about as many


class SeenPoint(NamedTuple):
    """A scene point with where the one image shows it."""

    xyz: tuple[float, float, float]
    rgb: tuple[int, int, int]
    row: int  # of the image
    pixel: tuple[float, float]


def says_size(cameras: Sequence[Camera]) -> bool:
    return True


def check(cameras: Sequence[Camera]) -> None:
    for camera in cameras:
        _of_colmap(camera)


def write(out: Outgoing, folder: Path) -> None:
    write_model(folder / "sparse" / "0", out, _points_of_depth(out, folder))
    write_depth_scale(folder, out)
    write_split(folder, out.names, out.num_mapping)


def write_model(folder: Path, out: Outgoing, points: Sequence[SeenPoint]) -> None:
    """`cameras`, `images` and `points3D`: texts; binary where names hold spaces, which COLMAP's texts cannot.

    Raises: `OSError`; `ValueError` for a camera that COLMAP lacks.
    """
    cameras = [_of_colmap(camera) for camera in out.cameras]
    quaternions, translations = out.cam_from_world.quaternion_wxyz, out.cam_from_world.translation
    poses = torch.cat([quaternions, translations], dim=-1).tolist()
    shown: list[list[int]] = [[] for _ in out.names]  # numbers of the points in each image
    for number, point in enumerate(points):
        shown[point.row].append(number)
    place = {number: i for numbers in shown for i, number in enumerate(numbers)}  # of a point in its image
    model = _Model(out, cameras, poses, points, shown, place)
    folder.mkdir(parents=True, exist_ok=True)
    (_write_binary if any(re.search(r"\s", name) for name in out.names) else _write_texts)(folder, model)


class _Model(NamedTuple):
    """All numbers count from 0; those in COLMAP's files from 1."""

    out: Outgoing
    cameras: list[Camera]
    poses: list[list[float]]  # qw qx qy qz tx ty tz
    points: Sequence[SeenPoint]
    shown: list[list[int]]  # points of each image
    place: dict[int, int]  # of each point among its image's


def _write_texts(folder: Path, model: _Model) -> None:
    cameras = [camera_line(i, camera) for i, camera in enumerate(model.cameras, 1)]
    write_lines(folder / "cameras.txt", ["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]", *cameras])
    images = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then POINTS2D[] (X Y POINT3D_ID)"]
    for row, name in enumerate(model.out.names):
        images.append(f"{row + 1} {as_text(model.poses[row])} {model.out.camera_index[row] + 1} {name}")
        images.append(" ".join(f"{as_text(model.points[k].pixel)} {k + 1}" for k in model.shown[row]))
    write_lines(folder / "images.txt", images)
    points = ["# POINT3D_ID X Y Z R G B ERROR TRACK[] (IMAGE_ID POINT2D_IDX)"]
    for k, point in enumerate(model.points):
        rgb = " ".join(map(str, point.rgb))
        points.append(f"{k + 1} {as_text(point.xyz)} {rgb} 0 {point.row + 1} {model.place[k]}")
    write_lines(folder / "points3D.txt", points)


def _write_binary(folder: Path, model: _Model) -> None:
    data = [pack("<Q", len(model.cameras))]
    for i, camera in enumerate(model.cameras, 1):
        params = camera.params.tolist()
        data.append(pack("<IiQQ", i, MODELS[camera.model].colmap_id, *camera.size))
        data.append(pack(f"<{len(params)}d", *params))
    (folder / "cameras.bin").write_bytes(b"".join(data))
    data = [pack("<Q", len(model.out.names))]
    for row, name in enumerate(model.out.names):
        data.append(pack("<I7dI", row + 1, *model.poses[row], model.out.camera_index[row] + 1))
        data.append(name.encode() + b"\0" + pack("<Q", len(model.shown[row])))
        data += [pack("<2dQ", *model.points[k].pixel, k + 1) for k in model.shown[row]]
    (folder / "images.bin").write_bytes(b"".join(data))
    data = [pack("<Q", len(model.points))]
    for k, point in enumerate(model.points):
        data.append(pack("<Q3d3BdQ2I", k + 1, *point.xyz, *point.rgb, 0.0, 1, point.row + 1, model.place[k]))
    (folder / "points3D.bin").write_bytes(b"".join(data))


def _of_colmap(camera: Camera) -> Camera:
    """The camera in a model of COLMAP's. Raises: `ValueError` where it has none."""
    if MODELS[camera.model].colmap_id is not None:
        return camera
    of = dict(zip(MODELS[camera.model].distortion, camera.params[4:].tolist(), strict=True))
    if of["k4"]:  # k3 is the same in FULL_OPENCV, whose k4 divides
        raise ValueError(
            f"colmap has no radial distortion up to k4, as {camera.to_text()}; nerfstudio, plain and tum have"
        )
    params = [
        *camera.params[:4].tolist(),
        *(of[name] for name in ("k1", "k2", "p1", "p2", "k3")),
        0.0,
        0.0,
        0.0,
    ]
    return Camera.from_params("FULL_OPENCV", params, camera.size)


def _points_of_depth(out: Outgoing, folder: Path) -> list[SeenPoint]:
    """Of a grid of pixels of every image."""
    points: list[SeenPoint] = []
    for row in sorted(out.with_depth):
        camera = out.camera(row)
        depth = read_depth(folder / depth_file(out, row)).astype(np.float64) * out.depth_unit
        image = read_image(folder / image_file(out, row), camera.size)
        step = max(1, math.isqrt(camera.size[0] * camera.size[1] * len(out.with_depth) // _POINTS))
        y, x = (
            grid.ravel()
            for grid in np.mgrid[step // 2 : depth.shape[0] : step, step // 2 : depth.shape[1] : step]
        )
        pixels = np.stack([x, y], axis=-1) + 0.5
        rays = camera.unproject(torch.from_numpy(pixels)).numpy()
        known = (depth[y, x] > 0) & np.isfinite(rays).all(axis=1)
        points_cam = torch.from_numpy(rays[known] * depth[y, x][known, None])
        xyz = (out.cam_from_world[row].inverse() @ points_cam).tolist()
        of_row = zip(xyz, image[y, x][known].tolist(), pixels[known].tolist(), strict=True)
        points += [SeenPoint(tuple(point), tuple(rgb), row, tuple(pixel)) for point, rgb, pixel in of_row]
    return points
