"""Every format that is read, from the folder to a score: `check` finds nothing, held-out frames are localized.

`dsac map` learns from one with a lens and a scale of its own (`benchmarks/every_format.py`: from all of them).
What a map needs of the others is the same frames: held-out ones are localized in the map of one format, by the
poses and cameras of each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import Run
from written_walks import (
    WITHOUT_DEPTH,
    WRITERS,
    Walk,
    Writer,
    colmap_text,
    plain,
    ros_bag,
)

from dsac.checking import sample
from dsac.cli.map import Map
from dsac.datasets import hold_out, load_scene
from dsac.evaluation import evaluate
from dsac.localizer import Localizer
from dsac.mapping import MappingSettings, build_map

FRAMES, HELD_OUT = 16, 2
MAPPED = colmap_text
SMALL = {"num_views": FRAMES, "buffer_size": 3000, "num_landmarks": 400}
Settings = Callable[[Map], MappingSettings]


@pytest.fixture(scope="session")
def walk() -> Walk:
    return Walk.render(FRAMES)


@pytest.fixture(scope="session")
def of_plain(walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> Localizer:
    folder = tmp_path_factory.mktemp("plain")
    plain(walk, Writer(folder))
    torch.set_num_threads(1)
    settings = MappingSettings(steps=60, batch_size=256, width=64, **SMALL)
    return Localizer(build_map(hold_out(load_scene(folder)), settings))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixteenth of what a step and a check look at: they take most of the time."""
    settings: Settings = Map.settings  # type: ignore[assignment]
    monkeypatch.setattr(Map, "settings", lambda given: replace(settings(given), batch_size=256, width=64))
    monkeypatch.setattr(sample, "_MOST", 1000)
    monkeypatch.setattr(sample, "_MOST_FRAMES", 8)


@pytest.fixture
def written(walk: Walk, tmp_path: Path) -> Callable[[Callable], Path]:
    """Where the walk lies in a format."""

    def write(format: Callable) -> Path:
        if format is ros_bag:
            pytest.importorskip("rosbags", reason="needs rosbags")
        folder = tmp_path / "ein Gang"
        folder.mkdir()
        return format(walk, Writer(folder)) or folder

    return write


@pytest.mark.parametrize("format", WRITERS, ids=lambda format: format.__name__)
def test_a_recording_is_right_and_its_frames_are_localized(
    written: Callable, run: Run, tmp_path: Path, of_plain: Localizer, format: Callable
) -> None:
    folder = written(format)
    code, out, err = run("check", folder, "--json")
    check = json.loads(out)
    assert code == 0 and check["right"] and check["cure"] is None and check["findings"] == [], check
    assert check["frames_agreed"] == 1 and check["corners_agreed"] > 0.6
    assert (check["depth"] is None) == (format in WITHOUT_DEPTH)
    if check["depth"] is not None:
        assert check["depth"]["fits"] > 0.6 and abs(check["depth"]["ratio"] - 1) < 0.02
    if format is MAPPED:
        options = ["--views", FRAMES, "--buffer-size", 3000, "--landmarks", 400, "--hold-out", 8, "--no-check"]
        code, out, err = run("map", folder, tmp_path / "a.dsac", "--steps", 60, *options)
        assert code == 0, err
        expected = rf"\n{HELD_OUT} held-out photos: 100 % localized, 100 % within (5 cm 5°|0.5 spacings 5°)"
        assert re.search(expected, out), out
    else:
        evaluation = evaluate(of_plain, hold_out(load_scene(folder)))
        (error,) = evaluation.errors.values()
        assert len(error.translation_m) == HELD_OUT and evaluation.num_learned == 0
        assert error.translation_m.max() < 0.05 and error.rotation_deg.max() < 1
