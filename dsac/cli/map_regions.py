"""Places of one or several regions become map files: progress of all in one view, nothing finished is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dsac.cli.console import PHASES, err, let_kernels_compile, out, progress_bars
from dsac.errors import DatasetError, DsacError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from dsac.datasets import Scene
    from dsac.mapping import (
        ForestSettings,
        Mapped,
        MappingProgress,
        MappingSettings,
        NetworkSettings,
        RegionTask,
        Start,
    )


class Place(NamedTuple):
    """What a map is to be made of."""

    name: str  # in the view of all; empty where it is the only one
    scene: Scene
    rows: Sequence[np.ndarray]  # of its mapping frames, for each region
    map: Path
    held_out: bool  # its query frames were kept from the map to score it

    @property
    def folder(self) -> Path:
        """For what is not finished."""
        return folder_beside(self.map)


@dataclass(frozen=True)
class Making:
    """How maps are made."""

    settings: MappingSettings | NetworkSettings | ForestSettings
    device: torch.device
    seed: int = 0
    resume: bool = False
    workers: int = 1
    start: Start | None = None

    def tasks(self, place: Place) -> list[RegionTask]:
        """Raises: `MapFormatError` where the place's folder has regions of other frames or settings."""
        from dsac.mapping import region_tasks

        return region_tasks(
            place.scene,
            place.rows,
            place.folder,
            self.settings,
            device=self.device,
            seed=self.seed,
            resume=self.resume,
        )


def folder_beside(path: Path) -> Path:
    """For what is not finished of a map."""
    return path.with_name(path.name + ".regions")


def map_regions(place: Place, making: Making) -> None:
    """Build and save the map of all regions; those that are finished are saved whatever happens to the others.

    What is unfinished is kept beside the map, in a folder, for --resume. Raises: `DatasetError` where no region
    can be mapped; `DsacError` where there is nothing to resume; `KeyboardInterrupt` after an interrupt.
    """
    if making.resume and not place.folder.is_dir():
        raise DsacError(f"{place.folder}: nothing to resume, expected the folder of an unfinished mapping")
    if len(place.rows) > 1:
        shared = sum(len(of_region) for of_region in place.rows) - len(place.scene.mapping)
        least, most = min(map(len, place.rows)), max(map(len, place.rows))
        regions = f"{len(place.rows)} regions of {least} to {most} frames"
        out.print(f"{regions}, {shared} in two of them", soft_wrap=True)
    (mapped,) = make_places([place], [making.tasks(place)], making)
    save_place(place, mapped)
    show_made(place, mapped)
    if mapped.interrupted:
        usable = "usable as it is, " if mapped.atlas is not None else ""
        out.print(f"{usable}--resume goes on with the others", style="yellow")
        raise KeyboardInterrupt
    if mapped.atlas is None:
        raise DatasetError(next(iter(mapped.failed.values())))


def make_places(
    places: Sequence[Place],
    tasks: Sequence[Sequence[RegionTask]],
    making: Making,
    on_ended: Callable[[Place, Mapped], None] = lambda place, mapped: None,
) -> list[Mapped]:
    """Make the regions of all places (`tasks`, by place) from one queue, with a bar for each and one for all.

    `on_ended` is told of each place when nothing of it is left to do, while others are being made.
    """
    from dsac.mapping import Outcome, gathered, map_all

    let_kernels_compile()
    of_folder = {place.folder: (place, own) for place, own in zip(places, tasks, strict=True)}
    ended = dict.fromkeys(of_folder, 0)
    done: dict[Path, float] = {}
    bars_shown = {}
    with progress_bars() as bars:
        whole = bars.add_task("all regions", total=sum(map(len, tasks)), note="")

        def show(task: RegionTask, progress: MappingProgress) -> None:
            if task.map not in bars_shown:
                place, own = of_folder[task.folder]
                parts = [place.name or "region", task.name if len(own) > 1 or not place.name else ""]
                bars_shown[task.map] = bars.add_task(_cut(" ".join(parts).strip()), total=1.0, note="")
            begin, share = _SHARES[progress.phase]
            done[task.map] = max(done.get(task.map, 0.0), begin + share * progress.fraction)
            bars.update(bars_shown[task.map], completed=done[task.map], note=PHASES[progress.phase])
            bars.update(whole, completed=sum(done.values()))

        def end(task: RegionTask) -> None:
            done[task.map] = 1.0
            if task.map in bars_shown:
                bars.update(bars_shown[task.map], visible=False)
            bars.update(whole, completed=sum(done.values()))
            ended[task.folder] += 1
            place, own = of_folder[task.folder]
            if ended[task.folder] == len(own):
                on_ended(place, gathered(own, Outcome({}, False)))

        every = [task for own in tasks for task in own]
        outcome = map_all(every, making.workers, making.start, show, end)
    return [gathered(own, outcome) for own in tasks]


def save_place(place: Place, mapped: Mapped) -> None:
    """Write the map of what is finished, if anything is: of a place of one region a map file."""
    from dsac.atlas import Atlas

    if mapped.atlas is None:
        return
    if len(place.rows) == 1:
        Atlas((replace(mapped.atlas.regions[0], name=""),)).save(place.map)
    else:
        mapped.atlas.save(place.map)


def show_made(place: Place, mapped: Mapped) -> None:
    """Say what became of a place; once it is whole in its file, its folder goes."""
    for name, why in mapped.failed.items():
        region = f"region {name}" if not place.name else f"{place.name}, region {name}"
        err.print(f"{region} could not be mapped: {why}", style="yellow", soft_wrap=True)
    if mapped.atlas is not None:
        size, regions = place.map.stat().st_size / 1e6, ""
        if len(place.rows) > 1:
            regions = f", {len(mapped.atlas)} of {len(place.rows)} regions"
        out.print(f"{place.map}: {size:.1f} MB{regions}", soft_wrap=True)
    if mapped.atlas is not None and len(mapped.atlas) == len(place.rows):
        shutil.rmtree(place.folder, ignore_errors=True)


def _cut(name: str) -> str:
    """To the width of the bars' names, which differ at their ends."""
    return name if len(name) <= _WIDTH else f"…{name[1 - _WIDTH :]}"


_WIDTH = 13
# where each phase begins in the mapping of a region, and how much of it it is
_SHARES = {"depth": (0.0, 0.25), "landmarks": (0.25, 0.15), "features": (0.4, 0.2), "training": (0.6, 0.4)}
