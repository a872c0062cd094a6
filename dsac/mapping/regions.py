"""Mapping a place of several regions: each a map for itself, made one after another or side by side.

A folder keeps what is done: a map file for each region that is finished, a checkpoint of each that was begun.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dsac.atlas import Atlas, Region
from dsac.datasets import Scene
from dsac.datasets.storage import write_atomically
from dsac.errors import MapFormatError
from dsac.mapping.mapper import MappingProgress
from dsac.mapping.region_task import RegionTask
from dsac.mapping.settings import ForestSettings, MappingSettings, NetworkSettings
from dsac.mapping.workers import Outcome, Start, map_all


class Mapped(NamedTuple):
    """What became of the regions."""

    atlas: Atlas | None  # of those that are finished; None: not one is
    failed: dict[str, str]  # the others that cannot be mapped, by their names, and why
    interrupted: bool  # others were not finished, and can be


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
    start: Start | None = None,
) -> Mapped:
    """A map of each region, of the scene's mapping frames in these rows (whole numbers); see `divide`.

    One worker is this process, with all its threads; of more each is a process with one thread, or what `start`
    makes of a task. The maps are the same for the same seed, whoever makes them with as many threads. What the
    `folder` holds of an unfinished mapping is gone on with where `resume`, else written over.
    Interrupted (KeyboardInterrupt) it returns what is finished. A region that cannot be mapped is named in
    `failed`; a worker that dies is replaced, twice.
    Raises: `MapFormatError` where the folder holds regions of other frames.
    """
    tasks = region_tasks(scene, rows, folder, settings, device=device, seed=seed, resume=resume)
    outcome = map_all(tasks, workers, start, lambda task, progress: on_progress(task.name, progress))
    return gathered(tasks, outcome)


def region_tasks(
    scene: Scene,
    rows: Sequence[np.ndarray],
    folder: Path,
    settings: MappingSettings | NetworkSettings | ForestSettings | None = None,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    resume: bool = False,
) -> list[RegionTask]:
    """What `build_regions` would do, for `map_all`; the folder is made and theirs.

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
    return tasks


def gathered(tasks: Sequence[RegionTask], outcome: Outcome) -> Mapped:
    """The finished regions of a place, and what became of its others."""
    regions = [Region.of_file(task.name, task.map) for task in tasks if task.map.is_file()]
    failed = {task.name: outcome.failed[task.map] for task in tasks if task.map in outcome.failed}
    unfinished = len(regions) + len(failed) < len(tasks)
    return Mapped(Atlas(tuple(regions)) if regions else None, failed, outcome.interrupted and unfinished)


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
