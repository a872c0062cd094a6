"""A plain folder, as `dsac.datasets.formats.folder` reads it: `images`, `poses.txt`, `cameras.txt`, `depth`."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path

from dsac.datasets.frame import NamedPoses
from dsac.datasets.poses_file import write_poses
from dsac.datasets.writers.outgoing import Outgoing, camera_line, write_depth_scale, write_lines, write_split
from dsac.geometry import Camera

DEPTH_UNIT = None
ALWAYS_METRIC = True


def says_size(cameras: Sequence[Camera]) -> bool:
    return len(cameras) == 1  # of several it has the focal lengths alone


def check(cameras: Sequence[Camera]) -> None:
    focals = {camera.focal_px[0].item() for camera in cameras}
    if len(cameras) > 1 and not (all(map(_is_simple, cameras)) and len(focals) == len(cameras)):
        raise ValueError(
            f"plain has one camera for all images, or pinholes of different focal lengths, here are "
            f"{len(cameras)} others; colmap and nerfstudio have any"
        )


def spelled(name: str) -> str:
    return name


def image_file(out: Outgoing, row: int) -> str:
    return f"images/{out.names[row]}"


def depth_file(out: Outgoing, row: int) -> str:
    return f"depth/{posixpath.splitext(out.names[row])[0]}.png"


def write(out: Outgoing, folder: Path) -> None:
    focal_px = None
    if len(out.cameras) == 1:
        write_lines(folder / "cameras.txt", [camera_line(1, out.cameras[0])])
    else:
        focal_px = out.cam_from_world.translation.new_tensor(
            [out.camera(row).focal_px[0].item() for row in range(len(out.names))]
        )
    write_poses(folder / "poses.txt", NamedPoses(out.names, out.cam_from_world, focal_px))
    write_depth_scale(folder, out)
    write_split(folder, out.names, out.num_mapping)


def _is_simple(camera: Camera) -> bool:
    """Whether the focal length says all."""
    middle = [side / 2 for side in camera.size]
    focal_x, focal_y = camera.focal_px.tolist()
    return camera.is_pinhole and focal_x == focal_y and camera.center_px.tolist() == middle
