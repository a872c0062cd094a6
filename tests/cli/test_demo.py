"""`dsac demo`: everything at once; here in a room that is there already, with a map made in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

import pytest
from command_line import Run

from dsac.cli import demo
from dsac.rooms import SCENES
from dsac.scene_map import SceneMap


def test_the_demo_leaves_room_map_and_report(
    corner: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_STEPS", 2)
    monkeypatch.setattr(demo, "_VIEWS", 6)
    folder = tmp_path / "new"
    shutil.copytree(corner / "scene", folder / "room")
    code, out, _ = run("demo", "--folder", folder, "--device", "cpu")
    assert code == 0
    assert "6 mapping frames with depth, 6 query frames" in out and "Now with your own photos" in out
    assert SceneMap.load(folder / "room.dsac").info.training["steps"] == 2
    left = {"room", "room.dsac", "room.dsac.jsonl", "report.html", "report.csv"}
    assert {path.name for path in folder.iterdir()} == left


def test_another_scene_lies_beside_the_room(
    corner: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_STEPS", 2)
    monkeypatch.setattr(demo, "_VIEWS", 6)
    shutil.copytree(corner / "scene", tmp_path / "stairs")
    code, _, _ = run("demo", "--folder", tmp_path, "--device", "cpu", "--scene", "stairs")
    assert code == 0
    left = {"stairs", "stairs.dsac", "stairs.dsac.jsonl", "stairs-report.html", "stairs-report.csv"}
    assert {path.name for path in tmp_path.iterdir()} == left


@pytest.mark.parametrize("options, name", [((), "room"), (("--scene", "corridor"), "corridor")])
def test_a_place_that_is_not_there_is_rendered_first(
    options: tuple[str, ...], name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Rendered(Exception):
        pass

    def write(scene: object, folder: Path, on_frame: object, depth_unit: float) -> None:
        assert scene == name and folder == tmp_path / "new" / name
        raise Rendered

    monkeypatch.setitem(SCENES, name, lambda: name)
    monkeypatch.setattr("dsac.rooms.write_scene", write)
    with pytest.raises(Rendered):
        run("demo", "--folder", tmp_path / "new", *options)


def test_every_place_is_offered_and_no_other(run: Run, tmp_path: Path) -> None:
    assert get_args(demo.Small) == tuple(SCENES)
    code, _, errors = run("demo", "--folder", tmp_path / "new", "--scene", "castle")
    assert code != 0 and "castle" in errors and not (tmp_path / "new").exists()
