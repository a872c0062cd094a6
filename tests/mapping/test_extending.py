"""Maps that grow by new frames: known ground is refreshed, new ground is a region, another world is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ball_world import ColorEncoder, FramesInMemory
from textured_ball import LENS, SETTINGS, frames, places, textured

from dsac.atlas import Atlas
from dsac.datasets import Frames, Scene
from dsac.errors import DatasetError
from dsac.geometry import Pose, Similarity
from dsac.landmarks import GreyView, LookAlikes, Telling
from dsac.landmarks.alignment import sightings
from dsac.localizer import Localizer
from dsac.mapping import extending
from dsac.mapping.extending import Extended, extend
from dsac.mapping.refreshing import joined, looked_for, refreshed, with_words
from dsac.scene_map import SceneMap
from dsac.visual_words import VisualWords

BEHIND = Pose.exp(torch.tensor([0, torch.pi, 0, 0, 0, 0], dtype=torch.float64))  # as seen by the cameras


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _scene(those: Frames, path: str = "new frames") -> Scene:
    named = {f"n{name}": those.reader.frames[name] for name in those.names}  # type: ignore[attr-defined]
    those = replace(those, names=list(named), reader=FramesInMemory(named))
    return Scene(path, "made up", those, those[:0])


def _repainted(those: Frames, share: float) -> Frames:
    """What is on the left side of the world, that share of it, is a negative of what it was."""
    photos = {}
    for name in those.names:
        frame = those.reader.frames[name]  # type: ignore[attr-defined]
        left = _places(frame)[..., 0] < _left(share)
        photos[name] = replace(frame, image=torch.where(left, 1 - frame.image, frame.image))
    return replace(those, reader=FramesInMemory(photos))


def _left(share: float) -> float:
    return -3.0 + 6.0 * share


def _places(frame) -> torch.Tensor:  # noqa: ANN001 -- a frame
    height, width = frame.depth.shape
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = LENS.unproject(torch.stack([x, y], -1).double().reshape(-1, 2))
    points = frame.cam_from_world.inverse() @ (rays * frame.depth.double().reshape(-1, 1))
    return points.reshape(height, width, 3)


def _localizer(scene_map: SceneMap | Atlas) -> Localizer:
    return Localizer(scene_map, encoder=ColorEncoder())


def _extend(scene_map: SceneMap | Atlas, *given: Any, **options: Any) -> Extended:
    atlas = scene_map if isinstance(scene_map, Atlas) else Atlas.of({"": scene_map})
    return extend(atlas, *given, encoder=ColorEncoder(), **options)


def test_known_ground_is_refreshed_in_its_region(textured_ball_map: SceneMap, tmp_path: Path) -> None:
    scene = _scene(frames(LENS, places(4, seed=7)))
    grown = _extend(textured_ball_map, scene, tmp_path)
    assert not grown.added and grown.num_new == 0 and not list(tmp_path.iterdir())
    assert grown.atlas.names == [""] and list(grown.refreshed) == ["map"]
    told, after = grown.refreshed["map"], grown.atlas.regions[0].read()
    before, landmarks = textured_ball_map.landmarks, after.landmarks
    assert before is not None and landmarks is not None
    assert told.num_frames == 4 and told.num_added > 100
    assert told.num_gone == 0  # nothing has changed
    assert len(landmarks) == len(before) + told.num_added - told.num_left_out == SETTINGS.num_landmarks
    new = landmarks.points[landmarks.view >= 10]
    assert ((new.norm(dim=1) - 3.0).abs() < 0.02).double().mean() > 0.97  # on the ball
    assert landmarks.view.max() + 1 == len(landmarks.focal_px)
    assert after.info.num_frames == 14 and set(after.info.frames) >= set(scene.mapping.names)
    assert after.words is not None and len(after.words.centers) == 14
    assert all(
        torch.equal(a, b)
        for a, b in zip(after.head.parameters(), textured_ball_map.head.parameters(), strict=True)
    )
    assert SceneMap.from_bytes(after.to_bytes(), "").info == after.info
    with pytest.raises(DatasetError, match="expected new frames, the map was made from all 4 of them"):
        _extend(grown.atlas, scene, tmp_path)


def test_the_same_frames_again_change_next_to_nothing(textured_ball_map: SceneMap) -> None:
    those = frames(LENS, places(4, seed=7))
    once = refreshed(textured_ball_map, those).scene_map
    again = refreshed(once, _scene(those).mapping)  # by other names
    twice = again.scene_map
    assert again.num_gone == 0 and once.landmarks is not None and twice.landmarks is not None
    assert len(twice.landmarks) == len(once.landmarks) == SETTINGS.num_landmarks
    assert once.described is not None and twice.described is not None
    assert len(twice.described) <= 2 * SETTINGS.num_landmarks
    kept = torch.isin(once.landmarks.points[:, 0], twice.landmarks.points[:, 0]).double().mean()
    assert kept > 0.7  # the others are as good, from the same views
    assert once.words is not None and twice.words is not None and len(twice.words) == len(once.words)


def test_photos_of_what_has_changed_are_found_better_and_what_is_gone_is_forgotten(
    textured_ball_map: SceneMap,
) -> None:
    those = _repainted(frames(LENS, places(6, seed=7)), 0.5)
    landmarks = textured_ball_map.landmarks
    assert landmarks is not None
    gone = looked_for(landmarks, those).gone
    left = (landmarks.points[:, 0] < _left(0.5)).numpy()
    assert gone[left].sum() >= 10 and not gone[~left].any()  # many more are too flat to tell
    told = refreshed(textured_ball_map, those)
    assert told.num_gone == gone.sum() and told.num_added > 100
    queries = _repainted(frames(LENS, places(2, seed=5)), 0.5)
    for i in range(2):
        truth = places(2, seed=5)[i]
        view, new = GreyView.of(queries[i].image, LENS), told.scene_map.landmarks
        assert new is not None
        seen = [sightings(each, view, truth, count=2000, radius=5) for each in (landmarks, new)]
        missed = [1 - len(found.rows) / len(found.searched) for found in seen]
        assert missed[1] < 0.5 * missed[0]
        answer = _localizer(told.scene_map).localize(queries[i].image, LENS)
        assert answer.success and answer.cam_from_world.center_distance(truth) < 0.01


def test_frames_in_the_dark_or_elsewhere_contradict_nothing(textured_ball_map: SceneMap) -> None:
    landmarks = textured_ball_map.landmarks
    assert landmarks is not None
    assert not looked_for(landmarks, _repainted(frames(LENS, places(4, seed=7)), 1.0)).gone.any()
    assert not looked_for(landmarks, frames(LENS, places(2, seed=7))).gone.any()  # too few to tell


def test_new_ground_is_divided_into_regions_by_the_scenes_name(
    textured_ball_map: SceneMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poses = places(11, seed=3)
    poses = Pose.cat([poses[:3], BEHIND @ poses[3:]])
    monkeypatch.setattr(extending, "divide", lambda those: [np.arange(5), np.arange(4, len(those))])
    told = []
    grown = _extend(
        textured_ball_map.compact(),
        _scene(frames(LENS, poses), "some/attic"),
        tmp_path,
        SETTINGS,
        name="ball",
        on_progress=lambda phase, fraction: told.append((phase, fraction)),
    )
    assert list(grown.added) == ["attic", "attic-2"] and list(grown.added.values()) == [5, 4]
    assert grown.num_new == 8
    assert grown.atlas.names == ["ball", "attic", "attic-2"] and grown.refreshed["ball"].num_frames == 3
    assert all(region.info.compact for region in grown.atlas.regions)  # as the map is
    training = [fraction for phase, fraction in told if phase == "training"]
    assert training == sorted(training) and training[-1] == 1.0  # of both regions together
    grown.atlas.save(tmp_path / "grown.dsac")
    truth = BEHIND @ places(1, seed=9)[0]
    answer = _localizer(Atlas.load(tmp_path / "grown.dsac")).localize(textured(LENS, truth).image, LENS)
    assert answer.success and answer.region.startswith("attic")
    assert answer.cam_from_world.center_distance(truth) < 0.02


@pytest.mark.parametrize("rigid", [True, False])
def test_poses_in_another_world_are_refused_with_the_matrix_that_mends_them(
    textured_ball_map: SceneMap, tmp_path: Path, rigid: bool
) -> None:
    away = Similarity(Pose.exp(torch.tensor([0.1, 0.0, 0.3, 1.0, -5.0, 2.0]).double()), 1.0 if rigid else 3.0)
    scene = _scene(frames(LENS, places(4, seed=7)))
    poses = scene.mapping.cam_from_world
    assert poses is not None
    moved = replace(scene, mapping=replace(scene.mapping, cam_from_world=away.pose(poses)))
    with pytest.raises(
        DatasetError, match="[34] of 4 frames that it localizes lie elsewhere together"
    ) as error:
        _extend(textured_ball_map, moved, tmp_path)
    values = str(error.value).split("matrix ")[1].split(";")[0].split()
    matrix = torch.tensor([float(value) for value in values], dtype=torch.float64).reshape(4, 4)
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    there = away @ points
    torch.testing.assert_close(there @ matrix[:3, :3].T + matrix[:3, 3], points, rtol=0, atol=0.1)


def test_one_photo_without_depth_says_why_it_adds_nothing(textured_ball_map: SceneMap, tmp_path: Path) -> None:
    scene = _scene(frames(LENS, places(1, seed=7)))
    alone = replace(scene, mapping=scene.mapping.without_depth())
    told = _extend(textured_ball_map, alone, tmp_path).refreshed["map"]
    assert told.num_added == 0 and "share enough points with another" in told.fault
    with_depth = _extend(textured_ball_map, scene, tmp_path).refreshed["map"]
    assert with_depth.num_added > 50 and not with_depth.fault


def test_what_cannot_extend_a_map_is_refused(textured_ball_map: SceneMap, tmp_path: Path) -> None:
    scene = _scene(frames(LENS, places(2, seed=7)))
    with pytest.raises(DatasetError, match="new frames: expected frames with poses, found none"):
        _extend(
            textured_ball_map, replace(scene, mapping=replace(scene.mapping, cam_from_world=None)), tmp_path
        )
    metric = replace(textured_ball_map, info=replace(textured_ball_map.info, metric=True))
    with pytest.raises(DatasetError, match="expected poses in the map's unit"):
        _extend(metric, replace(scene, metric=False), tmp_path)


def test_views_that_look_like_others_keep_what_they_look_like(textured_ball_map: SceneMap) -> None:
    memory = textured_ball_map.memory
    assert memory is not None
    views, motions = torch.tensor([1, 3], dtype=torch.int32), Pose.exp(torch.randn(2, 6).double())
    spots = Telling(
        torch.zeros(2, 3),
        torch.zeros(2, 3, dtype=torch.uint8),
        views,
        motions,
        torch.tensor([[0, 0], [1, 1]], dtype=torch.int32),
        torch.zeros(2, 3, dtype=torch.uint8),
    )
    looks = memory._replace(look_alikes=LookAlikes(views, motions, spots))
    both, offset = joined(looks, looks), len(memory.landmarks.focal_px)
    assert both.look_alikes is not None and both.look_alikes.telling is not None
    assert both.look_alikes.view.tolist() == [1, 3, 1 + offset, 3 + offset]
    count = len(memory.landmarks)
    telling = both.look_alikes.telling
    assert telling.view.tolist() == both.look_alikes.view.tolist()
    assert telling.told.tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]] and len(telling.motions) == 4
    assert len(both.landmarks) == 2 * count
    for one, other, first in ((looks, memory, 0), (memory, looks, offset)):
        kept = joined(one, other).look_alikes
        assert kept is not None and len(kept) == 2 and kept.telling is not None
        assert kept.telling.view.tolist() == (views + first).tolist()
    assert np.array_equal(joined(memory, looks).look_alikes.view, views + offset)  # type: ignore[union-attr]


def test_words_keep_their_worth_and_new_ones_begin_without() -> None:
    old, new = (
        VisualWords(
            torch.randint(-90, 91, (count, 152), generator=torch.Generator().manual_seed(count)).to(torch.int8),
            torch.zeros(0, 3),
        )
        for count in (20, 5)
    )
    worth = torch.linspace(-0.1, 0.1, 20)
    words = with_words(replace(old, worth=worth), new)
    assert len(words) == 25 and torch.equal(words.worths, torch.cat([worth, torch.zeros(5)]))
    assert with_words(old, new).worth is None
