"""Maps with regions in worlds apart: the truth is in one of them, and an answer in another is wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ball_world import exact_map
from made_up_wall import FakeLocalizer

from dsac.atlas import Atlas
from dsac.datasets import Frames, Scene
from dsac.errors import DsacError
from dsac.evaluation import evaluate, world_of
from dsac.evaluation.report import _gallery_section, _summary_section
from dsac.localization import Alternative, Localization


@dataclass
class InWorlds:
    """Exact poses, said to be in these worlds; the second photo may be of the other one, too."""

    worlds: list[str]
    exact: FakeLocalizer
    scene_map: Atlas

    def localize_frames(self, frames: Frames) -> Iterator[Localization]:
        for i, answer in enumerate(self.exact.localize_frames(frames)):
            others = (Alternative(answer.cam_from_world, answer.covariance, 0.2, "fox"),) if i == 1 else ()
            yield replace(answer, world=self.worlds[i], alternatives=others)


def _atlas(**frames_of: list[str]) -> Atlas:
    """A region for each world, made from frames of these names."""
    scene_map = exact_map(96)
    info = scene_map.info
    return Atlas.of(
        {
            world: replace(scene_map, info=replace(info, world=world, frames=dict.fromkeys(names, "")))
            for world, names in frames_of.items()
        }
    )


def test_the_world_is_the_one_made_from_the_scenes_frames_else_by_its_folders_name(scene: Scene) -> None:
    names = scene.mapping.names
    assert world_of(scene, _atlas(hall=["other"], attic=names[:3])) == "attic"
    assert world_of(scene, _atlas(hall=[], wall=[])) == "wall"  # scenes/wall
    assert world_of(scene, _atlas(hall=names, wall=names)) == "wall"
    assert world_of(scene, _atlas(hall=["other"], attic=names), "hall") == "hall"
    assert world_of(scene, _atlas(hall=["other"])) is None and world_of(scene, exact_map(96)) is None
    with pytest.raises(DsacError, match="in which of the map's worlds .* hall, attic: none was .*--world"):
        world_of(scene, _atlas(hall=[], attic=[]))
    with pytest.raises(DsacError, match="hall, attic: several were made from its frames"):
        world_of(scene, _atlas(hall=names, attic=names))
    with pytest.raises(DsacError, match="world: expected one of hall, attic, got cellar"):
        world_of(scene, _atlas(hall=[], attic=[]), "cellar")


def test_an_answer_in_another_world_is_wrong_and_counted_however_near_its_numbers_are(
    scene: Scene, make_localizer, tmp_path: Path
) -> None:
    atlas = _atlas(fox=[], wall=scene.mapping.names)
    worlds = ["wall", "wall", "fox", "fox", "wall", "fox"]
    result = evaluate(InWorlds(worlds, make_localizer([0.0] * 6, failing={5}), atlas), scene)
    summary = result.summaries[0]
    assert summary.percent_1cm_1deg == pytest.approx(50.0) and summary.num_not_localized == 3
    assert result.elsewhere == {"fox": 2}
    assert "2 of 5 accepted answers are in another world than the truth (2 in fox)" in result.about_worlds
    assert json.loads(json.dumps(result.to_dict()))["in_another_world"] == {"fox": 2}
    (several,) = [frame for frame in result.frames if frame.places]
    assert several.places[1] == (None, 0.2) and result.places is not None
    assert (result.places["right_named"], result.places["right_first"]) == (100.0, 100.0)
    result.write_csv(tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        assert [row["elsewhere"] for row in csv.DictReader(file)] == ["", "", "fox", "fox", "", ""]


def test_of_one_world_nothing_is_said(scene: Scene, make_localizer) -> None:
    result = evaluate(InWorlds([""] * 6, make_localizer([0.0] * 6), _atlas(**{"": []})), scene)
    assert result.elsewhere == {} and result.about_worlds == ""
    assert result.summaries[0].percent_1cm_1deg == 100.0


def test_the_report_names_the_world_of_a_wrong_answer(scene: Scene, make_localizer) -> None:
    atlas = _atlas(wall=scene.mapping.names, **{"f<x": []})
    result = evaluate(InWorlds(["f<x", *["wall"] * 5], make_localizer([0.0] * 6), atlas), scene)
    assert "1 of 6 accepted answers are in another world than the truth (1 in f&lt;x)" in _summary_section(
        result
    )
    assert "in the world f&lt;x</em>" in _gallery_section(result)
