"""A world that is seen everywhere and known exactly: the inside of a ball, coloured by where it is.

R, G, B of a surface point are its x, y, z, so an encoder that averages colours and a head that rescales them
know the scene coordinates without any training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dsac.datasets import Frame, Frames
from dsac.geometry import Camera, Pose
from dsac.map_info import MapInfo
from dsac.networks.heads import HeadArchitecture, SceneHead
from dsac.scene_map import SceneMap

RADIUS = 3.0
POSE = Pose.exp(torch.tensor([0.2, -0.4, 0.3, 0.3, -0.2, 0.4], dtype=torch.float64))


def photograph(camera: Camera, cam_from_world: Pose = POSE, name: str = "ball") -> Frame:
    """A photo from inside the ball; colour c shows the coordinate (2 c - 1) RADIUS, depth is exact."""
    width, height = camera.size
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = camera.unproject(torch.stack([x, y], -1).double().reshape(-1, 2))
    # |depth · ray - middle| = RADIUS, the far solution
    middle = cam_from_world.translation
    square, along = (rays * rays).sum(-1), rays @ middle
    depth = (along + (along**2 - square * (middle @ middle - RADIUS**2)).sqrt()) / square
    points = cam_from_world.inverse() @ (rays * depth[:, None])
    image = ((points / RADIUS + 1) / 2).T.reshape(3, height, width)
    return Frame(name, image.float(), camera, cam_from_world, depth.reshape(height, width).float())


class ColorEncoder:
    """The mean colour of each cell."""

    id = "colors"
    digest = "0"
    stride = 8
    size_multiple = 8
    num_features = 3

    def __call__(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images, self.stride)


def exact_map(short_side_px: int) -> SceneMap:
    """The map of the ball that `ColorEncoder` needs: no blocks, a linear head."""
    head = SceneHead(HeadArchitecture(3, width=6, num_blocks=0))
    with torch.no_grad():
        head.feature_mean.fill_(0.5)
        head.feature_whitening.copy_(2 * torch.eye(3))
        # gelu(a) - gelu(-a) = a
        head.lift.weight.copy_(torch.cat([torch.eye(3), -torch.eye(3)]))
        head.lift.bias.zero_()
        head.point.weight.zero_()
        head.point.weight[:3] = torch.cat([torch.eye(3), -torch.eye(3)], dim=1)
        head.point.bias.zero_()
        head.scene_scale.fill_(RADIUS * 1.02)  # the homogeneous weight of a zero is 1.02
    corner = (RADIUS, RADIUS, RADIUS)
    low = (-RADIUS, -RADIUS, -RADIUS)
    info = MapInfo(
        "colors", "0", head.architecture, 8, short_side_px, low, corner, (1.0, 6.0), 0, "depth", "ball"
    )
    return SceneMap(head.eval().requires_grad_(False), info)


@dataclass(frozen=True)
class FramesInMemory:
    """A reader of frames that are there."""

    frames: dict[str, Frame]
    has_depth: bool = True

    def read_image(self, name: str) -> np.ndarray:
        return (self.frames[name].image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        depth = self.frames[name].depth
        assert depth is not None
        return depth.numpy()


def ball_frames(count: int = 6) -> Frames:
    """Photos of two sizes, one with a distorting lens, from places about the middle of the ball."""
    cameras = [
        Camera.from_params("OPENCV", [150, 155, 85, 51, -0.1, 0.02, 0.002, -0.001], (160, 120)),
        Camera.simple(200, (120, 200)),
    ]
    steps = 0.3 * torch.randn(count, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    poses = Pose.exp(steps) @ POSE.expand(count)
    photos = [photograph(cameras[i % 2], poses[i], f"{i}") for i in range(count)]
    reader = FramesInMemory({photo.name: photo for photo in photos})
    return Frames([photo.name for photo in photos], cameras, np.arange(count) % 2, poses, reader)
