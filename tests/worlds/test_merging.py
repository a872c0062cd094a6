"""Several maps in one file: what they are called, which world they are in, and what photos are answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ball_world import ColorEncoder
from textured_ball import LENS, places, textured

from dsac.atlas import Atlas
from dsac.errors import DsacError
from dsac.geometry import Pose, Similarity
from dsac.localizer import Localizer
from dsac.scene_map import SceneMap
from dsac.worlds import Alignment, aligned, apart, in_one_world, knows_too

AWAY = Similarity(Pose.exp(torch.tensor([0.1, 0.2, 0.3, 40.0, -5.0, 2.0], dtype=torch.float64)), 2.0)
QUERY = places(1, seed=5)[0]


def _saying(scene_map: SceneMap, **what: object) -> Atlas:
    return Atlas.of({"": replace(scene_map, info=replace(scene_map.info, **what))})


def test_regions_without_a_name_get_their_files_and_clashes_a_number(
    textured_ball_map: SceneMap, tmp_path: Path
) -> None:
    one = _saying(textured_ball_map)
    both = in_one_world([("ball", one), ("ball", one)])
    assert both.names == ["ball", "ball-2"] and both.worlds == [""]
    both.save(tmp_path / "both.dsac")
    again = in_one_world([("x", Atlas.load(tmp_path / "both.dsac")), ("y", Atlas.load(tmp_path / "both.dsac"))])
    assert again.names == ["ball", "ball-2", "ball-3", "ball-2-2"]
    again.save(tmp_path / "both.dsac")  # in place of what it reads from
    loaded = Atlas.load(tmp_path / "both.dsac")
    assert loaded.names == again.names
    data = textured_ball_map.to_bytes()
    assert all(region.to_bytes() == data for region in loaded.regions)


def test_maps_that_know_the_same_place_are_noticed(textured_ball_map: SceneMap) -> None:
    ball, away = _saying(textured_ball_map), aligned(_saying(textured_ball_map), Alignment(AWAY, None))
    assert knows_too(ball, ball) and knows_too(away, away)
    assert not knows_too(ball, away) and not knows_too(away, ball)
    behind = Similarity(Pose.exp(torch.tensor([0, torch.pi, 0, 0, 0, 0], dtype=torch.float64)))  # of the ball
    assert not knows_too(ball, aligned(ball, Alignment(behind, None)))
    silent = _saying(replace(textured_ball_map, landmarks=None, described=None))
    assert not knows_too(silent, ball) and not knows_too(ball, silent)


def test_maps_in_one_world_agree_about_it(textured_ball_map: SceneMap) -> None:
    here = 47.0, 8.0, 400.0
    first, silent = (
        _saying(textured_ball_map, metric=True, geo=here, world="zurich"),
        _saying(textured_ball_map),
    )
    both = in_one_world([("a", first), ("b", silent)])
    assert [region.info.geo for region in both.regions] == [here, here] and both.worlds == ["zurich"]
    for wrong, told in (
        (
            _saying(textured_ball_map, metric=False),
            "b: expected a map in the world of a, which has metres, got one",
        ),
        (
            _saying(textured_ball_map, geo=(47.0, 9.0, 0.0)),
            r"got one with axes about \(47.0, 9.0, 0.0\) on Earth",
        ),
        (apart([("c", silent), ("d", silent)]), "b: expected a map in one world, its regions are in c, d"),
    ):
        with pytest.raises(DsacError, match=told):
            in_one_world([("a", first), ("b", wrong)])


def test_worlds_apart_have_names_and_an_answer_says_which(textured_ball_map: SceneMap) -> None:
    """The same place in two worlds: one photo is of both, and their poses and units are told apart."""
    away = _saying(textured_ball_map, metric=True)
    away = away.saying(lambda info: info.in_world_of(AWAY))
    cities = apart([("rome", _saying(textured_ball_map)), ("oslo", away)])
    assert cities.worlds == ["rome", "oslo"] and cities.info.world == ""
    assert apart([("x", cities), ("rome", away)]).worlds == ["rome", "oslo", "rome-2"]
    photo = textured(LENS, QUERY).image
    localizer = Localizer(cities, encoder=ColorEncoder())
    answer = localizer.localize(photo, LENS)
    assert not answer.success  # which of the two is not to be told
    worlds = {place.world: place for place in answer.places}
    assert worlds.keys() == {"rome", "oslo"}
    assert worlds["rome"].cam_from_world.center_distance(QUERY) < 0.01
    assert worlds["oslo"].cam_from_world.center_distance(AWAY.pose(QUERY)) < 0.02
    place = AWAY.pose(QUERY).center.tolist()
    told = localizer.localize(photo, LENS, near=place, radius=3.0)
    assert told.success and told.world == "oslo" and told.metric is True
    assert told.to_dict()["world"] == "oslo"
    batch = localizer.localize(torch.stack([photo, photo]), LENS, near=place, radius=3.0)
    assert batch.world == ("oslo", "oslo") and batch[1].world == "oslo"


def test_one_place_is_never_the_same_in_two_worlds(textured_ball_map: SceneMap) -> None:
    one = _saying(textured_ball_map)
    localizer = Localizer(apart([("a", one), ("b", one)]), encoder=ColorEncoder())
    answer = localizer.localize(textured(LENS, QUERY).image, LENS)
    assert sorted(place.world for place in answer.places) == ["a", "b"] and not answer.success
