"""The figures of the supplement's evidence, as SVG files for documents, and a page with the hard frames.

The page shows photos of the recording; the SVG files hold curves and bars alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsac.datasets.frame import Scene
from dsac.evaluation import gallery, plots
from dsac.evaluation.evaluation import FrameLocalizer
from dsac.evaluation.files import write_text
from dsac.evaluation.metrics import CENTIMETRES, LengthUnit, format_error
from dsac.evaluation.page import grid, page, section
from dsac.studies.evidence import NAIVE, SELECTIONS, FrameEvidence, HardFrame, errors_of, hard_frames

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dsac.localization import Localization

_WAYS = {**dict(zip(SELECTIONS, (plots.BLUE, plots.ORANGE, plots.GREEN), strict=True)), NAIVE: plots.MUTED}
_STAGES = {  # what a stage is called, its field and colour
    "prediction": ("prediction_ms", plots.RULE),
    "hypotheses": ("hypotheses_ms", plots.BLUE),
    "selection": ("selection_ms", plots.RED),
    "refinement": ("refinement_ms", plots.GREEN),
}


def write_figures(
    evidence: Sequence[FrameEvidence],
    localizer: FrameLocalizer,
    scene: Scene,
    folder: Path,
    unit: LengthUnit = CENTIMETRES,
) -> None:
    """Fill the folder: inlier_ratios.svg, accuracy.svg, times.svg, evidence.csv and the page evidence.html.

    `evidence` is of the query frames, in their order; the localizer is asked for the hard ones again, to draw
    them. Lengths are told in `unit`.
    Raises: `DsacError` when matplotlib is missing, `DatasetError` when a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    charts = {
        "inlier_ratios": (inlier_ratio_histogram(evidence), "Where the frames of this recording lie."),
        "accuracy": (accuracy_by_inlier_ratio(evidence, unit), "Above the bars: the number of frames."),
        "times": (time_split(evidence), "Medians over the frames; all selections choose from the same pool."),
    }
    for name, (chart, _) in charts.items():
        write_text(folder / f"{name}.svg", plots.standalone(chart))
    write_text(folder / "evidence.csv", _table(evidence, unit))
    hard = hard_frames(evidence)
    localizations = list(localizer.localize_frames(scene.query[[frame.row for frame in hard]]))
    cards = "".join(
        _card(number, frame, localization, evidence[frame.row], scene, unit)
        for number, (frame, localization) in enumerate(zip(hard, localizations, strict=True))
    )
    title = f"{Path(scene.path).name or scene.path}: what makes it hard"
    content = (
        f'<header><p class="eyebrow">Evidence</p><h1>{escape(title)}</h1>'
        f"<p>{len(evidence)} query images of {escape(scene.format)}</p></header>\n"
        + section("Inliers, accuracy, time", grid(charts.values()))
        + section(
            "Hard frames",
            f'{gallery.LEGEND}<div class="gallery">{cards}</div>',
            "Picked by one measure each. Left: inlier cells. Right: scene points as the true pose and the "
            "estimate place them; the meshes coincide where the estimate is right.",
        )
    )
    write_text(folder / "evidence.html", page(title, content))


# ---- charts --------------------------------------------------------------------------------------


def inlier_ratio_histogram(evidence: Sequence[FrameEvidence]) -> str:
    """Percent of frames in bins of 5 % of the inlier ratio."""
    ratios = 100 * _ratios(evidence)
    counts, edges = np.histogram(ratios, np.arange(0, 101, 5))
    with plots.chart(plots.WIDE) as (axes, svg):
        percent = 100 * counts / max(len(ratios), 1)
        axes.bar(edges[:-1] + 2.5, percent, width=4.4, color=plots.BLUE)
        axes.set_ylim(0, 1.2 * max(percent.max(), 1))
        axes.locator_params(axis="y", integer=True, nbins=6)
        if len(ratios):
            middle = float(np.median(ratios))
            axes.axvline(middle, color=plots.INK, linewidth=1, linestyle=(0, (4, 3)))
            side, at = ("left", middle + 1) if middle < 50 else ("right", middle - 1)
            text = f"median {middle:.0f} %"
            axes.text(at, axes.get_ylim()[1], text, color=plots.MUTED, va="top", ha=side, fontsize=9)
        axes.set_xlim(0, 100)
        axes.set_xlabel("inlier ratio of a frame, %")
        plots.title(axes, "% of frames")
    return svg.text


def accuracy_by_inlier_ratio(evidence: Sequence[FrameEvidence], unit: LengthUnit = CENTIMETRES) -> str:
    """Percent of accurate frames in bins of 10 % of the inlier ratio, for each way to a pose."""
    known = [frame for frame in evidence if np.isfinite(frame.inlier_ratio)]
    ratios = 100 * _ratios(known)
    bins = np.clip((ratios / 10).astype(int), 0, 9)
    with plots.chart(plots.WIDE) as (axes, svg):
        width = 8.4 / len(_WAYS)
        for number, (way, color) in enumerate(_WAYS.items()):
            accurate = errors_of(known, way).within(unit.thresholds[0])
            for b in np.unique(bins):
                percent = 100 * accurate.numpy()[bins == b].mean()
                left = 10 * b + 0.8 + number * width
                # a bar of nothing is still to be seen
                axes.bar(left, max(percent, 0.7), width=0.9 * width, color=color, align="edge",
                         label=way if b == bins.min() else None)  # fmt: skip
        for b in np.unique(bins):
            axes.text(10 * b + 5, 103, str((bins == b).sum()), ha="center", color=plots.MUTED, fontsize=9)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 112)
        axes.set_yticks([0, 25, 50, 75, 100])
        axes.set_xlabel("inlier ratio of a frame, %")
        plots.title(axes, f"% within {unit.thresholds[0]}")
        if len(ratios):
            _legend_above(axes)
    return svg.text


def time_split(evidence: Sequence[FrameEvidence]) -> str:
    """Median milliseconds of each stage, a bar for each selection."""
    with plots.chart(plots.LOW) as (axes, svg):
        medians = {
            name: {
                stage: float(np.median([getattr(frame.times[name], field) for frame in evidence]))
                for stage, (field, _) in _STAGES.items()
            }
            for name in SELECTIONS
        }
        longest = max(sum(stages.values()) for stages in medians.values())
        for row, (_, stages) in enumerate(medians.items()):
            left = 0.0
            for stage, duration in stages.items():
                color = _STAGES[stage][1]
                axes.barh(row, duration, left=left, height=0.5, color=color, label=None if row else stage)
                left += duration
            text = f"{left:.0f} ms, selection {stages['selection']:.2f} ms"
            axes.text(left + 0.02 * longest, row, text, va="center", color=plots.MUTED, fontsize=9)
        axes.set_yticks(range(len(medians)), list(medians))
        axes.invert_yaxis()
        axes.set_xlim(0, 1.6 * longest)
        axes.set_xlabel("milliseconds an image")
        plots.title(axes, "")
        _legend_above(axes)
    return svg.text


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="lower right", bbox_to_anchor=(1.01, 0.98), frameon=False, ncols=4, columnspacing=1.0,
                handlelength=0.8, handletextpad=0.4, borderaxespad=0.2)  # fmt: skip


def _ratios(evidence: Sequence[FrameEvidence]) -> np.ndarray:
    ratios = np.array([frame.inlier_ratio for frame in evidence])
    return ratios[np.isfinite(ratios)]


# ---- page and table ------------------------------------------------------------------------------


def _card(
    number: int,
    hard: HardFrame,
    localization: Localization,
    evidence: FrameEvidence,
    scene: Scene,
    unit: LengthUnit,
) -> str:
    frame = scene.query[hard.row]
    degrees, metres = evidence.error["DSAC"]
    caption = (
        f"<b>{escape(evidence.name)}</b> {escape(hard.reason)} · inlier ratio {evidence.inlier_ratio:.0%} · "
        f"{format_error(unit.of(metres))} {unit.name}, {format_error(degrees)}°"
    )
    return gallery.card(frame, localization, f"photo{number}", frame.cam_from_world, caption)


def _table(evidence: Sequence[FrameEvidence], unit: LengthUnit) -> str:
    """Comma-separated, a row per frame."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    measures = ["inlier_ratio", "gradients", "sharpness", "repetition"]
    kinds = ("rotation_deg", f"translation_{unit.name}")
    errors = [f"{way}_{kind}".replace(" ", "_") for way in _WAYS for kind in kinds]
    writer.writerow(["name", *measures, *errors])
    for frame in evidence:
        values = [getattr(frame, measure) for measure in measures]
        for way in _WAYS:
            degrees, metres = frame.error[way]
            values += [degrees, unit.of(metres)]
        writer.writerow([frame.name, *(f"{value:.6g}" for value in values)])
    return text.getvalue()
