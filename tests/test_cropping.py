"""Parts of maps: which regions and landmarks stay, and that what stays answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ball_world import ColorEncoder
from textured_ball import LENS, places, textured

from dsac.atlas import Atlas
from dsac.cropping import in_box, part_of, some_regions
from dsac.errors import DsacError
from dsac.geometry import Pose, Similarity
from dsac.landmarks import LookAlikes, Telling
from dsac.localizer import Localizer
from dsac.scene_map import SceneMap

AWAY = Similarity(Pose.exp(torch.tensor([0.0, 0.0, 0.3, 40.0, -5.0, 2.0], dtype=torch.float64)), 2.0)
EVERYWHERE = (-1e3, -1e3, -1e3), (1e3, 1e3, 1e3)


@pytest.fixture
def two(textured_ball_map: SceneMap) -> Atlas:
    away = replace(textured_ball_map, info=textured_ball_map.info.in_world_of(AWAY))
    return Atlas.of({"here": textured_ball_map, "away": away})


def test_regions_are_taken_by_name(two: Atlas) -> None:
    assert some_regions(two, ["away"]).names == ["away"]
    assert some_regions(two, ["away", "here", "away"]).names == ["here", "away"]
    with pytest.raises(DsacError, match="names of regions, which are here, away, got attic"):
        some_regions(two, ["here", "attic"])


def test_a_box_keeps_what_is_in_it_in_the_world(two: Atlas) -> None:
    assert in_box(two, EVERYWHERE).regions == two.regions  # as they are
    assert in_box(two, ((-5, -5, -5), (5, 5, 5))).names == ["here"]
    middle = two["away"].info.world_from_map.translation
    high = [value + 100 for value in middle]
    part = in_box(two, (middle, high))  # the upper right
    assert part.names == ["away"]
    kept, whole = part.regions[0].read(), two["away"].read()
    assert kept.landmarks is not None and whole.landmarks is not None and kept.described is not None
    assert 0 < len(kept.landmarks) < len(whole.landmarks)
    for points in (kept.landmarks.points, kept.described.points):
        assert ((kept.info.world_from_map @ points) >= torch.tensor(middle)).all()
    inside = ((whole.info.world_from_map @ whole.landmarks.points) >= torch.tensor(middle)).all(1)
    assert torch.equal(kept.landmarks.patches, whole.landmarks.patches[inside])
    then = whole.landmarks.cam_from_world.matrix[whole.landmarks.view.long()][inside]
    assert torch.equal(kept.landmarks.cam_from_world.matrix[kept.landmarks.view.long()], then)


def test_what_is_left_answers_still(textured_ball_map: SceneMap) -> None:
    landmarks = textured_ball_map.landmarks
    assert landmarks is not None
    far = landmarks.points[:, 0].median().item()
    part = in_box(Atlas.of({"": textured_ball_map}), (EVERYWHERE[0], (far, 1e3, 1e3)))
    assert 0.4 < part.holds.num_landmarks / len(landmarks) < 0.6
    pose = places(1, seed=5)[0]
    answer = Localizer(part, encoder=ColorEncoder()).localize(textured(LENS, pose).image, LENS)
    assert answer.success and answer.cam_from_world.center_distance(pose) < 0.02


def test_a_box_of_cameras_alone_leaves_what_was_learned(textured_ball_map: SceneMap) -> None:
    assert textured_ball_map.words is not None
    center = textured_ball_map.words.centers[0].double()
    box = (center - 1e-3).tolist(), (center + 1e-3).tolist()
    (region,) = in_box(Atlas.of({"": textured_ball_map}), box).regions
    kept = region.read()
    assert kept.landmarks is None and kept.described is None and region.info.described_by == ""
    assert len(kept.to_bytes()) < len(textured_ball_map.to_bytes()) / 2


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (((50.0, 0.0, 0.0), (51.0, 1.0, 1.0)), "no region has a mapping camera or a landmark between"),
        (((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), "expected x, y, z and higher x, y, z"),
    ],
)
def test_boxes_of_nothing_are_refused(textured_ball_map: SceneMap, box: tuple, expected: str) -> None:
    with pytest.raises(DsacError, match=expected):
        in_box(Atlas.of({"": textured_ball_map}), box)


def test_look_alikes_of_views_without_landmarks_go(textured_ball_map: SceneMap) -> None:
    memory = textured_ball_map.memory
    assert memory is not None
    landmarks = memory.landmarks
    views = torch.tensor([1, 2, 2, 4], dtype=torch.int32)
    motions = Pose.exp(torch.arange(24.0).reshape(4, 6).double() / 100)
    spots = Telling(
        torch.arange(9.0).reshape(3, 3),
        torch.arange(9, dtype=torch.uint8).reshape(3, 3),
        torch.tensor([1, 2, 4], dtype=torch.int32),
        motions,
        torch.tensor([[0, 1], [1, 0], [2, 3], [2, 0]], dtype=torch.int32),
        torch.arange(12, dtype=torch.uint8).reshape(4, 3),
    )
    look_alikes = LookAlikes(views, motions, spots)
    kept = part_of(memory._replace(look_alikes=look_alikes), ~np.isin(landmarks.view.numpy(), [0, 2]))
    assert kept.look_alikes is not None and kept.look_alikes.telling is not None
    assert kept.look_alikes.view.tolist() == [0, 2]  # 1 and 4, counted anew
    assert torch.equal(kept.look_alikes.there_from_here.matrix, motions.matrix[[0, 3]])
    telling = kept.look_alikes.telling
    assert torch.equal(telling.points, spots.points[[0, 2]]) and telling.view.tolist() == [0, 2]
    assert telling.told.tolist() == [[0, 1], [1, 3], [1, 0]]
    assert torch.equal(telling.there, spots.there[[0, 2, 3]])
    numbers = landmarks.view.unique().tolist()
    assert len(kept.landmarks.focal_px) == len(set(numbers) - {0, 2})
