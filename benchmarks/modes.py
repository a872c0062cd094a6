"""Two modes: what SoftAM and DSAC make of a place that exists twice. Writes results/modes.json.

Every pixel shows one of two copies of a wall, a metre apart, and both copies of each predicted point are
offered to the solver, so that half of the hypotheses lie at one pose and half at the other. The loss is the
distance to the nearer pose. The scene points are trained on the expected loss of each selection.

    python benchmarks/modes.py && make docs-figures
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dsac import Camera, Correspondences, Pose, PoseSolver
from dsac.ransac import DSAC, MaxError, SoftAM
from dsac.ransac.selection import Selection

RESULTS = Path(__file__).parent / "results"
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
    argparse.ArgumentParser(description="Two modes: writes results/modes.json").parse_args()
    torch.set_num_threads(1)
    results = {}
    for name, selection in (("SoftAM", SoftAM()), ("DSAC", DSAC())):
        history, centers = train(selection)
        results[name] = {
            "expected_loss": [round(loss, 4) for loss in history],
            "centers_cm": [[round(100 * metres, 3) for metres in center[:2]] for center in centers.tolist()],
        }
        print(f"{name}: expected loss {history[0]:.2f} before, {history[-1]:.2f} after training")
    (RESULTS / "modes.json").write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
