"""One region to be mapped: what is needed for it, wherever that is done, and the files that become of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dsac.datasets import Scene
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


def map_region(task: RegionTask, on_progress: Callable[[MappingProgress], None] | None = None) -> bool:
    """Make the map of one region, going on from its checkpoint; False where it was interrupted.

    Raises: `DsacError` when it cannot be mapped, `OSError` when the map cannot be written.
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
