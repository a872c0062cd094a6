"""The camera pose layer in a training loop of your own.

Any network that predicts the scene point of each pixel can be trained on the camera pose itself. Here a small
one reads a made-up descriptor of each pixel of a wavy wall. It first learns the scene points one by one, as a
depth camera tells them that nobody has registered: it sits 8 cm beside the colour camera, turned by 2 degrees.
So poses come out wrong by as much. The true ones are known: `PoseSolver.expected_loss` trains the network on
them.

    python examples/02_pose_layer.py
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

from dsac import Camera, Correspondences, DenseSolver, Pose, PoseSolver
from dsac.ransac import DSAC, WeightedError

SIZE, GRID = (640, 480), (15, 20)
DEPTH_FROM_COLOR = Pose.exp(torch.tensor([0.0, 0.035, 0.0, 0.08, 0.0, 0.0]))  # what nobody knows


def photos(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Camera, Pose, Tensor]:
    """Of photos: descriptors (B, N, 32), pixels (B, N, 2), camera, poses and measured scene points (B, N, 3).

    A tenth of the pixels show something else.
    """
    camera = Camera.simple(520.0, SIZE).to(torch.float32)
    camera = Camera(camera.focal_px.expand(count, 2), camera.center_px.expand(count, 2), SIZE)
    height, width = GRID
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([u * SIZE[0] / width, v * SIZE[1] / height], dim=-1).reshape(1, -1, 2)
    pixels = pixels.expand(count, -1, 2)
    depth = 2 + 0.5 * torch.sin(pixels[..., :1] / 97) + 0.3 * torch.cos(pixels[..., 1:] / 71)
    cam_from_world = Pose.exp(0.2 * torch.randn(count, 6, generator=generator))
    points_cam = camera.unproject(pixels) * depth
    scene_points = cam_from_world.inverse() @ points_cam
    waves = torch.randn(3, 32, generator=torch.Generator().manual_seed(7))
    seen = scene_points.clone()
    wrong = torch.rand(seen.shape[:2], generator=generator) < 0.1
    seen[wrong] = 2 * torch.randn(int(wrong.sum()), 3, generator=generator)
    noise = 0.02 * torch.randn(*seen.shape[:2], 32, generator=generator)
    measured = cam_from_world.inverse() @ (DEPTH_FROM_COLOR @ points_cam)
    return torch.sin(0.5 * seen @ waves) + noise, pixels, camera, cam_from_world, measured


def train(first: int, end_to_end: int, seed: int = 0, every: int = 20) -> list[tuple[float, float]]:
    """Both trainings. Of photos never trained on, after the first and every so often: expected loss, and cm."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 3))

    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, first)
    for _ in range(first):
        descriptors, _, _, _, measured = photos(8, generator)
        loss = (network(descriptors) - measured).norm(dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    solver = PoseSolver.rgb(16, selection=DSAC())  # all of DSAC's hypotheses are refined: few make a step quick
    pose_loss = WeightedError()  # degrees + centimetres
    held_out = photos(16, torch.Generator().manual_seed(seed + 1))

    def expected_loss(batch: tuple, generator: torch.Generator) -> Tensor:
        descriptors, pixels, camera, cam_from_world, _ = batch
        correspondences = Correspondences(pixels, network(descriptors), camera)
        return solver.expected_loss(correspondences, cam_from_world, pose_loss, generator).mean()

    @torch.no_grad()
    def validate() -> tuple[float, float]:
        descriptors, pixels, camera, cam_from_world, _ = held_out
        answers = DenseSolver.rgb()(Correspondences(pixels, network(descriptors), camera))
        error = 100 * answers.cam_from_world.center_distance(cam_from_world).median()
        return expected_loss(held_out, torch.Generator().manual_seed(0)).item(), error.item()

    def report(step: int) -> None:
        history.append(validate())
        loss, error = history[-1]
        print(f"step {step:3d}: expected loss {loss:5.2f} (degrees + cm), median error {error:4.1f} cm")

    history: list[tuple[float, float]] = []
    report(0)
    optimizer = torch.optim.Adam(network.parameters(), 5e-4)
    for step in range(1, end_to_end + 1):
        loss = expected_loss(photos(8, generator), generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % every == 0 or step == end_to_end:
            report(step)
    return history


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train scene coordinates on the camera pose.")
    parser.add_argument("--first", type=int, default=400, help="steps point by point")
    parser.add_argument("--end-to-end", type=int, default=100, help="steps on the expected pose loss")
    options = parser.parse_args(arguments)
    train(options.first, options.end_to_end)


if __name__ == "__main__":
    main()
