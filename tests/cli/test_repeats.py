"""Places that repeat themselves, on the command line: modes, what `map` says of them and `localize` answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from command_line import Fails, Run
from made_up_wall import localization

from dsac.cli.localize import as_line
from dsac.cli.map import _repeated
from dsac.geometry import Pose
from dsac.landmarks import LookAlikes
from dsac.localization import Alternative
from dsac.scene_map import SceneMap


def test_a_map_of_several_modes_localizes_and_says_what_it_is(corner: Path, run: Run, tmp_path: Path) -> None:
    made = tmp_path / "modes.dsac"
    code, _, err = run("map", corner / "scene", made, "--modes", 3, "--steps", 2, "--views", 6, "--no-check")
    assert code == 0, err
    code, out, _ = run("info", made)
    assert "3 modes a cell" in out and "of the views look like others elsewhere" in out
    image = corner / "scene" / "images" / "mapping-005.jpg"
    code, out, _ = run("localize", made, image)
    assert code == 0 and out.startswith(str(image))


def test_a_number_of_modes_without_meaning_is_one_line(room: Path, fails: Fails) -> None:
    assert "expected 1 to 64, got 0" in fails("map", room, room.parent / "a.dsac", "--modes", 0)
    assert "modes: expected with the shared encoder only" in fails(
        "map", room, room.parent / "a.dsac", "--modes", 4, "--regressor", "dsac"
    )


def test_a_map_says_that_its_place_repeats_itself(corner: Path) -> None:
    scene_map = SceneMap.load(corner / "corner.dsac")
    assert scene_map.landmarks is not None and _repeated(scene_map) is None
    views = len(scene_map.landmarks.focal_px)
    half = torch.arange(views)[::2]
    repeated = replace(scene_map, look_alikes=LookAlikes(half, Pose.identity(len(half))))
    said = _repeated(repeated)
    assert said is not None and f"{len(half) / views:.0%} of the frames" in said


def test_other_places_are_in_the_line_of_a_photo() -> None:
    here = Pose.identity(dtype=torch.float64)
    answer = localization("a.jpg", here, here)
    there = Pose(torch.eye(3).double(), torch.tensor([-1.0, -2.0, -3.0]).double())
    other = Alternative(there, answer.covariance, 0.25)
    assert "or at" not in as_line(answer)
    assert "or at (1.000, 2.000, 3.000)" in as_line(replace(answer, alternatives=(other,)))
    lost = replace(answer, alternatives=(other,), success=torch.tensor(False))
    line = as_line(lost)
    assert "not localized" in line and "75%" in line and "(1.000, 2.000, 3.000) 25%" in line
