"""Augmented views: what a camera turned, zoomed and exposed differently at the same place would have seen.

A view is a pinhole camera at the frame's centre with its own focal length and a roll about the optical axis
(a homography of the image, exact for any scene). Distorted photos become pinhole views on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dsac.datasets import Frame
from dsac.datasets.registered_depth import depth_at
from dsac.geometry import Camera, Pose
from dsac.networks.encoder import cell_centers


@dataclass(frozen=True)
class Augmentation:
    """How far views may differ from the frame they are made of."""

    min_scale: float = 0.6
    max_scale: float = 1.7
    max_roll_deg: float = 30.0
    max_brightness: float = 0.25  # gain 1 ± this, offset ± half of it
    max_gamma: float = 1.4  # exponent between 1/this and this
    max_blur_px: float = 1.2  # standard deviation of a Gaussian, in a third of the views


@dataclass(frozen=True)
class View:
    """One augmented view, at the map's working size."""

    image: Float[Tensor, "3 H W"]
    camera: Camera  # pinhole
    cam_from_world: Pose  # batch (), float64
    inside: Float[Tensor, "h w"]  # 1 where the cell shows the photo, 0 where it lies beside it
    scene_points: Float[Tensor, "h w 3"]  # of each cell's centre, metres; NaN where unknown


def plain_view(frame: Frame, size: tuple[int, int], stride: int) -> View:
    """The frame itself at the working size, without its distortion."""
    camera = frame.camera.rescale(size).pinhole
    return _render(frame, camera, Pose.identity(dtype=torch.float64), stride)


def random_view(
    frame: Frame, size: tuple[int, int], stride: int, limits: Augmentation, rng: np.random.Generator
) -> View:
    """A view with random scale (log-uniform), roll, brightness, gamma and blur."""
    scale = float(np.exp(rng.uniform(np.log(limits.min_scale), np.log(limits.max_scale))))
    roll = np.deg2rad(rng.uniform(-limits.max_roll_deg, limits.max_roll_deg))
    working = frame.camera.rescale(size)
    middle = torch.tensor([size[0] / 2, size[1] / 2], dtype=torch.float64)
    camera = Camera(working.focal_px * scale, middle, size)
    view_from_cam = Pose.exp(torch.tensor([0.0, 0.0, roll, 0.0, 0.0, 0.0], dtype=torch.float64))
    view = _render(frame, camera, view_from_cam, stride)
    image = _expose(view.image.permute(1, 2, 0).numpy(), limits, rng)
    return replace(view, image=torch.from_numpy(image).permute(2, 0, 1))


def _render(frame: Frame, camera: Camera, view_from_cam: Pose, stride: int) -> View:
    """Resample the frame as `camera` sees it after the rotation `view_from_cam`."""
    assert frame.cam_from_world is not None
    source, source_camera = _shrink(frame, float(camera.focal_px.mean()))
    size = camera.size
    # The map from view to photo is smooth: exact at the cells (one more on each side), bilinear between.
    padded = cell_centers((size[0] + 2 * stride, size[1] + 2 * stride), stride) - stride
    rays = camera.unproject(padded.reshape(-1, 2)) @ view_from_cam.rotation  # = cam_from_view @ rays
    pixels = source_camera.project(rays).reshape(*padded.shape)
    fine = cv2.resize(
        pixels.float().numpy() - 0.5,
        (size[0] + 2 * stride, size[1] + 2 * stride),
        interpolation=cv2.INTER_LINEAR,
    )[stride:-stride, stride:-stride]
    image = cv2.remap(source, fine[..., 0], fine[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)

    cells = pixels[1:-1, 1:-1]
    width, height = source_camera.size
    rays_cells = rays.reshape(*padded.shape[:2], 3)[1:-1, 1:-1]
    # strong distortion turns back beyond its domain: a ray may land in the photo where another one does
    seen = source_camera.unproject(cells.reshape(-1, 2)).reshape(rays_cells.shape)
    inside = (seen - rays_cells / rays_cells[..., 2:]).norm(dim=-1) < 1e-3
    inside &= (cells > 0).all(-1) & (cells[..., 0] < width) & (cells[..., 1] < height)
    if frame.depth is None:
        points = torch.full_like(rays_cells, torch.nan)
    else:
        to_full = torch.tensor(frame.camera.size, dtype=torch.float64) / torch.tensor(source_camera.size)
        depth = depth_at(frame.depth.numpy(), (cells * to_full).numpy(), inside.numpy())
        points_cam = rays_cells / rays_cells[..., 2:] * torch.from_numpy(depth)[..., None]
        points = frame.cam_from_world.inverse() @ points_cam
    return View(
        torch.from_numpy(image).permute(2, 0, 1),
        camera,
        view_from_cam @ frame.cam_from_world,
        inside.float(),
        points.float(),
    )


def _shrink(frame: Frame, focal_px: float) -> tuple[np.ndarray, Camera]:
    """The photo made smaller by area averaging when the view needs less resolution, against aliasing."""
    image = frame.image.permute(1, 2, 0).numpy()
    ratio = focal_px / float(frame.camera.focal_px.mean())
    if ratio > 0.75:
        return image, frame.camera
    width, height = frame.camera.size
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), frame.camera.rescale(size)


def _expose(image: np.ndarray, limits: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Another exposure, colour balance, gamma and focus of the same picture."""
    gain = 1 + rng.uniform(-limits.max_brightness, limits.max_brightness)
    balance = 1 + rng.uniform(-limits.max_brightness, limits.max_brightness, size=3) / 3
    offset = rng.uniform(-limits.max_brightness, limits.max_brightness) / 2
    gamma = np.exp(rng.uniform(-1, 1) * np.log(limits.max_gamma))
    levels = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    table = np.clip((levels * gain * balance + offset), 0, 1) ** gamma
    index = np.clip(image * 255, 0, 255).astype(np.uint8)
    out = cv2.LUT(index, table.astype(np.float32)[None])  # lets other threads run, unlike numpy's
    if limits.max_blur_px > 0 and rng.random() < 1 / 3:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.3, limits.max_blur_px))
    return out
