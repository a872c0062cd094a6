"""Score a localizer, or anybody's estimates, against every truth that a scene has.

evaluation = dsac.evaluate(localizer, scene, report=Path("report.html"))
evaluation.summaries[0].percent_5cm_5deg
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import os
import platform
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.table import Table

from dsac.datasets.frame import Frames, NamedPoses, Scene
from dsac.datasets.poses_file import read_poses
from dsac.datasets.storage import write_atomically
from dsac.errors import DatasetError
from dsac.evaluation.metrics import (
    LengthUnit,
    PoseError,
    Summary,
    camera_spacing,
    length_unit,
    pose_error,
    summarize,
    summary_table,
)
from dsac.geometry import Pose

if TYPE_CHECKING:
    from dsac.localizer import Localization, Localizer, Timing


@dataclass(frozen=True)
class FrameResult:
    """What was said about one query image; None = not known (estimates read from a file)."""

    name: str
    localized: bool
    confidence: float | None = None
    num_inliers: int | None = None
    rotation_sigma_deg: float | None = None  # square root of the summed variances that the estimate states
    translation_sigma_m: float | None = None
    timing: Timing | None = None


@dataclass(frozen=True)
class Evaluation:
    """Query images, estimates and truths, with the errors; the first truth is the headline's."""

    title: str
    frames: list[FrameResult]  # all query images
    estimates: NamedPoses  # of the localized ones
    truths: Mapping[str, NamedPoses]  # of the query images, in their order
    errors: Mapping[str, PoseError]  # in the order of the truth's names
    summaries: list[Summary]
    settings: list[tuple[str, str]]  # what was run where, for the report
    scene: Scene | None = None
    hardest: tuple[Localization, ...] = ()  # localizations with the largest errors, worst first

    @property
    def unit(self) -> LengthUnit:
        """In what lengths are told."""
        return self.summaries[0].unit

    @property
    def table(self) -> Table:
        """One row per truth, to print with rich."""
        return summary_table(self.summaries)

    @property
    def median_timing_ms(self) -> list[tuple[str, float]]:
        """(stage, median milliseconds) in the order of the pipeline; empty when nothing was timed."""
        timings = [frame.timing for frame in self.frames if frame.timing is not None]
        if not timings:
            return []
        names = [field.name for field in fields(timings[0])]
        return [
            (name.removesuffix("_ms"), float(np.median([getattr(t, name) for t in timings]))) for name in names
        ]

    @property
    def median_total_ms(self) -> float | None:
        totals = [frame.timing.total_ms for frame in self.frames if frame.timing is not None]
        return float(np.median(totals)) if totals else None

    def write_csv(self, path: Path) -> None:
        """One row per query image; `inf` is the error of one not localized, empty is unknown.

        Raises: `DatasetError` when the file cannot be written.
        """
        rows = {truth: poses.index for truth, poses in self.truths.items()}
        columns = ["name", "localized"]
        length = self.unit.name
        errors = ("rotation_deg", f"translation_{length}")
        columns += [f"{truth}_{error}" for truth in self.truths for error in errors]
        columns += ["confidence", "inliers", "rotation_sigma_deg", f"translation_sigma_{length}"]
        stages = [stage for stage, _ in self.median_timing_ms]
        columns += [f"{stage}_ms" for stage in stages]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for frame in self.frames:
            values: list[float | None] = []
            for truth, error in self.errors.items():
                i = rows[truth].get(frame.name)
                values.append(None if i is None else error.rotation_deg[i].item())
                values.append(None if i is None else self.unit.of(error.translation_m[i].item()))
            values += [frame.confidence, frame.num_inliers, frame.rotation_sigma_deg]
            sigma = frame.translation_sigma_m
            values.append(None if sigma is None else self.unit.of(sigma))
            values += [
                None if frame.timing is None else getattr(frame.timing, f"{stage}_ms") for stage in stages
            ]
            cells = ["" if value is None else f"{value:.6g}" for value in values]
            writer.writerow([frame.name, int(frame.localized), *cells])
        write_text(path, text.getvalue())

    def write_report(self, path: Path) -> None:
        """The report page: one self-contained HTML file.

        Raises: `DsacError` when matplotlib is missing, `DatasetError` when the file cannot be written.
        """
        from dsac.evaluation.report import render_report

        write_text(path, render_report(self))


def evaluate(
    source: Localizer | NamedPoses,
    scene: Scene,
    report: Path | None = None,
    settings: Sequence[tuple[str, str]] = (),
    on_frame: Callable[[Localization], None] | None = None,
) -> Evaluation:
    """Localize the query images of a scene, or take estimates, and score them against all its truths.

    Query images without an estimate count as failures. `settings` (name, value) are shown in the report, as
    the command and the map; `on_frame` is called after each image (progress).
    Raises: `DatasetError` when the scene has no query images or no pose for any of them.
    """
    names = scene.query.names
    if not names:
        raise DatasetError(f"{scene.path}: expected query images, found none")
    truths = _query_truths(scene)
    if report is not None:
        _prepare_report(report)
    if isinstance(source, NamedPoses):
        known = source.index
        frames = [FrameResult(name, name in known) for name in names]
        estimates, hardest = source, ()
    else:
        name, first = next(iter(truths.items()))
        unit = length_unit(scene.metric, _spacing(scene, name))
        frames, estimates, hardest = _localize(source, scene.query, first, unit, on_frame)
    evaluation = _score(
        title=Path(scene.path).name or scene.path,
        frames=frames,
        estimates=estimates,
        truths=truths,
        settings=[*settings, *_scene_settings(scene), *_machine_settings()],
        scene=scene,
        hardest=hardest,
    )
    if report is not None:
        evaluation.write_report(report)
    return evaluation


def evaluate_poses(
    poses_file: Path, truth_file: Path, report: Path | None = None, settings: Sequence[tuple[str, str]] = ()
) -> Evaluation:
    """Score a poses file against a truth in the same format; images that it lacks count as failures.

    Images are in the order of their names, with numbers as numbers: a truth file may be shuffled.
    Raises: `DatasetError` when a file cannot be used or the two have no image name in common.
    """
    estimates, truth = read_poses(poses_file), _in_recording_order(read_poses(truth_file))
    if report is not None:
        _prepare_report(report)
    known = estimates.index
    evaluation = _score(
        title=Path(poses_file).stem,
        frames=[FrameResult(name, name in known) for name in truth.names],
        estimates=estimates,
        truths={Path(truth_file).stem: truth},
        settings=[
            *settings,
            ("estimates", str(poses_file)),
            ("truth", str(truth_file)),
            *_machine_settings(),
        ],
    )
    if report is not None:
        evaluation.write_report(report)
    return evaluation


def _query_truths(scene: Scene) -> dict[str, NamedPoses]:
    """Each truth, of the query images only and in their order; first the one that the frames live in."""
    truths = dict(scene.truths)
    query = scene.query.cam_from_world
    if not truths and query is not None:
        truths = {"poses": NamedPoses(scene.query.names, query)}
    selected = {name: _select(truth, scene.query.names) for name, truth in truths.items()}
    selected = {name: truth for name, truth in selected.items() if truth.names}
    if not selected:
        raise DatasetError(
            f"{scene.path}: expected poses of the query images to score against, found none "
            f"({len(scene.query)} query images; truths: {', '.join(scene.truths) or 'none'})"
        )

    def is_of_frames(truth: NamedPoses) -> bool:
        if query is None or len(truth.names) != len(query):
            return False
        return torch.allclose(truth.cam_from_world.translation, query.translation)

    return dict(sorted(selected.items(), key=lambda item: not is_of_frames(item[1])))


def _select(poses: NamedPoses, names: list[str]) -> NamedPoses:
    """The poses of those names that have one, in the order of `names`."""
    index = poses.index
    return poses.take(np.array([index[name] for name in names if name in index], dtype=np.int64))


def _in_recording_order(poses: NamedPoses) -> NamedPoses:
    def key(row: int) -> list[tuple[int, str]]:
        return [
            (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", poses.names[row])
        ]

    return poses.take(np.array(sorted(range(len(poses.names)), key=key), dtype=np.int64))


def _localize(
    localizer: Localizer,
    query: Frames,
    truth: NamedPoses,
    unit: LengthUnit,
    on_frame: Callable[[Localization], None] | None,
) -> tuple[list[FrameResult], NamedPoses, tuple[Localization, ...]]:
    """Results and estimates of all images, and the hardest localizations, worst first.

    The recording is cut into runs, and the worst image of each is a candidate: neighbours look alike.
    Only the candidates' correspondences are kept.
    """
    frames: list[FrameResult] = []
    poses: list[Pose] = []
    worst: dict[int, tuple[float, Localization]] = {}  # by run
    rows = truth.index
    for i, localization in enumerate(localizer.localize_frames(query)):
        frames.append(_frame_result(localization))
        loss = torch.inf
        if frames[-1].localized:
            poses.append(localization.estimate.cam_from_world[0].detach().to("cpu", torch.float64))
            if localization.name in rows:
                true = truth.cam_from_world[rows[localization.name]]
                distance = poses[-1].center_distance(true).item()
                loss = max(poses[-1].rotation_error_deg(true).item(), unit.of(distance))
        run = i * _RUNS // len(query)
        if localization.name in rows and (run not in worst or loss > worst[run][0]):
            worst[run] = (loss, localization)
        if on_frame is not None:
            on_frame(localization)
    names = [frame.name for frame in frames if frame.localized]
    stacked = Pose.stack(poses) if poses else Pose.identity(0, dtype=torch.float64)
    hardest = sorted(worst.values(), key=lambda pair: -pair[0])[:_SHOWN]
    return frames, NamedPoses(names, stacked), tuple(localization for _, localization in hardest)


def _frame_result(localization: Localization) -> FrameResult:
    estimate = localization.estimate
    variances = estimate.covariance[0].diagonal().double()
    return FrameResult(
        name=localization.name,
        localized=bool(estimate.success[0]),
        confidence=float(estimate.confidence[0]),
        num_inliers=int(estimate.num_inliers[0]),
        rotation_sigma_deg=float(torch.rad2deg(variances[:3].sum().sqrt())),
        # the centre moves by -R^T v for an increment (w, v): the same length
        translation_sigma_m=float(variances[3:].sum().sqrt()),
        timing=localization.timing,
    )


def _score(
    title: str,
    frames: list[FrameResult],
    estimates: NamedPoses,
    truths: Mapping[str, NamedPoses],
    settings: list[tuple[str, str]],
    scene: Scene | None = None,
    hardest: tuple[Localization, ...] = (),
) -> Evaluation:
    errors = {name: pose_error(estimates, truth) for name, truth in truths.items()}
    metric = scene is None or scene.metric
    summaries = [summarize(error, name, _spacing(scene, name), metric) for name, error in errors.items()]
    return Evaluation(title, frames, estimates, truths, errors, summaries, settings, scene, hardest)


def _spacing(scene: Scene | None, truth: str) -> float | None:
    """Distance between neighbouring mapping cameras, in the unit of that truth."""
    if scene is None:
        return None
    if truth in scene.truths:
        return camera_spacing(_select(scene.truths[truth], scene.mapping.names).cam_from_world.center)
    return None if scene.mapping.cam_from_world is None else camera_spacing(scene.mapping.cam_from_world.center)


def _scene_settings(scene: Scene) -> list[tuple[str, str]]:
    return [
        ("scene", scene.path),
        ("format", scene.format),
        ("images", f"{len(scene.mapping)} mapping, {len(scene.query)} query"),
    ]


def _machine_settings() -> list[tuple[str, str]]:
    return [
        ("dsac", importlib.metadata.version("dsac")),
        ("torch", f"{torch.__version__}, threads: {torch.get_num_threads()}"),
        ("machine", f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"),
    ]


def _prepare_report(path: Path) -> None:
    """Find out before the work that a report can be drawn and written.

    Raises: `DsacError` when matplotlib is missing, `DatasetError` when the folder cannot be written.
    """
    from dsac.evaluation.plots import require_matplotlib

    require_matplotlib()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise DatasetError(
            f"report {path}: expected a folder that can be written, got: {error.strerror}"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Whole or not at all. Raises: `DatasetError`."""
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written: {error.strerror}") from error


_RUNS, _SHOWN = 12, 6  # of the recording; images in the gallery of the report
