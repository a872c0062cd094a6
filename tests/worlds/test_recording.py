"""Maps in the world of another recording, and by a matrix."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ball_world import ColorEncoder, ball_frames, exact_map

from dsac.atlas import Atlas
from dsac.datasets import Frames, Scene
from dsac.errors import DatasetError
from dsac.geometry import Pose, Similarity
from dsac.localizer import Localizer
from dsac.worlds import aligned, by_recording, by_transform

OTHER_FROM_MAP = Similarity(Pose.exp(torch.tensor([1.0, -2, 0.5, 300, 20, -10]).double()), 0.5)


def _scene(frames: Frames, cam_from_world: Pose, metric: bool = True) -> Scene:
    frames = replace(frames, cam_from_world=cam_from_world)
    return Scene("lidar", "made up", frames, frames[:0], metric=metric)


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    torch.set_num_threads(1)
    return Localizer(exact_map(120), encoder=ColorEncoder())


@pytest.mark.parametrize("metric", [True, False])
def test_a_map_lies_where_the_frames_of_a_recording_say_and_answers_so(
    localizer: Localizer, metric: bool
) -> None:
    frames = ball_frames(6)
    assert frames.cam_from_world is not None
    there = OTHER_FROM_MAP.pose(frames.cam_from_world)
    wrong = Pose(there.rotation.clone(), there.translation.clone())
    wrong.translation[4] += 3.0
    found = by_recording(localizer, _scene(frames, wrong, metric))
    assert found.metric is metric and found.geo is None and found.names == frames.names
    assert found.agree.tolist() == [True, True, True, True, False, True]
    moved = aligned(Atlas.of({"": localizer.in_map.scene_map}), found)
    assert moved.info.metric is metric and moved.regions[0].read().head is localizer.in_map.scene_map.head
    answer = next(Localizer(moved, encoder=ColorEncoder()).localize_frames(frames[4:5]))
    assert answer.cam_from_world.rotation_error_deg(there[4]) < 0.1
    assert answer.cam_from_world.center_distance(there[4]) < 0.01


def test_recordings_that_do_not_agree_or_show_another_place_are_refused(localizer: Localizer) -> None:
    frames = ball_frames(6)
    random = Pose.exp(torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    with pytest.raises(DatasetError, match="lidar: the 6 frames that the map localizes agree on no transform"):
        by_recording(localizer, _scene(frames, random))
    with pytest.raises(
        DatasetError, match="lidar: expected 3 frames or more that the map localizes, found 2 of 2"
    ):
        by_recording(localizer, _scene(frames[:2], random[:2]))
    with pytest.raises(DatasetError, match="lidar: expected frames with poses, found none"):
        by_recording(localizer, Scene("lidar", "", replace(frames, cam_from_world=None), frames[:0]))


# ---- a matrix ----------------------------------------------------------------------------------------


def _matrix(similarity: Similarity) -> torch.Tensor:
    matrix = similarity.motion.matrix.clone()
    matrix[:3, :3] *= similarity.scale
    return matrix


def test_a_matrix_is_read_as_text_and_as_json(tmp_path: Path) -> None:
    matrix, info = _matrix(OTHER_FROM_MAP), exact_map(120).info
    (tmp_path / "m.json").write_text(json.dumps(matrix.tolist(), indent=1))
    (tmp_path / "m.txt").write_text("\n".join(" ".join(f"{x:.6f}" for x in row) for row in matrix[:3].tolist()))
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    for name, tolerance in (("m.json", 1e-9), ("m.txt", 1e-4)):
        found = by_transform(tmp_path / name, info)
        torch.testing.assert_close(
            found.world_from_this @ points, OTHER_FROM_MAP @ points, rtol=0, atol=tolerance
        )
        assert found.metric is True  # one that scales ends in metres
    (tmp_path / "m.json").write_text(json.dumps(_matrix(Similarity(OTHER_FROM_MAP.motion)).tolist()))
    assert by_transform(tmp_path / "m.json", replace(info, metric=False)).metric is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 2 3", "expected a 4×4 matrix as 16 numbers, got 3"),
        ("hello", "expected numbers, got `hello`"),
        ("1 0 0 0  0 1 0 0  0 0 nan 0", "expected a 4×4 matrix"),
        ("1 0 0 0  0 1 0 0  0 0 1 0  5 5 5 1", "the last row 0 0 0 1, got [5.0, 5.0, 5.0, 1.0]"),
        ("-1 0 0 0  0 1 0 0  0 0 1 0", "it mirrors: an axis is negated, or two are exchanged"),
        ("0 0 0 0  0 1 0 0  0 0 1 0", "it flattens"),
        ("1 0.1 0 0  0 1 0 0  0 0 1 0", "this matrix shears or stretches"),
        ("1 0 0 0  0 1 0 0  0 0 2 0", "this matrix shears or stretches"),
    ],
)
def test_what_is_no_similarity_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "m.txt").write_text(text)
    with pytest.raises(DatasetError) as error:
        by_transform(tmp_path / "m.txt", exact_map(120).info)
    assert str(error.value).startswith(str(tmp_path / "m.txt")) and expected in str(error.value)
