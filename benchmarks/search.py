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

from dsac import Localizer, load_scene
from dsac.cli import keep_freed_memory
from dsac.kernels import cpu

RESULTS = Path(__file__).parent / "results"
LARGEST_ANGLE_DEG, LARGEST_SHARE_OF_DEPTH = 10.0, 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("map")
    parser.add_argument("scene")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the table")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    torch.set_num_threads(1)
    localizer, scene = Localizer.load(arguments.map), load_scene(arguments.scene)
    found: list[bool] = []
    times: list[float] = []
    for answer, frame in zip(localizer.localize_frames(scene.query), scene.query, strict=True):
        assert frame.cam_from_world is not None
        seen = answer.correspondences
        assert seen.weights is not None
        depth = (answer.estimate.cam_from_world @ seen.scene_points)[answer.estimate.inliers][:, 2]
        camera = seen.camera.focal_px.double(), seen.camera.center_px.double()
        inputs = (x.numpy() for x in (seen.pixels, seen.scene_points, *camera, seen.weights))
        inputs = tuple(np.ascontiguousarray(x) for x in inputs)
        truth = frame.cam_from_world.matrix.double().numpy()
        for seed in range(arguments.seeds):
            started = time.process_time()
            solution = cpu.solve_rgb(*inputs, threshold_px=10.0, seed=seed)
            times.append(1e3 * (time.process_time() - started))
            rotation = solution.rotation[0]
            distance = np.linalg.norm(rotation.T @ solution.translation[0] - truth[:3, :3].T @ truth[:3, 3])
            angle = np.degrees(np.arccos(np.clip((np.trace(rotation.T @ truth[:3, :3]) - 1) / 2, -1, 1)))
            near = LARGEST_SHARE_OF_DEPTH * float(depth.median()) if len(depth) else 0.0
            found.append(bool(angle < LARGEST_ANGLE_DEG and distance < near))
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
    text = "\n".join(lines) + "\n"
    print(text)
    (arguments.output / "search.md").write_text(text)


if __name__ == "__main__":
    main()
