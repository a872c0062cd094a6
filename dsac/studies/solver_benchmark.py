"""Our CPU solver beside the solvers that are installed, on dense scene coordinates with wrong predictions.

Solvers are interleaved frame by frame and their CPU time is taken: a row is the median over frames of the
median over repeats, a ratio the median over frames of the ratios. Our solver is also given measured depth, the
true one with a Kinect's noise, and a batch of images, on one thread and on all: in wall-clock time, which other
work on the machine spoils.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dsac.kernels import cpu
from dsac.studies.solver_inputs import Input, input_files, read_input, synthetic_inputs
from dsac.studies.solvers import OURS, THRESHOLD_PX, Solver, ours, peers

BUDGET_S = 6.0  # per solver and input: slow peers see fewer frames


@dataclass(frozen=True)
class Row:
    """One solver on one input."""

    input: str
    solver: str
    cpu_ms: float
    times_ours: float
    found_percent: float  # within 5 cm and 5°
    median_cm: float
    median_deg: float
    runs: int


@dataclass(frozen=True)
class Throughput:
    """Images a second of our solver on a batch, in wall-clock time."""

    input: str
    one_thread: float
    all_threads: float


@dataclass(frozen=True)
class Results:
    """What was measured, and how."""

    rows: list[Row]
    throughputs: list[Throughput]
    about: str


@dataclass
class Record:
    """What one solver did on one input: milliseconds and errors, frame by frame."""

    cpu_ms: dict[int, list[float]] = field(default_factory=dict)
    errors: list[tuple[float, float]] = field(default_factory=list)  # cm, degrees

    def per_frame(self) -> dict[int, float]:
        return {k: float(np.median(v)) for k, v in self.cpu_ms.items()}


def benchmark_solvers(
    folder: Path | None = None,
    frames: int = 50,
    repeats: int = 3,
    on_input: Callable[[list[Row]], None] = lambda rows: None,
) -> Results:
    """Rows of all solvers on all inputs, those of `folder` or else of the synthetic scene.

    `on_input` gets the rows of each input when it is done. Raises: `DatasetError` when the folder has no inputs
    or a broken one.
    """
    rows: list[Row] = []
    throughputs: list[Throughput] = []
    lost_ms: list[float] = []
    points = 0
    paths = None if folder is None else input_files(folder)
    for data in synthetic_inputs(frames) if paths is None else (read_input(path, frames) for path in paths):
        points = len(data.pixels)
        measured = summary(data, measure(data, {**ours(data), **peers(data)}, repeats))
        throughputs.append(throughput(data))
        lost_ms = lost_ms or times_of_lost(data)
        on_input(measured)
        rows += measured
    options = f"--frames {frames} --repeats {repeats}" + ("" if folder is None else " --inputs FOLDER")
    about = (
        f"{points} points, {frames} frames of {'the synthetic scene' if folder is None else 'recorded depth'}, "
        f"{repeats} repeats (slow solvers see fewer), one thread of {cpu_name()}: "
        f"`OMP_NUM_THREADS=1 dsac bench solver {options}`. Frames without any right prediction take our solver "
        f"{np.median(lost_ms):.1f} ms, at most {max(lost_ms):.1f}."
    )
    if missing := [name for name in ("poselib", "pycolmap") if importlib.util.find_spec(name) is None]:
        about += f" Not installed, so not timed: {', '.join(missing)}."
    return Results(rows, throughputs, about)


# ---- measuring -------------------------------------------------------------------------------------------


def pose_error(answer, world_from_cam: np.ndarray) -> tuple[float, float]:
    """Centimetres and degrees; infinite where there is no answer."""
    if answer is None or not all(np.isfinite(part).all() for part in answer):
        return float("inf"), float("inf")
    rotation, translation = answer
    distance = np.linalg.norm(-rotation.T @ translation - world_from_cam[:3, 3])
    difference = np.linalg.norm(rotation.T - world_from_cam[:3, :3])
    return 100 * float(distance), float(np.degrees(2 * np.arcsin(min(1.0, difference / np.sqrt(8)))))


def measure(data: Input, solvers: dict[str, Solver], repeats: int) -> dict[str, Record]:
    frames = range(len(data.scene_points))
    records = {name: Record() for name in solvers}
    spent = dict.fromkeys(solvers, 0.0)
    names = list(solvers)
    names = names[::2] + names[1::2]  # ours are not side by side: one would find its data in the cache
    for name in names:  # compile, load, warm up
        solvers[name](0, 0)
    for repeat in range(repeats):
        for k in frames:
            turn = (k + repeat) % len(names)
            for name in names[turn:] + names[:turn]:
                if spent[name] > BUDGET_S:
                    continue
                start = time.process_time()
                answer = solvers[name](k, repeat + 1)
                seconds = time.process_time() - start
                spent[name] += seconds
                records[name].cpu_ms.setdefault(k, []).append(1e3 * seconds)
                records[name].errors.append(pose_error(answer, data.world_from_cam[k]))
    return records


def threads() -> int:
    """As many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def throughput(data: Input, images: int = 250, repeats: int = 5) -> Throughput:
    """The frames, repeated to a batch; the fastest of some runs each, taken in turns."""
    which = np.arange(images) % len(data.scene_points)
    f, cx, cy = data.camera
    inputs = (
        np.repeat(data.pixels[None], images, 0),
        data.scene_points[which],
        np.full((images, 2), f),
        np.tile([cx, cy], (images, 1)),
    )
    seconds: dict[int, list[float]] = {1: [], threads(): []}
    for _ in range(repeats):
        for count, measured in seconds.items():
            start = time.perf_counter()
            cpu.solve_rgb(*inputs, threshold_px=THRESHOLD_PX, effort=cpu.Effort(threads=count))
            measured.append(time.perf_counter() - start)
    return Throughput(data.name, images / min(seconds[1]), images / min(seconds[threads()]))


def times_of_lost(data: Input) -> list[float]:
    """Milliseconds for each frame where every scene point is at another one's pixel."""
    shuffled = np.roll(data.scene_points, data.scene_points.shape[1] // 2, axis=1)
    solve = ours(replace(data, scene_points=shuffled, depths=None))[OURS]
    times = []
    for k in range(len(shuffled)):
        start = time.process_time()
        solve(k, 0)
        times.append(1e3 * (time.process_time() - start))
    return times


def summary(data: Input, records: dict[str, Record]) -> list[Row]:
    mine = records[OURS].per_frame()
    rows = []
    for name, record in records.items():
        times, errors = record.per_frame(), np.array(record.errors)
        found = (errors[:, 0] < 5) & (errors[:, 1] < 5)
        rows.append(
            Row(
                data.name,
                name,
                cpu_ms=float(np.median(list(times.values()))),
                times_ours=float(np.median([times[k] / mine[k] for k in times])),
                found_percent=100 * float(found.mean()),
                median_cm=float(np.median(errors[:, 0])),
                median_deg=float(np.median(errors[:, 1])),
                runs=len(errors),
            )
        )
    return rows


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
