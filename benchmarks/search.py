"""How surely and how fast the solver finds the place among a network's own predictions.

    python benchmarks/search.py MAP SCENE [--seeds 6]

Wrong predictions of `dsac bench solver` are independent; those of a network are smooth, so that neighbours
agree on what is wrong. Here the fused kernel alone, on one thread, solves the scene coordinates that a map
predicts for each query image, with several seeds each. Found is what landmarks can start from: within 10° and
15 % of the median distance of the right points from the camera. Writes results/search.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from scripts import run, table_parser, write_table

from dsac import Localizer, Pose, load_scene
from dsac.cli import keep_freed_memory
from dsac.errors import DatasetError
from dsac.kernels import cpu

LARGEST_ANGLE_DEG, LARGEST_SHARE_OF_DEPTH = 10.0, 0.15


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("map")
    parser.add_argument("scene")
    parser.add_argument("--seeds", type=int, default=6)
    run(parser, measure)


def measure(arguments: argparse.Namespace) -> None:
    """Raises: `DsacError` for a map or scene that cannot be used."""
    keep_freed_memory()
    torch.set_num_threads(1)
    localizer, scene = Localizer.load(arguments.map), load_scene(arguments.scene)
    localizer.warm_up()
    found: list[bool] = []
    times: list[float] = []
    if scene.query.cam_from_world is None:
        raise DatasetError(f"{arguments.scene}: expected query images with poses, found none")
    for i, answer in enumerate(localizer.localize_frames(scene.query)):
        truth = scene.query.cam_from_world[i]
        seen = answer.correspondences
        assert seen.weights is not None
        depth = (answer.cam_from_world.to(torch.float32) @ seen.scene_points[0])[answer.inliers][:, 2]
        camera = seen.camera.focal_px.double(), seen.camera.center_px.double()
        inputs = (x.numpy() for x in (seen.pixels, seen.scene_points, *camera, seen.weights))
        inputs = tuple(np.ascontiguousarray(x) for x in inputs)
        near = LARGEST_SHARE_OF_DEPTH * float(depth.median()) if len(depth) else 0.0
        for seed in range(arguments.seeds):
            started = time.process_time()
            solution = cpu.solve_rgb(*inputs, threshold_px=10.0, seed=seed)
            times.append(1e3 * (time.process_time() - started))
            pose = Pose(torch.from_numpy(solution.rotation[0]), torch.from_numpy(solution.translation[0]))
            angle, distance = pose.rotation_error_deg(truth).item(), pose.center_distance(truth).item()
            known = bool(solution.information.any())  # otherwise the pose is the identity
            found.append(known and angle < LARGEST_ANGLE_DEG and distance < near)
    lines = [
        "# The search among a network's own predictions",
        "",
        f"`python benchmarks/search.py MAP SCENE --seeds {arguments.seeds}`, {Path(arguments.map).name}, "
        f"{len(scene.query)} queries of {Path(arguments.scene).name}:",
        "",
        "| % found | median ms | mean ms | 95 % within, ms |",
        "|---|---|---|---|",
        f"| {100 * statistics.mean(found):.1f} | {statistics.median(times):.2f} | {statistics.mean(times):.2f} "
        f"| {np.percentile(times, 95):.2f} |",
    ]
    write_table(arguments.output, "search.md", lines)


if __name__ == "__main__":
    main()
