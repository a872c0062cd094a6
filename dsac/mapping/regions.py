"""Mapping a place of several regions: each a map for itself, made one after another or side by side.

A folder keeps what is done: a map file for each region that is finished, a checkpoint of each that was begun.
Workers are processes that share nothing else: one that is killed costs what it did since its checkpoint.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from dsac.atlas import Atlas, Region
from dsac.datasets import Scene
from dsac.datasets.storage import write_atomically
from dsac.errors import DsacError, MapFormatError
from dsac.mapping.mapper import MappingProgress, build_map
from dsac.mapping.settings import ForestSettings, MappingSettings, NetworkSettings


@dataclass(frozen=True)
class RegionTask:
    """All that a worker needs to make the map of one region."""

    name: str
    scene: Scene  # whose mapping frames are the region's
    settings: MappingSettings | NetworkSettings | ForestSettings
    seed: int
    device: str
    folder: Path  # for the map, the checkpoint and what is said on the way

    @property
    def map(self) -> Path:
        return self.folder / f"{self.name}.dsac"

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.name}.checkpoint"

    @property
    def progress(self) -> Path:
        return self.folder / f"{self.name}.progress"

    @property
    def error(self) -> Path:
        return self.folder / f"{self.name}.error"


class Mapped(NamedTuple):
    """What became of the regions."""

    atlas: Atlas | None  # of those that are finished; None: not one is
    failed: dict[str, str]  # the others that cannot be mapped, by their names, and why
    interrupted: bool  # others were not finished, and can be


@runtime_checkable
class Running(Protocol):
    """A region in the making, elsewhere."""

    def ended(self) -> bool: ...

    def stop(self, patience: float) -> None:
        """Let it keep a checkpoint for so many seconds, then end it."""
        ...


OnProgress = Callable[[str, MappingProgress], None]  # the region's name


def build_regions(
    scene: Scene,
    rows: Sequence[np.ndarray],
    folder: Path,
    settings: MappingSettings | NetworkSettings | ForestSettings | None = None,
    *,
    workers: int = 1,
    device: torch.device | str = "cpu",
    seed: int = 0,
    resume: bool = False,
    on_progress: OnProgress = lambda name, progress: None,
    start: Callable[[RegionTask], Running] | None = None,
) -> Mapped:
    """A map of each region, of the scene's mapping frames in these rows (whole numbers); see `divide`.

    One worker is this process, with all its threads; of more each is a process with one thread, or what `start`
    makes of a task. The maps are the same for the same seed, whoever makes them with as many threads. What the
    `folder` holds of an unfinished mapping is gone on with where `resume`, else written over.
    Interrupted (KeyboardInterrupt) it returns what is finished. A region that cannot be mapped is named in
    `failed`; a worker that dies is replaced, twice.
    Raises: `MapFormatError` where the folder holds regions of other frames.
    """
    folder.mkdir(parents=True, exist_ok=True)
    width = len(str(len(rows)))
    tasks = [
        RegionTask(
            f"{number + 1:0{width}d}",
            replace(scene, mapping=scene.mapping[of_region], query=scene.query[:0], truths={}),
            settings or MappingSettings(),
            seed,
            str(device),
            folder,
        )
        for number, of_region in enumerate(rows)
    ]
    _claim(folder, tasks, resume)
    left = [task for task in tasks if not task.map.is_file()]
    failed: dict[str, str] = {}
    interrupted = False
    try:
        if workers == 1 and start is None:
            for task in left:
                if not _mapped(task, on_progress, failed):
                    interrupted = True
                    break
        else:
            _side_by_side(left, workers, start or _Process.of, failed, on_progress)
    except KeyboardInterrupt:
        interrupted = True
    done = [task for task in tasks if task.map.is_file()]
    regions = [Region.of_file(task.name, task.map) for task in done]
    return Mapped(Atlas(tuple(regions)) if regions else None, failed, interrupted)


def map_region(task: RegionTask, on_progress: Callable[[MappingProgress], None] | None = None) -> bool:
    """Make the map of one region, going on from its checkpoint; False where it was interrupted.

    Raises: `DsacError` when it cannot be mapped.
    """
    made = build_map(
        task.scene,
        task.settings,
        device=task.device,
        seed=task.seed,
        checkpoint=task.checkpoint,
        resume=True,
        on_progress=on_progress or (lambda progress: None),
    )
    if made.info.training["interrupted"]:
        return False
    made.save(task.map)
    for path in (task.checkpoint, task.progress, task.error):
        path.unlink(missing_ok=True)
    return True


def _mapped(task: RegionTask, on_progress: OnProgress, failed: dict[str, str]) -> bool:
    """`map_region` in this process; a region that cannot be mapped goes to `failed`."""
    try:
        return map_region(task, lambda progress: on_progress(task.name, progress))
    except DsacError as error:
        failed[task.name] = str(error)
        return True


def _claim(folder: Path, tasks: Sequence[RegionTask], resume: bool) -> None:
    """Make the folder that of these tasks. Raises: `MapFormatError`."""
    record = folder / "regions.json"
    wanted = {
        "settings": json.loads(json.dumps(asdict(tasks[0].settings))),
        "seed": tasks[0].seed,
        "frames": {task.name: task.scene.mapping.names for task in tasks},
    }
    if resume and record.is_file():
        try:
            found = json.loads(record.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != wanted:
            raise MapFormatError(
                f"{folder}: expected the regions of these frames with these settings, got others; "
                "start again without resuming"
            )
        return
    for path in folder.iterdir():
        if path.suffix in (".dsac", ".checkpoint", ".progress", ".error"):
            path.unlink()
    write_atomically(record, json.dumps(wanted).encode())


# ---- side by side ------------------------------------------------------------------------------------


def _side_by_side(
    left: Sequence[RegionTask],
    workers: int,
    start: Callable[[RegionTask], Running],
    failed: dict[str, str],
    on_progress: OnProgress,
) -> None:
    """Raises: `KeyboardInterrupt`, when no worker is left running."""
    waiting = list(left)
    lives = {task.name: _LIVES for task in left}
    running: dict[str, tuple[RegionTask, Running]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                task = waiting.pop(0)
                task.error.unlink(missing_ok=True)
                running[task.name] = task, start(task)
            time.sleep(_POLL_S)
            for name, (task, worker) in list(running.items()):
                if (progress := _told(task)) is not None:
                    on_progress(name, progress)
                if not worker.ended():
                    continue
                del running[name]
                if task.map.is_file():
                    continue
                lives[name] -= 1
                if task.error.is_file():
                    failed[name] = task.error.read_text(encoding="utf-8")
                elif lives[name] == 0:
                    failed[name] = f"its worker died {_LIVES} times"
                else:
                    waiting.insert(0, task)
    finally:
        for _, worker in running.values():
            worker.stop(_PATIENCE_S)


def _told(task: RegionTask) -> MappingProgress | None:
    try:
        return MappingProgress(**json.loads(task.progress.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def work(task: RegionTask) -> None:
    """What a worker does: the map of one region with one thread, its progress and its fault in files."""
    torch.set_num_threads(1)
    last = 0.0

    def tell(progress: MappingProgress) -> None:
        nonlocal last
        if time.monotonic() - last > _POLL_S:
            last = time.monotonic()
            values = {name: value for name, value in asdict(progress).items() if value == value}  # no NaN
            with suppress(OSError):
                write_atomically(task.progress, json.dumps(values).encode())

    try:
        map_region(task, tell)
    except KeyboardInterrupt:
        return
    except (DsacError, OSError, MemoryError) as error:
        write_atomically(task.error, str(error).encode())


@dataclass
class _Process:
    """A worker on this machine."""

    process: BaseProcess

    @staticmethod
    def of(task: RegionTask) -> _Process:
        process = multiprocessing.get_context("spawn").Process(target=work, args=(task,))
        with _environment(_ONE_THREAD):
            process.start()
        return _Process(process)

    def ended(self) -> bool:
        return not self.process.is_alive()

    def stop(self, patience: float) -> None:
        if self.process.is_alive() and self.process.pid is not None:
            with suppress(OSError):
                os.kill(self.process.pid, signal.SIGINT)
        self.process.join(patience)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
_LIVES = 3
_POLL_S = 0.5
_PATIENCE_S = 20.0
