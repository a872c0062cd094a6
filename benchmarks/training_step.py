"""Cost of one end-to-end training step: implicit gradients against autograd through every iteration.

One image of 4800 correspondences, half of them wrong; drawing, scoring, refinement of all hypotheses of DSAC,
and the gradient by all scene points. Processor time of one thread, median. Writes
results/training_step.{json,md}.

    python benchmarks/training_step.py
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from dataclasses import dataclass, replace

import torch
from scripts import run, table_parser, write_table

from dsac import Camera, Correspondences, Pose, PoseSolver
from dsac.kernels import Backend, cpu
from dsac.kernels.arrays import PosedRows
from dsac.ransac import DSAC, ReprojectionError, RobustRefinement, WeightedError
from dsac.ransac.refinement import Refinement

SIZE, GRID = (640, 480), (60, 80)
ITERATIONS = 10


@dataclass(frozen=True)
class Unrolled:
    """The same robust cost by iteratively reweighted Gauss-Newton, every iteration seen by autograd."""

    residual: ReprojectionError = ReprojectionError()

    def __call__(
        self, poses: Pose, correspondences: Correspondences, generator: torch.Generator | None = None
    ) -> Pose:
        focal, center = correspondences.camera.focal_px[:, None, None], correspondences.camera.center_px
        threshold = float(self.residual.threshold)
        for _ in range(ITERATIONS):
            x, y, z = (poses @ correspondences.scene_points[:, None]).unbind(-1)
            front = z > 0.05
            z = torch.where(front, z, torch.ones_like(z))
            u, v = x / z, y / z
            a, b = focal[..., 0], focal[..., 1]
            r = (
                torch.stack([a * u + center[:, None, None, 0], b * v + center[:, None, None, 1]], dim=-1)
                - correspondences.pixels[:, None]
            )
            zero = torch.zeros_like(u)
            # derivatives of (u, v) by the increment: rotation, then translation
            du = torch.stack([-u * v, 1 + u * u, -v, 1 / z, zero, -u / z], dim=-1) * a[..., None]
            dv = torch.stack([-1 - v * v, u * v, u, zero, 1 / z, -v / z], dim=-1) * b[..., None]
            jacobian = torch.cat([du, dv], dim=-2)
            weight = torch.where(front, (threshold**2 / (threshold**2 + r.square().sum(-1))) ** 2, 0.0)
            weighted = torch.cat([weight, weight], dim=-1)[..., None] * jacobian
            normal = jacobian.mT @ weighted + 1e-3 * torch.eye(6)
            gradient = (weighted.mT @ torch.cat([r[..., 0], r[..., 1]], dim=-1)[..., None])[..., 0]
            poses = Pose.exp(-torch.linalg.solve(normal, gradient)) @ poses
        return poses


def scene() -> tuple[Correspondences, Pose]:
    """A wavy wall, 2 cm of noise, half of the points anywhere."""
    generator = torch.Generator().manual_seed(0)
    camera = Camera.simple(520.0, SIZE).to(torch.float32)
    camera = Camera(camera.focal_px[None], camera.center_px[None], SIZE)
    height, width = GRID
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([u * SIZE[0] / width, v * SIZE[1] / height], dim=-1).reshape(1, -1, 2)
    depth = 2 + torch.sin(pixels[..., :1] / 97) + 0.5 * torch.cos(pixels[..., 1:] / 71)
    cam_from_world = Pose.exp(0.3 * torch.randn(1, 6, generator=generator))
    points = cam_from_world.inverse() @ (camera.unproject(pixels) * depth)
    points = points + 0.02 * torch.randn(points.shape, generator=generator)
    wrong = torch.rand(points.shape[:2], generator=generator)[..., None] < 0.5
    points = torch.where(wrong, 2 * torch.randn(points.shape, generator=generator), points)
    return Correspondences(pixels, points, camera, grid=GRID), cam_from_world


def milliseconds(solver: PoseSolver, repetitions: int) -> dict[str, float]:
    """Medians of single steps and their backward passes, after one that warms up."""
    correspondences, truth = scene()
    steps, backward = [], []
    for i in range(repetitions + 1):
        points = correspondences.scene_points.clone().requires_grad_()
        generator = torch.Generator().manual_seed(i)
        started = time.process_time()
        live = replace(correspondences, scene_points=points)
        loss = solver.expected_loss(live, truth, WeightedError(), generator).sum()
        known = time.process_time()
        loss.backward()
        ended = time.process_time()
        steps.append(1e3 * (ended - started))
        backward.append(1e3 * (ended - known))
        assert points.grad is not None and torch.isfinite(points.grad).all()
    return {"step": statistics.median(steps[1:]), "backward": statistics.median(backward[1:])}


def solver_of(num_hypotheses: int, backend: Backend, refinement: Refinement) -> PoseSolver:
    return PoseSolver.rgb(
        num_hypotheses, selection=DSAC(negligible=0.0), refinement=refinement, backend=backend
    )


def gradient_kernels_ms(num_hypotheses: int, repetitions: int) -> float:
    """Of the vector-Jacobian products of all scores and all refinements."""
    correspondences, truth = scene()
    generator = torch.Generator().manual_seed(0)
    poses = Pose.exp(0.002 * torch.randn(1, num_hypotheses, 6, generator=generator)) @ truth[:, None]
    camera = correspondences.camera
    rows = (correspondences.pixels, correspondences.scene_points, camera.focal_px, camera.center_px)
    posed = PosedRows(poses.rotation, poses.translation, *rows)
    *optima, _, _ = cpu.refine(posed, 10.0, 100)
    at_optimum = PosedRows(*optima, *rows)
    times = []
    for _ in range(repetitions + 1):
        started = time.process_time()
        cpu.soft_inlier_count_gradient(posed, 10.0, 100.0, torch.ones(1, num_hypotheses))
        cpu.refine_gradient(at_optimum, 10.0, torch.ones(1, num_hypotheses, 6))
        times.append(1e3 * (time.process_time() - started))
    return statistics.median(times[1:])


def cell(measured: dict[str, float]) -> str:
    return f"{measured['step']:.0f} ({measured['backward']:.0f})"


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    run(parser, measure)


def measure(arguments: argparse.Namespace) -> None:
    """Writes the tables."""
    repetitions = arguments.repetitions
    torch.set_num_threads(1)
    torch_residual = ReprojectionError(backend="reference")
    parts: dict[str, tuple[Backend, Refinement]] = {
        "kernels, all 4800 points": ("auto", RobustRefinement()),
        "torch, 256 points a pose": ("reference", RobustRefinement(torch_residual, max_points=256)),
        "torch, all 4800 points": ("reference", RobustRefinement(torch_residual)),
        f"torch, unrolled, {ITERATIONS} iterations, all points": ("reference", Unrolled()),
    }
    measured = {
        name: {count: milliseconds(solver_of(count, *part), repetitions) for count in (64, 256)}
        for name, part in parts.items()
    }
    kernels = {count: gradient_kernels_ms(count, repetitions) for count in (64, 256)}
    machine = f"{platform.machine()}, one thread, torch {torch.__version__}"
    content = {
        "machine": machine,
        "repetitions": repetitions,
        "milliseconds": measured,
        "gradient_kernels_ms": kernels,
    }
    (arguments.output / "training_step.json").write_text(json.dumps(content, indent=2) + "\n")
    lines = [
        "# Processor time of one training step, ms",
        "",
        f"One image, 4800 correspondences, every hypothesis of DSAC refined; {machine};",
        f"median of {repetitions}, in brackets the backward pass:",
        "`python benchmarks/training_step.py`",
        "",
        "| scoring, refinement and their gradients | 64 hypotheses | 256 hypotheses |",
        "|---|---|---|",
        *(f"| {name} | {cell(row[64])} | {cell(row[256])} |" for name, row in measured.items()),
        "",
        f"The kernels of both gradients alone take {kernels[64]:.1f} and {kernels[256]:.1f} ms.",
    ]
    write_table(arguments.output, "training_step.md", lines)


if __name__ == "__main__":
    main()
