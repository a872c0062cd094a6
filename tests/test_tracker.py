"""Photos that follow each other: found by landmarks alone, and by the network where these do not tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from ball_world import POSE, ColorEncoder
from textured_ball import LENS, textured

import dsac.tracker
from dsac.atlas import Atlas
from dsac.geometry import Pose, Similarity
from dsac.localizer import Localizer
from dsac.scene_map import SceneMap
from dsac.tracker import Motion, Tracker

NEAR = 0.006  # metres; see test_landmark_queries
STEP = Pose.exp(
    torch.tensor([0.01, 0.02, -0.01, 0.02, -0.01, 0.03], dtype=torch.float64)
)  # from photo to photo
AWAY = Similarity(Pose.exp(torch.tensor([0.1, 0.2, 0.3, 40.0, -5.0, 2.0], dtype=torch.float64)), 2.0)
NOISE = torch.rand(3, LENS.size[1], LENS.size[0], generator=torch.Generator().manual_seed(0))


def _moved(count: int) -> Pose:
    """From the middle, after so many steps."""
    pose = POSE
    for _ in range(count):
        pose = STEP @ pose
    return pose


def _photo(count: int) -> torch.Tensor:
    return textured(LENS, _moved(count)).image


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def localizer(textured_ball_map: SceneMap) -> Localizer:
    return Localizer(textured_ball_map, encoder=ColorEncoder())


@pytest.fixture
def asked(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """An entry for each time that the network was asked."""
    times, encode = [], localizer.in_map.encode
    monkeypatch.setattr(localizer.in_map, "encode", lambda *given: times.append(1) or encode(*given))
    yield times


# ---- one photo and a prior ---------------------------------------------------------------------------


def test_from_near_by_the_landmarks_are_the_answer(localizer: Localizer, asked: list[int]) -> None:
    answer = localizer.localize(_photo(2), LENS, prior=_moved(0))
    assert answer.success and answer.by_prior and not asked
    assert answer.cam_from_world.center_distance(_moved(2)) < NEAR
    assert answer.timing.encode_ms == answer.timing.head_ms == answer.timing.solve_ms == 0
    assert answer.confidence > 0.8 and answer.num_inliers > 50
    seen = (answer.cam_from_world @ answer.scene_points)[0][answer.inliers]
    pixels = answer.correspondences.pixels[0][answer.inliers]
    assert torch.allclose(answer.camera.project(seen), pixels.double(), atol=4)


@pytest.mark.parametrize("away", [[0, 0.8, 0, 0, 0, 0], [0, 0, 0, 1.5, 0, 1.0], [0, 3.1, 0, 0, 0, 0]])
def test_from_elsewhere_it_is_the_answer_without(
    localizer: Localizer, asked: list[int], away: list[float]
) -> None:
    prior = Pose.exp(torch.tensor(away, dtype=torch.float64)) @ POSE
    answer, alone = localizer.localize(_photo(0), LENS, prior=prior), localizer.localize(_photo(0), LENS)
    assert not answer.by_prior and len(asked) == 2
    assert (answer.cam_from_world.matrix == alone.cam_from_world.matrix).all()


def test_a_photo_of_elsewhere_is_not_found_from_any_prior(localizer: Localizer) -> None:
    assert not localizer.localize(NOISE, LENS, prior=POSE).success
    assert not localizer.localize(torch.full_like(NOISE, 0.5), LENS, prior=POSE).success


def test_files_and_arrays_have_priors_too(localizer: Localizer) -> None:
    photo = (255 * _photo(1)).round().byte().permute(1, 2, 0).numpy()
    assert localizer.localize(photo, LENS, prior=_moved(0)).by_prior


def test_a_map_without_landmarks_answers_as_without(textured_ball_map: SceneMap) -> None:
    bare = replace(textured_ball_map, landmarks=None, described=None, look_alikes=None)
    answer = Localizer(bare, encoder=ColorEncoder()).localize(_photo(0), LENS, prior=POSE)
    assert answer.success and not answer.by_prior


def test_of_many_regions_the_one_around_the_prior_is_asked(textured_ball_map: SceneMap) -> None:
    """Which a photo alone cannot tell: they look the same."""
    away = replace(textured_ball_map, info=textured_ball_map.info.in_world_of(AWAY))
    localizer = Localizer(Atlas.of({"one": textured_ball_map, "two": away}), encoder=ColorEncoder())
    for region, world, near in (("one", Similarity.identity(), NEAR), ("two", AWAY, 2 * NEAR)):
        answer = localizer.localize(_photo(1), LENS, prior=world.pose(POSE))
        assert answer.success and answer.by_prior and answer.region == region
        assert answer.cam_from_world.center_distance(world.pose(_moved(1))) < near
    assert not localizer.localize(_photo(1), LENS).success


@pytest.mark.wrong_input
def test_a_prior_is_one_pose_for_one_photo(localizer: Localizer) -> None:
    with pytest.raises(ValueError, match="prior: expected one pose, got a batch"):
        localizer.localize(_photo(0), LENS, prior=POSE.expand(2))
    with pytest.raises(ValueError, match="prior: expected with one photo, got a batch of 2"):
        localizer.localize(torch.stack([_photo(0), _photo(1)]), LENS, prior=POSE)


# ---- one after the other -----------------------------------------------------------------------------


def test_a_walk_asks_the_network_once(localizer: Localizer, asked: list[int]) -> None:
    tracker = Tracker(localizer)
    assert tracker.state == "lost"
    for i in range(8):
        answer = tracker.update(_photo(i), LENS)
        assert answer.success and answer.by_prior == (i > 0)
        assert answer.cam_from_world.center_distance(_moved(i)) < NEAR
        assert tracker.state == ("tracking" if i else "tentative")
    assert len(asked) == 1
    tracker.reset()
    assert tracker.state == "lost" and not tracker.update(_photo(8), LENS).by_prior


def test_the_network_is_asked_now_and_then(
    localizer: Localizer, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dsac.tracker, "_UNASKED", 3)
    tracker = Tracker(localizer)
    for i in range(9):
        assert tracker.update(_photo(i), LENS).success
        assert tracker.state == ("tracking" if i else "tentative")
    assert len(asked) == 3  # first, and after three that were not asked of it


def test_after_a_cut_it_is_found_at_once(localizer: Localizer, asked: list[int]) -> None:
    tracker = Tracker(localizer)
    for i in (0, 1):
        tracker.update(_photo(i), LENS)
    elsewhere = Pose.exp(torch.tensor([0, 0.3, 0, 0.5, 0, 0], dtype=torch.float64)) @ POSE
    answer = tracker.update(textured(LENS, elsewhere).image, LENS)
    assert answer.success and not answer.by_prior and tracker.state == "tentative"
    assert answer.cam_from_world.center_distance(elsewhere) < NEAR
    assert tracker.update(textured(LENS, STEP @ elsewhere).image, LENS).by_prior and len(asked) == 2


def test_what_is_covered_for_long_is_lost(localizer: Localizer) -> None:
    tracker = Tracker(localizer)
    for time, state in ((0.0, "tentative"), (0.1, "tracking")):
        tracker.update(_photo(0), LENS, time)
        assert tracker.state == state
    for time, state in ((0.2, "tentative"), (1.0, "tentative"), (2.5, "lost")):
        assert not tracker.update(NOISE, LENS, time).success
        assert tracker.state == state
    assert tracker.update(_photo(1), LENS, 2.6).success and tracker.state == "tentative"


def test_a_steady_camera_is_looked_for_ahead(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty steps in a second, then so many at once: farther than a photo is found from."""
    tracker, seen = Tracker(localizer), []
    follow = localizer.follow
    monkeypatch.setattr(
        localizer, "follow", lambda photo, priors, least: seen.append(priors) or follow(photo, priors, least)
    )
    for i in range(3):
        tracker.update(_photo(i), LENS, i / 20)
    tracker.update(_photo(8), LENS, 8 / 20)
    expected, last = seen[-1]
    assert expected.center_distance(_moved(8)) < 0.05 < last.center_distance(_moved(8))


def test_odometry_says_where_to_look(localizer: Localizer, asked: list[int]) -> None:
    far = Pose.exp(torch.tensor([0, 0.3, 0, 0.4, 0, 0], dtype=torch.float64))
    photo = textured(LENS, far @ POSE).image
    for motion, known in (
        (Motion(far), True),
        (Motion(far, 1e-6 * torch.eye(6, dtype=torch.float64)), True),
        (Motion(far, torch.eye(6, dtype=torch.float64)), False),  # of no use
        (Motion(far.inverse()), False),  # wrong
        (None, False),
    ):
        tracker = Tracker(localizer)
        tracker.update(_photo(0), LENS)
        answer = tracker.update(photo, LENS, motion=motion)
        assert answer.by_prior == known
        assert answer.success and answer.cam_from_world.center_distance(far @ POSE) < NEAR
    # what moves while nothing is seen counts as well
    tracker = Tracker(localizer)
    tracker.update(_photo(0), LENS)
    assert not tracker.update(NOISE, LENS, motion=Motion(far)).success
    assert tracker.update(textured(LENS, STEP @ far @ POSE).image, LENS, motion=Motion(STEP)).by_prior


@pytest.mark.wrong_input
def test_wrong_input_is_named(localizer: Localizer) -> None:
    tracker = Tracker(localizer)
    tracker.update(_photo(0), LENS, 5.0)
    with pytest.raises(ValueError, match="time: expected 5 or later, got 4"):
        tracker.update(_photo(0), LENS, 4.0)
    with pytest.raises(ValueError, match="motion: expected one pose, got a batch"):
        Motion(POSE.expand(2))
    with pytest.raises(ValueError, match=r"motion: expected a covariance \(6, 6\), got \(3, 3\)"):
        Motion(POSE, torch.eye(3))
