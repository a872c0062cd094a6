"""`dsac map` of several regions: one file, one view of all, and what is finished is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Fails, Run

from dsac.atlas import Atlas
from dsac.mapping import RegionTask, workers

QUICK = ("--steps", 3, "--views", 6, "--landmarks", 300, "--no-check", "--hold-out", 0)


@pytest.fixture(autouse=True)
def halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are divided into halves that share one."""

    def divide(frames, regions=None):  # noqa: ANN001, ANN202
        middle = len(frames) // 2
        return [np.arange(0, middle + 1), np.arange(middle, len(frames))]

    monkeypatch.setattr("dsac.mapping.divide", divide)


def test_several_regions_are_one_map_that_all_commands_read(corner: Path, run: Run, tmp_path: Path) -> None:
    path, scene = tmp_path / "both.dsac", corner / "scene"
    code, out, _ = run("map", scene, path, *QUICK, "--regions", 2)
    assert code == 0
    assert "2 regions of 3 to 4 frames, 1 in two of them" in out and "2 of 2 regions" in out
    assert {file.name for file in tmp_path.iterdir()} == {"both.dsac"}
    assert Atlas.load(path).names == ["1", "2"]
    code, out, _ = run("info", path, "--json")
    assert code == 0 and json.loads(out)["num_frames"] == 6
    photo = scene / "images" / "mapping-005.jpg"
    code, out, _ = run("localize", path, photo, "--focal-px", 262.5, "--json")
    assert code == 0 and json.loads(out)["region"] in ("1", "2")
    code, out, _ = run(
        "evaluate", path, scene, "--all", "--report", tmp_path / "r.html", "--csv", tmp_path / "r.csv"
    )
    assert code == 0 and "ms an image" in out


def test_an_interrupt_leaves_a_map_of_what_is_finished_and_resume_makes_the_rest(
    corner: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, scene = tmp_path / "both.dsac", corner / "scene"
    make = workers.map_region

    def second_is_interrupted(task: RegionTask, on_progress=None) -> bool:  # noqa: ANN001
        if task.name == "2":
            raise KeyboardInterrupt
        return make(task, on_progress)

    with monkeypatch.context() as patch:
        patch.setattr(workers, "map_region", second_is_interrupted)
        code, out, _ = run("map", scene, path, *QUICK)
    assert code == 130 and "1 of 2 regions" in out and "--resume goes on" in out
    assert Atlas.load(path).names == ["1"] and (tmp_path / "both.dsac.regions").is_dir()
    code, out, _ = run("map", scene, path, *QUICK, "--resume")
    assert code == 0 and "2 of 2 regions" in out
    assert not (tmp_path / "both.dsac.regions").exists()


def test_numbers_that_mean_nothing_are_refused(corner: Path, fails: Fails, tmp_path: Path) -> None:
    command = ("map", corner / "scene", tmp_path / "new.dsac", *QUICK)
    assert "--regions: expected 1 or more, got 0" in fails(*command, "--regions", 0)
    assert "--workers: expected 1 or more, got -1" in fails(*command, "--workers", -1)
    photo = corner / "scene" / "images" / "mapping-005.jpg"
    localize = ("localize", corner / "corner.dsac", photo, "--focal-px", 262.5)
    assert "--near: expected with --radius" in fails(*localize, "--near", 0, 0, 0)
