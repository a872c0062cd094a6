"""Mapping of several regions: nothing that is finished is lost, whatever happens to the others."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from map_bytes import values

from dsac.datasets import Frames, Scene
from dsac.errors import DatasetError, MapFormatError
from dsac.geometry import Camera
from dsac.mapping import MappingProgress, MappingSettings, RegionTask, build_regions
from dsac.mapping import workers as under_test
from dsac.rooms import synthetic_scene
from dsac.scene_map import SceneMap

SETTINGS = MappingSettings(
    steps=6, batch_size=256, width=32, num_blocks=0, num_views=8, buffer_size=4000, short_side_px=96,
    num_landmarks=60,
)  # fmt: skip
ROWS = [np.arange(0, 4), np.arange(3, 7), np.arange(6, 9)]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return synthetic_scene(num_mapping=9, num_query=1, size=(160, 120))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def made(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The maps of the regions, made in this process with one thread."""
    torch.set_num_threads(1)
    mapped = build_regions(scene, ROWS, tmp_path_factory.mktemp("made"), SETTINGS)
    assert mapped.atlas is not None and not mapped.failed and not mapped.interrupted
    return {region.name: values(region.to_bytes()) for region in mapped.atlas.regions}


def test_each_region_learns_its_frames_and_is_in_the_atlas(scene: Scene, tmp_path: Path) -> None:
    seen: dict[str, list[str]] = {}
    mapped = build_regions(
        scene, ROWS, tmp_path, SETTINGS, on_progress=lambda name, p: seen.setdefault(name, []).append(p.phase)
    )
    assert mapped.atlas is not None and mapped.atlas.names == list(seen) == ["1", "2", "3"]
    for region, rows in zip(mapped.atlas.regions, ROWS, strict=True):
        assert list(region.info.frames) == [scene.mapping.names[i] for i in rows]
        assert {"landmarks", "features", "training"} <= set(seen[region.name])
    assert not list(tmp_path.glob("*.checkpoint"))


def test_processes_make_the_same_maps_and_a_killed_one_is_replaced(
    scene: Scene, made: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, killed, said = under_test.Process.of, [], set()

    def killing_the_first(task: RegionTask) -> under_test.Process:
        worker = begin(task)
        if not killed:
            assert worker.process.pid is not None
            killed.append(worker.process.pid)
            os.kill(worker.process.pid, signal.SIGKILL)
        return worker

    monkeypatch.setattr(under_test.Process, "of", staticmethod(killing_the_first))
    mapped = build_regions(
        scene, ROWS[:2], tmp_path, SETTINGS, workers=2, on_progress=lambda name, progress: said.add(name)
    )
    assert killed and mapped.atlas is not None and not mapped.failed
    assert {region.name: values(region.to_bytes()) for region in mapped.atlas.regions} == {
        name: made[name] for name in ("1", "2")
    }


def test_an_interrupt_leaves_what_is_finished_and_resuming_makes_the_rest(
    scene: Scene, made: dict[str, bytes], tmp_path: Path
) -> None:
    def interrupt(name: str, progress: MappingProgress) -> None:
        if name == "2":
            raise KeyboardInterrupt

    first = build_regions(scene, ROWS, tmp_path, SETTINGS, on_progress=interrupt)
    assert first.interrupted and first.atlas is not None and first.atlas.names == ["1"]
    asked: list[str] = []
    second = build_regions(
        scene, ROWS, tmp_path, SETTINGS, resume=True, on_progress=lambda name, progress: asked.append(name)
    )
    assert set(asked) == {"2", "3"}
    assert second.atlas is not None
    assert {region.name: values(region.to_bytes()) for region in second.atlas.regions} == made


def test_resuming_another_mapping_is_refused_and_beginning_anew_is_not(scene: Scene, tmp_path: Path) -> None:
    build_regions(scene, ROWS[:1], tmp_path, SETTINGS)
    for rows, settings in ((ROWS[1:], SETTINGS), (ROWS[:1], replace(SETTINGS, steps=7))):
        with pytest.raises(MapFormatError, match="expected the regions of these frames with these settings"):
            build_regions(scene, rows, tmp_path, settings, resume=True)
    (tmp_path / "regions.json").write_text("{")
    with pytest.raises(MapFormatError, match="start again without resuming"):
        build_regions(scene, ROWS[:1], tmp_path, SETTINGS, resume=True)
    again = build_regions(scene, ROWS[1:], tmp_path, SETTINGS)
    assert again.atlas is not None and again.atlas.names == ["1", "2"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_region_that_cannot_be_mapped_is_named_and_the_rest_is_there(
    scene: Scene, tmp_path: Path, elsewhere: bool
) -> None:
    blind = replace(scene, mapping=replace(scene.mapping, reader=_Blind(scene.mapping, ROWS[1][1:-1])))
    start = {"start": _Here.of, "workers": 2} if elsewhere else {}
    mapped = build_regions(blind, ROWS, tmp_path, SETTINGS, **start)
    assert mapped.atlas is not None and mapped.atlas.names == ["1", "3"]
    assert list(mapped.failed) == ["2"] and "cannot be decoded" in mapped.failed["2"]


# ---- workers that die ----------------------------------------------------------------------------------


@dataclass
class _Here:
    """A worker that does its work at once, in this process."""

    task: RegionTask

    @staticmethod
    def of(task: RegionTask) -> _Here:
        under_test.work(task)
        return _Here(task)

    def ended(self) -> bool:
        return True

    def stop(self, patience: float) -> None: ...


def _dying(times: int) -> Callable[[RegionTask], _Here]:
    """Workers of the second region die so many times before they do their work."""
    left = [times]

    def start(task: RegionTask) -> _Here:
        if task.name == "2" and left[0] > 0:
            left[0] -= 1
            return _Here(task)
        return _Here.of(task)

    return start


def test_a_worker_that_dies_is_replaced_and_one_that_always_does_is_named(
    scene: Scene, made: dict[str, bytes], tmp_path: Path
) -> None:
    twice = build_regions(scene, ROWS, tmp_path / "a", SETTINGS, workers=2, start=_dying(2))
    assert twice.atlas is not None and not twice.failed
    assert {region.name: values(region.to_bytes()) for region in twice.atlas.regions} == made
    always = build_regions(scene, ROWS, tmp_path / "b", SETTINGS, workers=2, start=_dying(9))
    assert always.atlas is not None and always.atlas.names == ["1", "3"]
    assert always.failed == {"2": "its worker died 3 times"}


def test_a_worker_whose_driver_died_ends(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = SimpleNamespace(is_alive=lambda: False)
    monkeypatch.setattr("multiprocessing.parent_process", lambda: dead)
    endless = RegionTask("1", scene, replace(SETTINGS, steps=1_000_000), 0, "cpu", tmp_path)
    under_test.work(endless, under_test.expect_parent)
    assert not endless.map.exists() and not endless.error.exists()


def test_a_map_that_does_not_fit_on_the_disk_is_named_and_resuming_makes_it(
    scene: Scene, made: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = SceneMap.save

    def full(scene_map: SceneMap, path: Path) -> None:
        if path.name == "1.dsac":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(scene_map, path)

    with monkeypatch.context() as patch:
        patch.setattr(SceneMap, "save", full)
        first = build_regions(scene, ROWS[:2], tmp_path, SETTINGS)
    assert first.atlas is not None and first.atlas.names == ["2"]
    assert "No space left on device" in first.failed["1"]
    again = build_regions(scene, ROWS[:2], tmp_path, SETTINGS, resume=True)
    assert again.atlas is not None and values(again.atlas["1"].to_bytes()) == made["1"]


def test_workers_are_stopped_by_an_interrupt(scene: Scene, tmp_path: Path) -> None:
    @dataclass
    class Endless:
        task: RegionTask
        stopped: bool = False

        def ended(self) -> bool:
            if time.monotonic() > begun + 0.1:
                raise KeyboardInterrupt
            return False

        def stop(self, patience: float) -> None:
            self.stopped = True

    begun, workers = time.monotonic(), []

    def start(task: RegionTask) -> Endless:
        workers.append(Endless(task))
        return workers[-1]

    mapped = build_regions(scene, ROWS, tmp_path, SETTINGS, workers=2, start=start)
    assert mapped.interrupted and mapped.atlas is None
    assert len(workers) == 2 and all(worker.stopped for worker in workers)


def test_half_written_progress_is_no_progress(scene: Scene, tmp_path: Path) -> None:
    task = RegionTask("1", scene, SETTINGS, 0, "cpu", tmp_path)
    assert under_test._told(task) is None
    task.progress.write_text('{"phase": "tra')
    assert under_test._told(task) is None
    task.progress.write_text(json.dumps({"phase": "training", "fraction": 0.5, "elapsed": 1.0}))
    assert under_test._told(task) == MappingProgress("training", 0.5, 1.0)


class _Blind:
    """A reader that cannot read some of the images."""

    has_depth = True

    def __init__(self, frames: Frames, rows: np.ndarray) -> None:
        self.inner, self.dark = frames.reader, {frames.names[i] for i in rows}

    def read_image(self, name: str) -> np.ndarray:
        if name in self.dark:
            raise DatasetError(f"{name}: cannot be decoded")
        return self.inner.read_image(name)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        return self.inner.read_depth(name, camera)
