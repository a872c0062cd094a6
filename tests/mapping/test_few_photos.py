"""Few photos: what they know becomes a map, and what they cannot know is said."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from ball_world import ColorEncoder

from dsac.datasets import Frames, Scene
from dsac.errors import DatasetError
from dsac.geometry import Pose
from dsac.landmarks import GreyView, Landmarks, align
from dsac.mapping import MappingSettings, build_map
from dsac.mapping.landmark_choice import remember
from dsac.mapping.triangulation import overlapping_pairs, with_triangulated_depth
from dsac.rooms import synthetic_scene

SIZE = (320, 240)
SMALL = MappingSettings(steps=5, batch_size=256, width=64, num_blocks=1, num_views=8, buffer_size=10_000)
NEAR = torch.tensor([0.008, -0.006, 0.01, 0.02, -0.015, 0.02], dtype=torch.float64)  # about 10 px


@pytest.fixture(scope="module")
def room() -> Scene:
    return synthetic_scene(num_mapping=80, num_query=1, size=SIZE)


@pytest.fixture(scope="module")
def alone(room: Scene) -> int:
    """A frame of the walk that can see nothing that the first four see."""
    others = range(4, len(room.mapping))
    return next(i for i in others if all(not overlapping_pairs(room.mapping[[j, i]]) for j in range(4)))


def _aligned(landmarks: Landmarks, query: Frames) -> float:
    """Metres from the truth, having started some centimetres off."""
    frame = query[0]
    assert frame.cam_from_world is not None
    view = GreyView.of(frame.image, frame.camera)
    answer = align(landmarks, view, Pose.exp(NEAR) @ frame.cam_from_world).estimate
    assert answer.success
    return float(answer.cam_from_world[0].to(torch.float64).center_distance(frame.cam_from_world))


def test_three_photos_without_depth_localize_one_between_them(room: Scene) -> None:
    sparse = with_triangulated_depth(room.mapping[[0, 3, 6]].without_depth(), short_side_px=SIZE[1])
    assert len(sparse) == 3
    assert _aligned(remember(sparse, 1200).landmarks, room.mapping[[4]]) < 0.03


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_photos_with_depth_localize_one_beside_them(room: Scene, count: int) -> None:
    landmarks = remember(room.mapping[:count], 1200).landmarks
    assert len(landmarks) > 200 * count
    assert _aligned(landmarks, room.mapping[[count]]) < 0.03


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_photos_with_depth_make_a_map(room: Scene, count: int) -> None:
    scene_map = build_map(room.mapping[:count], SMALL, encoder=ColorEncoder())
    assert scene_map.info.num_frames == count
    assert scene_map.landmarks is not None and len(scene_map.landmarks) > 200 * count


@pytest.mark.parametrize("count", [1, 2])
def test_photos_without_depth_that_share_nothing_make_no_map(room: Scene, alone: int, count: int) -> None:
    frames = room.mapping[[0, alone][:count]].without_depth()
    with pytest.raises(DatasetError, match=rf"of {count} images? 0 share enough points with another"):
        build_map(frames, SMALL, encoder=ColorEncoder())


def test_two_photos_that_overlap_make_a_map_and_are_too_few_of_eight(room: Scene, alone: int) -> None:
    """The others would be learned at any distance."""
    assert len(with_triangulated_depth(room.mapping[[0, 3]].without_depth(), short_side_px=SIZE[1])) == 2
    eight = room.mapping[[0, 3, *[alone] * 6]]
    eight = replace(
        eight,
        names=[f"{i}: {name}" for i, name in enumerate(eight.names)],
        reader=_Numbered(room.mapping.reader),
    )
    with pytest.raises(DatasetError, match="of 8 images 2 share enough points with another"):
        with_triangulated_depth(eight.without_depth(), short_side_px=SIZE[1])


class _Numbered:
    """Photos whose names are preceded by a number, so that one can be there twice."""

    has_depth = True

    def __init__(self, reader) -> None:
        self.reader = reader

    def read_image(self, name: str) -> np.ndarray:
        return self.reader.read_image(name.split(": ")[1])

    def read_depth(self, name: str, camera) -> np.ndarray:
        return self.reader.read_depth(name.split(": ")[1], camera)


def test_a_photo_that_shares_nothing_is_left_out_and_named(
    room: Scene, alone: int, caplog: pytest.LogCaptureFixture
) -> None:
    frames = room.mapping[[0, 1, 3, alone]].without_depth()
    with caplog.at_level(logging.WARNING, logger="dsac.mapping.triangulation"):
        sparse = with_triangulated_depth(frames, short_side_px=SIZE[1])
    assert sparse.names == frames.names[:3]
    assert "of 4 images 1 share" in caplog.text and frames.names[3] in caplog.text


def test_pairs_that_look_apart_do_not_overlap_and_those_that_look_at_the_same_do(room: Scene) -> None:
    poses = room.mapping.cam_from_world
    assert poses is not None
    turned = Pose.exp(torch.tensor([0, np.pi, 0, 0, 0, 0], dtype=torch.float64)) @ poses[1]
    both = Pose.stack([poses[0], poses[1], turned])
    assert overlapping_pairs(replace(room.mapping[[0, 1, 2]], cam_from_world=both)) == [(0, 1)]


def test_each_of_few_frames_gives_more_landmarks(room: Scene) -> None:
    few = remember(room.mapping[:2], 2000).landmarks
    assert (few.view.bincount() > 200).all()
