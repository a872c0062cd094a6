"""`dsac render`: a place becomes a folder that is whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from command_line import Fails, Run, content

from dsac import rooms
from dsac.cli.render import Render
from dsac.datasets import Scene, load_scene
from dsac.rooms import SCENES


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is asked of the places, which are all a very small room."""
    small = rooms.synthetic_scene(num_mapping=3, num_query=1, size=(40, 30), light_cell=2.0)
    options: list[dict[str, Any]] = []

    def scene(**given: Any) -> Scene:
        options.append(given)
        return small

    for name in SCENES:
        monkeypatch.setitem(SCENES, name, scene)
    monkeypatch.setattr(rooms, "building_scene", scene)
    return options


def test_a_place_becomes_a_recording(asked: list[dict[str, Any]], run: Run, tmp_path: Path) -> None:
    for place, name, options in (
        ("building", "Büro 1", ("--rooms", 3)),
        ("building", "large", ("--seed", 2)),
        ("stairs", "stairs", ("--depth",)),
    ):
        folder = tmp_path / name
        folder.mkdir()  # an empty one is as good as none
        code, out, error = run("render", place, folder, *options)
        assert code == 0, error
        assert f"{folder}: 3 mapping frames, 1 query frames" in out and f"{place}.dsac" in out
        scene = load_scene(folder)
        assert len(scene.mapping) == 3 and len(scene.query) == 1
        assert scene.mapping.has_depth == (place == "stairs")
    assert asked == [{"num_rooms": 3, "seed": 0}, {"seed": 2}, {"seed": 0}]


def test_mistakes_are_told_before_anything_is_rendered(
    asked: list[dict[str, Any]], fails: Fails, room: Path, tmp_path: Path
) -> None:
    before = content(room)
    assert f"{room}: expected a new or an empty folder" in fails("render", "building", room)
    assert content(room) == before
    new = tmp_path / "new"
    assert "--rooms: a building has rooms, got terrace" in fails("render", "terrace", new, "--rooms", 2)
    assert "seed: expected 0 or more, got -1" in fails("render", "room", new, "--seed", -1)
    assert "its folder does not exist" in fails("render", "room", new / "deeper")
    assert asked == [] and not new.exists()


def test_a_building_has_a_room(fails: Fails, tmp_path: Path) -> None:
    assert "rooms: expected 1 or more, got 0" in fails("render", "building", tmp_path / "new", "--rooms", 0)
    assert not (tmp_path / "new").exists()


def test_an_interrupted_one_leaves_nothing(
    asked: list[dict[str, Any]], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dsac.rooms.scene.write_poses", interrupt)
    code, _, _ = run("render", "room", tmp_path / "new")
    assert code == 130 and not list(tmp_path.iterdir())


def test_every_place_is_offered() -> None:
    small, building = get_args(get_type_hints(Render, include_extras=False)["place"])[:-1], "building"
    assert {*small, building} == {*SCENES, "building"}
