"""The regressor: one object that queries ask and training changes, and that something else may stand in for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ball_world import POSE, ColorEncoder, exact_map, photograph
from torch import Tensor

from dsac.geometry import Camera
from dsac.localizer import Localizer
from dsac.networks.heads import HeadArchitecture, SceneCoordinates, SceneHead
from dsac.ransac import Correspondences
from dsac.regressor import CorrespondenceSource, Regressor, cell_weights

CAMERA = Camera.simple(280, (256, 192))


@pytest.fixture
def regressor() -> Regressor:
    return exact_map(192).regressor(ColorEncoder())


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("OPENCV", [280, 290, 140, 90, -0.2, 0.05, 0.003, -0.002]),
        ("SIMPLE_FISHEYE", [260, 140, 90]),  # bends without a coefficient
    ],
)
def test_a_photo_becomes_pixels_with_the_points_that_they_show(
    regressor: Regressor, model: str, params: list[float]
) -> None:
    lens = Camera.from_params(model, [float(x) for x in params], (256, 192))
    photo = photograph(lens)
    c = regressor(photo.image[None], lens)
    assert c.grid is not None and c.grid[0] * c.grid[1] == c.pixels.shape[1]
    truth = c.camera[0].to(torch.float64).project(POSE @ c.scene_points[0].double())
    assert (truth - c.pixels[0]).norm(dim=-1).median() < 1.0  # bfloat16 rounds colours where it is used


def test_modes_are_rows_of_one_pixel_and_what_is_unlikely_weighs_nothing() -> None:
    points = torch.arange(2 * 4 * 3 * 3, dtype=torch.float32).reshape(2, 4, 3, 3)
    odds = torch.tensor([0.7, 0.28, 0.02]).log().expand(2, 4, 3)

    def head(features: Tensor) -> SceneCoordinates:
        return SceneCoordinates(points, torch.full((2, 4, 3), 0.1), odds)

    regressor = Regressor(None, SceneHead(HeadArchitecture(5, 8, 0)), 192)
    regressor.head.forward = head  # type: ignore[method-assign]
    pixels = torch.rand(2, 4, 2)
    camera = Camera(CAMERA.focal_px.expand(2, 2), CAMERA.center_px.expand(2, 2), CAMERA.size).to(pixels)
    c = regressor.at_cells(torch.zeros(2, 4, 5), pixels, camera, (2, 2))
    assert c.modes == 3 and c.grid == (2, 2) and c.weights is not None
    assert torch.equal(c.pixels, pixels.repeat_interleave(3, 1))
    assert torch.equal(c.scene_points.unflatten(1, (4, 3)), points)
    torch.testing.assert_close(c.weights.unflatten(1, (4, 3))[0, 0], torch.tensor([0.7, 0.28, 0.0]))


def test_whoever_trains_it_trains_what_queries_ask(regressor: Regressor) -> None:
    photo = photograph(CAMERA)
    features = regressor.encode(photo.image[None], CAMERA)
    regressor.head.requires_grad_(True)
    c = regressor.predict(features, CAMERA)
    c.scene_points.square().sum().backward()
    assert all(p.grad is not None for p in regressor.head.parameters())
    with torch.no_grad():
        regressor.head.scene_center += 1.0
    moved = regressor.predict(features, CAMERA)
    assert torch.allclose(moved.scene_points, c.scene_points + 1.0, atol=1e-5)


def test_every_second_column_is_asked_unless_there_are_few(regressor: Regressor) -> None:
    few, many = Camera.simple(280, (256, 192)), Camera.simple(560, (512, 192))
    assert regressor(torch.rand(1, 3, 192, 256), few).grid == (24, 16)  # of 32 columns
    regressor.short_side_px = 96
    assert regressor(torch.rand(1, 3, 192, 512), many).grid == (12, 32)


def test_weights_are_inverse_scales_within_bounds() -> None:
    scale = torch.tensor([[0.1, 0.2, 0.4, 1e-6, 0.8]])
    weights = cell_weights(SceneCoordinates(torch.zeros(1, 5, 3), scale))
    torch.testing.assert_close(weights, torch.tensor([[2.0, 1.0, 0.5, 10.0, 0.25]]))


class WithMore:
    """Rows of another source beside those of the cells, which are all wrong here."""

    def __init__(self, regressor: Regressor, pixels: Tensor, points: Tensor) -> None:
        self.regressor, self.pixels, self.points = regressor, pixels, points
        self.zoom = regressor.zoom

    def encode(self, images: Tensor, camera: Camera) -> Tensor:
        return self.regressor.encode(images, camera)

    def predict(self, features: Tensor, camera: Camera) -> Correspondences:
        c = self.regressor.predict(features, camera)
        assert c.weights is not None
        return replace(
            c,
            pixels=torch.cat([c.pixels, self.pixels[None]], 1),
            scene_points=torch.cat([4 * torch.rand_like(c.scene_points) - 2, self.points[None]], 1),
            weights=torch.cat([c.weights, torch.ones(1, len(self.pixels))], 1),
            grid=None,
        )


def test_another_source_of_rows_is_another_object_in_its_place(regressor: Regressor) -> None:
    photo = photograph(CAMERA)
    assert photo.depth is not None
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(8, 192, 8), torch.arange(8, 256, 8), indexing="ij")
    pixels = torch.stack([x, y], -1).reshape(-1, 2) + 0.5
    rays = CAMERA.unproject(pixels.double())
    points = POSE.inverse() @ (rays * photo.depth[y, x].reshape(-1, 1).double())
    source = WithMore(regressor, pixels.float(), points.float())
    assert isinstance(source, CorrespondenceSource) and isinstance(regressor, CorrespondenceSource)
    answer = Localizer(exact_map(192), regressor=source).localize(photo.image, CAMERA)
    assert answer.success and answer.cam_from_world.center_distance(POSE) < 0.002
    assert answer.inliers[-len(pixels) :].float().mean() > 0.99
