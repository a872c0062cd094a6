"""How fast regions are mapped: by one process, by workers, by workers on Ray, and, by simulation, by hundreds.

    python benchmarks/workers.py [--runs 3] [--regions 4] [--steps 100]

Regions are rooms and the corridor of a rendered building. The ways to map them take turns, so that what else
the machine does disturbs all alike; medians of the runs are told. Then the queue of `dsac.mapping.workers` is
simulated with the times that were measured: those of regions, of the start of a worker. Writes
results/workers.md. With Ray installed (`pip install 'dsac[ray]'`) it starts a cluster of this machine alone.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from kills import rows_of
from scripts import run, table_parser, write_table

from dsac import Scene, load_scene
from dsac.errors import DsacError
from dsac.kernels import wait_until_compiled
from dsac.mapping import MappingSettings, RegionTask, Start, build_regions, on_ray
from dsac.mapping.workers import Process, work
from dsac.rooms import DEPTH_UNIT, building_scene, write_scene

RAY_WORKERS = 1, 2, 4
SIMULATED_WORKERS, SIMULATED_REGIONS = (1, 16, 64, 256), (30, 300)
_NETWORK_MB_S = 50.0  # to one node, of frames; a gigabit has 100


class Way(NamedTuple):
    """To map regions."""

    name: str
    threads: int  # of this process
    workers: int
    start: Callable[[], contextlib.AbstractContextManager[Start | None]]


class Worked(NamedTuple):
    """What a worker took for a region, by its own account."""

    until_begun: float  # seconds from when it was wanted: a process, imports
    seconds: float
    read_mb: float


@dataclass
class Measured:
    walls: dict[str, list[float]]  # seconds for all regions, by way
    worked: list[Worked]
    task_mb: float
    map_mb: float


# ---- measured ---------------------------------------------------------------------------------------------


def _work(task: RegionTask, log: Path, wanted: float) -> None:
    begun, read = time.time(), _read_bytes()
    work(task)
    ended = Worked(begun - wanted, time.time() - begun, (_read_bytes() - read) / 1e6)
    with open(log, "a") as file:
        file.write(json.dumps(ended) + "\n")


def _read_bytes() -> int:
    """By this process, so far, from files and elsewhere; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])
    return 0


def measure_all(scene: Scene, settings: MappingSettings, folder: Path, runs: int) -> Measured:
    log, rows = folder / "worked.jsonl", rows_of(scene)

    @contextlib.contextmanager
    def nobody() -> Iterator[None]:
        yield None

    @contextlib.contextmanager
    def processes() -> Iterator[Start]:
        def start(task: RegionTask) -> Process:
            return Process.doing(_work, task, log, time.time())

        yield start

    def on_ray_with(workers: int) -> Callable[[], contextlib.AbstractContextManager[Start | None]]:
        @contextlib.contextmanager
        def ray() -> Iterator[Start]:
            with on_ray("local", workers) as cluster:
                yield cluster.start

        return ray

    ways = [
        Way("one process, one thread", 1, 1, nobody),
        Way("one process, two threads", 2, 1, nobody),
        Way("1 worker", 1, 1, processes),
        Way("2 workers", 1, 2, processes),
    ]
    with contextlib.suppress(ImportError):
        import ray  # noqa: F401

        ways += [Way(f"Ray, {n} worker{'s' * (n > 1)}", 1, n, on_ray_with(n)) for n in RAY_WORKERS]
    walls: dict[str, list[float]] = {way.name: [] for way in ways}
    for number in range(runs):
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            _threads(way.threads)
            with way.start() as start:
                began = time.monotonic()
                mapped = build_regions(scene, rows, folder / "made", settings, workers=way.workers, start=start)
                walls[way.name].append(time.monotonic() - began)
            if mapped.failed:
                raise DsacError(f"{way.name}: {next(iter(mapped.failed.values()))}")
            print(f"{way.name}: {walls[way.name][-1]:.1f} s")
    worked = [Worked(*json.loads(line)) for line in log.read_text().splitlines()]
    task = RegionTask("1", scene, settings, 0, "cpu", folder)
    maps = [path.stat().st_size for path in (folder / "made").glob("*.dsac")]
    return Measured(walls, worked, len(pickle.dumps(task)) / 1e6, statistics.mean(maps) / 1e6)


def _threads(number: int) -> None:
    import numba

    torch.set_num_threads(number)
    numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))


# ---- simulated --------------------------------------------------------------------------------------------


class Costs(NamedTuple):
    """Seconds of what happens once a region."""

    start: float  # of the driver, to hand out a task
    look: float  # of the driver, at a worker, each time
    collect: float  # of the driver, for a map that came
    begin: float  # of a new worker, before it begins
    fetch: float  # of a worker, for its frames


def simulated(durations: list[float], workers: int, costs: Costs, poll_s: float = 0.5) -> float:
    """Seconds until all regions are mapped: the queue of `dsac.mapping.workers`, with a clock of its own."""
    now, waiting, running, new = 0.0, durations[::-1], [], workers
    while waiting or running:
        while waiting and len(running) < workers:
            now += costs.start
            begin = costs.begin if new > 0 else 0.0
            new -= 1
            heapq.heappush(running, now + begin + costs.fetch + waiting.pop())
        now += poll_s + costs.look * len(running)
        while running and running[0] <= now:
            heapq.heappop(running)
            now += costs.collect
    return now


def simulation(measured: Measured, seed: int = 0) -> list[str]:
    """A table of what so many workers would take; regions take what some did here, drawn at random."""
    rng = np.random.default_rng(seed)
    seconds = [one.seconds for one in measured.worked]
    read_mb = statistics.median(one.read_mb for one in measured.worked)
    costs = Costs(
        start=measured.task_mb / _NETWORK_MB_S + 0.005,
        look=0.002,
        collect=measured.map_mb / _NETWORK_MB_S + 0.02,
        begin=statistics.median(one.until_begun for one in measured.worked),
        fetch=read_mb / _NETWORK_MB_S,
    )
    lines = [
        f"A region takes {statistics.median(seconds):.0f} s (median of those measured), a new worker "
        f"{costs.begin:.1f} s to begin, {read_mb:.0f} MB of frames {costs.fetch:.1f} s to fetch at "
        f"{_NETWORK_MB_S:.0f} MB/s; the driver takes {costs.start:.3f} s to hand out a task of "
        f"{measured.task_mb:.1f} MB, {costs.look:.3f} s to look at a worker twice a second, "
        f"{costs.collect:.3f} s for a map of {measured.map_mb:.1f} MB.",
        "",
        "| regions | workers | s | times as fast as one | of what is possible |",
        "|---|---|---|---|---|",
    ]
    for regions in SIMULATED_REGIONS:
        durations = rng.choice(seconds, regions).tolist()
        alone = simulated(durations, 1, costs)
        for workers in SIMULATED_WORKERS:
            took = simulated(durations, workers, costs)
            possible = min(workers, regions)
            lines.append(
                f"| {regions} | {workers} | {took:.0f} | {alone / took:.1f} | {alone / took / possible:.0%} |"
            )
    return lines


# ---- told ---------------------------------------------------------------------------------------------------


def table(measured: Measured, arguments: argparse.Namespace, regions: int) -> list[str]:
    one = statistics.median(measured.walls["one process, two threads"])
    command = f"python benchmarks/workers.py --runs {arguments.runs} --steps {arguments.steps}"
    where = f"{regions} regions of a rendered building, {os.cpu_count()} cores"
    lines = [
        "# How fast regions are mapped",
        "",
        f"`{command}`: {where}, medians of {arguments.runs} turns. {arguments.beside}".strip(),
        "",
        "| | s, median | each | regions an hour | times one process with two threads |",
        "|---|---|---|---|---|",
    ]
    for name, walls in measured.walls.items():
        median = statistics.median(walls)
        each = ", ".join(f"{wall:.0f}" for wall in walls)
        lines.append(f"| {name} | {median:.0f} | {each} | {3600 * regions / median:.0f} | {one / median:.2f} |")
    return [*lines, "", "## By simulation", "", *simulation(measured)]


def measure(arguments: argparse.Namespace) -> None:
    wait_until_compiled()
    settings = MappingSettings(steps=arguments.steps, num_views=arguments.frames, num_landmarks=1000)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "building"
        scene = building_scene(
            arguments.rooms, num_mapping=arguments.frames, num_query=1, size=(320, 240), light_cell=0.5
        )
        write_scene(scene, place, depth_unit=DEPTH_UNIT)
        scene = load_scene(place)
        measured = measure_all(scene, settings, Path(folder), arguments.runs)
    write_table(arguments.output, "workers.md", table(measured, arguments, len(rows_of(scene))))


if __name__ == "__main__":
    parser = table_parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="turns of each way")
    parser.add_argument(
        "--rooms", type=int, default=3, help="of the building; its corridor is a region as well"
    )
    parser.add_argument("--frames", type=int, default=40, help="of each region")
    parser.add_argument("--steps", type=int, default=100, help="of training")
    parser.add_argument("--beside", default="", help="what else ran on the machine, for the page")
    run(parser, measure)
