"""Views show what a camera turned and zoomed on the spot would see, and which scene point each cell shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ball_world import RADIUS, photograph

from dsac.datasets import Frame
from dsac.geometry import Camera, Pose
from dsac.mapping.views import Augmentation, View, plain_view, random_view
from dsac.networks.encoder import cell_centers

STRIDE = 8
SIZE = (160, 112)  # working size; the photos below have other shapes

# off-centre, fx != fy, H != W
CAMERAS = {
    "pinhole": Camera.from_params("PINHOLE", [300, 310, 170, 101], (320, 240)),
    "opencv": Camera.from_params("OPENCV", [300, 310, 170, 101, -0.15, 0.04, 0.003, -0.002], (320, 240)),
    "fisheye": Camera.from_params("OPENCV_FISHEYE", [210, 215, 150, 130, 0.02, -0.01, 0, 0], (320, 240)),
    "without coefficients": Camera.from_params("FISHEYE", [210, 215, 150, 130], (320, 240)),
    "division": Camera.from_params("DIVISION", [300, 310, 170, 101, 0.15], (320, 240)),
    "portrait": Camera.from_params("SIMPLE_RADIAL", [500, 190, 330, 0.08], (360, 640)),
}
GEOMETRY_ONLY = Augmentation(max_brightness=0.0, max_gamma=1.0, max_blur_px=0.0)


def _views(frame: Frame, size: tuple[int, int] = SIZE) -> list[View]:
    rng = np.random.default_rng(0)
    return [plain_view(frame, size, STRIDE)] + [
        random_view(frame, size, STRIDE, GEOMETRY_ONLY, rng) for _ in range(6)
    ]


def _size(name: str) -> tuple[int, int]:
    return SIZE[::-1] if name == "portrait" else SIZE


@pytest.mark.parametrize("name", CAMERAS)
def test_scene_points_reproject_onto_the_centres_of_their_cells(name: str) -> None:
    for view in _views(photograph(CAMERAS[name]), _size(name)):
        known = torch.isfinite(view.scene_points).all(-1)
        assert known.float().mean() > 0.25
        centers = cell_centers(view.camera.size, STRIDE)[known]
        points_cam = view.cam_from_world @ view.scene_points[known].double()
        assert (view.camera.project(points_cam) - centers).abs().max() < 1e-3  # scene points are float32
        assert (points_cam[:, 2] > 0).all()


@pytest.mark.parametrize("name", CAMERAS)
def test_scene_points_lie_on_the_surface(name: str) -> None:
    # the nearest depth pixel is at most 0.7 px beside the ray; the ball's depth changes by ~1 % there
    for view in _views(photograph(CAMERAS[name]), _size(name)):
        points = view.scene_points[torch.isfinite(view.scene_points).all(-1)]
        assert (points.norm(dim=-1) - RADIUS).abs().max() < 0.03


@pytest.mark.parametrize("name", CAMERAS)
def test_a_cell_shows_the_colour_of_its_scene_point(name: str) -> None:
    for view in _views(photograph(CAMERAS[name]), _size(name)):
        height, width = view.inside.shape
        cells = view.image.reshape(3, height, STRIDE, width, STRIDE)
        # the four pixels around the centre of the cell
        colour = cells[:, :, 3:5, :, 3:5].mean((2, 4)).permute(1, 2, 0)
        known = torch.isfinite(view.scene_points).all(-1)
        shown = (2 * colour[known] - 1) * RADIUS
        # 8-bit colours (6 m / 255, cut off) and the nearest depth pixel
        assert (shown - view.scene_points[known]).abs().max() < 0.05


@pytest.mark.parametrize("name", CAMERAS)
def test_cells_beside_the_photo_are_marked_and_have_no_scene_point(name: str) -> None:
    frame = photograph(CAMERAS[name])
    for view in _views(frame, _size(name)):
        rays = view.camera.unproject(cell_centers(view.camera.size, STRIDE).reshape(-1, 2))
        assert frame.cam_from_world is not None
        in_photo = (frame.cam_from_world @ view.cam_from_world.inverse()) @ rays
        pixels = frame.camera.project(in_photo)
        # a pixel says the truth only where the camera model is one to one
        one_to_one = (frame.camera.unproject(pixels) - in_photo / in_photo[:, 2:]).norm(dim=-1) < 1e-6
        size = torch.tensor(frame.camera.size)
        expected = one_to_one & (pixels > 0).all(-1) & (pixels < size).all(-1)
        assert torch.equal(view.inside.reshape(-1) > 0, expected)
        assert torch.isnan(view.scene_points.reshape(-1, 3)[~expected]).all()


def test_rays_that_strong_distortion_folds_back_into_the_photo_count_as_outside() -> None:
    # x(1 - 0.3 x²) turns back at x = 1.05: a view at less than half the focal length looks beyond that
    frame = photograph(Camera.from_params("SIMPLE_RADIAL", [300, 160, 120, -0.3], (320, 240)))
    zoomed_out = replace(GEOMETRY_ONLY, min_scale=0.45, max_scale=0.45, max_roll_deg=0.0)
    view = random_view(frame, SIZE, STRIDE, zoomed_out, np.random.default_rng(0))
    rays = view.camera.unproject(cell_centers(SIZE, STRIDE).reshape(-1, 2))
    radius = rays[:, :2].norm(dim=-1).reshape(view.inside.shape)
    assert radius.max() > 1.2
    assert not view.inside[radius > 1.06].any()
    assert view.inside[radius < 0.4].all()


def test_a_plain_view_keeps_pose_and_field_of_view() -> None:
    frame = photograph(CAMERAS["pinhole"])
    view = plain_view(frame, SIZE, STRIDE)
    assert frame.cam_from_world is not None
    assert torch.equal(view.cam_from_world.matrix, frame.cam_from_world.matrix)
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    in_view = view.camera.unproject(corners * torch.tensor(SIZE))
    in_photo = frame.camera.unproject(corners * torch.tensor(frame.camera.size))
    assert torch.allclose(in_view, in_photo, atol=1e-12)
    assert view.inside.all()


def test_views_stay_within_their_limits() -> None:
    frame = photograph(CAMERAS["pinhole"])
    limits = Augmentation(min_scale=0.8, max_scale=1.2, max_roll_deg=10.0)
    rng = np.random.default_rng(1)
    plain = plain_view(frame, SIZE, STRIDE)
    assert frame.cam_from_world is not None
    rolls, scales = [], []
    for _ in range(20):
        view = random_view(frame, SIZE, STRIDE, limits, rng)
        scale = view.camera.focal_px / plain.camera.focal_px
        assert torch.allclose(scale, scale[:1].expand(2))
        scales.append(scale[0].item())
        turn = view.cam_from_world @ frame.cam_from_world.inverse()
        assert torch.allclose(turn.log()[[0, 1, 3, 4, 5]], torch.zeros(5, dtype=torch.float64), atol=1e-12)
        rolls.append(torch.rad2deg(turn.log()[2]).item())
        assert view.image.dtype == torch.float32 and 0 <= view.image.min() and view.image.max() <= 1
    assert 0.8 <= min(scales) < 0.9 and 1.1 < max(scales) <= 1.2
    assert -10 <= min(rolls) < -5 and 5 < max(rolls) <= 10


def test_a_view_much_smaller_than_the_photo_is_averaged_and_not_sampled() -> None:
    # a checkerboard of single pixels is grey from afar; picking single pixels would keep it black and white
    board = (torch.arange(480)[:, None] + torch.arange(640)) % 2
    pose = Pose.identity(dtype=torch.float64)
    frame = Frame("board", board.float().expand(3, 480, 640).contiguous(), Camera.simple(500, (640, 480)), pose)
    image = plain_view(frame, (80, 64), STRIDE).image
    assert (image - 0.5).abs().max() < 0.1


def test_depth_edges_and_unknown_depth_give_no_scene_point() -> None:
    depth = torch.full((96, 128), 2.0)
    depth[:, 64:] = 3.0  # a step between two cells
    depth[:40] = 0.0
    pose = Pose.identity(dtype=torch.float64)
    frame = Frame("step", torch.zeros(3, 96, 128), Camera.simple(100, (128, 96)), pose, depth)
    shifted = replace(frame, depth=torch.roll(depth, 4, 1))  # the step on the centres of a column of cells
    known = torch.isfinite(plain_view(frame, (128, 96), STRIDE).scene_points).all(-1)
    assert not known[:5].any() and known[5:].all()
    known = torch.isfinite(plain_view(shifted, (128, 96), STRIDE).scene_points).all(-1)
    assert not known[:, 8].any() and known[5:, [7, 9]].all()


def test_a_frame_without_depth_has_no_scene_points() -> None:
    view = plain_view(replace(photograph(CAMERAS["pinhole"]), depth=None), SIZE, STRIDE)
    assert torch.isnan(view.scene_points).all() and view.inside.all()
