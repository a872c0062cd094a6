"""Places that repeat themselves: what two middle repeats show is the same, or not, as the dial says."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch

from dsac.datasets import Scene
from dsac.geometry import Camera, Pose
from dsac.rooms import Repeats, Room, develop, lookalikes, render_depth, render_light
from dsac.rooms.corridor import CORRIDOR, corridor_scene
from dsac.rooms.repeats import told_apart
from dsac.rooms.scene import view_of
from dsac.rooms.staircase import STAIRCASE, staircase_scene
from dsac.rooms.street_front import FACADE, facade_scene

COARSE = 2.0  # metres between the cells of light: baked in no time
CAMERA = Camera.simple(80.0, (96, 72))
BLUR = np.zeros((72, 96, 3), np.float32)


class Place(NamedTuple):
    render: Callable[..., Scene]
    repeats: Repeats
    looking: tuple[float, float, float, float]  # x, y, z and yaw of a camera that sees what may differ
    first: list[int]  # steps from there to two repeats in the middle
    second: list[int]

    def scene(self, difference: float) -> Scene:
        return _rendered(self.render, difference)

    def room(self, difference: float) -> Room:
        return self.scene(difference).mapping.reader.room  # type: ignore[attr-defined]

    def pose(self, steps: list[int]) -> Pose:
        x, y, z, yaw = self.looking
        forward = torch.tensor([np.cos(yaw), np.sin(yaw), 0.0], dtype=torch.float64)
        level = torch.tensor([np.sin(yaw), -np.cos(yaw), 0.0], dtype=torch.float64)
        rotation = torch.stack([level, torch.linalg.cross(forward, level), forward])
        pose = Pose(rotation, -rotation @ torch.tensor([x, y, z], dtype=torch.float64))
        return self.repeats.moved(pose, torch.tensor(steps))

    def photo(self, difference: float, steps: list[int]) -> np.ndarray:
        view = view_of(CAMERA, self.pose(steps))
        return develop(render_light(self.room(difference), [view]), 1.3, BLUR).astype(float)


@cache
def _rendered(render: Callable[..., Scene], difference: float) -> Scene:
    return render(num_mapping=60, num_query=20, size=(96, 72), difference=difference, light_cell=COARSE)


PLACES = {
    "corridor": Place(corridor_scene, CORRIDOR, (2.2, 0.6, 1.5, 1.6), [3], [5]),
    "stairs": Place(staircase_scene, STAIRCASE, (2.0, 1.4, 1.4, 3.5), [1], [2]),
    "facade": Place(facade_scene, FACADE, (1.3, -6.5, 1.6, 1.5), [5, 0], [8, 0]),
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return PLACES[request.param]


def test_two_repeats_look_the_same_only_if_the_dial_says_so(place: Place) -> None:
    first, second = place.photo(0.0, place.first), place.photo(0.0, place.second)
    assert first.std() > 15  # something is to be seen
    # light, texture and shape are the same; rounding may move an edge
    assert np.abs(first - second).mean() < 0.1 and (np.abs(first - second) > 2).mean() < 0.003
    assert np.abs(place.photo(1.0, place.first) - place.photo(1.0, place.second)).mean() > 2


def test_shape_does_not_depend_on_the_dial(place: Place) -> None:
    same, other = place.room(0.0), place.room(1.0)
    assert np.array_equal(same.frame, other.frame) and np.array_equal(same.cells, other.cells)
    view = view_of(CAMERA, place.pose(place.first))
    assert np.array_equal(render_depth(same, view), render_depth(other, view))


def test_lookalikes_are_all_repeats_around_or_none(place: Place) -> None:
    middle, other = place.first, [b - a for a, b in zip(place.first, place.second, strict=True)]
    alike = lookalikes(place.room(0.0), place.repeats, CAMERA, place.pose(middle))
    here = tuple(0 for _ in middle)
    assert {here, tuple(other)} <= set(alike)
    assert lookalikes(place.room(1.0), place.repeats, CAMERA, place.pose(middle)) == [here]


def test_photos_show_something_near_from_where_a_person_may_be(place: Place) -> None:
    scene = place.scene(0.0)
    leaves = place.room(0.0).bounds[place.room(0.0).links[:, 1] >= 0]
    leaves = leaves[np.ptp(leaves, axis=1).max(1) < 0.8]  # things; walls and floors are seen by depth
    for frames in (scene.mapping, scene.query):
        for i in range(0, len(frames), 4):
            depth = frames[i].depth
            assert depth is not None and depth[depth > 0].min() > 0.1
            assert frames[i].image.std() > 0.02
    for center in scene.truths["exact"].cam_from_world.center.numpy():
        outside = np.maximum(np.maximum(leaves[:, 0] - center, center - leaves[:, 1]), 0)
        assert np.linalg.norm(outside, axis=1).min() > 0.1


def test_mapping_goes_everywhere_and_queries_are_taken_from_elsewhere(place: Place) -> None:
    scene = place.render(size=(96, 72), difference=0.0, light_cell=COARSE)
    mapping, query = (
        frames.cam_from_world.center  # type: ignore[union-attr]
        for frames in (scene.mapping, scene.query)
    )
    nearest = torch.cdist(query, mapping).min(1).values
    assert 0.15 < nearest.median() < 0.6 and nearest.max() < 1.2
    assert set(place.repeats.part_of(mapping)[:, 0].tolist()) == set(range(place.repeats.counts[0]))


def test_poses_are_moved_and_told_by_whole_periods() -> None:
    poses = PLACES["facade"].pose([0, 0])
    moved = FACADE.moved(poses, torch.tensor([[3, 1], [0, 0], [-1, 2]]))
    assert FACADE.steps_off(moved, poses).tolist() == [[3, 1], [0, 0], [-1, 2]]
    torch.testing.assert_close(
        moved.center[0] - poses.center, torch.tensor([7.2, 0.0, 3.0], dtype=torch.float64)
    )
    near = Pose.exp(torch.tensor([0.01, 0, 0, 0.1, 0.1, 0.1], dtype=torch.float64)) @ moved
    assert FACADE.steps_off(near, poses).tolist() == [[3, 1], [0, 0], [-1, 2]]
    points = torch.tensor([[0.1, 5, 0.1], [2.5, -5, 3.1], [-9.0, 0, 99.0]], dtype=torch.float64)
    assert FACADE.part_of(points).tolist() == [[0, 0], [1, 1], [0, 3]]


def test_the_dial_turns_one_after_the_other() -> None:
    before: set[int] = set()
    for difference, count in ((0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)):
        own = told_apart(np.random.default_rng(3), 8, difference)
        assert own.sum() == count and before <= set(np.flatnonzero(own).tolist())
        before = set(np.flatnonzero(own).tolist())
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="difference: expected a share in"):
            told_apart(np.random.default_rng(3), 8, wrong)
