"""A photo as landmarks are searched for in it: grey, undistorted, and at the size that patches were cut at.

Colours tell places apart where shapes do not: they are kept for blocks of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from dsac.geometry import Camera

SHORT_SIDE_PX = 480  # of the images that patches are cut from and searched in
_BLOCK = 4  # pixels wide, of one colour


@dataclass(frozen=True, eq=False)
class GreyView:
    """The grey image and the pinhole camera that would have taken it, on the CPU."""

    pixels: UInt8[np.ndarray, "H W"]
    camera: Camera  # one, of that size
    blocks: UInt8[np.ndarray, "h w 3"] | None = None  # RGB, means over blocks of pixels

    @staticmethod
    def of(image: Float[Tensor, "3 h w"], camera: Camera, zoom: float = 1.0, colored: bool = False) -> GreyView:
        """Of a photo, RGB in [0, 1] on any device, by a lens that shows all so much larger than mapping's."""
        camera = camera.to("cpu")
        scale = SHORT_SIDE_PX / (zoom * min(camera.size))
        pinhole = camera.rescale((round(camera.size[0] * scale), round(camera.size[1] * scale))).pinhole
        rgb = np.ascontiguousarray(image.permute(1, 2, 0).to("cpu", torch.float32).numpy())
        grey = cv2.convertScaleAbs(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), alpha=255)
        view = GreyView(_as_seen(grey, camera, pinhole.size), pinhole)
        if not colored:
            return view
        small = max(1, pinhole.size[0] // _BLOCK), max(1, pinhole.size[1] // _BLOCK)
        return replace(view, blocks=_as_seen(cv2.convertScaleAbs(rgb, alpha=255), camera, small))

    def colors(self, pixels: Float[np.ndarray, "M 2"]) -> UInt8[np.ndarray, "M 3"]:
        """RGB around some pixels. Raises: `ValueError` for a view without colours."""
        if self.blocks is None:
            raise ValueError("colors: expected a view with colours")
        height, width = self.blocks.shape[:2]
        column, row = (pixels / self.camera.size * (width, height)).astype(int).T
        return self.blocks[row.clip(0, height - 1), column.clip(0, width - 1)]


def _as_seen(photo: UInt8[np.ndarray, "H W *C"], camera: Camera, size: tuple[int, int]) -> np.ndarray:
    """A photo of a camera by a pinhole camera that shows the same in an image of (width, height)."""
    if camera.size != size:
        smaller = size[0] < camera.size[0]
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    if not camera.is_pinhole:
        maps = _undistortion(camera.model, camera.size, tuple(camera.params.tolist()), size)
        photo = cv2.remap(photo, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)  # type: ignore
    return photo


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
