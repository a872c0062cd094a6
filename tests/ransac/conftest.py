"""Scenes of known pose for the solver's tests."""

from __future__ import annotations

import pytest
import torch

from dsac.geometry import Camera, Pose
from dsac.ransac import Correspondences

torch.set_num_threads(1)


@pytest.fixture
def make_scene():
    """A factory of correspondences and their truth: a wavy wall seen by a camera off centre, fx != fy."""
    return _make_scene


def _make_scene(
    batch: int = 1,
    grid: tuple[int, int] = (12, 20),
    inlier_ratio: float = 0.6,
    noise_m: float = 0.01,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    depth: bool = False,
) -> tuple[Correspondences, Pose]:
    generator = torch.Generator().manual_seed(seed)
    height, width = grid
    size = (640, 480)
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.stack([(u + 0.5) * size[0] / width, (v + 0.5) * size[1] / height], dim=-1)
    pixels = cells.reshape(1, -1, 2).expand(batch, -1, 2).to(dtype)
    camera = Camera.from_params("PINHOLE", [520.0, 540.0, 310.0, 250.0], size)
    camera = Camera(camera.focal_px.expand(batch, 2), camera.center_px.expand(batch, 2), size).to(dtype)
    z = 2 + torch.sin(pixels[..., 0] / 97) + 0.5 * torch.cos(pixels[..., 1] / 71)
    points_cam = camera.unproject(pixels) * z[..., None]
    cam_from_world = Pose.exp(torch.randn(batch, 6, generator=generator, dtype=dtype))
    world_from_cam = cam_from_world.inverse()
    scene_points = world_from_cam @ points_cam
    low, high = scene_points.amin(1, keepdim=True), scene_points.amax(1, keepdim=True)
    noise = noise_m * torch.randn(scene_points.shape, generator=generator, dtype=dtype)
    clutter = low + (high - low) * torch.rand(scene_points.shape, generator=generator, dtype=dtype)
    wrong = torch.rand(batch, height * width, 1, generator=generator) >= inlier_ratio
    scene_points = torch.where(wrong, clutter, scene_points + noise)
    return (
        Correspondences(pixels, scene_points, camera, camera_points=points_cam if depth else None, grid=grid),
        cam_from_world,
    )
