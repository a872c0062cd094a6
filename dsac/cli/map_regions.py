"""A place of several regions becomes one map file: progress of all in one view, nothing finished is lost."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsac.cli.console import PHASES, err, let_kernels_compile, out, progress_bars
from dsac.errors import DatasetError, DsacError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from dsac.datasets import Scene
    from dsac.mapping import ForestSettings, MappingProgress, MappingSettings, NetworkSettings


def map_regions(
    scene: Scene,
    rows: Sequence[np.ndarray],
    path: Path,
    settings: MappingSettings | NetworkSettings | ForestSettings,
    device: torch.device,
    seed: int = 0,
    resume: bool = False,
    workers: int = 1,
) -> None:
    """Build and save the map of all regions; those that are finished are saved whatever happens to the others.

    What is unfinished is kept beside the map, in a folder, for --resume. Raises: `DatasetError` where no region
    can be mapped; `DsacError` where there is nothing to resume; `KeyboardInterrupt` after an interrupt.
    """
    from dsac.mapping import build_regions

    folder = path.with_name(path.name + ".regions")
    if resume and not folder.is_dir():
        raise DsacError(f"{folder}: nothing to resume, expected the folder of an unfinished mapping")
    shared = sum(len(of_region) for of_region in rows) - len(scene.mapping)
    least, most = min(map(len, rows)), max(map(len, rows))
    out.print(f"{len(rows)} regions of {least} to {most} frames, {shared} in two of them", soft_wrap=True)
    let_kernels_compile()
    with progress_bars() as bars:
        whole = bars.add_task("all regions", total=len(rows), note="")
        done: dict[str, float] = {}
        tasks = {}

        def show(name: str, progress: MappingProgress) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(f"region {name}", total=1.0, note="")
            begin, share = _SHARES[progress.phase]
            done[name] = max(done.get(name, 0.0), begin + share * progress.fraction)
            bars.update(tasks[name], completed=done[name], note=PHASES[progress.phase])
            if progress.phase == "training" and progress.fraction >= 1:
                bars.update(tasks[name], visible=False)
            bars.update(whole, completed=finished + sum(done.values()))

        finished = len(list(folder.glob("*.dsac"))) if resume else 0
        mapped = build_regions(
            scene,
            rows,
            folder,
            settings,
            workers=workers,
            device=device,
            seed=seed,
            resume=resume,
            on_progress=show,
        )
    for name, why in mapped.failed.items():
        err.print(f"region {name} could not be mapped: {why}", style="yellow", soft_wrap=True)
    if mapped.atlas is not None:
        mapped.atlas.save(path)
        size = path.stat().st_size / 1e6
        out.print(f"{path}: {size:.1f} MB, {len(mapped.atlas)} of {len(rows)} regions", soft_wrap=True)
    if mapped.interrupted:
        usable = "usable as it is, " if mapped.atlas is not None else ""
        out.print(f"{usable}--resume goes on with the others", style="yellow")
        raise KeyboardInterrupt
    if mapped.atlas is None:
        raise DatasetError(next(iter(mapped.failed.values())))
    if not mapped.failed:
        shutil.rmtree(folder, ignore_errors=True)


# where each phase begins in the mapping of a region, and how much of it it is
_SHARES = {"depth": (0.0, 0.25), "landmarks": (0.25, 0.15), "features": (0.4, 0.2), "training": (0.6, 0.4)}
