"""Depth carried from one camera to another, near before far."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

from dsac.kernels.jit import kernel


def splat(
    depth: Float32[np.ndarray, "H W"],
    focal_px: Float[np.ndarray, "2"],
    center_px: Float[np.ndarray, "2"],
    rotation: Float[np.ndarray, "3 3"],
    translation: Float[np.ndarray, "3"],
) -> Float32[np.ndarray, "H W"]:
    """The depth (metres, 0 = unknown) that the same pinhole camera sees after a motion.

    Each pixel covers the four about the place that it comes to. Raises: `ValueError` for other shapes.
    """
    shapes = [depth.ndim, focal_px.shape, center_px.shape, rotation.shape, translation.shape]
    if shapes != [2, (2,), (2,), (3, 3), (3,)]:
        raise ValueError(f"splat: expected (H, W), (2,), (2,), (3, 3), (3,), got {shapes}")
    motion = np.concatenate([rotation, translation[:, None]], axis=1).astype(np.float64)
    lens = np.array([*focal_px, *center_px], np.float64)
    return _splat(np.ascontiguousarray(depth, np.float32), lens, motion)


@kernel
def _splat(depth, lens, motion):
    height, width = depth.shape
    there = np.zeros((height, width), np.float32)
    for row in range(height):
        for column in range(width):
            z = depth[row, column]
            if not z > 0:
                continue
            x = (column + 0.5 - lens[2]) / lens[0] * z
            y = (row + 0.5 - lens[3]) / lens[1] * z
            depth_there = motion[2, 0] * x + motion[2, 1] * y + motion[2, 2] * z + motion[2, 3]
            if not depth_there > 0:
                continue
            u = (motion[0, 0] * x + motion[0, 1] * y + motion[0, 2] * z + motion[0, 3]) / depth_there
            v = (motion[1, 0] * x + motion[1, 1] * y + motion[1, 2] * z + motion[1, 3]) / depth_there
            left = np.floor(u * lens[0] + lens[2] - 0.5)
            top = np.floor(v * lens[1] + lens[3] - 0.5)
            if not (left >= -1 and top >= -1 and left < width and top < height):
                continue
            for i in range(max(0, int(top)), min(height, int(top) + 2)):
                for j in range(max(0, int(left)), min(width, int(left) + 2)):
                    if there[i, j] == 0 or depth_there < there[i, j]:
                        there[i, j] = depth_there
    return there
