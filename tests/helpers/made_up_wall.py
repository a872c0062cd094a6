"""A small made-up scene, a wall, and a localizer that answers with the truth plus a chosen error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from dsac.datasets import Frames, NamedPoses, Scene
from dsac.geometry import Camera, Pose
from dsac.localization import Localization, Timing
from dsac.ransac.types import Correspondences

WIDTH, HEIGHT, STRIDE = 96, 64, 8
CAMERA = Camera.from_params("PINHOLE", [80.0, 82.0, 50.0, 30.0], (WIDTH, HEIGHT))
DEPTH = 2.0


@dataclass(frozen=True)
class Reader:
    """Grey noise in front of a wall at 2 m."""

    has_depth: bool = True

    def read_image(self, name: str) -> np.ndarray:
        seed = sum(name.encode())
        return np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        return np.full((HEIGHT, WIDTH), DEPTH, np.float32)


@dataclass
class FakeLocalizer:
    """Estimates are `Pose.exp(increments[i]) @ truth`; images in `failing` are not localized."""

    increments: torch.Tensor
    failing: frozenset[int] = frozenset()
    seen: list[str] = field(default_factory=list)

    def localize_frames(self, frames: Frames) -> Iterator[Localization]:
        assert frames.cam_from_world is not None
        for i, name in enumerate(frames.names):
            self.seen.append(name)
            yield localization(
                name, frames.cam_from_world[i], Pose.exp(self.increments[i]), i not in self.failing, i
            )


def localization(name: str, truth: Pose, increment: Pose, success: bool = True, i: int = 0) -> Localization:
    """Exact scene coordinates of the wall; all cells are inliers of a localized image."""
    x, y = torch.arange(WIDTH // STRIDE) + 0.5, torch.arange(HEIGHT // STRIDE) + 0.5
    pixels = STRIDE * torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2).double()
    points = truth.inverse() @ (DEPTH * CAMERA.unproject(pixels))
    grid = (HEIGHT // STRIDE, WIDTH // STRIDE)
    correspondences = Correspondences(pixels[None], points[None], CAMERA[None], grid=grid)
    return Localization(
        name,
        increment @ truth,
        covariance=1e-4 * torch.eye(6, dtype=torch.float64),
        confidence=torch.tensor(0.9 - 0.01 * i if success else 0.05),
        success=torch.tensor(success),
        inliers=torch.full((len(pixels),), success),
        correspondences=correspondences,
        timing=Timing(1.0 + i, 2.0, 3.0, 4.0, 1.0),
    )


def walk(count: int, seed: int) -> Pose:
    """Cameras along a wavy line that look ahead."""
    generator = torch.Generator().manual_seed(seed)
    increments = 0.1 * torch.randn(count, 6, generator=generator, dtype=torch.float64)
    increments[:, 3] += torch.linspace(0, 2, count, dtype=torch.float64)
    return Pose.exp(increments)


def wall_scene() -> Scene:
    """10 mapping and 6 query images, truths "other" (all but the last query image) and "own" (the frames')."""
    names = [f"{i:02d} <&>.png" for i in range(16)]
    poses = walk(16, seed=1)
    frames = Frames(names, [CAMERA], np.zeros(16, np.int64), poses, Reader())
    other = NamedPoses(names[:15], Pose(poses.rotation[:15], poses.translation[:15] + 0.03))
    truths = {"other": other, "own": NamedPoses(names, poses)}
    return Scene("scenes/wall", "made up", frames[:10], frames[10:], truths)
