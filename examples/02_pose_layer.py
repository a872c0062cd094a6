"""The camera pose layer in a training loop of your own.

Any network that predicts the scene point of each pixel can be trained on the camera pose itself. Here a small
one reads a made-up descriptor of each pixel of a wavy wall. It first learns the scene points one by one, badly,
as a tenth of them is never right; then `PoseSolver.expected_loss` trains it on the pose.

    python examples/02_pose_layer.py
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

from dsac import Camera, Correspondences, Pose, PoseSolver
from dsac.ransac import DSAC, RobustRefinement, WeightedError

SIZE, GRID = (640, 480), (15, 20)


def photos(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Camera, Pose, Tensor]:
    """Of photos: descriptors (B, N, 32), pixels (B, N, 2), camera, poses and scene points (B, N, 3)."""
    camera = Camera.simple(520.0, SIZE).to(torch.float32)
    camera = Camera(camera.focal_px.expand(count, 2), camera.center_px.expand(count, 2), SIZE)
    height, width = GRID
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([u * SIZE[0] / width, v * SIZE[1] / height], dim=-1).reshape(1, -1, 2)
    pixels = pixels.expand(count, -1, 2)
    depth = 2 + 0.5 * torch.sin(pixels[..., :1] / 97) + 0.3 * torch.cos(pixels[..., 1:] / 71)
    cam_from_world = Pose.exp(0.2 * torch.randn(count, 6, generator=generator))
    scene_points = cam_from_world.inverse() @ (camera.unproject(pixels) * depth)
    waves = torch.randn(3, 32, generator=torch.Generator().manual_seed(7))
    seen = scene_points.clone()
    wrong = torch.rand(seen.shape[:2], generator=generator) < 0.1
    seen[wrong] = 2 * torch.randn(int(wrong.sum()), 3, generator=generator)
    descriptors = torch.sin(2 * seen @ waves) + 0.05 * torch.randn(*seen.shape[:2], 32, generator=generator)
    return descriptors, pixels, camera, cam_from_world, scene_points


def train(first: int, end_to_end: int, seed: int = 0, every: int = 20) -> list[float]:
    """Both trainings; the expected loss of photos never trained on, before, every so often, and after."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 3))

    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(first):
        descriptors, _, _, _, scene_points = photos(8, generator)
        loss = (network(descriptors) - scene_points).norm(dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    # All of DSAC's hypotheses are refined: few points each make a step quick.
    solver = PoseSolver.rgb(32, selection=DSAC(), refinement=RobustRefinement(max_points=128))
    pose_loss = WeightedError()  # degrees + centimetres
    held_out = photos(16, torch.Generator().manual_seed(seed + 1))

    def expected_loss(batch: tuple, generator: torch.Generator) -> Tensor:
        descriptors, pixels, camera, cam_from_world, _ = batch
        correspondences = Correspondences(pixels, network(descriptors), camera)
        return solver.expected_loss(correspondences, cam_from_world, pose_loss, generator).mean()

    def validate() -> float:
        with torch.no_grad():
            return expected_loss(held_out, torch.Generator().manual_seed(0)).item()

    history = [validate()]
    print(f"step {0:4d}: expected loss {history[-1]:6.2f} (degrees + cm), after learning point by point")
    optimizer = torch.optim.Adam(network.parameters(), 3e-4)
    for step in range(1, end_to_end + 1):
        loss = expected_loss(photos(8, generator), generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % every == 0 or step == end_to_end:
            history.append(validate())
            print(f"step {step:4d}: expected loss {history[-1]:6.2f}")
    return history


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train scene coordinates on the camera pose.")
    parser.add_argument("--first", type=int, default=150, help="steps point by point")
    parser.add_argument("--end-to-end", type=int, default=100, help="steps on the expected pose loss")
    options = parser.parse_args(arguments)
    train(options.first, options.end_to_end)


if __name__ == "__main__":
    main()
