"""`dsac check`, and the same before `dsac map`: mistakes are named with their cure, nothing is learned."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Fails, Run, content

from dsac.datasets import read_poses, write_poses
from dsac.rooms import synthetic_scene, write_scene

QUICK = ("--steps", 1, "--views", 6, "--landmarks", 0)


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "right"
    write_scene(synthetic_scene(num_mapping=10, num_query=1, size=(320, 240), light_cell=0.5), folder)
    return folder


@pytest.fixture
def inverted(right: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "inverted"
    shutil.copytree(right, folder)
    poses = read_poses(folder / "poses.txt")
    write_poses(folder / "poses.txt", replace(poses, cam_from_world=poses.cam_from_world.inverse()))
    return folder


def test_a_right_recording_passes(right: Path, run: Run) -> None:
    code, out, _ = run("check", right)
    assert code == 0
    assert (
        "100% of the frames agree with another one" in out and "corners are where poses triangulate them" in out
    )
    assert "wrong" not in out and "Next" not in out


def test_a_mistake_is_named_and_its_cure_mends_it(inverted: Path, run: Run) -> None:
    code, out, error = run("check", inverted)
    assert code == 2 and "the images contradict what was read" in error
    assert "if they are inverted" in out and "agree as read; mended, 100% of the frames" in out
    assert f"Next: dsac check {inverted} --poses inverted\n" in out
    code, out, _ = run("check", inverted, "--poses", "inverted")
    assert code == 0 and "wrong" not in out


def test_nothing_is_learned_of_a_recording_that_contradicts_itself(
    inverted: Path, run: Run, tmp_path: Path
) -> None:
    path, before = tmp_path / "new.dsac", content(tmp_path)
    code, _, error = run("map", inverted, path, *QUICK)
    assert code == 2 and "try again with --poses inverted, or --no-check" in " ".join(error.split())
    assert content(tmp_path) == before
    for more in (("--no-check",), ("--poses", "inverted")):
        code, _, _ = run("map", inverted, path, *QUICK, *more)
        assert code == 0 and path.exists()
    code, out, _ = run("evaluate", path, inverted, "--poses", "inverted", "--report", tmp_path / "r.html")
    assert code == 0 and "ms an image" in out


def test_after_wrong_options_the_way_is_without_them(right: Path, run: Run, tmp_path: Path) -> None:
    code, out, _ = run("check", right, "--depth-scale", 3)
    assert code == 2 and f"Next: dsac check {right}\n" in out
    code, _, error = run("map", right, tmp_path / "new.dsac", *QUICK, "--depth-scale", 3)
    assert code == 2 and "try again without --depth-scale 3, or" in " ".join(error.split())


def test_axes_that_are_none_are_a_mistake_in_one_line(right: Path, run: Run) -> None:
    code, _, error = run("check", right, "--axes", "xyz")
    assert code == 2 and "axes: expected three of R L, U D, F B" in " ".join(error.split())


def test_a_page_shows_what_disagrees(inverted: Path, run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "Prüfung 1.html"
    code, out, _ = run("check", inverted, "--report", page)
    assert code == 2 and f"report: {page}" in out
    html = page.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>") and "http" not in html.split("</style>")[1]
    for words in ("if they are inverted", "--poses inverted", "the two that disagree most", "data:image/jpeg"):
        assert words in html
    assert 'class="match c0"' in html and "within 5 % of that" in html


def test_a_page_that_cannot_be_written_is_said_before_the_work(
    right: Path, fails: Fails, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "already exists and is something else" in fails("check", right, "--report", tmp_path / "notes.txt")
    assert "its folder does not exist" in fails("check", right, "--report", tmp_path / "no" / "page.html")
    assert "expected a file to write, got a folder" in fails("check", right, "--report", tmp_path)


def test_the_scale_is_said(right: Path, run: Run) -> None:
    _, out, _ = run("check", right, "--json")
    found = json.loads(out)
    assert found["metric"] is True and 0.5 < found["distance"] < 5 and found["depth"]["fits"] > 0.8
