"""The solver on a whole batch at once, on a device: images a second, and the backward pass an image.

4800 correspondences an image, half of them wrong. Forward is the search alone, and `DenseSolver.rgb()`,
which adds robust refinement, covariance and confidence; backward is that of `expected_loss` with 64 hypotheses
by all scene points. Wall-clock time, medians. Writes results/device_batch.md.

    python benchmarks/device_batch.py --device cuda [--inputs FOLDER]

With a folder of the inputs that `dsac bench solver` takes: what the batched solver of GPUs, in torch, finds
among them, all frames at once, on whatever device.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scripts import run, table_parser, write_table
from torch import Tensor
from training_step import scene

from dsac import Camera, Correspondences, Pose, PoseSolver
from dsac.kernels import ImageRows, gpu
from dsac.ransac import DSAC, DenseSolver, RobustRefinement, WeightedError
from dsac.studies.solver_benchmark import pose_error
from dsac.studies.solver_inputs import Input, input_files, read_input


def batch(images: int, device: torch.device) -> tuple[Correspondences, Pose]:
    """The image of `training_step.py` so many times, each with noise of its own."""
    one, truth = scene()
    generator = torch.Generator().manual_seed(1)

    def repeated(values: Tensor) -> Tensor:
        return values.expand(images, *values.shape[1:]).contiguous().to(device)

    noise = 0.005 * torch.randn(images, *one.scene_points.shape[1:], generator=generator)
    camera = Camera(repeated(one.camera.focal_px), repeated(one.camera.center_px), one.camera.size)
    points = repeated(one.scene_points) + noise.to(device)
    poses = Pose(repeated(truth.rotation), repeated(truth.translation))
    return Correspondences(repeated(one.pixels), points, camera, grid=one.grid), poses


def forward_seconds(
    images: int, device: torch.device, repetitions: int, trusted: bool = True
) -> tuple[list[float], float]:
    """Of batches, after one that warms up; and the share of images within 5 cm and 5°.

    Of the answers, or only of the poses that the search finds.
    """
    correspondences, truth = batch(images, device)
    solver, clean = DenseSolver.rgb(), correspondences.sanitised()
    search = solver.residual.engine(clean.pixels, clean.scene_points).search
    assert search is not None
    camera = clean.camera.focal_px, clean.camera.center_px
    rows = ImageRows(clean.pixels, clean.scene_points, None, *camera, clean.weights)
    seconds = []
    for i in range(repetitions + 1):
        generator = torch.Generator(device).manual_seed(i)
        started = _now(device)
        with torch.inference_mode():
            if trusted:
                found = solver(clean, generator).cam_from_world
            else:
                solution = search(rows, 10.0, i)
                found = Pose(solution.rotation, solution.translation).to(clean.pixels)
        seconds.append(_now(device) - started)
    right = (found.rotation_error_deg(truth) < 5) & (found.center_distance(truth) < 0.05)
    return seconds[1:], right.float().mean().item()


def backward_seconds(images: int, device: torch.device, repetitions: int) -> list[float]:
    """Of batches, after one that warms up."""
    correspondences, truth = batch(images, device)
    solver = PoseSolver.rgb(64, selection=DSAC(negligible=0.0), refinement=RobustRefinement())
    seconds = []
    for i in range(repetitions + 1):
        points = correspondences.scene_points.clone().requires_grad_()
        generator = torch.Generator(device).manual_seed(i)
        live = replace(correspondences, scene_points=points)
        loss = solver.expected_loss(live, truth, WeightedError(), generator).sum()
        started = _now(device)
        loss.backward()
        seconds.append(_now(device) - started)
    return seconds[1:]


def found_by_torch(data: Input, device: torch.device, seeds: range = range(3)) -> tuple[float, float, float]:
    """Percent within 5 cm and 5°, median error in cm, and images a second, of frames in one batch."""
    count = len(data.scene_points)
    f, cx, cy = data.camera
    inputs = [
        torch.from_numpy(data.pixels).expand(count, -1, -1).contiguous().to(device),
        torch.from_numpy(data.scene_points).to(device),
        torch.full((count, 2), float(f), device=device),
        torch.tensor([[cx, cy]], dtype=torch.float32, device=device).repeat(count, 1),
    ]
    errors, seconds = [], []
    for seed in seeds:
        started = _now(device)
        solution = gpu.solve_rgb(*inputs, threshold_px=10.0, seed=seed)
        seconds.append(_now(device) - started)
        poses = zip(solution.rotation.cpu().numpy(), solution.translation.cpu().numpy(), strict=True)
        errors += [pose_error(pose, data.world_from_cam[k]) for k, pose in enumerate(poses)]
    cm, deg = np.array(errors).T
    return 100 * float(((cm < 5) & (deg < 5)).mean()), float(np.median(cm)), count / statistics.median(seconds)


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("--inputs", type=Path, help="folder with files input_r*.npz")
    devices = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--device", choices=devices, default=devices[0], help="those that are here")
    parser.add_argument("--images", type=int, default=256, help="in a batch that is localized")
    parser.add_argument("--trained", type=int, default=16, help="images in a batch that is learned from")
    parser.add_argument("--repetitions", type=int, default=10)
    run(parser, measure)


def measure(arguments: argparse.Namespace) -> None:
    """Writes the table. Raises: `DatasetError` for a folder without inputs, before anything is measured."""
    files = [] if arguments.inputs is None else input_files(arguments.inputs)
    device, repetitions = torch.device(arguments.device), arguments.repetitions
    poses, _ = forward_seconds(arguments.images, device, repetitions, trusted=False)
    forward, right = forward_seconds(arguments.images, device, repetitions)
    backward = backward_seconds(arguments.trained, device, repetitions)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    options = f"--device {device} --images {arguments.images} --trained {arguments.trained}"
    options += " --inputs FOLDER" if files else ""
    lines = [
        "# The solver on batches",
        "",
        f"`python benchmarks/device_batch.py {options}`, {name}; 4800 correspondences an image, half wrong.",
        "",
        "| images a second, poses alone | with covariance and confidence | % within 5 cm, 5° "
        "| backward of 64 hypotheses, ms an image |",
        "|---|---|---|---|",
        f"| {arguments.images / statistics.median(poses):.0f} "
        f"| {arguments.images / statistics.median(forward):.0f} | {100 * right:.1f} "
        f"| {1e3 * statistics.median(backward) / arguments.trained:.2f} |",
    ]
    if files:
        inputs = [read_input(path, 50) for path in files]
        found = [found_by_torch(data, device) for data in inputs]
        lines += [
            "",
            f"The batched solver in torch on 50 frames of recorded depth at once, three seeds, {name}:",
            "",
            "| | " + " | ".join(data.name for data in inputs) + " |",
            "|---" * (len(inputs) + 1) + "|",
            "| % within 5 cm, 5° | " + " | ".join(f"{x[0]:.0f}" for x in found) + " |",
            "| median error, cm | " + " | ".join(f"{x[1]:.2f}" for x in found) + " |",
            "| images a second | " + " | ".join(f"{x[2]:.0f}" for x in found) + " |",
        ]
    write_table(arguments.output, "device_batch.md", lines)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
