"""A surface that is seen everywhere and known exactly: the inside of a ball, coloured by where it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from jaxtyping import install_import_hook
from torch import Tensor

from dsac.datasets import Frame
from dsac.geometry import Camera, Pose

_hook = install_import_hook("dsac.mapping", "beartype.beartype")

RADIUS = 3.0


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ball_frame() -> Callable[..., Frame]:
    """A photo from inside the ball, somewhat off its middle: R, G, B are the scene point's x, y, z.

    `Frame.depth` is exact; colour c shows the coordinate (2 c - 1) RADIUS.
    """

    def photograph(camera: Camera, name: str = "ball") -> Frame:
        cam_from_world = Pose.exp(torch.tensor([0.2, -0.4, 0.3, 0.3, -0.2, 0.4], dtype=torch.float64))
        width, height = camera.size
        rows, columns = torch.meshgrid(
            torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij"
        )
        rays = camera.unproject(torch.stack([columns, rows], -1).reshape(-1, 2) + 0.5)
        depth = _depth_inside_ball(cam_from_world, rays)
        points = cam_from_world.inverse() @ (rays * depth[:, None])
        image = ((points / RADIUS + 1) / 2).T.reshape(3, height, width)
        return Frame(name, image.float(), camera, cam_from_world, depth.reshape(height, width).float())

    return photograph


def _depth_inside_ball(cam_from_world: Pose, rays: Tensor) -> Tensor:
    """Where rays (N, 3) with z = 1 meet the ball around the world's origin: its far side, in camera depth."""
    middle = cam_from_world.translation
    square, along = (rays * rays).sum(-1), rays @ middle
    return (along + (along**2 - square * (middle @ middle - RADIUS**2)).sqrt()) / square
