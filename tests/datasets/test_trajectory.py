from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac.datasets.listed_files import natural_order, pair_files, stem
from dsac.datasets.trajectory import Trajectory, pair_by_time
from dsac.errors import DatasetError
from dsac.geometry import Pose

TIMES = st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True)


@settings(deadline=None)  # the machine may be busy
@given(TIMES, TIMES, st.integers(0, 5))
def test_pairs_in_time_are_each_others_nearest(times, others, gap):
    times, others = np.array(times, float), np.array(others, float)
    pairs = pair_by_time(times, others, gap)
    assert len(set(pairs.values())) == len(pairs)
    for i, j in pairs.items():
        distance = abs(times[i] - others[j])
        assert distance <= gap
        assert distance == np.abs(others - times[i]).min() == np.abs(times - others[j]).min()
    equal = {i: j for i, time in enumerate(times) for j, other in enumerate(others) if time == other}
    assert equal.items() <= pairs.items()


@settings(deadline=None)  # the machine may be busy
@given(TIMES, st.lists(st.floats(-10, 70), min_size=1, max_size=8), st.floats(0.5, 80))
def test_a_sensor_in_uniform_motion_is_where_it_must_be(pose_times, times, gap):
    """Turning and moving steadily, every interpolated pose is exact; others are of the nearest time."""
    known, asked = np.array(pose_times, float), np.array(times)

    def poses(at: np.ndarray) -> Pose:
        vectors = torch.from_numpy(at)[:, None] * torch.tensor([[0.01, -0.02, 0.03, 0, 0, 0]]).double()
        return Pose(
            Pose.exp(vectors).rotation, torch.from_numpy(at)[:, None] * torch.tensor([[1.0, 2, 3]]).double()
        )

    trajectory = Trajectory.of("here", known, poses(known))
    nearest = known[np.abs(known[None] - asked[:, None]).argmin(1)]
    near = np.abs(nearest - asked) <= gap
    names = [str(time) for time in times]
    if not near.any():
        with pytest.raises(DatasetError, match="here: no image has a pose"):
            trajectory.at(names, asked, gap)
        return
    rows, found = trajectory.at(names, asked, gap)
    assert rows.tolist() == np.flatnonzero(near).tolist()
    for row, pose in zip(rows, found, strict=False):
        time = asked[row]
        around = [known[known <= time].max(initial=-np.inf), known[known >= time].min(initial=np.inf)]
        inside = max(abs(time - around[0]), abs(time - around[1])) <= gap
        candidates = [time] if inside else known[np.abs(known - time) <= np.abs(known - time).min() + 1e-9]
        expected = poses(np.asarray(candidates))
        assert (expected.matrix - pose.matrix).abs().amax((-1, -2)).min() < 1e-9


def test_names_count_their_numbers_and_end_before_their_endings():
    names = ["10.png", "2.png", "a10b2.png", "a9.png"]
    assert sorted(names, key=natural_order) == ["2.png", "10.png", "a9.png", "a10b2.png"]
    assert stem("x/frame-000001.color.jpg") == "frame-000001"
    assert stem("rgb/1305031102.1753.png") == "1305031102.1753"


def test_two_files_for_one_image_are_an_error():
    with pytest.raises(DatasetError, match="poses: a.pose.txt and a.txt are for the same image"):
        pair_files(["a.png"], ["a.pose.txt", "a.txt"], "poses")
    with pytest.raises(DatasetError, match="poses: 1 files for 2 images, and none is named like a.png"):
        pair_files(["a.png", "b.png"], ["1.txt"], "poses")
