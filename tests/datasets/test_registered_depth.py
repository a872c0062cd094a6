"""Depth at pixels: the nearest one, through any lens, never something between two surfaces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ball_world import photograph

from dsac.datasets.registered_depth import camera_points, depth_at
from dsac.geometry import Camera

LENSES = {
    "off centre": Camera.from_params("PINHOLE", [300, 270, 90, 130], (256, 192)),
    "opencv": Camera.from_params("OPENCV", [280, 290, 140, 90, -0.2, 0.05, 0.003, -0.002], (256, 192)),
    "fisheye": Camera.from_params("OPENCV_FISHEYE", [180, 185, 150, 90, 0.03, -0.01, 0, 0], (300, 200)),
}


@pytest.mark.parametrize("name", LENSES)
def test_camera_points_are_those_that_the_photo_shows(name: str) -> None:
    """Pixels are of the ideal camera at half the size, depth is of the distorted photo."""
    photo = photograph(LENSES[name])
    assert photo.depth is not None
    width, height = photo.camera.size
    pinhole = photo.camera.rescale((width // 2, height // 2)).pinhole
    pixels = torch.tensor([[0.3, 0.4], [0.5, 0.5], [0.6, 0.3]]) * torch.tensor(pinhole.size)
    two = photo.depth.expand(2, -1, -1).clone()
    two[1] = 0
    both = Camera(pinhole.focal_px.expand(2, 2), pinhole.center_px.expand(2, 2), pinhole.size)
    points, unknown = camera_points(two, photo.camera, pixels.expand(2, -1, -1), both)
    rays = pinhole.unproject(pixels.double())
    middle, radius = photo.cam_from_world.translation, 3.0
    assert torch.isnan(unknown).all()
    # on the ball, on the pixel's ray; a pixel of the photo is half of one here
    assert ((points.double() - middle).norm(dim=-1) - radius).abs().max() < 0.02
    assert (points.double() / points[..., 2:] - rays).abs().max() < 1e-6


def test_an_edge_has_no_depth_and_neither_has_what_is_beside_the_image() -> None:
    depth = np.full((6, 8), 2.0, np.float32)
    depth[:, 4:] = 3.0  # a wall behind
    depth[0, 0] = 0.0  # a hole
    pixels = np.array([[2.5, 3.5], [3.9, 3.5], [4.1, 3.5], [6.5, 3.5], [7.9, 5.9], [0.5, 0.5], [9.0, 3.0]])
    found = depth_at(depth, pixels, np.array([True] * 6 + [False]))
    assert found[[0, 3, 4]].tolist() == [2.0, 3.0, 3.0]
    assert np.isnan(found[[1, 2, 5, 6]]).all()


def test_a_slope_is_no_edge() -> None:
    depth = np.repeat(np.linspace(2, 3, 60, dtype=np.float32)[None], 5, axis=0)
    pixels = np.array([[0.5, 0.5], [30.2, 2.5], [59.9, 4.9]])
    assert depth_at(depth, pixels, np.ones(3, bool)).tolist() == depth[0, [0, 30, 59]].tolist()
