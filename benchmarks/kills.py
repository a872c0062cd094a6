"""What a kill costs: workers, drivers and disks fail at random times while a building is mapped.

    python benchmarks/kills.py [--kills 50] [--seed 0]

A small rendered building, a region for each of its rooms and its corridor, is mapped by two workers again and
again. Every few seconds a worker is killed (SIGKILL), or the driver (and the mapping resumed), or the disk is
filled up and freed again: a tmpfs of its own, which takes root and Linux. After each: is every map that was
finished still there, the very same file? Is every checkpoint still there, and does its region go on from it? At
the end of each mapping: are the maps those of a mapping that nothing disturbed? Writes results/kills.md.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scripts import run, table_parser, write_table

from dsac import Scene, load_scene
from dsac.errors import DsacError
from dsac.mapping import MappingSettings, RegionTask, build_regions, training
from dsac.mapping.workers import Process, expect_parent, work
from dsac.rooms import DEPTH_UNIT, building_scene, write_scene

KINDS = ("a worker", "the driver", "the disk")
SETTINGS = MappingSettings(
    steps=600, batch_size=256, width=64, num_blocks=0, num_views=16, buffer_size=20_000, short_side_px=96,
    num_landmarks=100,
)  # fmt: skip
_MB = 1 << 20
_DISK_MB = 64


class Kept(NamedTuple):
    """What is safe on the disk at a time, by region."""

    maps: dict[str, bytes]  # without their metadata, which know the time
    steps: dict[str, int]  # of checkpoints

    @staticmethod
    def of(folder: Path) -> Kept:
        files = {path.stem: path.read_bytes() for path in folder.glob("*.dsac")}
        maps = {name: _values(data) for name, data in files.items()}
        steps = {}
        for path in folder.glob("*.checkpoint"):
            with contextlib.suppress(FileNotFoundError):  # its region was just finished
                steps[path.stem] = torch.load(path, weights_only=True)["step"]
        return Kept(maps, steps)


def _values(data: bytes) -> bytes:
    plain = gzip.decompress(data)
    return plain[8 + int.from_bytes(plain[:8], "little") :]


class Kill(NamedTuple):
    """One that happened."""

    kind: str
    time: float
    before: Kept
    lost: int  # maps and checkpoints that were there before, and not after


@dataclass
class Counted:
    kills: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)  # maps that were there when it happened
    begun: Counter[str] = field(default_factory=Counter)  # checkpoints that were
    lost: Counter[str] = field(default_factory=Counter)  # of these: gone, others, or not gone on from
    mappings: int = 0
    other_maps: int = 0  # of all mappings, than undisturbed


# ---- a mapping that can be killed ------------------------------------------------------------------------


def drive(place: Path, folder: Path) -> None:
    """Go on mapping until every region is there, or cannot be."""
    scene = load_scene(place)

    def start(task: RegionTask) -> Process:
        worker = Process.doing(_work, task, _beside(place, task, "log"))
        _beside(place, task, "pid").write_text(str(worker.process.pid))
        return worker

    build_regions(
        scene, rows_of(scene), folder, SETTINGS, workers=2, start=start, resume=True,
        on_progress=lambda name, progress: expect_parent(),
    )  # fmt: skip


def _beside(place: Path, task: RegionTask, ending: str) -> Path:
    """A file of a region on a disk that is never full."""
    return place.parent / f"{task.folder.name}.{task.name}.{ending}"


def _work(task: RegionTask, log: Path) -> None:
    """A worker that says at which step it goes on."""
    training._SAVE_EVERY = 0.5  # else regions as small as these are finished before their first checkpoint
    restore = training.Checkpoint.restore

    def noted(checkpoint: training.Checkpoint, parts: training.Parts) -> training.Standing:
        standing = restore(checkpoint, parts)
        with open(log, "a") as file:
            file.write(f"{json.dumps([time.time(), standing.step])}\n")
        return standing

    training.Checkpoint.restore = noted
    work(task, expect_parent)


def rows_of(scene: Scene) -> list[np.ndarray]:
    """A region for each folder of names."""
    folders = [name.split("/")[0] for name in scene.mapping.names]
    return [np.flatnonzero(np.array(folders) == folder) for folder in dict.fromkeys(folders)]


class Mapping:
    """One mapping of the place; its driver is a process of its own, started as often as it has to be."""

    def __init__(self, place: Path, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.regions = len(rows_of(load_scene(place)))
        folder.mkdir()
        self.begin()

    def begin(self) -> None:
        self.driver = get_context("spawn").Process(target=drive, args=(self.place, self.folder))
        self.driver.start()

    @property
    def finished(self) -> bool:
        return len(list(self.folder.glob("*.dsac"))) == self.regions

    def workers(self) -> list[int]:
        """Their process ids, of the regions that are not finished."""
        pids = []
        for path in sorted(self.place.parent.glob(f"{self.folder.name}.*.pid")):
            name, pid = path.name.split(".")[1], path.read_text()
            if pid and not (self.folder / f"{name}.dsac").exists() and _command(int(pid)):
                pids.append(int(pid))
        return pids

    def begun_below(self, kill: Kill) -> int:
        """Of the checkpoints before a kill those that their regions did not go on from afterwards."""
        count = 0
        for name, step in kill.before.steps.items():
            log = self.place.parent / f"{self.folder.name}.{name}.log"
            begun = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
            count += any(at > kill.time and first < step for at, first in begun)
        return count

    def fails(self, kind: str, chance: random.Random) -> bool:
        """Let it happen; False where there was nothing that it could happen to."""
        if kind == "a worker":
            if not (workers := self.workers()):
                return False
            os.kill(chance.choice(workers), signal.SIGKILL)
            time.sleep(0.2)
        elif kind == "the driver":
            if not self.driver.is_alive():
                return False
            assert self.driver.pid is not None
            os.kill(self.driver.pid, signal.SIGKILL)
            self.driver.join()
        else:
            with _full(self.folder):
                self.driver.join(chance.uniform(2, 8))
        return True

    def end(self) -> None:
        """Raises: `DsacError` where it does not, though nothing disturbs it."""
        for _ in range(5):
            self.driver.join()
            if self.finished:
                return
            self.begin()
        raise DsacError(f"{self.folder}: expected {self.regions} maps in the end, got fewer")


def _command(pid: int) -> bytes:
    """Empty where the process is gone, or dead and not yet collected."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextlib.contextmanager
def _full(folder: Path) -> Iterator[None]:
    ballast = folder.parent / "ballast"
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        ballast.unlink()


@contextlib.contextmanager
def _small_disk() -> Iterator[Path]:
    """Raises: `DsacError` where none can be made."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", folder]
        if subprocess.run(mount, capture_output=True).returncode:
            raise DsacError("a disk to fill up: expected to be root on Linux, where a tmpfs can be mounted")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


# ---- counted ----------------------------------------------------------------------------------------------


def disturb(place: Path, disk: Path, kills: int, chance: random.Random, longest_s: float) -> Counted:
    """Map again and again until so many kills have happened, `longest_s` apart at most."""
    undisturbed = Mapping(place, disk / "undisturbed")
    undisturbed.end()
    expected, counted = Kept.of(undisturbed.folder).maps, Counted()
    while counted.kills.total() < kills:
        counted.mappings += 1
        mapping, happened = Mapping(place, disk / f"mapping-{counted.mappings}"), []
        while not mapping.finished and counted.kills.total() + len(happened) < kills:
            mapping.driver.join(chance.uniform(0, longest_s))
            if (kill := happen(mapping, chance)) is not None:
                happened.append(kill)
            if not mapping.driver.is_alive() and not mapping.finished:
                mapping.begin()
        mapping.end()
        for kill in happened:
            counted.kills[kill.kind] += 1
            counted.finished[kill.kind] += len(kill.before.maps)
            counted.begun[kill.kind] += len(kill.before.steps)
            counted.lost[kill.kind] += kill.lost + mapping.begun_below(kill)
        found = Kept.of(mapping.folder).maps
        counted.other_maps += sum(found[name] != values for name, values in expected.items())
        print(f"{counted.kills.total()} kills, {counted.lost.total()} lost, {counted.other_maps} other maps")
    return counted


def happen(mapping: Mapping, chance: random.Random) -> Kill | None:
    """One kill, if there is anything to be killed."""
    kind, before = chance.choice(KINDS), Kept.of(mapping.folder)
    if mapping.finished or not mapping.fails(kind, chance):
        return None
    at, after = time.time(), Kept.of(mapping.folder)
    lost = [name for name, values in before.maps.items() if after.maps.get(name) != values]
    lost += [
        name
        for name, step in before.steps.items()
        if after.steps.get(name, -1) < step and not (mapping.folder / f"{name}.dsac").exists()
    ]
    return Kill(kind, at, before, len(lost))


def table(counted: Counted, arguments: argparse.Namespace) -> list[str]:
    lines = [
        "# What a kill costs",
        "",
        f"`python benchmarks/kills.py --kills {arguments.kills} --seed {arguments.seed}`: "
        f"{counted.mappings} mappings of a rendered building of four regions by two workers.",
        "",
        "| killed | times | finished maps then | checkpoints then | of these lost |",
        "|---|---|---|---|---|",
    ]
    for kind in KINDS:
        numbers = counted.kills[kind], counted.finished[kind], counted.begun[kind], counted.lost[kind]
        lines.append(f"| {kind} | {' | '.join(map(str, numbers))} |")
    regions = 4 * counted.mappings
    return [*lines, "", f"Of the {regions} maps in the end {counted.other_maps} are others than undisturbed."]


def measure(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, _small_disk() as disk:
        place = Path(folder) / "building"
        scene = building_scene(3, num_mapping=12, num_query=1, size=(160, 120), light_cell=0.5)
        write_scene(scene, place, depth_unit=DEPTH_UNIT)
        counted = disturb(place, disk, arguments.kills, random.Random(arguments.seed), arguments.longest)
    write_table(arguments.output, "kills.md", table(counted, arguments))


if __name__ == "__main__":
    parser = table_parser(__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of when and what")
    parser.add_argument("--longest", type=float, default=8.0, help="seconds between two kills, at most")
    run(parser, measure)
