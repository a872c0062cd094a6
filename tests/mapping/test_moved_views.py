"""Frames from where nobody stood show what a camera there would have seen, and say where they cannot know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ball_world import RADIUS, photograph

from dsac.geometry import Camera, Pose
from dsac.mapping.moved_views import moved, warp
from dsac.mapping.splat_numba import splat
from dsac.mapping.views import Augmentation, random_view

CAMERA = Camera.from_params("PINHOLE", [300, 310, 170, 101], (320, 240))
LENS = Camera.from_params("OPENCV", [300, 310, 170, 101, -0.15, 0.04, 0.003, -0.002], (320, 240))
STEP = Pose.exp(torch.tensor([0.1, -0.3, 0.05, 0.4, -0.1, 0.3], dtype=torch.float64))


def _pixels(frame) -> np.ndarray:
    return np.ascontiguousarray((frame.image * 255).byte().permute(1, 2, 0).numpy())


def test_a_warped_photo_is_the_photo_from_there() -> None:
    here = photograph(CAMERA)
    assert here.cam_from_world is not None and here.depth is not None
    there = photograph(CAMERA, STEP @ here.cam_from_world)
    assert there.depth is not None
    image, depth = warp(_pixels(here), here.depth.numpy(), CAMERA, STEP)
    known = depth > 0
    assert 0.4 < known.mean() < 0.98
    off = np.abs(depth / there.depth.numpy() - 1)[known]
    assert np.median(off) < 0.005 and np.quantile(off, 0.99) < 0.03
    colours = np.abs(image.astype(int) - _pixels(there))[known]
    assert np.median(colours) <= 2 and np.quantile(colours, 0.99) < 8


def test_what_is_nearer_hides_what_is_behind() -> None:
    wall = np.full((60, 80), 4.0, np.float32)
    wall[20:40, 30:50] = 1.0  # a board before it
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:40, 30:50] = 255
    camera = Camera.simple(80.0, (80, 60))
    aside = Pose(torch.eye(3, dtype=torch.float64), torch.tensor([0.2, 0, 0], dtype=torch.float64))
    warped, depth = warp(image, wall, camera, aside)
    assert depth[30, 56] == pytest.approx(1.0) and warped[30, 56].min() > 250  # moved by 16 pixels
    assert depth[30, 40] == 0  # nobody saw the wall there
    assert depth[30, 20] == pytest.approx(4.0) and warped[30, 20].max() == 0


@pytest.mark.parametrize("camera", [CAMERA, LENS], ids=["pinhole", "lens"])
def test_points_of_moved_frames_lie_on_the_surface(camera: Camera) -> None:
    rng = np.random.default_rng(0)
    frame = photograph(camera)
    assert frame.cam_from_world is not None
    for _ in range(4):
        away = moved(frame, 45.0, rng)
        assert away is not None and away.cam_from_world is not None and away.depth is not None
        assert away.cam_from_world.center_distance(frame.cam_from_world) > 0.1
        row, column = (away.depth > 0).nonzero().T
        rays = away.camera.unproject(torch.stack([column, row], dim=-1).double() + 0.5)
        points = away.cam_from_world.inverse() @ (rays * away.depth[row, column][:, None].double())
        assert ((points.norm(dim=-1) - RADIUS).abs() < 0.06).double().mean() > 0.98
        colours = away.image[:, row, column].T.double()
        assert ((colours * 2 - 1) * RADIUS - points).abs().median() < 0.05


def test_without_dense_depth_nobody_moves() -> None:
    frame = photograph(CAMERA)
    assert frame.depth is not None
    assert moved(replace(frame, depth=None), 45.0, np.random.default_rng(0)) is None
    sparse = torch.where(torch.rand(frame.depth.shape) < 0.1, frame.depth, 0.0)
    assert moved(replace(frame, depth=sparse), 45.0, np.random.default_rng(0)) is None


def test_half_of_the_views_are_from_elsewhere_and_hidden_cells_are_not_learned() -> None:
    frame = photograph(CAMERA)
    assert frame.cam_from_world is not None
    rng = np.random.default_rng(0)
    views = [random_view(frame, (160, 112), 8, Augmentation(), rng) for _ in range(24)]
    away = [view for view in views if view.cam_from_world.center_distance(frame.cam_from_world) > 1e-6]
    assert 6 < len(away) < 18
    for view in away:
        known = torch.isfinite(view.scene_points).all(-1)
        assert not (view.inside > 0)[~known].any() and view.inside.mean() > 0.1
    still = Augmentation(max_orbit_deg=0.0)
    views = [random_view(frame, (160, 112), 8, still, rng) for _ in range(8)]
    assert max(v.cam_from_world.center_distance(frame.cam_from_world).item() for v in views) < 1e-9


@pytest.mark.wrong_input
def test_splat_checks_what_it_is_given() -> None:
    with pytest.raises(ValueError, match="splat: expected"):
        splat(np.zeros(4, np.float32), np.ones(2), np.zeros(2), np.eye(3), np.zeros(3))
