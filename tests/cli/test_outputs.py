"""Outputs are checked before the work: that they can be written, and that they replace only what is ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import Fails, Run

from dsac.scene_map import SceneMap


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a scene, a map or photos would be work."""

    def work(*_: object, **__: object) -> None:
        raise AssertionError("the output was not checked first")

    for name in ("dsac.datasets.load_scene", "dsac.datasets.load_photos", "dsac.scene_map.SceneMap.load"):
        monkeypatch.setattr(name, work)


@pytest.mark.parametrize("command", ["map", "localize", "evaluate"])
def test_an_output_that_cannot_be_written_is_found_before_the_work(
    command: str, fails: Fails, tmp_path: Path, no_work: None
) -> None:
    (tmp_path / "file").write_text("no folder")
    before = {
        "map": ["map", "scene"],
        "localize": ["localize", "a.dsac", "a.jpg", "--focal-px", 100, "--output"],
    }
    before["evaluate"] = ["evaluate", "a.dsac", "scene", "--report"]
    for output, expected in [
        (tmp_path / "none" / "out", "its folder does not exist"),
        (tmp_path / "file" / "out", "its folder does not exist"),
        (tmp_path, "expected a file to write, got a folder"),
    ]:
        line = fails(*before[command], output)
        assert str(output) in line and expected in line


@pytest.mark.parametrize("kind", ["photo.jpg", "notes.txt", "blank.dsac"])
def test_nothing_but_an_older_result_is_replaced(
    blank_map: Path, photo: Path, fails: Fails, tmp_path: Path, no_work: None, kind: str
) -> None:
    (tmp_path / "notes.txt").write_text("remember the milk")
    other = tmp_path / kind
    commands = [
        ["localize", "a.dsac", photo, "--focal-px", 100, "--output", other],
        ["evaluate", "a.dsac", "scene", "--report", other],
        ["evaluate", "a.dsac", "scene", "--csv", other],
    ]
    if kind != "blank.dsac":
        commands += [["map", "scene", other], ["fine-tune", "a.dsac", "scene", "--output", other]]
    for command in commands:
        assert f"{other}: already exists and is something else" in fails(*command)


def test_a_result_replaces_an_older_one(corner: Path, run: Run, tmp_path: Path) -> None:
    image = corner / "scene" / "images" / "mapping-005.jpg"
    outputs = ["--report", tmp_path / "a.html", "--csv", tmp_path / "a.csv"]
    for _ in range(2):
        assert run("localize", corner / "corner.dsac", image, "--output", tmp_path / "poses.txt")[0] == 0
        assert run("evaluate", corner / "corner.dsac", corner / "scene", *outputs)[0] == 0
    shutil.copy(corner / "corner.dsac", tmp_path / "new map.dsac")
    new = ["--steps", 1, "--views", 6, "--landmarks", 0]
    assert run("map", corner / "scene", tmp_path / "new map.dsac", *new)[0] == 0
    assert SceneMap.load(tmp_path / "new map.dsac").info.training["steps"] == 1
