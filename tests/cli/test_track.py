"""`dsac track`: a folder or a video becomes a trajectory, with odometry or without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import Fails, Run
from videos import write_video

from dsac.datasets import load_scene
from dsac.datasets.trajectory import read_trajectory


@pytest.fixture
def walk(corner: Path, tmp_path: Path) -> Path:
    """Each second mapping image, named by its time, in order, and each twice."""
    folder = tmp_path / "walk ü"
    folder.mkdir()
    for i, image in enumerate(sorted((corner / "scene" / "images").iterdir())[::2]):
        for k in range(2):
            shutil.copy(image, folder / f"{1e9 + i + 0.04 * k:.6f}.jpg")
    return folder


def test_a_folder_becomes_a_trajectory(corner: Path, run: Run, walk: Path, tmp_path: Path) -> None:
    output = tmp_path / "walk.txt"
    code, out, _ = run("track", corner / "corner.dsac", walk, "--focal-px", 262.5, "--output", output, "--json")
    assert code == 0
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["time"] for answer in answers] == [float(p.stem) for p in sorted(walk.iterdir())]
    assert answers[0]["state"] == "tentative" and not answers[0]["by_prior"]
    assert {answer["state"] for answer in answers} <= {"lost", "tentative", "tracking"}
    known = [answer for answer in answers if answer["success"]]
    assert len(known) >= 0.7 * len(answers)
    written = read_trajectory(str(output))
    assert written.times.tolist() == [answer["time"] for answer in known]
    for answer, pose in zip(known, written.world_from_sensor, strict=True):
        assert pose.translation.tolist() == pytest.approx(answer["center"], abs=1e-5)
    truth = load_scene(corner / "scene").truths["poses"]
    names = sorted(path.name for path in (corner / "scene" / "images").iterdir())[::2]
    places = {1e9 + i: truth.cam_from_world[truth.index[name]].center for i, name in enumerate(names)}
    off = [(written.world_from_sensor[k].translation - places[round(t, 1)]).norm().item()
           for k, t in enumerate(written.times) if round(t, 1) in places]  # fmt: skip
    assert np.median(off) < 0.3  # of a map that was made in seconds


def test_a_videos_times_are_those_of_its_rate(corner: Path, run: Run, tmp_path: Path) -> None:
    images = [cv2.imread(str(path)) for path in sorted((corner / "scene" / "images").iterdir())[:4]]
    video = write_video(tmp_path / "walk.mp4", images, rate=10.0)
    code, out, _ = run("track", corner / "corner.dsac", video, "--focal-px", 262.5, "--json")
    assert code == 0
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["time"] for answer in answers] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert answers[0]["name"].endswith("walk.mp4#000000")


def test_the_sum_is_said_and_what_is_not_localized(corner: Path, run: Run, walk: Path) -> None:
    first = sorted(walk.iterdir())[0]
    first.write_bytes(b"")
    code, out, err = run("track", corner / "corner.dsac", walk, "--focal-px", 262.5)
    assert code == 2 and first.name in err
    count = len(list(walk.iterdir()))
    assert f" of {count} localized: " in out and " followed, " in out and " ms a photo" in out


def test_odometry_in_a_world_of_its_own_is_taken(corner: Path, run: Run, walk: Path, tmp_path: Path) -> None:
    odometry = tmp_path / "odometry.txt"
    times = sorted(float(path.stem) for path in walk.iterdir())
    odometry.write_text("".join(f"{time:.6f} {i // 2} 0 0 0 0 0 1\n" for i, time in enumerate(times)))
    given = ("track", corner / "corner.dsac", walk, "--focal-px", 262.5, "--json")
    code, out, _ = run(*given, "--odometry", odometry)
    assert code == 0
    for plain, told in zip(run(*given)[1].splitlines(), out.splitlines(), strict=True):
        a, b = json.loads(plain), json.loads(told)
        assert a["success"] <= b["success"]  # wrong odometry is no harm
        if a["success"] and b["success"]:
            assert a["center"] == pytest.approx(b["center"], abs=0.05)


def test_wrong_input_is_one_line(corner: Path, fails: Fails, walk: Path, tmp_path: Path) -> None:
    given = ("track", corner / "corner.dsac", walk, "--focal-px", 262.5)
    late = tmp_path / "late.txt"
    late.write_text("5 0 0 0 0 0 0 1\n6 0 0 0 0 0 0 1\n")
    assert "no image has a pose within" in fails(*given, "--odometry", late)
    assert "expected lines `timestamp tx ty tz qx qy qz qw`" in fails(*given, "--odometry", _empty(tmp_path))
    (tmp_path / "other.txt").write_text("a letter\n")
    assert "already exists and is something else" in fails(*given, "--output", tmp_path / "other.txt")
    assert "nothing" in fails("track", corner / "corner.dsac", tmp_path / "none.mp4")


def _empty(folder: Path) -> Path:
    (folder / "empty.txt").write_text("")
    return folder / "empty.txt"
