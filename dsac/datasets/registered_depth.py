"""Depth that is registered to a photo, looked up where pixels lie.

A depth image is nearest neighbours, never a mean: between a chair and the wall behind it there is nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from dsac.geometry import Camera

_MAX_STEP = 0.05  # of the depth: over a 3×3 window more than this is an edge, whose depth is anyone's


def depth_at(
    depth: Float32[np.ndarray, "H W"], pixels: Float[np.ndarray, "*N 2"], inside: Bool[np.ndarray, "*N"]
) -> Float[np.ndarray, "*N"]:
    """Depth (metres) at each pixel, the nearest; NaN where it is unknown, not `inside` or at a depth edge."""
    height, width = depth.shape
    column = np.clip(np.nan_to_num(pixels[..., 0]), 0, width - 1).astype(int)
    row = np.clip(np.nan_to_num(pixels[..., 1]), 0, height - 1).astype(int)
    near, far = np.inf, 0.0
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            there = depth[(row + down).clip(0, height - 1), (column + right).clip(0, width - 1)]
            near = np.minimum(near, np.where(there > 0, there, np.inf))
            far = np.maximum(far, there)
    found = depth[row, column]
    flat = (found > 0) & (far - near <= np.float32(_MAX_STEP) * found)
    return np.where(flat & inside, found, np.nan).astype(np.float64)


def camera_points(
    depth: Float[Tensor, "B H W"],  # metres along the optical axis, 0 where unknown
    camera: Camera,  # of the photos that it is registered to
    pixels: Float[Tensor, "B N 2"],  # of an ideal camera in the same place, on any device
    pinhole: Camera,  # that one, batch (B,)
) -> Float[Tensor, "B N 3"]:
    """The points that these pixels show, metres, in the camera's frame; NaN where depth is not known."""
    rays = pinhole.to("cpu", torch.float64).unproject(pixels.to("cpu", torch.float64))
    in_photos = camera.to("cpu", torch.float64).project(rays)
    inside = ((in_photos >= 0) & (in_photos < torch.tensor(camera.size))).all(-1)
    each = zip(depth.to("cpu", torch.float32), in_photos, inside, strict=True)
    depths = np.stack([depth_at(*(part.numpy() for part in of_photo)) for of_photo in each])
    return (rays * torch.from_numpy(depths)[..., None]).to(pixels)
