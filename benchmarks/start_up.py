"""What a process pays once: importing the package, and the first pose. Writes results/start_up.md.

    python benchmarks/start_up.py [--map MAP --photo PHOTO]

The first pose of a process loads the solver's machine code from Numba's cache; the very first one compiles it.
A photo does not wait for that: with a map, `dsac localize MAP PHOTO` is timed after an install and later, as
seconds of processor time on one thread, which other work beside it hardly changes. What compiles beside is
stopped, and not counted.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
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


def localize_seconds(map_file: Path, photo: Path, cache: Path) -> tuple[float, float]:
    """Of `dsac localize`: wall and processor seconds, with Numba's cache in a folder."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dsac", "localize", str(map_file), str(photo)]
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    wall, after = time.perf_counter() - started, os.times()
    return wall, sum(after[2:4]) - sum(before[2:4])


def localize_lines(map_file: Path, photo: Path, repeats: int) -> list[str]:
    lines = []
    with tempfile.TemporaryDirectory() as empty:
        first = localize_seconds(map_file, photo, Path(empty))
        subprocess.run(["pkill", "-f", "dsac.warm_up"], check=False)
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        before = os.times()
        subprocess.run([sys.executable, "-m", "dsac.warm_up"], check=True, env=environment)
        after = os.times()
        compiling = sum(after[2:4]) - sum(before[2:4])
        later = [localize_seconds(map_file, photo, Path(cache)) for _ in range(repeats)]
    wall, processor = (statistics.median(column) for column in zip(*later, strict=True))
    lines.append(f"| `dsac localize` of one photo after an install | {first[0]:.1f} ({first[1]:.1f}) |")
    lines.append(f"| the same later | {wall:.1f} ({processor:.1f}) |")
    lines.append(f"| `dsac warm-up`, all that a photo needs | ({compiling:.0f}) |")
    return lines


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--map", type=Path)
    parser.add_argument("--photo", type=Path)
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
        f"`python benchmarks/start_up.py --repeats {arguments.repeats}`, medians, seconds (of the processor):",
        "",
        "| | s |",
        "|---|---|",
        f"| `import dsac`, beyond PyTorch | {statistics.median(imports):.3f} |",
        f"| the first pose after it, kernels from Numba's cache | {first:.2f} |",
        f"| both, with PyTorch and Numba | {both:.2f} |",
        f"| the very first pose, which compiles the kernels | {compiled[1]:.1f} |",
    ]
    if arguments.map is not None and arguments.photo is not None:
        lines += localize_lines(arguments.map, arguments.photo, arguments.repeats)
    write_table(arguments.output, "start_up.md", lines)


if __name__ == "__main__":
    main()
