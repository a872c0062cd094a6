"""`dsac fine-tune`: maps of several regions, and what goes wrong leaves nothing.

tests/mapping/test_fine_tuning.py has what goes right of one region.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from ball_world import ColorEncoder, ball_frames, exact_map
from command_line import Fails, Run, write_poses

from dsac.atlas import Atlas
from dsac.datasets import Scene
from dsac.mapping.settings import FineTuningSettings
from dsac.mapping.views import Augmentation
from dsac.scene_map import SceneMap
from dsac.visual_words import VisualWords


def test_fine_tuning_that_fails_leaves_no_log(room: Path, blank_map: Path, fails: Fails) -> None:
    write_poses(room, ["1 0 0 0 0 0 0"])  # too few frames
    output = room / "a.dsac"
    assert "four or more frames" in fails("fine-tune", blank_map, room, "--output", output)
    assert "seed: expected 0 or more" in fails("fine-tune", blank_map, room, "--output", output, "--seed", -1)


def test_fine_tuning_names_a_map_of_another_encoder(room: Path, blank_map: Path, fails: Fails) -> None:
    scene_map = SceneMap.load(blank_map)
    replace(scene_map, info=replace(scene_map.info, encoder_id="other")).save(blank_map)
    assert f"{blank_map}: the map was made with encoder other" in fails("fine-tune", blank_map, room)


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ball's map, and the same as it would be 5 m off: the gate cannot tell them apart yet."""
    frames = ball_frames(8)
    monkeypatch.setattr(SceneMap, "load_encoder", lambda self, device="cpu": ColorEncoder())
    monkeypatch.setattr(
        "dsac.datasets.load_scene",
        lambda path, truth=None, max_gap=None: Scene("ball", "ball", frames, frames[:0]),
    )
    colours_stay = Augmentation(max_brightness=0.0, max_gamma=1.0, max_blur_px=0.0)
    monkeypatch.setattr(
        "dsac.mapping.FineTuningSettings", partial(FineTuningSettings, augmentation=colours_stay)
    )
    features = torch.randn(40, 152, generator=torch.Generator().manual_seed(0))
    right, wrong = (exact_map(96) for _ in range(2))
    with torch.no_grad():
        wrong.head.point.bias[:3] += 1.5
    info = replace(right.info, frames=dict.fromkeys(frames.names, ""))
    words = VisualWords.of(features, torch.zeros(0, 3))
    path = tmp_path / "both.dsac"
    named = {"right": right, "wrong": wrong}
    Atlas.of({name: replace(ball, info=info, words=words) for name, ball in named.items()}).save(path)
    return path


def test_regions_and_their_gate_are_tuned_and_travel_together(both: Path, run: Run, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.dsac"
    command = ("fine-tune", both, "ball", "--output", tuned, "--steps", 2)
    code, out, err = run(*command)
    assert code == 0 and "loss expected over regions on the validation slice" in " ".join(out.split()), err
    assert {file.name for file in tmp_path.iterdir()} == {"both.dsac", "tuned.dsac", "tuned.dsac.tuning.jsonl"}
    log = [json.loads(line) for line in (tmp_path / "tuned.dsac.tuning.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "gradient_norm" in line] == [1, 2]
    before, after = Atlas.load(both), Atlas.load(tuned)
    record = after["right"].info.training["fine_tuning"]
    assert record["best_step"] == 2 and record["validation_after"] < record["validation_before"]
    worth = {region.name: region.words.worths for region in after.regions if region.words is not None}
    assert worth["right"].mean() > 0 > worth["wrong"].mean()
    assert all(region.words is not None and region.words.worth is None for region in before.regions)

    part, old, joined = (tmp_path / name for name in ("part.dsac", "old.dsac", "joined.dsac"))
    assert run("crop", tuned, part, "--regions", "right")[0] == 0
    assert run("crop", both, old, "--regions", "wrong")[0] == 0
    assert run("merge", part, old, joined, "--same-world")[0] == 0
    for region in (Atlas.load(part).regions[0], Atlas.load(joined).regions[0]):
        assert region.words is not None and torch.equal(region.words.worths, worth["right"])
    other = Atlas.load(joined).regions[1]
    assert other.words is not None and other.words.worth is None  # the defaults
    assert "the regions of a map share it" in _said(run, *command, "--encoder")


def _said(run: Run, *arguments: object) -> str:
    code, _, err = run(*arguments)
    assert code == 2
    return " ".join(err.split())
