"""Two modes: what SoftAM and DSAC make of a place that exists twice. Writes results/modes.json and a figure.

Every pixel shows one of two copies of a wall, a metre apart, and both copies of each predicted point are
offered to the solver, so that half of the hypotheses lie at one pose and half at the other. The loss is the
distance to the nearer pose. The scene points are trained on the expected loss of each selection.

    python benchmarks/modes.py
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from dsac import Camera, Correspondences, Pose, PoseSolver
from dsac.ransac import DSAC, MaxError, SoftAM
from dsac.ransac.selection import Selection

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

HERE = Path(__file__).parent
STEPS = 25
SIZE, GRID = (640, 480), (8, 12)
APART = Pose(torch.eye(3, dtype=torch.float64), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))


def wall() -> tuple[Correspondences, Pose]:
    """Noisy points of a wavy wall and the pose of the camera that sees it."""
    generator = torch.Generator().manual_seed(0)
    camera = Camera.simple(520.0, SIZE)
    camera = Camera(camera.focal_px[None], camera.center_px[None], SIZE)
    height, width = GRID
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([u * SIZE[0] / width, v * SIZE[1] / height], dim=-1).reshape(1, -1, 2).double()
    depth = 2 + torch.sin(pixels[..., :1] / 97) + 0.5 * torch.cos(pixels[..., 1:] / 71)
    cam_from_world = Pose.exp(0.3 * torch.randn(1, 6, generator=generator, dtype=torch.float64))
    points = cam_from_world.inverse() @ (camera.unproject(pixels) * depth)
    noise = 0.005 * torch.randn(points.shape, generator=generator, dtype=torch.float64)
    return Correspondences(pixels, points + noise, camera), cam_from_world


def train(selection: Selection) -> tuple[list[float], Tensor]:
    """Expected loss after each step, and where the refined poses stand (K, 3) at the end."""
    one, first = wall()
    second = first @ APART.inverse()
    rows = one.pixels.shape[1]
    samples = torch.rand(1, 8, rows, generator=torch.Generator().manual_seed(1)).topk(4).indices
    samples = torch.cat([samples, samples + rows], dim=1)
    solver = PoseSolver.rgb(selection=selection)

    def nearer(cam_from_world: Pose, truth: Pose) -> Tensor:
        return torch.minimum(MaxError()(cam_from_world, truth), MaxError()(cam_from_world, second[:, None]))

    points = one.scene_points.clone().requires_grad_()
    optimizer = torch.optim.Adam([points], 1e-4)
    history, centers = [], points
    for _ in range(STEPS):
        both = torch.cat([points, APART @ points], dim=1)
        live = solver.residual.sanitise(replace(one, pixels=one.pixels.repeat(1, 2, 1), scene_points=both))
        hypotheses = solver.minimal(live, samples)
        hypotheses = replace(hypotheses, scores=torch.zeros(1, 16, dtype=torch.float64))
        loss = solver.expected_loss(live, first, nearer, hypotheses=hypotheses).sum()
        centers = solver.refined(hypotheses, live).cam_from_world.center[0].detach() - first.center[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history, centers


def main() -> None:
    argparse.ArgumentParser(description="Two modes: writes results/modes.json and a figure").parse_args()
    torch.set_num_threads(1)
    results = {"SoftAM": train(SoftAM()), "DSAC": train(DSAC())}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for (name, (history, centers)), marker, color in zip(
        results.items(), "so", ("tab:red", "tab:blue"), strict=True
    ):
        left.plot(range(1, STEPS + 1), history, color=color, label=name)
        right.scatter(
            100 * centers[:, 0], 100 * centers[:, 1], marker=marker, color=color, label=name, zorder=2
        )
    left.set(xlabel="training step", ylabel="expected loss (cm to the nearer pose)", ylim=(-2, None))
    left.legend()
    right.scatter([0, 100], [0, 0], marker="x", s=120, color="black", label="the two poses", zorder=1)
    right.set(xlabel="east (cm)", ylabel="north (cm)", xlim=(-20, 120), ylim=(-60, 60))
    right.set_title("refined poses after training", fontsize=10)
    right.legend()
    figure.tight_layout()
    picture = HERE.parent / "docs" / "images" / "modes.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    table = {name: {"first": history[0], "last": history[-1]} for name, (history, _) in results.items()}
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "modes.json").write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
