"""Time of one query, stage by stage, and of batches.

    python benchmarks/query.py MAP SCENE [--threads 1 2] [--images 100]

Medians over the query images, each stage by itself. Writes results/query.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import fields

from scripts import run, table_parser


def measure(map_file: str, scene_path: str, images: int) -> None:
    """In this process; prints a table row for the threads it was given."""
    import numpy as np
    import torch

    from dsac import Localizer, load_scene
    from dsac.cli import keep_freed_memory
    from dsac.localization import Timing

    keep_freed_memory()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    localizer = Localizer.load(map_file)
    localizer.warm_up()
    scene = load_scene(scene_path)
    rows = np.linspace(0, len(scene.query) - 1, min(images, len(scene.query))).round().astype(int)
    query = scene.query[rows]
    timings = [answer.timing for answer in localizer.localize_frames(query)][2:]  # the first ones warm up
    stages = [statistics.median(getattr(t, field.name) for t in timings) for field in fields(Timing)]
    total = statistics.median(t.total_ms for t in timings)
    batch = torch.stack([query[i].image for i in range(min(16, len(query)))])
    started = time.perf_counter()
    localizer.localize(batch, query.camera(0))
    each = 1e3 * (time.perf_counter() - started) / len(batch)
    names = [field.name.removesuffix("_ms") for field in fields(Timing)]
    print("| threads | " + " | ".join(names) + " | total ms | a batch of 16, ms an image |")
    print("|---" * (len(names) + 3) + "|")
    cells = [f"{value:.1f}" for value in (*stages, total, each)]
    print(f"| {torch.get_num_threads()} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("map")
    parser.add_argument("scene")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    run(parser, measure_each)


def measure_each(arguments: argparse.Namespace) -> None:
    """With each number of threads, in a process of its own."""
    if arguments.here:
        measure(arguments.map, arguments.scene, arguments.images)
        return
    lines: list[str] = []
    for threads in arguments.threads:  # the number of threads is settled when PyTorch loads
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [
            sys.executable,
            __file__,
            arguments.map,
            arguments.scene,
            "--images",
            str(arguments.images),
            "--here",
        ]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        if result.returncode != 0:
            raise SystemExit(result.stderr.strip() or f"exit status {result.returncode}")
        print(result.stdout, end="", flush=True)
        table = [line for line in result.stdout.splitlines() if line.startswith("|")]
        lines += table if not lines else table[2:]
    about = f"`python benchmarks/query.py MAP SCENE`, {platform.machine()}; medians, milliseconds."
    (arguments.output / "query.md").write_text(
        "\n".join(["# Time of one query image", "", about, "", *lines]) + "\n"
    )


if __name__ == "__main__":
    main()
