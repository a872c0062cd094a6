"""Places that repeat themselves: what two middle repeats show is the same, or not, as the dial says."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch

from dsac.datasets import Scene
from dsac.geometry import Pose
from dsac.rooms import Repeats, Room, View, develop, render_depth, render_light
from dsac.rooms.corridor import CORRIDOR, build_corridor, corridor_scene
from dsac.rooms.staircase import STAIRCASE, build_staircase, staircase_scene
from dsac.rooms.street_front import FACADE, build_street_front, facade_scene

COARSE = 1.0  # metres between the cells of light: baked in no time
SIZE = (96, 72)


class Place(NamedTuple):
    scene: Callable[..., Scene]
    build: Callable[[int, float, float], Room]
    repeats: Repeats
    looking: tuple[float, float, float, float]  # x, y, z and yaw of a camera that sees what may differ
    steps: tuple[list[int], list[int]]  # to two repeats in the middle


PLACES = {
    "corridor": Place(corridor_scene, build_corridor, CORRIDOR, (2.2, 0.6, 1.5, 1.6), ([3], [5])),
    "stairs": Place(staircase_scene, build_staircase, STAIRCASE, (2.0, 1.4, 1.4, 3.5), ([1], [2])),
    "facade": Place(facade_scene, build_street_front, FACADE, (1.3, -6.5, 1.6, 1.5), ([5, 0], [8, 0])),
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return PLACES[request.param]


def _looking(place: Place, steps: list[int]) -> View:
    x, y, z, yaw = place.looking
    forward = torch.tensor([np.cos(yaw), np.sin(yaw), 0.0], dtype=torch.float64)
    level = torch.tensor([np.sin(yaw), -np.cos(yaw), 0.0], dtype=torch.float64)
    rotation = torch.stack([level, torch.linalg.cross(forward, level), forward])
    pose = Pose(rotation, -rotation @ torch.tensor([x, y, z], dtype=torch.float64))
    pose = place.repeats.moved(pose, torch.tensor(steps))
    return View(pose.rotation.numpy(), pose.translation.numpy(), 80.0, (SIZE[0] / 2, SIZE[1] / 2), SIZE)


def _photos(place: Place, difference: float) -> list[np.ndarray]:
    """Of the same view in two repeats."""
    room = place.build(0, difference, COARSE)
    still = np.zeros((SIZE[1], SIZE[0], 3), np.float32)
    return [develop(render_light(room, [_looking(place, steps)]), 1.3, still) for steps in place.steps]


def test_two_repeats_look_the_same_only_if_the_dial_says_so(place: Place) -> None:
    same, other = ([image.astype(float) for image in _photos(place, d)] for d in (0.0, 1.0))
    assert same[0].std() > 20  # something is to be seen
    # light, texture and shape are the same; rounding may move an edge
    assert np.abs(same[0] - same[1]).mean() < 0.1 and np.abs(same[0] - same[1]).max() < 40
    assert np.abs(other[0] - other[1]).mean() > 3


def test_shape_and_light_do_not_depend_on_the_dial(place: Place) -> None:
    first, second = (place.build(0, difference, COARSE) for difference in (0.0, 1.0))
    assert np.array_equal(first.frame, second.frame) and np.array_equal(first.cells, second.cells)
    view = _looking(place, place.steps[0])
    assert np.array_equal(render_depth(first, view), render_depth(second, view))
