"""`transforms.json` beside `images` and `depth`, as nerfstudio and instant-ngp read it.

`transform_matrix` is world from camera with OpenGL's camera axes (x right, y up, z backward); intrinsics stand
at the top, or in each frame where cameras differ, in pixels from the image's corner. `train_filenames` are the
mapping frames, `val_filenames` and `test_filenames` both the query frames: nerfstudio wants all three or none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dsac.datasets.posed_files import OPENGL_AXES
from dsac.datasets.writers.outgoing import Outgoing, write_lines
from dsac.datasets.writers.plain import depth_file, image_file, spelled
from dsac.geometry import Camera
from dsac.geometry.camera_models import MODELS, Fisheye, with_two_focals

__all__ = ["check", "depth_file", "image_file", "says_size", "spelled", "write"]

DEPTH_UNIT = 0.001
ALWAYS_METRIC = False


def says_size(cameras: Sequence[Camera]) -> bool:
    return True


def check(cameras: Sequence[Camera]) -> None:
    pass


def write(out: Outgoing, folder: Path) -> None:
    write_lines(
        folder / "transforms.json", [json.dumps(transforms(out, "images/"), indent=1, ensure_ascii=False)]
    )


def transforms(out: Outgoing, image_folder: str) -> dict[str, Any]:
    """What the file holds; `image_folder` stands before the names."""
    cameras = [_intrinsics(camera) for camera in out.cameras]
    poses = out.cam_from_world.inverse()
    matrices = poses.matrix * torch.tensor([*OPENGL_AXES, 1.0], dtype=torch.float64)  # the columns are the axes
    frames = []
    for row, matrix in enumerate(matrices.tolist()):
        frame: dict[str, Any] = {"file_path": image_folder + out.names[row], "transform_matrix": matrix}
        if row in out.with_depth:
            frame["depth_file_path"] = depth_file(out, row)
        frames.append(frame if len(cameras) == 1 else frame | cameras[out.camera_index[row]])
    top: dict[str, Any] = cameras[0] if len(cameras) == 1 else {}
    if out.depth_unit:
        top["integer_depth_scale"] = out.depth_unit
    if out.num_mapping < len(out.names):
        files = [frame["file_path"] for frame in frames]
        query = files[out.num_mapping :]
        top |= {"train_filenames": files[: out.num_mapping], "val_filenames": query, "test_filenames": query}
    return top | {"frames": frames}


def _intrinsics(camera: Camera) -> dict[str, Any]:
    """nerfstudio counts coefficients by their names, whichever perspective model is meant."""
    model, distortion = with_two_focals(MODELS[camera.model], camera.distortion)
    name, is_fisheye = model.name, isinstance(model, Fisheye)
    if is_fisheye:
        name = "OPENCV_FISHEYE"  # of which the others lack some coefficients
    elif name in ("PINHOLE", "BROWN_CONRADY"):
        name = "OPENCV"
    (focal_x, focal_y), (center_x, center_y) = camera.focal_px.tolist(), camera.center_px.tolist()
    values = {"fl_x": focal_x, "fl_y": focal_y, "cx": center_x, "cy": center_y}
    coefficients = {} if distortion is None else dict(zip(model.distortion, distortion.tolist(), strict=True))
    size = {"w": camera.size[0], "h": camera.size[1]}
    return {"camera_model": name} | ({"is_fisheye": True} if is_fisheye else {}) | size | values | coefficients
