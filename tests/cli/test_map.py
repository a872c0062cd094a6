"""`dsac map`: a map and its log and nothing else, whatever happens on the way."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from command_line import Fails, Run, content

from dsac.mapping import head_learner
from dsac.mapping.head_learner import HeadLearner
from dsac.scene_map import SceneMap


def test_mapping_writes_a_map_and_its_log_and_nothing_else(corner: Path, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "new.dsac"
    code, out, _ = run("map", corner / "scene", path, "--steps", 3, "--views", 6, "--landmarks", 500)
    assert code == 0
    assert f"{path}: " in out and "6 frames that it learned from: " in out
    assert {path.name for path in tmp_path.iterdir()} == {"new.dsac", "new.dsac.jsonl"}
    log = [json.loads(line) for line in path.with_name("new.dsac.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(entry["phase"] for entry in log)) == ["landmarks", "features", "training"]
    assert log[-1]["step"] == 3 and log[-1]["fraction"] == 1.0
    code, out, _ = run("info", path)
    assert code == 0
    assert "3 steps" in out and "dsac-lite0" in out and "6 frames, depth" in out


def test_a_network_of_the_papers_goes_through_the_same_commands(corner: Path, run: Run, tmp_path: Path) -> None:
    path, scene = tmp_path / "star.dsac", corner / "scene"
    code, _, _ = run("map", scene, path, "--regressor", "dsac-star", "--width", 0.03125, "--steps", 2)
    assert code == 0
    log = [json.loads(line) for line in path.with_name("star.dsac.jsonl").read_text().splitlines()]
    assert {entry["phase"] for entry in log} == {"features", "training"} and log[-1]["step"] == 2
    code, out, _ = run("info", path)
    assert code == 0
    assert "dsac-star on grey images" in " ".join(out.split()) and "2 steps" in out
    code, out, _ = run("localize", path, scene / "images" / "mapping-005.jpg", "--focal-px", 262.5)
    assert code == 0 and "0 of 1 localized" in out
    code, out, _ = run("evaluate", path, scene, "--report", tmp_path / "r.html", "--csv", tmp_path / "r.csv")
    assert code == 0 and "ms an image" in out


def test_forests_go_through_the_same_commands(corner: Path, run: Run, tmp_path: Path) -> None:
    path, scene = tmp_path / "forest.dsac", corner / "scene"
    code, out, _ = run("map", scene, path, "--regressor", "forest", "--trees", 1)
    assert code == 0
    log = [json.loads(line) for line in path.with_name("forest.dsac.jsonl").read_text().splitlines()]
    assert {entry["phase"] for entry in log} == {"features", "training"} and log[-1]["step"] == 2
    code, out, _ = run("info", path)
    assert code == 0
    told = " ".join(out.split())
    assert "trees: 1 that see colours, " in told and "; 1 that see depth, " in told
    code, out, _ = run("localize", path, scene / "images" / "mapping-005.jpg", "--focal-px", 262.5)
    assert code == 0 and " of 1 localized" in out
    code, out, _ = run("evaluate", path, scene, "--report", tmp_path / "r.html", "--csv", tmp_path / "r.csv")
    assert code == 0 and "ms an image" in out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--regressor", "forest", "--steps", 5), "steps: expected no length with forests"),
        (("--regressor", "forest", "--minutes", 1), "minutes: expected no length with forests"),
        (("--regressor", "forest", "--views", 5), "views: expected with the shared encoder only, got forest"),
        (("--regressor", "dsac", "--compact"), "compact: expected with the shared encoder only, got dsac"),
        (("--regressor", "forest", "--width", 0.5), "width: expected with --regressor dsac or dsac-star only"),
        (("--regressor", "forest", "--trees", 0), "num_trees: expected more than 0, got 0"),
        (("--trees", 3), "trees: expected with --regressor forest only"),
    ],
    ids=str,
)
def test_options_of_other_regressors_are_refused(
    options: tuple, told: str, corner: Path, fails: Fails, tmp_path: Path
) -> None:
    assert told in fails("map", corner / "scene", tmp_path / "new.dsac", *options)
    assert not list(tmp_path.iterdir())


def test_the_next_command_can_be_pasted(corner: Path, run: Run, tmp_path: Path) -> None:
    options = ("--steps", 1, "--views", 6, "--landmarks", 0)
    _, out, _ = run("map", corner / "scene", tmp_path / "ä b.dsac", *options)
    assert f"Next: dsac evaluate '{tmp_path / 'ä b.dsac'}' {corner / 'scene'}\n" in out


def _interrupt_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, once."""
    batch_loss, calls = HeadLearner._batch_loss, []

    def interrupted(*arguments: Any, **options: Any) -> object:
        calls.append(None)
        if len(calls) == steps + 1:
            raise KeyboardInterrupt
        return batch_loss(*arguments, **options)

    monkeypatch.setattr(HeadLearner, "_batch_loss", interrupted)


def test_ctrl_c_while_training_leaves_a_map_and_resume_goes_on(
    room: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = room.parent / "room.dsac"
    command = ("map", room, path, "--steps", 3, "--views", 3, "--buffer-size", 2000)
    with monkeypatch.context() as patch:
        _interrupt_after(2, patch)
        code, out, err = run(*command)
    assert code == 130
    assert "after 2 steps: usable as it is, --resume goes on" in " ".join(out.split())
    assert err.splitlines()[-1] == "interrupted"
    assert SceneMap.load(path).info.training["steps"] == 2
    assert path.with_name("room.dsac.checkpoint").is_file()

    code, _, _ = run(*command, "--resume")
    assert code == 0
    assert SceneMap.load(path).info.training["steps"] == 3
    assert {p.name for p in room.parent.iterdir()} == {"room", "room.dsac", "room.dsac.jsonl"}
    log = [json.loads(line) for line in path.with_name("room.dsac.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if entry["phase"] == "training"][-1] == 3
    assert 2 in [entry["step"] for entry in log]  # of the first part


def test_a_map_that_cannot_be_saved_is_not_lost(room: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = room.parent / "room.dsac"
    checkpoint = path.with_name("room.dsac.checkpoint")
    command = ("map", room, path, "--steps", 3, "--views", 3, "--buffer-size", 2000)
    with monkeypatch.context() as patch:
        _interrupt_after(2, patch)
        run(*command)

    def full(scene_map: SceneMap, path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(SceneMap, "save", full)
        code, _, err = run(*command, "--resume")
    assert code == 2 and "No space left on device" in " ".join(err.split())
    assert checkpoint.is_file() and SceneMap.load(path).info.training["steps"] == 2
    assert run(*command, "--resume")[0] == 0
    assert SceneMap.load(path).info.training["steps"] == 3
    assert not checkpoint.exists()


def test_ctrl_c_before_training_leaves_nothing(room: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(head_learner, "collect", interrupt)
    before = content(room.parent)
    code, _, err = run("map", room, room.parent / "room.dsac")
    assert code == 130 and err.splitlines()[-1] == "interrupted"
    assert content(room.parent) == before


def test_a_damaged_checkpoint_is_named(room: Path, fails: Fails) -> None:
    checkpoint = room.parent / "a.dsac.checkpoint"
    checkpoint.write_text("no checkpoint")
    line = fails("map", room, room.parent / "a.dsac", "--resume")
    assert f"{checkpoint}: expected the checkpoint of a mapping" in line


def test_a_full_disk_leaves_nothing_and_names_the_map(
    room: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    path = room.parent / "room.dsac"
    line = fails("map", room, path, "--steps", 1, "--views", 3, "--buffer-size", 1000)
    assert line.startswith(f"dsac: {path}") and line.endswith(": No space left on device")
