"""The terrace: near, middle and far in one picture, and a sky whose depth nobody knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dsac.datasets import Frame, Scene, load_scene
from dsac.rooms import build_terrace, terrace_scene, write_scene
from dsac.rooms.terrace import FARTHEST, SIZE

COARSE = 4.0  # metres between the cells of light


@pytest.fixture(scope="module")
def scene() -> Scene:
    return terrace_scene(num_mapping=40, num_query=10, size=(200, 150), light_cell=COARSE)


@pytest.fixture(scope="module")
def frames(scene: Scene) -> list[Frame]:
    """Some of both walks, that look everywhere."""
    return [*(scene.mapping[i] for i in range(0, 40, 4)), *(scene.query[i] for i in range(0, 10, 3))]


def _depths(frame: Frame) -> torch.Tensor:
    assert frame.depth is not None
    return frame.depth


def test_the_same_seed_gives_the_same_place(scene: Scene) -> None:
    room = scene.mapping.reader.room  # type: ignore[attr-defined]
    again = build_terrace(0, COARSE)
    assert again is not room and all(np.array_equal(a, b) for a, b in zip(room, again, strict=True))


def test_depths_reach_from_a_metre_or_two_to_a_hundred(frames: list[Frame]) -> None:
    depth = torch.cat([_depths(frame).flatten() for frame in frames])
    known = depth[depth > 0]
    assert 0.5 < known.min() < 2 and 60 < known.max() <= FARTHEST
    for nearer, farther in ((0, 5), (5, 15), (15, 30), (30, 60), (60, FARTHEST)):
        assert ((known > nearer) & (known <= farther)).float().mean() > 0.01, (nearer, farther)


def test_the_sky_has_no_depth_and_hardly_any_texture(frames: list[Frame]) -> None:
    shares = []
    for frame in frames:
        sky = _depths(frame) == 0
        shares.append(sky.float().mean().item())
        # of what stands around it, a pixel at its border has a share
        inner = torch.nn.functional.avg_pool2d(sky[None].float(), 5, 1, 2)[0] > 0.99
        if inner.sum() > 200:
            assert frame.image[:, inner].std(1).max() < 0.05
    assert 0.05 < float(np.mean(shares)) < 0.4


def test_cameras_stand_on_the_terrace_with_room_around_them(scene: Scene) -> None:
    room = scene.mapping.reader.room  # type: ignore[attr-defined]
    leaves = room.bounds[room.links[:, 1] >= 0]
    leaves = leaves[np.ptp(leaves, axis=1).max(1) < 100]  # the sky is around all
    for center in scene.truths["exact"].cam_from_world.center.numpy():
        assert 1 < center[0] < SIZE[0] - 1 and 0.8 < center[1] < SIZE[1] - 2 and 1.2 < center[2] < 1.9
        outside = np.maximum(np.maximum(leaves[:, 0] - center, center - leaves[:, 1]), 0)
        assert np.linalg.norm(outside, axis=1).min() > 0.15


def test_a_written_terrace_has_its_depth_in_a_coarser_unit(tmp_path: Path) -> None:
    scene = terrace_scene(num_mapping=2, num_query=1, size=(200, 150), light_cell=COARSE)
    write_scene(scene, tmp_path / "fine")
    write_scene(scene, tmp_path / "coarse", depth_unit=0.002)
    depth = _depths(scene.mapping[0])
    fine, coarse = (_depths(load_scene(tmp_path / name).mapping[0]) for name in ("fine", "coarse"))
    assert (coarse - depth).abs().max() < 0.51 * 0.002
    # what the fine unit cannot say is unknown, not another depth
    near = depth < 13
    assert (fine - depth)[near].abs().max() < 0.51 * 0.0002 and (fine[depth > 13.2] == 0).all()
