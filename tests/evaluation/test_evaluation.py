from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from dsac.datasets import NamedPoses, Scene, write_poses
from dsac.errors import DatasetError
from dsac.evaluation import evaluate, evaluate_poses
from dsac.geometry import Pose

ERRORS_CM = [0.5, 1.5, 3.0, 4.0, 8.0, 200.0]


def test_a_localizer_is_scored_on_all_query_images(scene, make_localizer):
    evaluation = evaluate(make_localizer(ERRORS_CM, failing={0}), scene)
    summary = evaluation.summaries[0]
    assert (summary.num_images, summary.num_not_localized) == (6, 1)
    assert summary.percent_5cm_5deg == pytest.approx(100 * 3 / 6)
    assert summary.percent_2cm_2deg == pytest.approx(100 * 1 / 6)
    assert summary.median_translation_m == pytest.approx(0.06)  # of 1.5, 3, 4, 8, 200 cm and infinity
    assert [frame.localized for frame in evaluation.frames] == [False] + 5 * [True]
    assert evaluation.estimates.names == scene.query.names[1:]


def test_the_truth_of_the_frames_comes_first_and_each_truth_counts_its_own_images(scene, make_localizer):
    assert list(scene.truths) == ["other", "own"]
    own, other = evaluate(make_localizer([0.0] * 6), scene).summaries
    assert (own.truth, own.num_images, own.percent_1cm_1deg) == ("own", 6, 100.0)
    assert (other.truth, other.num_images) == ("other", 5)
    assert other.median_translation_m == pytest.approx(0.03 * math.sqrt(3))


def test_estimates_from_elsewhere_score_like_the_localizer_that_made_them(scene, make_localizer):
    localized = evaluate(make_localizer(ERRORS_CM, failing={2}), scene)
    read = evaluate(localized.estimates, scene)
    assert read.summaries == localized.summaries
    assert [frame.localized for frame in read.frames] == [frame.localized for frame in localized.frames]


def test_poses_files_score_like_the_poses(scene, make_localizer, tmp_path: Path):
    localized = evaluate(make_localizer(ERRORS_CM, failing={2}), scene)
    truth = localized.truths["own"]
    write_poses(tmp_path / "estimates.txt", localized.estimates)
    write_poses(tmp_path / "own.txt", truth)
    (summary,) = evaluate_poses(tmp_path / "estimates.txt", tmp_path / "own.txt").summaries
    assert summary.truth == "own"
    assert (summary.num_images, summary.num_not_localized) == (6, 1)
    assert summary.percent_5cm_5deg == localized.summaries[0].percent_5cm_5deg
    assert summary.median_translation_m == pytest.approx(localized.summaries[0].median_translation_m)


def test_a_shuffled_truth_file_is_scored_in_recording_order(tmp_path: Path):
    names = ["seq-2/frame-10.png", "seq-10/frame-1.png", "seq-2/frame-9.png"]
    poses = NamedPoses(names, Pose.identity(3, dtype=torch.float64))
    write_poses(tmp_path / "poses.txt", poses)
    evaluation = evaluate_poses(tmp_path / "poses.txt", tmp_path / "poses.txt")
    assert [frame.name for frame in evaluation.frames] == [names[2], names[0], names[1]]


def test_the_hardest_image_of_each_part_is_kept_worst_first(scene, make_localizer):
    evaluation = evaluate(make_localizer([1.0, 300.0, 2.0, 50.0, 7.0, 3.0], failing={4}), scene)
    names = [localization.name for localization in evaluation.hardest]
    assert names == [scene.query.names[i] for i in (4, 1, 3, 5, 2, 0)]


def test_progress_is_told_after_each_image(scene, make_localizer):
    told = []
    evaluate(make_localizer([0.0] * 6), scene, on_frame=lambda localization: told.append(localization.name))
    assert told == scene.query.names


def test_timing_is_the_median_of_each_stage(scene, make_localizer):
    evaluation = evaluate(make_localizer([0.0] * 6), scene)  # image i takes 1 + i, 2, 3 and 4 ms
    assert evaluation.median_timing_ms == [
        ("decode", 3.5),
        ("encode", 2.0),
        ("head", 3.0),
        ("solve", 4.0),
        ("align", 1.0),
    ]
    assert evaluation.median_total_ms == 13.5


def test_the_stated_deviation_of_the_camera_centre_is_that_of_the_pose(scene, make_localizer):
    """The covariance is of an increment from the left; sampled increments move the centre by as much."""
    generator = torch.Generator().manual_seed(0)
    increments = 0.01 * torch.randn(20_000, 6, generator=generator, dtype=torch.float64)
    increments[:, :3] = 0  # a turn about the camera centre's own frame is stated apart
    true = scene.query.cam_from_world[0]
    spread = (Pose.exp(increments) @ true).center.std(0).norm()
    frame = evaluate(make_localizer([0.0] * 6), scene).frames[0]  # states 0.01 on each of the six
    assert frame.translation_sigma_m == pytest.approx(spread.item(), rel=0.02)
    assert frame.rotation_sigma_deg == pytest.approx(math.degrees(0.01 * math.sqrt(3)))


def test_csv_round_trip(scene, make_localizer, tmp_path: Path):
    evaluation = evaluate(make_localizer(ERRORS_CM, failing={1}), scene)
    evaluation.write_csv(tmp_path / "frames.csv")
    with open(tmp_path / "frames.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == scene.query.names
    for i, (row, frame) in enumerate(zip(rows, evaluation.frames, strict=True)):
        assert row["localized"] == str(int(i != 1))
        assert float(row["own_translation_cm"]) == pytest.approx(math.inf if i == 1 else ERRORS_CM[i], rel=1e-5)
        assert float(row["own_rotation_deg"]) == (math.inf if i == 1 else pytest.approx(0, abs=1e-5))
        assert float(row["confidence"]) == pytest.approx(frame.confidence, rel=1e-5)
        assert int(row["inliers"]) == frame.num_inliers == (0 if i == 1 else 96)
        assert float(row["translation_sigma_cm"]) == pytest.approx(math.sqrt(3), rel=1e-5)
        assert float(row["decode_ms"]) == 1 + i
    assert rows[5]["other_translation_cm"] == ""  # that truth lacks the image


def test_csv_of_a_poses_file_leaves_unknown_fields_empty(scene, tmp_path: Path):
    evaluate(scene.truths["own"], scene).write_csv(tmp_path / "frames.csv")
    with open(tmp_path / "frames.csv", newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert float(row["own_translation_cm"]) == 0
    assert row["confidence"] == row["inliers"] == row["translation_sigma_cm"] == ""


def test_a_scene_without_query_images_or_without_truth_is_an_error(scene, make_localizer):
    with pytest.raises(DatasetError, match="query images"):
        evaluate(make_localizer([]), replace(scene, query=scene.query[:0]))
    unposed = Scene(scene.path, scene.format, scene.mapping, replace(scene.query, cam_from_world=None))
    with pytest.raises(DatasetError, match="to score against"):
        evaluate(make_localizer([]), unposed)


def test_a_plain_scene_is_scored_against_the_poses_of_its_frames(scene, make_localizer):
    plain = Scene(scene.path, scene.format, scene.mapping, scene.query)
    (summary,) = evaluate(make_localizer([1.0] * 6), plain).summaries
    assert summary.truth == "poses"
    assert summary.median_translation_m == pytest.approx(0.01)
    assert summary.camera_spacing_m is not None


def test_a_folder_that_cannot_be_written_is_found_before_the_work(scene, make_localizer, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    localizer = make_localizer([0.0] * 6)
    with pytest.raises(DatasetError, match="report.html"):
        evaluate(localizer, scene, report=tmp_path / "file" / "report.html")
    assert localizer.seen == []


def test_names_of_another_recording_are_an_error(scene):
    strangers = NamedPoses(["x.png"], scene.truths["own"].cam_from_world[:1])
    with pytest.raises(DatasetError, match=r"x\.png"):
        evaluate(strangers, scene)


# ---- scenes of arbitrary scale -------------------------------------------------------------------


def _of_scale(scene: Scene, size: float) -> Scene:
    """The same frames in a world of another unit that nobody knows, with its own truth alone."""
    poses = scene.truths["own"].cam_from_world
    scaled = Pose(poses.rotation, size * poses.translation)
    mapping, query = (
        replace(frames, cam_from_world=scaled[part], reader=replace(frames.reader, has_depth=False))
        for frames, part in ((scene.mapping, slice(10)), (scene.query, slice(10, 16)))
    )
    truths = {"own": NamedPoses(scene.truths["own"].names, scaled)}
    return replace(scene, mapping=mapping, query=query, truths=truths, metric=False)


def test_a_scene_of_arbitrary_scale_is_scored_alike_in_any_unit(scene, make_localizer):
    def summary(size: float):
        (only,) = evaluate(
            make_localizer([size * error for error in ERRORS_CM]), _of_scale(scene, size)
        ).summaries
        return only

    one, other = summary(1.0), summary(1000.0)
    spacing = one.camera_spacing_m
    assert one.unit.name == "spacings" and one.unit.size == spacing
    within = [100 * sum(error < 100 * share * spacing for error in ERRORS_CM) / 6 for share in (0.5, 0.2, 0.1)]
    assert [one.percent_5cm_5deg, one.percent_2cm_2deg, one.percent_1cm_1deg] == pytest.approx(within)
    assert len(set(within)) > 1
    assert other.percent_5cm_5deg == one.percent_5cm_5deg
    assert other.median_translation_spacings == pytest.approx(one.median_translation_spacings)
    assert [str(t) for t in other.unit.thresholds] == ["0.5 spacings 5°", "0.2 spacings 2°", "0.1 spacings 1°"]


def test_tables_of_a_scene_of_arbitrary_scale_know_no_centimetres(scene, make_localizer, tmp_path: Path):
    evaluation = evaluate(make_localizer(ERRORS_CM, failing={1}), _of_scale(scene, 1.0))
    console = Console(width=80)
    with console.capture() as capture:
        console.print(evaluation.table)
    table = capture.get()
    assert "cm" not in table and "spacings" in table and "…" not in table
    evaluation.write_csv(tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    spacing = evaluation.summaries[0].camera_spacing_m
    assert float(rows[0]["own_translation_spacings"]) == pytest.approx(0.005 / spacing, rel=1e-4)
    assert not any("cm" in column for column in rows[0])


def test_without_neighbours_lengths_are_told_in_the_worlds_own_unit(scene, make_localizer):
    lone = replace(_of_scale(scene, 1.0), mapping=scene.mapping[:1])
    evaluation = evaluate(make_localizer(ERRORS_CM), lone)
    assert evaluation.unit.name == "units" and evaluation.unit.size == 1
