"""The layout of DSAC* and ACE: `train` and `test`, each with `rgb`, `poses`, `calibration` and `depth`.

Files are numbered. Poses are 4x4, world from camera; a calibration is the focal length where the principal
point is the middle, else the 3x3 matrix, in pixels from the image's corner; depth is in millimetres.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path

from dsac.datasets.writers.outgoing import Outgoing, as_text, write_depth_scale, write_lines
from dsac.geometry import Camera

DEPTH_UNIT = 0.001
ALWAYS_METRIC = True


def says_size(cameras: Sequence[Camera]) -> bool:
    return False


def check(cameras: Sequence[Camera]) -> None:
    for camera in cameras:
        if not camera.is_pinhole:
            raise ValueError(
                f"ace has pinhole cameras only, here is {camera.to_text()}; colmap and nerfstudio have any"
            )


def spelled(name: str) -> str:
    return name


def image_file(out: Outgoing, row: int) -> str:
    ending = posixpath.splitext(out.names[row])[1]
    return f"{_part(out, row)}/rgb/{row:06d}{ending}"


def depth_file(out: Outgoing, row: int) -> str:
    return f"{_part(out, row)}/depth/{row:06d}.png"


def write(out: Outgoing, folder: Path) -> None:
    for part in ("rgb", "poses", "calibration"):
        (folder / "train" / part).mkdir(parents=True, exist_ok=True)  # even if all frames are for queries
    matrices = out.cam_from_world.inverse().matrix.tolist()
    for row, matrix in enumerate(matrices):
        part = folder / _part(out, row)
        write_lines(part / "poses" / f"{row:06d}.txt", map(as_text, matrix))
        write_lines(part / "calibration" / f"{row:06d}.txt", _calibration(out.camera(row)))
    write_depth_scale(folder, out, usual=DEPTH_UNIT)


def _part(out: Outgoing, row: int) -> str:
    return "train" if row < out.num_mapping else "test"


def _calibration(camera: Camera) -> list[str]:
    (focal_x, focal_y), (center_x, center_y) = camera.focal_px.tolist(), camera.center_px.tolist()
    if focal_x == focal_y and [center_x, center_y] == [side / 2 for side in camera.size]:
        return [as_text([focal_x])]
    return [as_text([focal_x, 0.0, center_x]), as_text([0.0, focal_y, center_y]), "0 0 1"]
