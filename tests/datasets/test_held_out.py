"""Held-out frames are an eighth, the rest stays; frames put together again read each from where it lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ball_world import ball_frames

from dsac.datasets import Conventions, Scene, hold_out, load_scene, read_as
from dsac.datasets.frame import digest_of
from dsac.datasets.held_out import joined
from dsac.geometry import Pose


def _scene(count: int) -> Scene:
    frames = ball_frames(2)
    poses = Pose.identity(count, dtype=torch.float64)
    many = replace(
        frames, names=[str(i) for i in range(count)], camera_index=np.zeros(count, int), cam_from_world=poses
    )
    return Scene("made up", "made up", many, many[:0])


@pytest.mark.parametrize("count", [24, 50, 127, 1000])
def test_every_eighth_frame_is_held_out_and_both_of_its_neighbours_are_mapped(count: int) -> None:
    scene = hold_out(_scene(count))
    held = [int(name) for name in scene.query.names]
    assert held == list(range(3, count, 8))
    assert sorted([*held, *map(int, scene.mapping.names)]) == list(range(count))
    assert 0 not in held


@pytest.mark.parametrize("count", [40, 64, 250, 1000])
def test_blocks_are_four_stretches_that_make_an_eighth(count: int) -> None:
    held = np.array([int(name) for name in hold_out(_scene(count), in_blocks=True).query.names])
    assert abs(len(held) - count / 8) <= 4  # a frame for each block
    assert (np.diff(held) > 1).sum() == 3
    assert held[0] > 0 and held[-1] < count - 1


@pytest.mark.parametrize("count", [0, 1, 3, 5, 9, 31])
@pytest.mark.parametrize("in_blocks", [False, True])
def test_of_few_frames_most_are_mapped(count: int, in_blocks: bool) -> None:
    scene = hold_out(_scene(count), in_blocks)
    assert len(scene.query) <= count / 8 + 1 and len(scene.mapping) + len(scene.query) == count
    assert count == 0 or len(scene.mapping) > 0


def test_a_scene_with_queries_keeps_them() -> None:
    with pytest.raises(ValueError, match="expected a scene without query frames, got 3"):
        hold_out(hold_out(_scene(24)))


def test_frames_put_together_are_those_of_both() -> None:
    frames = ball_frames(6)
    first, second = frames[:4], replace(frames[4:], cameras=[frames.cameras[1], frames.cameras[0]])
    second = replace(second, camera_index=1 - second.camera_index)
    both = joined(first, second)
    assert both.names == frames.names and both.has_depth
    for one, other in zip(both, frames, strict=True):
        assert torch.equal(one.image, other.image) and one.camera.size == other.camera.size
        assert one.depth is not None and other.depth is not None and torch.equal(one.depth, other.depth)
        assert one.cam_from_world is not None and other.cam_from_world is not None
        assert torch.equal(one.cam_from_world.matrix, other.cam_from_world.matrix)
    assert joined(first[:0], second) is second and joined(first, second[:0]) is first
    assert joined(first, second.without_depth()).has_depth is False


def test_a_file_is_told_from_others_whatever_its_name_and_whoever_reads(image_folder: Path) -> None:
    for name in ("0.png", "2.png"):
        with open(image_folder / name, "ab") as file:
            file.write(name.encode())
    scene = load_scene(image_folder)
    frames = scene.mapping
    digests = [digest_of(frames.reader, name) for name in frames.names]
    assert digests[1] == digests[3] and len(set(digests)) == 3
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests)
    others = (
        frames.without_depth(),
        read_as(scene, Conventions(depth_scale=2.0)).mapping,
        joined(frames[:1], frames[1:]),
    )
    for other in others:
        assert [digest_of(other.reader, name) for name in other.names] == digests
    assert digest_of(ball_frames(1).reader, "0") == ""
