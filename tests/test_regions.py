"""Photos asked of many regions: which answers, where it is, and what happens where several could be right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ball_world import ColorEncoder
from textured_ball import LENS, SETTINGS, frames, places, textured

from dsac.atlas import Atlas
from dsac.datasets import Frames
from dsac.errors import DsacError, MapFormatError
from dsac.geometry import Camera, Pose, Similarity
from dsac.localizer import Localizer
from dsac.mapping import build_map
from dsac.scene_map import SceneMap

QUERIES = places(3, seed=5)
AWAY = Similarity(Pose.exp(torch.tensor([0.1, 0.2, 0.3, 40.0, -5.0, 2.0], dtype=torch.float64)), 2.0)
NEAR = 0.006  # metres; see test_landmark_queries


class _Negatives:
    """Frames of the ball as negatives: another place."""

    def __init__(self, inner) -> None:  # noqa: ANN001 -- a reader
        self.inner, self.has_depth = inner, True

    def read_image(self, name: str) -> np.ndarray:
        return 255 - self.inner.read_image(name)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        return self.inner.read_depth(name, camera)


def _other(those: Frames) -> Frames:
    return replace(those, reader=_Negatives(those.reader))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def other_map() -> SceneMap:
    torch.set_num_threads(1)
    return build_map(_other(frames(LENS, places(10, seed=0))), SETTINGS, encoder=ColorEncoder())


@pytest.fixture
def two(textured_ball_map: SceneMap, other_map: SceneMap) -> Atlas:
    """The ball, and another one elsewhere, in a unit half as long."""
    there = replace(other_map, info=other_map.info.in_world_of(AWAY))
    return Atlas.of({"ball": textured_ball_map, "other": there})


def _photos() -> torch.Tensor:
    return torch.stack([textured(LENS, QUERIES[i]).image for i in range(len(QUERIES))])


def test_each_photo_is_found_in_its_region_and_its_world(two: Atlas) -> None:
    localizer = Localizer(two, encoder=ColorEncoder())
    for i, photo in enumerate(_photos()):
        here = localizer.localize(photo, LENS)
        assert here.success and here.region == "ball" and not here.alternatives
        assert here.cam_from_world.center_distance(QUERIES[i]) < NEAR
        there = localizer.localize(1 - photo, LENS)
        assert there.success and there.region == "other"
        truth = AWAY.pose(QUERIES[i])
        assert there.cam_from_world.center_distance(truth) < 2 * NEAR
        assert there.cam_from_world.rotation_error_deg(truth) < 0.1
        seen = (there.cam_from_world @ there.scene_points)[0][there.inliers]
        assert torch.allclose(  # in one frame with the pose
            there.camera.project(seen), there.correspondences.pixels[0][there.inliers].double(), atol=12
        )


def test_the_only_region_answers_as_the_map_alone(textured_ball_map: SceneMap) -> None:
    alone = Localizer(textured_ball_map, encoder=ColorEncoder()).localize(_photos(), LENS)
    in_atlas = Localizer(Atlas.of({"a": textured_ball_map}), encoder=ColorEncoder()).localize(_photos(), LENS)
    assert (alone.cam_from_world.matrix == in_atlas.cam_from_world.matrix).all()


def test_a_batch_is_answered_as_its_photos_one_by_one(two: Atlas) -> None:
    localizer = Localizer(two, encoder=ColorEncoder())
    photos = torch.cat([_photos(), 1 - _photos()])[[0, 3, 1, 4]]
    together = localizer.localize(photos, LENS)
    assert together.success.all() and together.region == ("ball", "other", "ball", "other")
    for i, photo in enumerate(photos):
        alone = localizer.localize(photo, LENS)
        assert together[i].region == alone.region
        assert together[i].cam_from_world.center_distance(alone.cam_from_world) < 1e-3
        assert torch.allclose(together.scene_points[i], alone.scene_points[0], atol=1e-3)


def test_a_place_that_two_regions_know_alike_is_left_open_and_a_hint_decides(
    textured_ball_map: SceneMap,
) -> None:
    away = replace(textured_ball_map, info=textured_ball_map.info.in_world_of(AWAY))
    localizer = Localizer(Atlas.of({"one": textured_ball_map, "two": away}), encoder=ColorEncoder())
    photo = _photos()[0]
    answer = localizer.localize(photo, LENS)
    assert not answer.success
    chances = [place.probability for place in answer.places]
    assert len(chances) == 2 and abs(chances[0] - 0.5) < 0.05
    centers = [place.cam_from_world.center for place in answer.places]
    for truth in (QUERIES[0], AWAY.pose(QUERIES[0])):
        assert min((truth.center - center).norm() for center in centers) < 2 * NEAR
    told = localizer.localize(photo, LENS, near=AWAY.pose(QUERIES[0]).center.tolist(), radius=3.0)
    assert told.success and told.region == "two"


def test_regions_that_share_a_place_agree_on_one_answer(textured_ball_map: SceneMap) -> None:
    """The second tells its frame otherwise, but means the same world."""
    info = replace(textured_ball_map.info, created="later")
    both = Atlas.of({"one": textured_ball_map, "two": replace(textured_ball_map, info=info)})
    answer = Localizer(both, encoder=ColorEncoder()).localize(_photos()[0], LENS)
    assert answer.success and not answer.alternatives
    assert answer.cam_from_world.center_distance(QUERIES[0]) < NEAR


def test_a_map_from_before_there_were_words_is_always_asked(two: Atlas) -> None:
    old = Atlas(tuple(replace(region, words=None) for region in two.regions))
    answer = Localizer(old, encoder=ColorEncoder()).localize(1 - _photos()[0], LENS)
    assert answer.success and answer.region == "other"


def test_photos_of_unknown_focal_length_find_their_region(two: Atlas) -> None:
    photos = _other(frames(LENS, QUERIES))
    photos = replace(photos, cam_from_world=None, focal=("unknown",) * len(photos))
    for i, answer in enumerate(Localizer(two, encoder=ColorEncoder()).localize_frames(photos)):
        assert answer.region == "other"
        assert abs(answer.focal_px / 400 - 1) < 0.02
        assert answer.cam_from_world.center_distance(AWAY.pose(QUERIES[i])) < 0.1


def test_memory_is_bounded_and_regions_are_read_when_asked(two: Atlas, tmp_path: Path) -> None:
    two.save(tmp_path / "two.dsac")
    localizer = Localizer.load(tmp_path / "two.dsac", encoder=ColorEncoder(), memory_mb=0.001)
    regions = localizer._regions
    assert regions is not None and not regions._loaded
    for photo in (*_photos(), *1 - _photos()):
        assert localizer.localize(photo, LENS).success
        assert len(regions._loaded) == 1


def test_a_damaged_region_is_named_when_a_photo_asks_it(two: Atlas, tmp_path: Path) -> None:
    path = tmp_path / "two.dsac"
    two.save(path)
    data = bytearray(path.read_bytes())
    middle = data.rfind(b"regions/other.dsac", 0, len(data) - 2000) + 3000
    data[middle : middle + 50] = bytes(50)
    path.write_bytes(data)
    localizer = Localizer.load(path, encoder=ColorEncoder())
    with pytest.raises(MapFormatError, match="region other is damaged"):
        localizer.localize(1 - _photos()[0], LENS)


def test_hints_that_mean_nothing_are_refused(two: Atlas) -> None:
    localizer = Localizer(two, encoder=ColorEncoder())
    photo = _photos()[0]
    with pytest.raises(ValueError, match="with a radius"):
        localizer.localize(photo, LENS, near=(0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="x, y, z"):
        localizer.localize(photo, LENS, near=(0.0, 0.0), radius=1.0)
    with pytest.raises(DsacError, match="no region of the map has a view within 1 of"):
        localizer.localize(photo, LENS, near=(1e3, 0.0, 0.0), radius=1.0)
    with pytest.raises(ValueError, match="one region only"):
        Localizer(two, regressor=localizer._regions[0].regressor)  # type: ignore[index]
