"""A map from above: from where, and looking where, photos are not found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dsac.atlas import Atlas
from dsac.errors import DsacError
from dsac.evaluation.plan import FEW, Plan, spots_told
from dsac.geometry import Pose, Similarity
from dsac.scene_map import SceneMap

AWAY = Similarity(Pose.exp(torch.tensor([0.1, 0.2, 0.3, 40.0, -5.0, 2.0], dtype=torch.float64)), 2.0)


def test_what_the_mapping_photos_looked_at_is_known_and_what_is_behind_them_is_not(
    textured_ball_map: SceneMap,
) -> None:
    plan = Plan.of(Atlas.of({"": textured_ball_map}))
    poses = plan.regions[0].cam_from_world
    look = plan.axes.numpy() @ poses.rotation[:, 2].mean(0).numpy()
    number = round(np.arctan2(look[1], look[0]) / (2 * np.pi / 8)) % 8
    counts = plan.counts[..., 0]
    middle = np.linalg.norm(plan.places - poses.center.mean(0).numpy(), axis=1).argmin()
    assert counts[middle, number] > FEW and counts[middle, number] == counts[middle].max()
    assert counts[:, (number + 4) % 8].max() == 0
    assert 0.05 < plan.share_known < 0.6
    spot = plan.weak_spots[0]
    assert (number + 4) % 8 in spot.directions
    assert spots_told(plan)[0].startswith("A  (") and "directions are hardly known" in spots_told(plan)[0]


def test_places_are_the_worlds_and_regions_are_held_side_by_side(textured_ball_map: SceneMap) -> None:
    away = replace(textured_ball_map, info=textured_ball_map.info.in_world_of(AWAY))
    one, both = Plan.of(Atlas.of({"": away})), Plan.of(Atlas.of({"here": textured_ball_map, "away": away}))
    near = np.linalg.norm(one.places - AWAY.translation, axis=1)
    assert near.max() < 2 * 3.0  # in the ball, which is twice as large there
    assert both.counts.shape[2] == 2
    here = np.linalg.norm(both.places, axis=1) < 3
    assert both.counts[here, :, 0].max() > FEW and both.counts[~here, :, 1].max() > FEW
    assert both.counts[here, :, 1].max() == 0
    pytest.importorskip("matplotlib")
    assert both.draw().startswith(b"\x89PNG")


def test_maps_without_landmarks_and_of_several_worlds_have_no_plan(textured_ball_map: SceneMap) -> None:
    blank = replace(textured_ball_map, landmarks=None, described=None, look_alikes=None)
    with pytest.raises(DsacError, match="expected a map with landmarks, this one has none"):
        Plan.of(Atlas.of({"": blank}))
    other = replace(blank, info=replace(blank.info, world="mars"))
    with pytest.raises(DsacError, match="expected regions in one world"):
        Plan.of(Atlas.of({"a": blank, "b": other}))
