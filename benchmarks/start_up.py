"""What a process pays once: importing the package, and the first pose. Writes results/start_up.md.

    python benchmarks/start_up.py

The first pose of a process loads the solver's machine code from Numba's cache; the very first one compiles it.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts import run, table_parser, write_table

FIRST_POSE = """
import time
import numpy as np
started = time.perf_counter()
from dsac.kernels import cpu
imported = time.perf_counter()
rng = np.random.default_rng(0)
points = rng.uniform((-1, -1, 2), (1, 1, 4), (1, 4800, 3))
pixels = 500 * points[..., :2] / points[..., 2:] + 250
focal, center = np.full((1, 2), 500.0), np.full((1, 2), 250.0)
assert cpu.solve_rgb(pixels.astype("f4"), points.astype("f4"), focal, center, threshold_px=10.0).inliers.all()
print(imported - started, time.perf_counter() - imported)
"""


def import_seconds() -> float:
    """Cumulative time of `import dsac` in an interpreter that has torch already."""
    command = [sys.executable, "-X", "importtime", "-c", "import torch; import dsac"]
    trace = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    match = re.search(r"\|\s*(\d+) \| dsac$", trace, re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1e6


def first_pose_seconds(cache: Path) -> tuple[float, float]:
    """Importing PyTorch and the kernels, and then the first pose, with Numba's cache in a folder."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", FIRST_POSE]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    before, pose = map(float, printed.split())
    return before, pose


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    run(parser, measure)


def measure(arguments: argparse.Namespace) -> None:
    """Writes the table."""
    imports = [import_seconds() for _ in range(arguments.repeats)]
    with tempfile.TemporaryDirectory() as cache:
        compiled = first_pose_seconds(Path(cache))
        loaded = [first_pose_seconds(Path(cache)) for _ in range(arguments.repeats)]
    first = statistics.median(pose for _, pose in loaded)
    both = statistics.median(before + pose for before, pose in loaded)
    lines = [
        "# What a process pays once",
        "",
        f"`python benchmarks/start_up.py --repeats {arguments.repeats}`, medians, seconds:",
        "",
        "| | s |",
        "|---|---|",
        f"| `import dsac`, beyond PyTorch | {statistics.median(imports):.3f} |",
        f"| the first pose after it, kernels from Numba's cache | {first:.2f} |",
        f"| both, with PyTorch and Numba | {both:.2f} |",
        f"| the very first pose, which compiles the kernels | {compiled[1]:.1f} |",
    ]
    write_table(arguments.output, "start_up.md", lines)


if __name__ == "__main__":
    main()
