"""`dsac demo`: everything at once; here in a room that is there already, with a map made in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import Run

from dsac.cli import demo
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


def test_a_room_that_is_not_there_is_rendered_first(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Rendered(Exception):
        pass

    def write(scene: object, folder: Path, on_frame: object) -> None:
        assert folder == tmp_path / "new" / "room"
        raise Rendered

    monkeypatch.setattr("dsac.rooms.synthetic_scene", lambda: None)
    monkeypatch.setattr("dsac.rooms.write_scene", write)
    with pytest.raises(Rendered):
        run("demo", "--folder", tmp_path / "new")
