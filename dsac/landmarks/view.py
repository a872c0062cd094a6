"""A photo as landmarks are searched for in it: grey, undistorted, and at the size that patches were cut at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from dsac.geometry import Camera

SHORT_SIDE_PX = 480  # of the images that patches are cut from and searched in


@dataclass(frozen=True, eq=False)
class GreyView:
    """The grey image and the pinhole camera that would have taken it, on the CPU."""

    pixels: UInt8[np.ndarray, "H W"]
    camera: Camera  # one, of that size

    @staticmethod
    def of(image: Float[Tensor, "3 h w"], camera: Camera, zoom: float = 1.0) -> GreyView:
        """Of a photo, RGB in [0, 1] on any device, by a lens that shows all so much larger than mapping's."""
        camera = camera.to("cpu")
        scale = SHORT_SIDE_PX / (zoom * min(camera.size))
        pinhole = camera.rescale((round(camera.size[0] * scale), round(camera.size[1] * scale))).pinhole
        rgb = np.ascontiguousarray(image.permute(1, 2, 0).to("cpu", torch.float32).numpy())
        grey = cv2.convertScaleAbs(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), alpha=255)
        if camera.size != pinhole.size:
            smaller = pinhole.size[0] < camera.size[0]
            grey = cv2.resize(grey, pinhole.size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        if not camera.is_pinhole:
            maps = _undistortion(camera.model, camera.size, tuple(camera.params.tolist()), pinhole.size)
            grey = cv2.remap(grey, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)  # type: ignore
        return GreyView(grey, pinhole)


@lru_cache(maxsize=16)
def _undistortion(
    model: str, size: tuple[int, int], params: tuple[float, ...], working: tuple[int, int]
) -> Float32[np.ndarray, "h w 2"]:
    """Where each pixel of the undistorted image lies in the distorted one, as OpenCV counts."""
    camera = Camera.from_params(model, params, size).rescale(working)
    columns, rows = torch.arange(working[0]) + 0.5, torch.arange(working[1]) + 0.5
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).double()
    rays = camera.pinhole.unproject(pixels.reshape(-1, 2))
    return camera.project(rays).reshape(*pixels.shape).float().numpy() - 0.5
