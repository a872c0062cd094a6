"""`dsac map --sfm`: a folder of photos becomes a map in one command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from command_line import Fails, Run
from photo_walk import Walk
from textured_ball import places

from dsac.scene_map import SceneMap
from dsac.sfm import colmap


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return Walk.write(tmp_path_factory.mktemp("ball"), places(8, seed=0), places(0, seed=0)).photos


def test_photos_become_a_map_and_are_placed_once(
    photos: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pycolmap")
    path = tmp_path / "ball.dsac"
    command = ("map", photos, path, "--sfm", "--steps", 2, "--views", 8, "--landmarks", 300)
    code, out, err = run(*command)
    assert code == 0, err
    assert f"{photos}: photos, structure from motion, 8 photos placed, kept in {path}.sfm" in out
    for phase in ("read photos", "find features", "match photos", "place photos", "triangulate"):
        assert phase in err
    assert not any(line.startswith(("I2", "W2", "E2")) for line in err.splitlines())  # COLMAP's own words
    names = {"ball.dsac", "ball.dsac.jsonl", "ball.dsac.sfm"}
    assert {file.name for file in tmp_path.iterdir()} == names
    info = SceneMap.load(path).info
    assert info.metric is False and info.num_frames == 8 and info.supervision == "poses"
    code, out, _ = run("info", path)
    assert code == 0 and "not metres" in " ".join(out.split())

    monkeypatch.setattr(colmap, "find_spec", lambda name: None)
    code, out, err = run(*command)
    assert code == 0 and "find features" not in err


def test_without_pycolmap_one_line_says_how_to_get_it(
    photos: Path, fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colmap, "find_spec", lambda name: None)
    line = fails("map", photos, tmp_path / "a.dsac", "--sfm")
    assert line.endswith("COLMAP finds the poses of photos: pip install 'dsac[colmap]'")


def test_photos_without_poses_are_told_of_the_option(photos: Path, fails: Fails, tmp_path: Path) -> None:
    assert "`dsac map --sfm` finds them" in fails("map", photos, tmp_path / "a.dsac")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--sfm", "--axes", "opengl"], "--sfm: finds poses from the images alone, expected no --axes opengl"),
        (["--sfm", "--max-gap", "1"], "expected no --max-gap with it"),
        (["--sfm", "--focal-px", "-3"], "focal_px: expected a positive focal length in pixels, got -3"),
        (["--focal-px", "300"], "focal_px: expected with --sfm only"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    photos: Path, fails: Fails, tmp_path: Path, options: list[str], expected: str
) -> None:
    assert expected in fails("map", photos, tmp_path / "a.dsac", *options)


def test_too_few_photos_and_none_are_one_line(photos: Path, fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    assert "expected a folder with images" in fails("map", tmp_path / "few", tmp_path / "a.dsac", "--sfm")
    for name in ("00.png", "01.png"):
        shutil.copy(photos / name, tmp_path / "few")
    assert "expected 3 photos or more, got 2" in fails("map", tmp_path / "few", tmp_path / "a.dsac", "--sfm")
