"""Regions of one or many places from one queue, by this process or by workers side by side.

Workers share nothing but the folders of their tasks: one that is killed costs what it did since its checkpoint,
and is replaced. Processes on this machine are here, workers on a cluster in `ray_workers`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import torch

from dsac.datasets.storage import write_atomically
from dsac.errors import DsacError
from dsac.mapping.mapper import MappingProgress
from dsac.mapping.region_task import RegionTask, map_region


@runtime_checkable
class Running(Protocol):
    """A region in the making, elsewhere."""

    def ended(self) -> bool: ...

    def stop(self, patience: float) -> None:
        """Let it keep a checkpoint for so many seconds, then end it."""
        ...


Start = Callable[[RegionTask], Running]


class Outcome(NamedTuple):
    """What became of the tasks that did not become a map."""

    failed: dict[Path, str]  # those that cannot be mapped, by their maps, and why
    interrupted: bool  # others were not finished, and can be


def map_all(
    tasks: Sequence[RegionTask],
    workers: int = 1,
    start: Start | None = None,
    on_progress: Callable[[RegionTask, MappingProgress], None] = lambda task, progress: None,
    on_end: Callable[[RegionTask], None] = lambda task: None,
) -> Outcome:
    """Map the regions that have no map yet, in their order; an interrupt (KeyboardInterrupt) ends it early.

    One worker is this process, with all its threads; of more each is a process with one thread, or what `start`
    makes of a task. A worker that dies is replaced, twice. `on_end` is told of each region that is finished or
    cannot be mapped, those that were there already first.
    """
    failed: dict[Path, str] = {}
    left: list[RegionTask] = []
    try:
        for task in tasks:
            if task.map.is_file():
                on_end(task)
            else:
                left.append(task)
        if workers == 1 and start is None:
            for task in left:
                if not _mapped(task, on_progress, failed):
                    return Outcome(failed, True)
                on_end(task)
        else:
            _side_by_side(left, workers, start or Process.of, failed, on_progress, on_end)
    except KeyboardInterrupt:
        return Outcome(failed, True)
    return Outcome(failed, False)


def _mapped(
    task: RegionTask, on_progress: Callable[[RegionTask, MappingProgress], None], failed: dict[Path, str]
) -> bool:
    """`map_region` in this process; a region that cannot be mapped goes to `failed`."""
    try:
        return map_region(task, lambda progress: on_progress(task, progress))
    except (DsacError, OSError) as error:
        failed[task.map] = str(error)
        return True


# ---- side by side ------------------------------------------------------------------------------------


def _side_by_side(
    left: Sequence[RegionTask],
    workers: int,
    start: Start,
    failed: dict[Path, str],
    on_progress: Callable[[RegionTask, MappingProgress], None],
    on_end: Callable[[RegionTask], None],
) -> None:
    """Raises: `KeyboardInterrupt`, when no worker is left running."""
    waiting = list(left)
    lives = {task.map: _LIVES for task in left}
    running: dict[Path, tuple[RegionTask, Running]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                task = waiting.pop(0)
                task.error.unlink(missing_ok=True)
                running[task.map] = task, start(task)
            time.sleep(_POLL_S)
            for key, (task, worker) in list(running.items()):
                ended = worker.ended()
                if (progress := _told(task)) is not None:
                    on_progress(task, progress)
                if not ended:
                    continue
                del running[key]
                if not task.map.is_file():
                    lives[key] -= 1
                    if task.error.is_file():
                        failed[key] = task.error.read_text(encoding="utf-8")
                    elif lives[key] == 0:
                        failed[key] = f"its worker died {_LIVES} times"
                    else:
                        waiting.insert(0, task)
                        continue
                on_end(task)
    finally:
        with ThreadPoolExecutor(max(1, len(running))) as all_at_once:
            list(all_at_once.map(lambda pair: pair[1].stop(_PATIENCE_S), running.values()))


def _told(task: RegionTask) -> MappingProgress | None:
    try:
        return MappingProgress(**json.loads(task.progress.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def work(task: RegionTask, after_telling: Callable[[], None] = lambda: None) -> None:
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
            after_telling()

    try:
        map_region(task, tell)
    except KeyboardInterrupt:
        return
    except (DsacError, OSError, MemoryError) as error:
        with suppress(OSError):  # of a full disk: it counts as dead
            write_atomically(task.error, str(error).encode())


@dataclass
class Process:
    """A worker on this machine."""

    process: BaseProcess

    @staticmethod
    def of(task: RegionTask) -> Process:
        return Process.doing(work, task, expect_parent)

    @staticmethod
    def doing(what: Callable[..., None], *arguments: object) -> Process:
        """A process of one thread that calls this function."""
        process = multiprocessing.get_context("spawn").Process(target=what, args=arguments)
        with _environment(_ONE_THREAD):
            process.start()
        return Process(process)

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


def expect_parent() -> None:
    """Raises: `KeyboardInterrupt` in a worker that nobody waits for any more: another may resume its region."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise KeyboardInterrupt


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
