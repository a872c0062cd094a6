"""Score a localizer, or anybody's estimates, against every truth that a scene has.

evaluation = dsac.evaluate(localizer, scene, report=Path("report.html"))
evaluation.summaries[0].percent_5cm_5deg
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch

from dsac.datasets.frame import Frames, NamedPoses, Scene
from dsac.datasets.poses_file import read_poses
from dsac.errors import DatasetError
from dsac.evaluation.metrics import LengthUnit, camera_spacing, length_unit, pose_error, summarize
from dsac.evaluation.queries import with_queries
from dsac.evaluation.report import prepare_report, write_report
from dsac.evaluation.results import Evaluation, FrameResult, mapping_poses, select
from dsac.evaluation.worlds import world_of
from dsac.geometry import Pose
from dsac.kernels import wait_until_compiled

if TYPE_CHECKING:
    from dsac.atlas import Map
    from dsac.localization import Localization


@runtime_checkable
class FrameLocalizer(Protocol):
    """What answers for frames one by one and in their order: a `Localizer`, or something around one.

    Where it has a `scene_map`, as a `Localizer` has, `evaluate` tells which frames that was made from. It need
    not know of `use_depth` where nobody asks for depth.
    """

    def localize_frames(self, frames: Frames, *, use_depth: bool = False) -> Iterator[Localization]: ...


def evaluate(
    source: FrameLocalizer | NamedPoses,
    scene: Scene,
    report: Path | None = None,
    settings: Sequence[tuple[str, str]] = (),
    on_frame: Callable[[Localization], None] | None = None,
    query_depth: bool = False,
    world: str | None = None,
) -> Evaluation:
    """Localize the query images of a scene, or take estimates, and score them against all its truths.

    Of a scene without query images a localizer gets the frames that its map was not made from. Images that it
    was made from are no test: they are marked, and have rows of their own in the table.
    Query images without an estimate count as failures. `settings` (name, value) are shown in the report, as
    the command and the map; `on_frame` is called after each image (progress). Kernels are compiled before the
    first image, once after an install. With `query_depth` a localizer gets the depth of the images, too.
    `world` names the one that the scene's poses are in, of a map with regions in several, where `world_of`
    cannot tell; answers in another are wrong.
    Raises: `DatasetError` when the scene has no query images, no pose for any of them, or no depth to use;
    `DsacError` when nothing tells its world.
    """
    scene_map: Map | None = getattr(source, "scene_map", None)
    if scene_map is not None:
        world = world_of(scene, scene_map, world)
        scene = with_queries(scene, scene_map)
    names = scene.query.names
    if not names:
        raise DatasetError(f"{scene.path}: expected query images, found none")
    if query_depth and not scene.query.has_depth:
        raise DatasetError(
            f"{scene.path}: expected query images with depth, they have none; score them without"
        )
    truths = _query_truths(scene)
    if report is not None:
        prepare_report(report)
    if isinstance(source, NamedPoses):
        known = source.index
        frames = [FrameResult(name, name in known) for name in names]
        estimates, hardest = source, ()
    else:
        wait_until_compiled()
        name, first = next(iter(truths.items()))
        unit = length_unit(scene.metric, _spacing(scene, name))
        of_depth = {"use_depth": True} if query_depth else {}
        answers = source.localize_frames(scene.query, **of_depth)
        frames, estimates, hardest = _gathered(answers, scene.query, first, unit, on_frame, world)
    if scene_map is not None:
        own = scene_map.learned_from(scene.query).tolist()
        frames = [replace(frame, learned=learned) for frame, learned in zip(frames, own, strict=True)]
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
        write_report(evaluation, report)
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
        prepare_report(report)
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
        write_report(evaluation, report)
    return evaluation


def _query_truths(scene: Scene) -> dict[str, NamedPoses]:
    """Each truth, of the query images only and in their order; first the one that the frames live in."""
    truths = dict(scene.truths)
    query = scene.query.cam_from_world
    if not truths and query is not None:
        truths = {"poses": NamedPoses(scene.query.names, query)}
    selected = {name: select(truth, scene.query.names) for name, truth in truths.items()}
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


def _in_recording_order(poses: NamedPoses) -> NamedPoses:
    def key(row: int) -> list[tuple[int, str]]:
        return [
            (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", poses.names[row])
        ]

    return poses.take(np.array(sorted(range(len(poses.names)), key=key), dtype=np.int64))


def _gathered(
    answers: Iterator[Localization],
    query: Frames,
    truth: NamedPoses,
    unit: LengthUnit,
    on_frame: Callable[[Localization], None] | None,
    world: str | None,
) -> tuple[list[FrameResult], NamedPoses, tuple[Localization, ...]]:
    """Results and estimates of all images, and the hardest localizations, worst first.

    The recording is cut into runs, and the worst image of each is a candidate: neighbours look alike.
    Only the candidates' correspondences are kept.
    """
    frames: list[FrameResult] = []
    poses: list[Pose] = []
    worst: dict[int, tuple[float, Localization]] = {}  # by run
    rows = truth.index
    for i, localization in enumerate(answers):
        frames.append(FrameResult.of(localization, world))
        loss = torch.inf
        if frames[-1].localized and not frames[-1].elsewhere:
            poses.append(localization.cam_from_world.to("cpu"))
            if localization.name in rows:
                true = truth.cam_from_world[rows[localization.name]]
                distance = poses[-1].center_distance(true).item()
                loss = max(poses[-1].rotation_error_deg(true).item(), unit.of(distance))
        run = i * _RUNS // len(query)
        if localization.name in rows and (run not in worst or loss > worst[run][0]):
            worst[run] = (loss, localization)
        if on_frame is not None:
            on_frame(localization)
    names = [frame.name for frame in frames if frame.localized and not frame.elsewhere]
    stacked = Pose.stack(poses) if poses else Pose.identity(0, dtype=torch.float64)
    hardest = sorted(worst.values(), key=lambda pair: -pair[0])[:_SHOWN]
    return frames, NamedPoses(names, stacked), tuple(localization for _, localization in hardest)


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
    """`camera_spacing` of the mapping cameras, in the unit of that truth."""
    poses = None if scene is None else mapping_poses(scene, truth)
    return None if poses is None else camera_spacing(poses.center)


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


_RUNS, _SHOWN = 12, 6  # of the recording; images in the gallery of the report
