"""Tracks: points of few frames are as exact as their keypoints, and chance matches do not become points."""

from __future__ import annotations

import numpy as np
import pytest

from dsac.mapping.keypoints import Matches, SiftKeypoints
from dsac.mapping.tracks import track_depths

FOCAL_PX = 500.0
POINTS = np.random.default_rng(0).uniform([-1, -1, 4], [1, 1, 4.3], (200, 3))  # a rough wall


def _cameras(count: int, step: float) -> np.ndarray:
    """Side by side, each `step` metres right of the one before, looking at the wall."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = -step * (np.arange(count) - (count - 1) / 2)
    return poses


def _keypoints(poses: np.ndarray, noise_px: float, seed: int = 1) -> list[SiftKeypoints]:
    rng = np.random.default_rng(seed)
    found = []
    for pose in poses:
        seen = POINTS @ pose[:3, :3].T + pose[:3, 3]
        plane = seen[:, :2] / seen[:, 2:] + rng.normal(0, noise_px / FOCAL_PX, (len(seen), 2))
        arrows = np.tile([0.01, 0.0], (len(seen), 1))
        found.append(SiftKeypoints(plane, arrows, np.zeros((len(seen), 128), np.float32), FOCAL_PX))
    return found


def _all_matched(count: int, ratio: float = 0.5) -> dict[tuple[int, int], Matches]:
    rows = np.arange(len(POINTS))
    every = Matches(rows, rows, np.full(len(rows), ratio))
    return {(i, j): every for i in range(count) for j in range(i + 1, count)}


def _errors(depths: np.ndarray) -> np.ndarray:
    return np.abs(depths / POINTS[:, 2] - 1)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_exact_keypoints_give_exact_depths(count: int) -> None:
    poses = _cameras(count, 0.4)
    for depths in track_depths(_keypoints(poses, 0.0), poses, _all_matched(count)):
        assert _errors(depths).max() < 1e-9


def test_more_views_of_a_point_make_it_more_exact() -> None:
    poses = _cameras(6, 0.2)
    keypoints = _keypoints(poses, 0.3)
    of_all = track_depths(keypoints, poses, _all_matched(6))[0]
    of_two = track_depths(keypoints[:2], poses[:2], _all_matched(2))[0]
    known = (of_all > 0) & (of_two > 0)
    assert known.sum() > 100
    # baselines of up to five steps instead of one
    assert np.median(_errors(of_all)[known]) < 0.4 * np.median(_errors(of_two)[known])


def test_a_point_that_two_frames_see_needs_a_clear_match_and_one_that_three_see_does_not() -> None:
    poses = _cameras(3, 0.4)
    keypoints = _keypoints(poses, 0.0)
    two = track_depths(keypoints[:2], poses[:2], _all_matched(2, ratio=0.85))
    three = track_depths(keypoints, poses, _all_matched(3, ratio=0.85))
    assert max(depths.max() for depths in two) == 0
    assert min(depths.min() for depths in three) > 0


def test_rays_that_are_nearly_parallel_give_no_depth() -> None:
    poses = _cameras(3, 0.005)  # 0.6 pixels
    assert max(d.max() for d in track_depths(_keypoints(poses, 0.0), poses, _all_matched(3))) == 0


def test_points_on_the_epipolar_line_that_no_third_frame_and_no_neighbour_confirms_are_left_out() -> None:
    poses = _cameras(2, 0.4)
    keypoints = _keypoints(poses, 0.0)
    rng = np.random.default_rng(2)
    wrong = rng.permutation(len(POINTS))[:50]
    keypoints[1].plane[wrong, 0] -= rng.uniform(0.02, 0.15, len(wrong))  # along the line: nearer or farther
    depths = track_depths(keypoints, poses, _all_matched(2))[0]
    right = np.setdiff1d(np.arange(len(POINTS)), wrong)
    known = depths > 0
    assert known[right].mean() > 0.9 and _errors(depths)[right][known[right]].max() < 1e-9
    assert known[wrong].mean() < 0.1


@pytest.mark.parametrize("change", [lambda arrows: arrows * 2.0, lambda arrows: arrows[:, ::-1]])
def test_keypoints_of_another_size_or_orientation_are_no_match(change) -> None:
    poses = _cameras(2, 0.4)
    a, b = _keypoints(poses, 0.0)
    unlike = SiftKeypoints(b.plane, change(b.arrows), b.descriptors, b.focal_px)
    assert max(depths.max() for depths in track_depths([a, unlike], poses, _all_matched(2))) == 0


def test_orientations_are_compared_as_a_turned_camera_sees_them() -> None:
    poses = _cameras(2, 0.4)
    roll = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    poses[1, :3] = roll @ poses[1, :3]
    a, b = _keypoints(poses, 0.0)
    turned = SiftKeypoints(b.plane, b.arrows @ roll[:2, :2].T, b.descriptors, b.focal_px)
    assert _errors(track_depths([a, turned], poses, _all_matched(2))[0]).max() < 1e-9
    assert track_depths([a, b], poses, _all_matched(2))[0].max() == 0


def test_without_a_match_nothing_is_known() -> None:
    poses = _cameras(2, 0.4)
    depths = track_depths(_keypoints(poses, 0.0), poses, {})
    assert [d.tolist() for d in depths] == [[0.0] * len(POINTS)] * 2
