"""KITTI's poses: twelve numbers a line, the upper rows of a 4x4 matrix, world from camera, without names."""

from __future__ import annotations

from dsac.datasets.writers.outgoing import as_text
from dsac.geometry import Pose


def trajectory(cam_from_world: Pose) -> list[str]:
    return [as_text(matrix) for matrix in cam_from_world.inverse().matrix[:, :3].flatten(1).tolist()]
