"""What an evaluation found: a result for each query image, errors and summaries for each truth."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.table import Table

from dsac.datasets.frame import NamedPoses, Scene
from dsac.evaluation.files import write_text
from dsac.evaluation.metrics import (
    CENTIMETRES,
    LengthUnit,
    PoseError,
    Summary,
    Threshold,
    summarize,
    summary_table,
)
from dsac.geometry import Pose

if TYPE_CHECKING:
    from dsac.localization import Localization, Timing


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
    learned: bool | None = None  # whether the map was made from this image, which is then no test
    # where it may be, by probability, if that is more than one; None: in another world than the truth
    places: tuple[tuple[Pose | None, float], ...] = ()
    elsewhere: str = ""  # the name of the world that it was taken for, where that is not the truth's

    @staticmethod
    def of(localization: Localization, world: str | None = None) -> FrameResult:
        """`world`: the truth's, of a map whose regions are in several."""

        def is_elsewhere(other: str) -> bool:
            return world is not None and other != world

        said = str(localization.world)
        return FrameResult(
            name=localization.name,
            localized=bool(localization.success),
            confidence=float(localization.confidence),
            num_inliers=int(localization.num_inliers),
            rotation_sigma_deg=float(localization.rotation_sigma_deg),
            translation_sigma_m=float(localization.position_sigma_m),
            timing=localization.timing,
            places=()
            if not localization.alternatives
            else tuple(
                (None if is_elsewhere(place.world) else place.cam_from_world, place.probability)
                for place in localization.places
            ),
            elsewhere=said if localization.success and is_elsewhere(said) else "",
        )


@dataclass(frozen=True, eq=False)
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
        """Of the lengths in table and report."""
        return self.summaries[0].unit

    @property
    def num_learned(self) -> int:
        """Images that the map was made from, as far as it knows."""
        return sum(bool(frame.learned) for frame in self.frames)

    @property
    def note(self) -> str:
        """What to know before the figures are believed; empty where they are of a test."""
        if not self.num_learned:
            return ""
        count = f"{self.num_learned} of {len(self.frames)}"
        meaning = "only the others are a test" if self.parts else "this is no test"
        return f"{count} images are frames that this map was made from: {meaning}"

    @property
    def places(self) -> dict[str, float] | None:
        """Of the images that may be of several places, percentages that name the right one; None of none."""
        poses, threshold = self.truths[self.summaries[0].truth], self.unit.thresholds[0]
        rows, right = poses.index, []
        for frame in self.frames:
            if frame.places and frame.name in rows:
                truth = poses.cam_from_world[rows[frame.name]]
                right.append(
                    [pose is not None and _is_within(pose, truth, threshold) for pose, _ in frame.places]
                )
        if not right:
            return None
        several = [frame.places[0][1] for frame in self.frames if frame.places and frame.name in rows]
        return {
            "images": len(right),
            "right_named": 100 * float(np.mean([any(of_image) for of_image in right])),
            "right_first": 100 * float(np.mean([of_image[0] for of_image in right])),
            "probability_first": 100 * float(np.mean(several)),
        }

    @property
    def about_places(self) -> str:
        """A sentence about them; empty where no image may be of several places."""
        found = self.places
        if found is None:
            return ""
        return (
            f"{found['images']} of {len(self.frames)} images may be of several places that look alike: "
            f"{found['right_named']:.0f} % name the right one (within {self.unit.thresholds[0]}), "
            f"{found['right_first']:.0f} % first, with a mean probability of {found['probability_first']:.0f} %"
        )

    @property
    def elsewhere(self) -> dict[str, int]:
        """Accepted answers in other worlds than the truth's, by the names of these."""
        taken_for = [frame.elsewhere for frame in self.frames if frame.elsewhere]
        return {world: taken_for.count(world) for world in sorted(set(taken_for))}

    @property
    def about_worlds(self) -> str:
        """A sentence about them; empty where there is none."""
        found = self.elsewhere
        if not found:
            return ""
        accepted = sum(frame.localized for frame in self.frames)
        named = ", ".join(f"{count} in {world}" for world, count in found.items())
        return (
            f"{sum(found.values())} of {accepted} accepted answers are in another world than the truth "
            f"({named}): wrong, and counted with what is not localized"
        )

    @property
    def parts(self) -> list[Summary]:
        """Where the map was made from some of the images: the first truth's figures of them, and of others."""
        learned = {frame.name for frame in self.frames if frame.learned}
        first = self.summaries[0]
        error = self.errors[first.truth]
        own = torch.tensor([name in learned for name in self.truths[first.truth].names])
        if own.all() or not own.any():
            return []
        return [
            summarize(
                PoseError(error.rotation_deg[rows], error.translation_m[rows]), which,
                first.camera_spacing_m, first.unit == CENTIMETRES,
            )
            for which, rows in (("learned", own), ("others", ~own))
        ]  # fmt: skip

    @property
    def rows(self) -> list[Summary]:
        """What the table shows."""
        return [self.summaries[0], *self.parts, *self.summaries[1:]]

    @property
    def table(self) -> Table:
        """One row per truth, to print with rich; rows of their own for images that the map was made from."""
        return summary_table(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The figures in plain types, as `dsac evaluate --json` prints them; None for what is not finite."""
        return {
            "title": self.title,
            "images": len(self.frames),
            "localized": sum(frame.localized for frame in self.frames),
            "learned_from": self.num_learned,
            "unit": {"name": self.unit.name, "size": self.unit.size},
            "truths": {summary.truth: summary.to_dict() for summary in self.summaries},
            "parts": {summary.truth: summary.to_dict() for summary in self.parts},
            "several_places": self.places,
            "in_another_world": self.elsewhere,
            "median_ms": {"total": self.median_total_ms, **dict(self.median_timing_ms)},
        }

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
        columns += [*(f"{stage}_ms" for stage in stages), "learned", *(["elsewhere"] if self.elsewhere else [])]
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
            values.append(None if frame.learned is None else int(frame.learned))
            cells = ["" if value is None else f"{value:.6g}" for value in values]
            cells += [frame.elsewhere] if self.elsewhere else []
            writer.writerow([frame.name, int(frame.localized), *cells])
        write_text(path, text.getvalue())


def _is_within(pose: Pose, truth: Pose, threshold: Threshold) -> bool:
    error = PoseError(pose.rotation_error_deg(truth)[None], pose.center_distance(truth)[None])
    return bool(error.within(threshold))


def select(poses: NamedPoses, names: list[str]) -> NamedPoses:
    """The poses of those names that have one, in the order of `names`."""
    index = poses.index
    return poses.take(np.array([index[name] for name in names if name in index], dtype=np.int64))


def mapping_poses(scene: Scene, truth: str) -> Pose | None:
    """`cam_from_world` of the mapping frames in the world of that truth; None when it has none of them."""
    if truth not in scene.truths:
        return scene.mapping.cam_from_world
    known = select(scene.truths[truth], scene.mapping.names)
    return known.cam_from_world if known.names else None
