"""The supplement's evidence: inlier ratios, selections and the naive fit, times, hard frames, figures."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from made_up_wall import FakeLocalizer, Reader, localization, wall_scene

from dsac.datasets import Scene
from dsac.errors import DatasetError
from dsac.evaluation import evaluate
from dsac.geometry import Pose
from dsac.studies.evidence import (
    NAIVE,
    SELECTIONS,
    EvidenceCollector,
    FrameEvidence,
    check_scene,
    errors_of,
    frame_evidence,
    hard_frames,
    naive_fit,
    repetition,
)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return wall_scene()


STILL = Pose.identity(dtype=torch.float64)


def _moved(localization, share: float, by_m: float):
    """The localization with that share of its scene points moved."""
    correspondences = localization.correspondences
    points = correspondences.scene_points.clone()
    generator = torch.Generator().manual_seed(0)
    count = round(share * points.shape[1])
    rows = torch.randperm(points.shape[1], generator=generator)[:count]
    shift = torch.nn.functional.normalize(
        torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    points[0, rows] += by_m * shift
    return replace(localization, correspondences=replace(correspondences, scene_points=points))


@pytest.fixture
def exact(scene: Scene):
    """The first query image with exact scene coordinates."""
    assert scene.query.cam_from_world is not None
    return localization(scene.query.names[0], scene.query.cam_from_world[0], STILL)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_the_inlier_ratio_is_the_share_of_predictions_near_the_truth(scene, exact, share):
    measured = frame_evidence(_moved(exact, share, 0.5), scene.query[0], 0.1)
    assert measured.inlier_ratio == pytest.approx(1 - share, abs=0.01)
    assert frame_evidence(_moved(exact, share, 0.05), scene.query[0], 0.1).inlier_ratio == 1


def test_cells_without_depth_have_no_say(scene, exact):
    frame = scene.query[0]
    half = frame.depth.clone()
    half[:, : half.shape[1] // 2] = 0
    shifted = _moved(exact, 1.0, 0.5)
    points = shifted.correspondences.scene_points.clone()
    columns = torch.arange(points.shape[1]) % shifted.correspondences.grid[1]
    right = columns >= shifted.correspondences.grid[1] // 2
    points[0, right] = exact.correspondences.scene_points[0, right]
    shifted = replace(shifted, correspondences=replace(shifted.correspondences, scene_points=points))
    assert frame_evidence(shifted, replace(frame, depth=half), 0.1).inlier_ratio == 1
    assert frame_evidence(shifted, frame, 0.1).inlier_ratio == pytest.approx(0.5)
    assert math.isnan(frame_evidence(shifted, replace(frame, depth=0 * half), 0.1).inlier_ratio)


def test_selections_survive_outliers_that_spoil_the_naive_fit(scene, exact):
    clean = frame_evidence(exact, scene.query[0], 0.1)
    assert set(clean.error) == {*SELECTIONS, NAIVE}
    assert all(metres < 1e-3 and degrees < 0.05 for degrees, metres in clean.error.values())
    spoiled = frame_evidence(_moved(exact, 0.3, 5.0), scene.query[0], 0.1)
    worst = max(spoiled.error[name][1] for name in SELECTIONS)  # points moved along their ray stay inliers
    assert worst < 0.2 and spoiled.error[NAIVE][1] > 3 * worst


def test_the_naive_fit_needs_four_points(exact):
    correspondences = exact.correspondences
    weights = torch.zeros_like(correspondences.scene_points[..., 0])
    weights[:, :3] = 1
    assert naive_fit(replace(correspondences, weights=weights)) is None


def test_all_selections_choose_from_the_same_pool_and_are_timed(scene, exact):
    times = frame_evidence(exact, scene.query[0], 0.1).times
    assert set(times) == set(SELECTIONS)
    assert len({stage.hypotheses_ms for stage in times.values()}) == 1
    assert {stage.prediction_ms for stage in times.values()} == {5.0}  # the localizer's encoder and head
    assert all(min(stage.selection_ms, stage.refinement_ms) > 0 for stage in times.values())


def test_blur_and_walls_are_told_from_sharp_texture(scene, exact):
    noise = np.random.default_rng(0).random((64, 96)).astype(np.float32)
    texture = cv2.GaussianBlur(noise, (0, 0), 1.0)
    wall = np.full_like(texture, 0.5)
    wall[:, :20] = texture[:, :20]

    def measured(grey: np.ndarray) -> FrameEvidence:
        image = torch.from_numpy(np.ascontiguousarray(grey)).expand(3, -1, -1).contiguous()
        return frame_evidence(exact, replace(scene.query[0], image=image), 0.1)

    sharp, low_contrast, blurred = (
        measured(x) for x in (texture, 0.5 + 0.6 * (texture - 0.5), cv2.GaussianBlur(texture, (0, 0), 3.0))
    )
    assert blurred.sharpness < 0.6 * sharp.sharpness
    assert low_contrast.sharpness == pytest.approx(sharp.sharpness, rel=0.1)
    assert measured(wall).gradients < 0.5 * sharp.gradients


def test_repeated_structure_is_found():
    rng = np.random.default_rng(0)
    tile = cv2.resize(rng.integers(0, 255, (12, 16), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)
    repeated = np.tile(tile, (3, 3))
    unique = cv2.resize(rng.integers(0, 255, (36, 48), np.uint8), (192, 144), interpolation=cv2.INTER_CUBIC)
    assert repetition(repeated) > 0.7
    assert repetition(unique) < 0.1
    assert repetition(np.zeros((48, 64), np.uint8)) == 0


def _made_up(count: int, **values: list[float]) -> list[FrameEvidence]:
    common = {"inlier_ratio": 0.5, "gradients": 0.5, "sharpness": 0.5, "repetition": 0.1}
    columns = {measure: values.get(measure, [value] * count) for measure, value in common.items()}
    rows = [{measure: column[i] for measure, column in columns.items()} for i in range(count)]
    return [FrameEvidence(f"{i}", error={"DSAC": (1.0, 0.01)}, times={}, **row) for i, row in enumerate(rows)]


def test_hard_frames_are_the_extremes_with_their_reasons_and_no_neighbours():
    ratios = [0.5] * 100
    ratios[40:43] = [0.11, 0.1, 0.12]  # one place of the recording
    ratios[80], ratios[5] = 0.3, float("nan")
    blur = [0.5] * 100
    blur[60] = 0.2
    twins = [0.1] * 100
    twins[20] = 0.6
    picked = hard_frames(_made_up(100, inlier_ratio=ratios, sharpness=blur, repetition=twins))
    rows = [frame.row for frame in picked]
    assert len(picked) == 8
    assert all(abs(a - b) > 4 for i, a in enumerate(rows) for b in rows[:i])
    told = {frame.row: frame.reason for frame in picked}
    assert told[41] == "few inliers: 10% of the cells (median 50%)" and 80 in told
    assert told[60] == "blurred: sharpness 0.20 (median 0.50)"
    assert told[20] == "repeated structure: 60% of the corners have a twin (median 10%)"


def test_errors_are_collected_by_way():
    error = errors_of(_made_up(3), "DSAC")
    assert error.rotation_deg.tolist() == [1.0] * 3 and error.translation_m.tolist() == [0.01] * 3


def test_a_scene_without_depth_or_query_is_refused(scene):
    check_scene(scene)
    for useless in (replace(scene, query=scene.query.without_depth()), replace(scene, query=scene.query[:0])):
        with pytest.raises(DatasetError, match="figures need query images with poses and depth"):
            check_scene(useless)


def test_each_localization_is_measured_on_its_own_frame_and_each_photo_is_decoded_once(scene):
    decoded = []

    class Counting(Reader):
        def read_image(self, name):
            decoded.append(name)
            return super().read_image(name)

    class Decoding(FakeLocalizer):
        def localize_frames(self, frames):
            for i, answer in enumerate(super().localize_frames(frames)):
                assert frames.without_depth()[i].image.shape == (3, 64, 96)
                yield answer

    counted = replace(scene, query=replace(scene.query, reader=Counting()))
    collector = EvidenceCollector(Decoding(torch.zeros(6, 6, dtype=torch.float64)), 0.1)
    evaluation = evaluate(collector, counted)
    assert evaluation.summaries[0].percent_1cm_1deg == 100
    assert [frame.name for frame in collector.evidence] == scene.query.names
    assert decoded == scene.query.names  # once each: no report was asked for
    for frame in collector.evidence:  # exact coordinates are inliers of their own frame's truth alone
        assert frame.inlier_ratio == 1 and frame.error["argmax"][1] < 1e-3


def test_figures_are_light_files_and_a_page_that_asks_for_nothing(scene, exact, tmp_path: Path):
    pytest.importorskip("matplotlib")
    from dsac.studies.figures import write_figures

    assert scene.query.cam_from_world is not None
    localizations = [
        _moved(localization(name, scene.query.cam_from_world[i], STILL), 0.15 * i, 0.5)
        for i, name in enumerate(scene.query.names)
    ]
    evidence = [frame_evidence(x, scene.query[i], 0.1) for i, x in enumerate(localizations)]

    class Same:
        def localize_frames(self, frames):
            return iter([localizations[scene.query.names.index(name)] for name in frames.names])

    write_figures(evidence, Same(), scene, tmp_path / "figures")  # type: ignore[arg-type]
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "figures").iterdir()}
    assert set(written) == {"inlier_ratios.svg", "accuracy.svg", "times.svg", "evidence.csv", "evidence.html"}
    for name, text in written.items():
        if name.endswith(".svg"):
            assert text.startswith('<svg xmlns="http://www.w3.org/2000/svg" width=') and "var(" not in text
            assert "<image" not in text  # no picture of the recording
    assert ">DSAC<" in written["accuracy.svg"] and ">naive fit<" in written["accuracy.svg"]
    assert "selection 0." in written["times.svg"]
    rows = list(csv.DictReader(written["evidence.csv"].splitlines()))
    assert [row["name"] for row in rows] == scene.query.names
    assert [float(row["inlier_ratio"]) for row in rows] == pytest.approx(
        [f.inlier_ratio for f in evidence], rel=1e-4
    )
    assert "://" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", written["evidence.html"])
    assert all(
        f"{reason}: " in written["evidence.html"] for reason in ("few gradients", "blurred", "few inliers")
    )
