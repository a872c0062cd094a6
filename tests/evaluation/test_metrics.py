from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from dsac.datasets import NamedPoses
from dsac.errors import DatasetError
from dsac.evaluation import (
    THRESHOLDS,
    PoseError,
    Threshold,
    camera_spacing,
    confidence_auc,
    pose_error,
    summarize,
    summary_table,
)
from dsac.geometry import Pose


def random_poses(count: int, seed: int = 0) -> NamedPoses:
    generator = torch.Generator().manual_seed(seed)
    increments = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return NamedPoses([f"{i}.png" for i in range(count)], Pose.exp(increments))


def rows(poses: NamedPoses, indices: list[int]) -> NamedPoses:
    return NamedPoses([poses.names[i] for i in indices], poses.cam_from_world[torch.tensor(indices)])


def moved(poses: NamedPoses, angle_deg: float, shift: float) -> NamedPoses:
    """Cameras turned about their own x axis, their centres shifted along the world's z axis."""
    turn = Pose.exp(torch.tensor([math.radians(angle_deg), 0, 0, 0, 0, 0], dtype=torch.float64))
    turned = turn @ poses.cam_from_world
    offset = torch.tensor([0, 0, shift], dtype=torch.float64)
    translation = turned.translation - (turned.rotation @ offset[:, None])[..., 0]
    return NamedPoses(poses.names, Pose(turned.rotation, translation))


def test_errors_are_the_angle_in_degrees_and_the_distance_of_the_centres():
    truth = random_poses(20)
    error = pose_error(moved(truth, 3.0, 0.04), truth)
    assert torch.allclose(error.rotation_deg, torch.full((20,), 3.0, dtype=torch.float64))
    assert torch.allclose(error.translation_m, torch.full((20,), 0.04, dtype=torch.float64))
    assert torch.allclose(error.task_loss, torch.full((20,), 4.0, dtype=torch.float64))


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(8)), missing=st.sets(st.integers(0, 7), max_size=7))
def test_order_of_the_estimates_does_not_matter_and_missing_images_are_failures(order, missing):
    truth = random_poses(8)
    estimates = moved(truth, 1.0, 0.01)
    complete = pose_error(estimates, truth)
    error = pose_error(rows(estimates, [i for i in order if i not in missing]), truth)
    for i in range(8):
        if i in missing:
            assert math.isinf(error.rotation_deg[i]) and math.isinf(error.translation_m[i])
        else:
            assert error.rotation_deg[i] == complete.rotation_deg[i]
            assert error.translation_m[i] == complete.translation_m[i]
    assert error.localized.sum() == 8 - len(missing)


def test_missing_images_stay_in_the_denominator():
    truth = random_poses(8)
    summary = summarize(pose_error(rows(truth, [0, 1, 2]), truth), "sfm")
    assert summary.num_images == 8 and summary.num_not_localized == 5
    assert summary.percent_5cm_5deg == summary.percent_1cm_1deg == 37.5
    assert math.isinf(summary.median_translation_m) and math.isinf(summary.median_rotation_deg)


def test_estimates_of_other_images_are_ignored():
    truth = random_poses(4)
    estimates = random_poses(9)
    assert torch.equal(pose_error(estimates, truth).localized, torch.ones(4, dtype=torch.bool))
    assert len(pose_error(estimates, truth).rotation_deg) == 4


def test_no_common_name_is_an_error_that_shows_one_of_each():
    truth = random_poses(3)
    estimates = NamedPoses(["a.jpg", "b.jpg", "c.jpg"], truth.cam_from_world)
    with pytest.raises(DatasetError, match=r"'a\.jpg'.*'0\.png'"):
        pose_error(estimates, truth)


def test_no_estimate_at_all_is_a_result():
    truth = random_poses(3)
    none = NamedPoses([], Pose.identity(0, dtype=torch.float64))
    assert summarize(pose_error(none, truth), "sfm").num_not_localized == 3


def test_an_estimate_with_nan_is_a_failure():
    truth = random_poses(3)
    translation = truth.cam_from_world.translation.clone()
    translation[1, 2] = torch.nan
    estimates = NamedPoses(truth.names, Pose(truth.cam_from_world.rotation, translation))
    assert pose_error(estimates, truth).localized.tolist() == [True, False, True]


def test_both_errors_must_be_below_the_bounds():
    infinite = torch.inf
    error = PoseError(
        torch.tensor([4.9, 5.0, 4.9, infinite]),
        torch.tensor([0.049, 0.01, 0.05, infinite], dtype=torch.float32),
    )
    assert error.within(Threshold(5.0, 0.05)).tolist() == [True, False, False, False]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 0.2)), min_size=1, max_size=30))
def test_percentages_shrink_with_the_bounds_and_an_added_failure_raises_no_figure(errors):
    table = torch.tensor(errors, dtype=torch.float64)
    summary = summarize(PoseError(table[:, 0], table[:, 1]), "t")
    assert 100 >= summary.percent_5cm_5deg >= summary.percent_2cm_2deg >= summary.percent_1cm_1deg >= 0
    failed = torch.cat([table, torch.full((1, 2), torch.inf, dtype=torch.float64)])
    worse = summarize(PoseError(failed[:, 0], failed[:, 1]), "t")
    assert worse.percent_5cm_5deg <= summary.percent_5cm_5deg
    assert worse.median_translation_m >= summary.median_translation_m


def test_no_image_is_an_error():
    with pytest.raises(DatasetError, match="'sfm'"):
        summarize(PoseError(torch.zeros(0), torch.zeros(0)), "sfm")


def test_median_relative_to_the_camera_spacing_does_not_depend_on_the_scale():
    truth = random_poses(12)
    estimates = moved(truth, 1.0, 0.02)

    def relative(scale: float) -> float | None:
        def scaled(poses: NamedPoses) -> NamedPoses:
            pose = poses.cam_from_world
            return NamedPoses(poses.names, Pose(pose.rotation, scale * pose.translation))

        spacing = camera_spacing(scaled(truth).cam_from_world.center)
        return summarize(pose_error(scaled(estimates), scaled(truth)), "t", spacing).median_translation_spacings

    assert relative(1.0) is not None
    assert relative(250.0) == pytest.approx(relative(1.0), rel=1e-9)


def test_camera_spacing_is_the_mean_distance_to_the_nearest_camera():
    centers = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]], dtype=torch.float64)
    assert camera_spacing(centers) == pytest.approx((1 + 1 + 2) / 3)
    assert camera_spacing(centers[:1]) is None  # no neighbour
    assert camera_spacing(torch.zeros(5, 3)) is None  # all in one place: no unit to measure in


def test_views_of_one_centre_are_in_one_place():
    centers = torch.tensor([[0, 0, 0], [0, 0, 2.0], [0, 0, 4]], dtype=torch.float64).repeat_interleave(
        40, dim=0
    )
    noise = 1e-9 * torch.randn(120, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for offset in (0.0, 5e6):  # such as UTM's
        assert camera_spacing(centers + noise + offset) == pytest.approx(2, rel=1e-6)
    assert camera_spacing(1e-15 * noise + 5e6) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=20))
def test_confidence_auc_counts_the_pairs_in_the_right_order(images):
    confidence = torch.tensor([c / 4 for c, _ in images])
    accurate = torch.tensor([a for _, a in images], dtype=torch.bool)
    pairs = [
        1.0 if right > wrong else 0.5 if right == wrong else 0.0
        for right in confidence[accurate].tolist()
        for wrong in confidence[~accurate].tolist()
    ]
    auc = confidence_auc(confidence, accurate)
    assert auc == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


def test_the_table_has_one_row_per_truth_and_fits_a_terminal():
    truth = random_poses(4)
    summaries = [summarize(pose_error(rows(truth, [0, 1]), truth), name) for name in ("sfm", "dslam")]
    console = Console(width=80)
    with console.capture() as capture:
        console.print(summary_table(summaries))
    text = capture.get()
    assert "…" not in text
    (sfm,) = (line.split() for line in text.splitlines() if "sfm" in line)
    (dslam,) = (line.split() for line in text.splitlines() if "dslam" in line)
    assert sfm[1:] == dslam[1:] == ["4", "2", "50.0", "50.0", "50.0", "∞", "∞", "–"]


def test_thresholds_read_as_people_say_them():
    assert [str(threshold) for threshold in THRESHOLDS] == ["5 cm 5°", "2 cm 2°", "1 cm 1°"]
