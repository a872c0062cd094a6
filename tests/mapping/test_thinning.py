"""What a map can do without: no view is left with few, and of what is alike the last goes first."""

from __future__ import annotations

import numpy as np
import torch
from textured_ball import LENS, SETTINGS

from dsac.landmarks import DescribedPoints
from dsac.mapping.refreshing import Looks, _without
from dsac.mapping.thinning import needed, thinned, thinned_words
from dsac.scene_map import SceneMap
from dsac.visual_words import VisualWords


def test_views_that_show_few_keep_theirs_and_the_last_of_those_with_plenty_go() -> None:
    shown = np.zeros((110, 3), bool)
    shown[:100, 0] = True  # a view with plenty, some of which another one shows, too
    shown[90:100, 1] = True
    shown[100:, 2] = True
    kept = needed(shown, np.arange(110), 40)
    assert kept.sum() == 40 and kept[90:].all()
    assert kept[:20].all() and not kept[20:90].any()
    assert needed(shown, np.arange(110), 110).all() and needed(shown, np.arange(110), 200).all()
    nowhere = shown.copy()
    nowhere[3] = False  # what no view shows is the first to go
    assert np.flatnonzero(~needed(nowhere, np.arange(110), 109)).tolist() == [3]


def test_doubted_landmarks_go_first_and_described_points_stay_within_twice_as_many(
    textured_ball_map: SceneMap,
) -> None:
    memory = textured_ball_map.memory
    assert memory is not None and memory.described is not None
    count = len(memory.landmarks)
    doubted = np.arange(count) % 3 == 0
    most = count - int(doubted.sum())
    less = thinned(memory, most, LENS, doubted)
    assert torch.equal(less.landmarks.points, memory.landmarks.points[torch.from_numpy(~doubted)])
    few = thinned(memory, 200, LENS, doubted)
    assert len(few.landmarks) == 200 and few.described is not None and len(few.described) <= 400
    views = len(memory.landmarks.focal_px)
    assert len(few.landmarks.focal_px) > views / 2 and few.landmarks.view.max() + 1 == len(
        few.landmarks.focal_px
    )
    same = thinned(memory, SETTINGS.num_landmarks, LENS, np.zeros(count, bool))
    assert torch.equal(same.landmarks.points, memory.landmarks.points)


def test_described_points_go_with_the_landmarks_around_them(textured_ball_map: SceneMap) -> None:
    memory = textured_ball_map.memory
    assert memory is not None
    points = memory.landmarks.points
    left = points[:, 0].numpy() < points[:, 0].median().item()
    count, looked = len(points), np.full(len(points), 5)
    described = DescribedPoints(points, torch.zeros(count, 64, dtype=torch.int8))
    looks = Looks(looked, np.where(left, 0, 5), np.ones(count, bool))
    after = _without(memory._replace(described=described), looks)
    assert after.described is not None and torch.equal(after.landmarks.points, points[torch.from_numpy(~left)])
    border = (points[:, 0] - points[:, 0].median()).abs().numpy() < 0.2  # neighbours are of both sides
    gone = ~np.isin(points[:, 0].numpy(), after.described.points[:, 0].numpy())
    assert gone[left & ~border].all() and not gone[~left & ~border].any()
    flat = looks._replace(clear=np.zeros(count, bool))  # nothing can be told of these
    kept = _without(memory._replace(described=described), flat)
    assert len(kept.landmarks) == count and kept.described is not None and len(kept.described) == count


def test_of_words_that_are_alike_one_goes_and_cameras_stay_spread() -> None:
    words = torch.zeros(6, 8, dtype=torch.int8)
    words[torch.arange(5), torch.arange(5)] = 100
    words[5] = words[1] + torch.tensor([3, 0, 0, 0, 0, 0, 0, 0], dtype=torch.int8)
    centers = torch.arange(30.0).reshape(10, 3)
    less = thinned_words(VisualWords(words, centers), 5, 4)
    assert torch.equal(less.words, words[[0, 2, 3, 4, 5]])
    assert torch.equal(less.centers, centers[[0, 3, 6, 9]])
    same = thinned_words(VisualWords(words, centers), 6, 20)
    assert torch.equal(same.words, words) and torch.equal(same.centers, centers)
