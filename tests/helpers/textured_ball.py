"""The ball of `ball_world` with a texture: its map has landmarks, its photos are exact through any lens.

Colours still tell the place, so that `ColorEncoder` and a small head know it to some centimetres after a few
steps. The texture, a fine grey noise in space, is the same from everywhere: corners to find again.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from ball_world import POSE, RADIUS, ColorEncoder, FramesInMemory, photograph

from dsac.datasets import Frame, Frames
from dsac.geometry import Camera, Pose
from dsac.mapping import MappingSettings, build_map
from dsac.scene_map import SceneMap

LENS = Camera.simple(400, (432, 324))  # of the mapping photos
GRAIN = 0.06  # metres between the values of the texture: some eight pixels at 3 m
SETTINGS = MappingSettings(
    steps=60, batch_size=512, width=64, num_blocks=1, num_views=16, buffer_size=20_000, short_side_px=192,
    num_landmarks=1500, feature_noise=0.0, learning_rate=5e-3,
)  # fmt: skip


def textured(camera: Camera, cam_from_world: Pose = POSE, name: str = "ball") -> Frame:
    """A photo of the ball as `photograph` takes it, with a texture on its wall."""
    plain = photograph(camera, cam_from_world, name)
    place = 2 * plain.image - 1  # in units of the radius
    volume = _noise()
    grey = torch.nn.functional.grid_sample(
        volume[None, None], place.permute(1, 2, 0)[None, None], align_corners=True
    )[0, 0, 0]
    image = 0.5 + 0.3 * place + 0.2 * (grey - 0.5)
    return replace(plain, image=image.nan_to_num().clamp(0, 1))


def _noise() -> torch.Tensor:
    """Uniform noise on a grid over the cube around the ball."""
    count = round(2 * RADIUS / GRAIN) + 1
    return torch.rand(count, count, count, generator=torch.Generator().manual_seed(0))


def places(count: int, seed: int) -> Pose:
    """Cameras near the middle of the ball that look about the same way; batch (count,)."""
    spread = torch.tensor([0.12, 0.12, 0.1, 0.25, 0.25, 0.25], dtype=torch.float64)
    steps = spread * torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Pose.exp(steps) @ POSE.expand(count)


def frames(camera: Camera, poses: Pose) -> Frames:
    photos = [textured(camera, poses[i], f"{i}") for i in range(len(poses.translation))]
    reader = FramesInMemory({photo.name: photo for photo in photos})
    return Frames([photo.name for photo in photos], [camera], np.zeros(len(photos), int), poses, reader)


def mapped() -> SceneMap:
    """The ball after 60 steps, with landmarks."""
    return build_map(frames(LENS, places(10, seed=0)), SETTINGS, encoder=ColorEncoder())
