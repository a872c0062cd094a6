"""`dsac map` ends with how well it localizes: by held-out frames, or by its own; never by a split's queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Fails, Run, write_noise
from made_up_wall import localization

from dsac.cli.score import score_line
from dsac.datasets import Frames
from dsac.datasets.recording import FileReader
from dsac.evaluation import PoseError, summarize
from dsac.geometry import Pose
from dsac.localization import Localization
from dsac.localizer import Localizer
from dsac.scene_map import SceneMap

QUICK = ("--steps", 1, "--views", 26, "--buffer-size", 2000, "--landmarks", 0, "--no-check")
HELD = ["3.jpg", "11.jpg", "19.jpg"]


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """A plain folder without a split: 26 noisy photos with depth, enough to be mapped, not to be learned."""
    return write_noise(tmp_path / "ä walk", 26)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bool]]]:
    """What is read, image by image, and whether a map was saved by then."""
    names, saved = [], []
    read_image, save = FileReader.read_image, SceneMap.save

    def noting(reader: FileReader, name: str) -> Any:
        names.append((name, bool(saved)))
        return read_image(reader, name)

    def saving(scene_map: SceneMap, path: Path) -> None:
        save(scene_map, path)
        saved.append(path)

    monkeypatch.setattr(FileReader, "read_image", noting)
    monkeypatch.setattr(SceneMap, "save", saving)
    yield names


def test_an_eighth_is_held_out_and_scores_the_map(walk: Path, run: Run, tmp_path: Path, read: list) -> None:
    path = tmp_path / "a.dsac"
    code, out, err = run("map", walk, path, *QUICK)
    assert code == 0
    assert "3 frames are held out to score the map (--hold-out 0: none)\n" in out
    assert "\n3 held-out photos: none is localized\n" in out
    assert "photos will hardly be localized: too little was learned, more minutes or steps help" in err
    assert f"Next: dsac evaluate {path} '{walk}'\nNext: dsac localize {path} PHOTO\n" in out
    assert {name for name, saved in read if not saved}.isdisjoint(HELD)
    assert [name for name, saved in read if saved] == HELD
    frames = SceneMap.load(path).info.frames
    assert len(frames) == 23 and frames.keys().isdisjoint(HELD) and all(map(len, frames.values()))


def test_evaluate_then_takes_what_was_held_out(walk: Path, run: Run, tmp_path: Path) -> None:
    path, files = tmp_path / "a.dsac", ("--report", tmp_path / "a.html", "--csv", tmp_path / "a.csv")
    run("map", walk, path, *QUICK, "--hold-out", "blocks")
    held = [line.split(",")[0] for line in _evaluated(run, path, walk, tmp_path)]
    assert sorted(held) == sorted({f"{i}.jpg" for i in range(26)} - SceneMap.load(path).info.frames.keys())
    assert held
    lines = _evaluated(run, path, walk, tmp_path, "--all")
    assert len(lines) == 26 and sum(line.endswith(",1") for line in lines) == 26 - len(held)
    code, out, err = run("evaluate", path, walk, "--all", "--json", *files)
    values = json.loads(out)
    assert code == 0 and (values["images"], values["learned_from"]) == (26, 26 - len(held))
    assert values["parts"]["others"]["images"] == len(held) and values["csv"] == str(tmp_path / "a.csv")
    assert f"{26 - len(held)} of 26 images are frames that this map was made from" in " ".join(err.split())


def _evaluated(run: Run, path: Path, walk: Path, folder: Path, *options: str) -> list[str]:
    """The rows of the table."""
    files = ("--report", folder / "a.html", "--csv", folder / "a.csv")
    assert run("evaluate", path, walk, *files, *options)[0] == 0
    return (folder / "a.csv").read_text().splitlines()[1:]


def test_without_a_test_frames_of_its_own_are_looked_for(
    walk: Path, run: Run, fails: Fails, tmp_path: Path
) -> None:
    path = tmp_path / "a.dsac"
    _, out, _ = run("map", walk, path, *QUICK, "--hold-out", 0)
    assert "held out" not in out and "Next: dsac evaluate" not in out
    assert "8 of 26 frames that it learned from: none is localized\n" in out
    assert len(SceneMap.load(path).info.frames) == 26
    assert "evaluate --all, which is no test" in fails("evaluate", path, walk)
    shorter = tmp_path / "few"
    (walk / "mapping.txt").write_text("".join(f"{i}.jpg\n" for i in range(23)))
    (walk / "query.txt").write_text("")
    _, out, _ = run("map", walk, shorter, *QUICK)
    assert "8 of 23 frames that it learned from: none is localized\n" in out


def test_the_query_frames_of_a_split_are_never_read(corner: Path, run: Run, tmp_path: Path, read: list) -> None:
    options = ("--steps", 3, "--views", 6, "--landmarks", 500)
    code, out, err = run("map", corner / "scene", tmp_path / "new.dsac", *options)
    assert code == 0
    assert "6 frames that it learned from: 100 % localized, 100 % within 5 cm 5°" in out
    assert "°; others are found less well\n" in out
    assert "hardly" not in err  # by landmarks, whatever the head has learned
    queries = (corner / "scene" / "query.txt").read_text().split()
    assert {name for name, _ in read}.isdisjoint(queries)
    assert {name for name, saved in read if saved} == set(
        (corner / "scene" / "mapping.txt").read_text().split()
    )


def test_a_split_is_not_split_again(corner: Path, fails: Fails, tmp_path: Path) -> None:
    line = fails("map", corner / "scene", tmp_path / "a.dsac", "--hold-out", "blocks")
    assert "--hold-out: the recording has 6 query frames" in line


def test_ctrl_c_while_scoring_leaves_the_map(
    walk: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Localizer, "localize_frames", interrupted)
    path = tmp_path / "a.dsac"
    code, out, err = run("map", walk, path, *QUICK)
    assert code == 130 and err.splitlines()[-1] == "interrupted" and "held-out photos" not in out
    assert SceneMap.load(path).info.training["steps"] == 1
    assert {p.name for p in tmp_path.iterdir()} == {walk.name, "a.dsac", "a.dsac.jsonl"}


def test_held_out_photos_that_are_damaged_are_named_and_not_scored(
    walk: Path, run: Run, tmp_path: Path
) -> None:
    image = walk / "images" / HELD[1]
    image.write_bytes(image.read_bytes()[:-100])
    code, out, err = run("map", walk, tmp_path / "a.dsac", *QUICK)
    assert code == 0 and "\n2 held-out photos: " in out
    assert "1 of 3 images are damaged, left out: 11.jpg" in " ".join(err.split())
    for name in HELD:
        (walk / "images" / name).write_bytes(image.read_bytes()[:-100])
    code, out, err = run("map", walk, tmp_path / "a.dsac", *QUICK)
    assert code == 0 and "held-out photos" not in out and "Next: " in out
    assert "not scored: " in err and "truncated" in err


def test_lengths_without_metres_are_told_in_spacings() -> None:
    error = PoseError(torch.tensor([0.1, 0.2, torch.inf]), torch.tensor([0.02, 0.04, torch.inf]))
    line = score_line(summarize(error, "model", camera_spacing_m=0.4, metric=False), 3, held_out=True)
    assert line.startswith(
        "3 held-out photos: 67 % localized, 67 % within 0.5 spacings 5°, 33 % within 0.1 spacings"
    )
    assert "median 0.100 spacings, 0.20° (spacing: from a mapping camera to the nearest one, 0.4 of" in line


def test_what_is_said_as_json_is_json_alone(walk: Path, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.dsac"
    run("map", walk, path, *QUICK)
    code, out, _ = run("info", path, "--json")
    info = json.loads(out)
    assert code == 0 and info["num_frames"] == len(info["frames"]) == 23 and info["num_landmarks"] == 0
    assert info["map"] == str(path) and info["size_bytes"] == path.stat().st_size
    code, out, _ = run("check", walk, "--json")
    check = json.loads(out)
    assert code == 0 and check["right"] is True and check["corners_agreed"] is None
    assert [finding["severity"] for finding in check["findings"]][0] == "doubtful"
    poses = walk / "poses.txt"
    code, out, _ = run("evaluate", "--poses", poses, "--truth", poses, "--json")
    assert code == 0 and json.loads(out)["truths"]["poses"]["percent_within"]["1 cm 1°"] == 100


def test_of_frames_that_are_found_twenty_are_enough(
    walk: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def found(localizer: Localizer, frames: Frames) -> Iterator[Localization]:
        asked.append(frames.names)
        assert frames.cam_from_world is not None
        for i, name in enumerate(frames.names):
            yield localization(name, frames.cam_from_world[i], Pose.identity(dtype=torch.float64))

    monkeypatch.setattr(Localizer, "localize_frames", found)
    code, out, err = run("map", walk, tmp_path / "a.dsac", *QUICK, "--hold-out", 0)
    assert code == 0 and "hardly" not in err
    assert "20 of 26 frames that it learned from: 100 % localized" in out
    assert "median 0.000 cm, 0.000°; others are found less well\n" in out
    assert [len(names) for names in asked] == [8, 20]
    assert all({names[0], names[-1]} == {"0.jpg", "25.jpg"} for names in asked)  # from end to end
