"""`dsac fine-tune`: what goes wrong leaves nothing; tests/mapping/test_fine_tuning.py has what goes right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from command_line import Fails, write_poses

from dsac.scene_map import SceneMap


def test_fine_tuning_that_fails_leaves_no_log(room: Path, blank_map: Path, fails: Fails) -> None:
    write_poses(room, ["1 0 0 0 0 0 0"])  # too few frames
    output = room / "a.dsac"
    assert "four or more frames" in fails("fine-tune", blank_map, room, "--output", output)
    assert "seed: expected 0 or more" in fails("fine-tune", blank_map, room, "--output", output, "--seed", -1)


def test_fine_tuning_names_a_map_of_another_encoder(room: Path, blank_map: Path, fails: Fails) -> None:
    scene_map = SceneMap.load(blank_map)
    replace(scene_map, info=replace(scene_map.info, encoder_id="other")).save(blank_map)
    assert f"{blank_map}: the map was made with encoder other" in fails("fine-tune", blank_map, room)
