"""TUM RGB-D: `rgb`, `depth`, `rgb.txt`, `depth.txt`, `groundtruth.txt`, and `cameras.txt`, which TUM lacks.

Poses are world from camera, `timestamp tx ty tz qx qy qz qw`; depth is in 1/5000 m. Times are those in the
images' names, where all are named by one, else thirty to a second.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dsac.datasets.formats.tum import METRES_PER_UNIT
from dsac.datasets.trajectory import seconds
from dsac.datasets.writers.outgoing import (
    Outgoing,
    as_text,
    camera_line,
    write_depth_scale,
    write_lines,
    write_split,
)
from dsac.datasets.writers.plain import depth_file
from dsac.geometry import Camera, Pose

__all__ = ["check", "depth_file", "image_file", "says_size", "spelled", "write"]

DEPTH_UNIT = METRES_PER_UNIT
ALWAYS_METRIC = True
_PER_SECOND = 30
_SINCE_1970 = 1e9  # seconds: numbers below it that are whole are no times, they count


def says_size(cameras: Sequence[Camera]) -> bool:
    return True


def check(cameras: Sequence[Camera]) -> None:
    if len(cameras) > 1:
        raise ValueError(
            f"tum has one camera for all images, here are {len(cameras)}; colmap and nerfstudio have any number"
        )


def spelled(name: str) -> str:
    return re.sub(r"[#,;]|[^\S ]|\s(?=\s)", "_", name)  # what separates words there


def image_file(out: Outgoing, row: int) -> str:
    return f"rgb/{out.names[row]}"


def write(out: Outgoing, folder: Path) -> None:
    times = times_of(out.names)
    images = [image_file(out, row) for row in range(len(out.names))]
    write_lines(folder / "rgb.txt", ["# timestamp filename", *map(" ".join, zip(times, images, strict=True))])
    if out.with_depth:
        depth = [f"{times[row]} {depth_file(out, row)}" for row in sorted(out.with_depth)]
        write_lines(folder / "depth.txt", ["# timestamp filename", *depth])
    write_lines(folder / "groundtruth.txt", trajectory(times, out.cam_from_world))
    write_lines(folder / "cameras.txt", [camera_line(1, out.cameras[0])])
    write_depth_scale(folder, out, usual=METRES_PER_UNIT)
    write_split(folder, images, out.num_mapping)


def trajectory(times: Sequence[str], cam_from_world: Pose) -> list[str]:
    """The lines of a TUM trajectory."""
    poses = cam_from_world.inverse()
    numbers = torch.cat([poses.translation, poses.quaternion_wxyz[:, [1, 2, 3, 0]]], dim=-1).tolist()
    lines = [f"{time} {as_text(values)}" for time, values in zip(times, numbers, strict=True)]
    return ["# timestamp tx ty tz qx qy qz qw", *lines]


def times_of(names: Sequence[str]) -> list[str]:
    """Seconds of each image, no two alike."""
    stems = [posixpath.splitext(posixpath.basename(name))[0] for name in names]
    if all(re.fullmatch(r"\d+(\.\d+)?", stem) for stem in stems):
        times = seconds(np.array(stems, dtype=np.float64))
        written = [f"{time:.6f}" for time in times]
        if len(set(written)) == len(names) and (
            times.min() >= _SINCE_1970 or all("." in stem for stem in stems)
        ):
            return written
    return [f"{row / _PER_SECOND:.6f}" for row in range(len(names))]
