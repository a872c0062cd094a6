"""The report page: one HTML file that asks the network for nothing and reads well in light and dark.

It answers in this order: how accurate, against which truth; where and when the errors are; whether the
confidence can be trusted; where the time goes; what the hardest images look like.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import torch

from dsac.datasets.frame import NamedPoses
from dsac.evaluation import gallery, plots
from dsac.evaluation.files import prepare_folder, write_text
from dsac.evaluation.metrics import (
    CENTIMETRES,
    THRESHOLDS,
    LengthUnit,
    PoseError,
    Summary,
    confidence_auc,
    format_error,
    summary_cells,
    summary_headings,
)
from dsac.evaluation.page import grid, page, section, table, tiles
from dsac.evaluation.published import published_rows
from dsac.evaluation.results import Evaluation, FrameResult, mapping_poses
from dsac.geometry import Pose


def prepare_report(path: Path) -> None:
    """Find out before the work that a report can be drawn and written.

    Raises: `DsacError` when matplotlib is missing, `DatasetError` when the folder cannot be written.
    """
    plots.require_matplotlib()
    prepare_folder(path)


def write_report(evaluation: Evaluation, path: Path) -> None:
    """The report page: one self-contained HTML file.

    Raises: `DsacError` when matplotlib is missing, `DatasetError` when the file cannot be written.
    """
    write_text(path, render_report(evaluation))


def render_report(evaluation: Evaluation) -> str:
    """The whole page. Raises: `DsacError` when matplotlib is missing."""
    sections = [
        _header(evaluation),
        _tiles(evaluation),
        _summary_section(evaluation),
        _accuracy_section(evaluation),
        _space_section(evaluation),
        _trust_section(evaluation),
        _timing_section(evaluation),
        _gallery_section(evaluation),
        published_section(evaluation),
        _settings_section(evaluation),
    ]
    return page(f"{evaluation.title} · localization report", "".join(sections))


# ---- how accurate --------------------------------------------------------------------------------


def _header(evaluation: Evaluation) -> str:
    headline = evaluation.summaries[0]
    origin = "" if evaluation.scene is None else f" · {evaluation.scene.format}"
    return (
        f'<header><p class="eyebrow">Localization report</p><h1>{escape(evaluation.title)}</h1>'
        f"<p>{headline.num_images} query images, scored against the truth "
        f"<b>{escape(headline.truth)}</b>{escape(origin)}</p></header>\n"
    )


def _tiles(evaluation: Evaluation) -> str:
    headline, unit = evaluation.summaries[0], evaluation.unit
    numbers = [
        (f"{headline.percent_5cm_5deg:.1f}", "%", f"within {unit.thresholds[0]}"),
        (format_error(unit.of(headline.median_translation_m)), unit.name, "median translation error"),
        (format_error(headline.median_rotation_deg), "°", "median rotation error"),
        (str(headline.num_not_localized), f"of {headline.num_images}", "not localized"),
    ]
    if evaluation.median_total_ms is not None:
        numbers.append((f"{evaluation.median_total_ms:.0f}", "ms", "per image, median"))
    return tiles(numbers)


def _summary_section(evaluation: Evaluation) -> str:
    note = "Percentages are of all images; an image that was not localized counts as a failure."
    if len(evaluation.summaries) > 1:
        note += " The first truth is the one of the headline."
    if evaluation.summaries[0].camera_spacing_m is not None:
        note += " Spacing is the mean distance between neighbouring mapping cameras"
        metric = evaluation.unit == CENTIMETRES
        note += "." if metric else ": the scale of this scene is arbitrary, lengths are told in it."
    for said in (evaluation.note, evaluation.about_places, evaluation.about_worlds):
        note += f" {escape(said)}." if said else ""
    rows = map(summary_cells, evaluation.rows)
    return section("Against every truth", table(summary_headings(evaluation.unit), rows), note)


def _accuracy_section(evaluation: Evaluation) -> str:
    charts = [
        (plots.cumulative_errors(evaluation.errors, quantity, evaluation.unit), "")
        for quantity in ("translation", "rotation")
    ]
    note = "The thin lines are the bounds of the table."
    return section("How large the errors are", grid(charts), note)


# ---- where and when ------------------------------------------------------------------------------


def _space_section(evaluation: Evaluation) -> str:
    truth_name, truth = next(iter(evaluation.truths.items()))
    error = evaluation.errors[truth_name]
    mapping = None if evaluation.scene is None else mapping_poses(evaluation.scene, truth_name)
    unit = evaluation.unit
    chart = plots.trajectory(mapping, truth.cam_from_world, _estimates_of(evaluation, truth), error, unit)
    sequence = [
        (plots.errors_over_sequence(error, quantity, unit), "") for quantity in ("translation", "rotation")
    ]
    legend = (
        '<ul class="legend"><li><i class="line ink"></i>truth</li>'
        f'<li><i class="dot blue"></i>estimate within {unit.thresholds[0]}</li>'
        '<li><i class="dot red"></i>worse</li>'
        '<li><i class="cross">×</i>not localized</li>'
        + ("" if mapping is None else '<li><i class="dot rule"></i>mapping frames</li>')
        + "</ul>"
    )
    note = (
        "Camera centres from above, each estimate joined to its truth; below, the errors in recording order "
        f"with a dashed line at {unit.thresholds[0]}. Estimates outside the picture are left out of it."
    )
    return section("Where and when", f'{legend}<figure class="plan">{chart}</figure>{grid(sequence)}', note)


def _estimates_of(evaluation: Evaluation, truth: NamedPoses) -> Pose:
    """Estimates in the truth's order; the truth itself stands in where there is none."""
    index = evaluation.estimates.index
    pose = evaluation.estimates.cam_from_world
    rotation, translation = truth.cam_from_world.rotation.clone(), truth.cam_from_world.translation.clone()
    for i, name in enumerate(truth.names):
        if name in index:
            rotation[i], translation[i] = pose.rotation[index[name]], pose.translation[index[name]]
    return Pose(rotation, translation)


# ---- trust and time ------------------------------------------------------------------------------


def _trust_section(evaluation: Evaluation) -> str:
    truth_name, truth = next(iter(evaluation.truths.items()))
    by_name = {frame.name: frame for frame in evaluation.frames}
    results = [by_name[name] for name in truth.names]
    if any(result.confidence is None for result in results):
        return ""
    error = evaluation.errors[truth_name]
    confidence = torch.tensor([result.confidence for result in results], dtype=torch.float64)
    unit = evaluation.unit
    threshold = unit.thresholds[0]
    auc = confidence_auc(confidence, error.within(threshold))
    if auc is None:
        note = f"All images are on the same side of {threshold}: confidence has nothing to tell apart."
    else:
        note = (
            f"Of an image within {threshold} and one outside, the first has the higher confidence in "
            f"{100 * auc:.0f} % of the pairs (AUC {auc:.2f}; 0.5 would say nothing)."
        )
    charts = [
        (plots.confidence_against_error(confidence, error, unit), "Each image: confidence and error."),
        (
            plots.reliability(confidence, error, unit),
            "Accurate images by confidence; on the dashed line, confidence is a probability.",
        ),
    ]
    sigma = torch.tensor([result.translation_sigma_m for result in results], dtype=torch.float64)
    stated = torch.isfinite(sigma) & error.localized
    if stated.any():
        within = 100 * (error.translation_m[stated] < 2 * sigma[stated]).double().mean()
        caption = (
            f"The error, and the deviation that the estimate states: {within:.0f} % are below two of them."
        )
        chart = plots.sigma_against_error(sigma[stated], error.translation_m[stated], unit)
        charts.append((chart, caption))
    return section("Can the answer be trusted", grid(charts, "three"), note)


def _timing_section(evaluation: Evaluation) -> str:
    stages = evaluation.median_timing_ms
    if not stages:
        return ""
    total = sum(duration for _, duration in stages) or 1.0
    bar = "".join(
        f'<i class="s{i}" style="flex-grow:{duration / total:.4f}"></i>'
        for i, (_, duration) in enumerate(stages)
    )
    legend = "".join(
        f'<li><i class="s{i}"></i>{escape(stage)} <b>{duration:.1f} ms</b></li>'
        for i, (stage, duration) in enumerate(stages)
    )
    return section(
        "Where the time goes",
        f'<div class="bar" aria-hidden="true">{bar}</div><ul class="legend">{legend}</ul>',
        "Medians over the images, of each stage by itself.",
    )


# ---- the hardest images --------------------------------------------------------------------------


def _gallery_section(evaluation: Evaluation) -> str:
    if evaluation.scene is None or not evaluation.hardest:
        return ""
    query = evaluation.scene.query
    rows = {name: i for i, name in enumerate(query.names)}
    truth_name, truth = next(iter(evaluation.truths.items()))
    truth_rows, error = truth.index, evaluation.errors[truth_name]
    results = {result.name: result for result in evaluation.frames}
    cards = []
    for number, localization in enumerate(evaluation.hardest):
        frame = query[rows[localization.name]]
        row = truth_rows.get(localization.name)
        elsewhere = results[localization.name].elsewhere  # another world than the truth's
        true = None if row is None or elsewhere else truth.cam_from_world[row]
        verdict = _verdict(results[localization.name], error, row, evaluation.unit)
        caption = f"<b>{escape(localization.name)}</b> {verdict}"
        cards.append(gallery.card(frame, localization, f"photo{number}", true, caption))
    note = (
        "The worst image of each part of the recording, worst first. Left: inlier cells. Right: scene points "
        "as the truth and the estimate place them; the meshes coincide where the estimate is right."
    )
    return section("The hardest images", f'{gallery.LEGEND}<div class="gallery">{"".join(cards)}</div>', note)


def _verdict(result: FrameResult, error: PoseError, row: int | None, unit: LengthUnit) -> str:
    confidence, inliers = f"confidence {result.confidence:.2f}", f"{result.num_inliers} inliers"
    if result.places:
        inliers += f" · one of {len(result.places)} places that look alike, {result.places[0][1]:.0%}"
    if not result.localized:
        return f'<em class="bad">not localized</em> · {confidence} · {inliers}'
    if result.elsewhere:
        return f'<em class="bad">in the world {escape(result.elsewhere)}</em> · {confidence} · {inliers}'
    if row is None:
        return f"{confidence} · {inliers}"
    length = format_error(unit.of(error.translation_m[row].item()))
    degrees = format_error(error.rotation_deg[row].item())
    return f"{length} {unit.name}, {degrees}° · {confidence} · {inliers}"


# ---- comparison and settings ---------------------------------------------------------------------


def published_section(evaluation: Evaluation) -> str:
    """Published rows of the same scene, where the scene is one of those that they were measured on."""
    scene = evaluation.title.lower().replace("_", "").replace(" ", "")
    published = [row for row in published_rows() if scene in row.percent_5cm_5deg]
    if evaluation.scene is None or not evaluation.scene.format.startswith("7-Scenes") or not published:
        return ""
    rows, own, sources = [], [], list(dict.fromkeys(row.source for row in published))
    for summary in evaluation.summaries:
        own.append(len(rows))
        rows.append(["this evaluation", summary.truth, *_percentages(summary)])
        for row in (row for row in published if row.truth == summary.truth):
            values = (row.percent_5cm_5deg, row.percent_2cm_2deg, row.percent_1cm_1deg)
            cells = [f"{value[scene]:.1f}" if scene in value else "–" for value in values]
            rows.append([f"{row.method} {_MARKS[sources.index(row.source)]}", row.truth, *cells])
    headings = ["method", "truth", *(f"% {threshold}" for threshold in THRESHOLDS)]
    note = (
        "The published rows are of the official query sequences of 7-Scenes: compare only where this "
        "evaluation ran on the same images, and only within one truth. "
        + "; ".join(f"{mark} {escape(source)}" for mark, source in zip(_MARKS, sources, strict=False))
        + "."
    )
    return section("Beside published results", table(headings, rows, text_columns=(0, 1), marked=own), note)


def _percentages(summary: Summary) -> list[str]:
    values = (summary.percent_5cm_5deg, summary.percent_2cm_2deg, summary.percent_1cm_1deg)
    return [f"{value:.1f}" for value in values]


def _settings_section(evaluation: Evaluation) -> str:
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in evaluation.settings)
    return section("Settings", f'<dl class="settings">{items}</dl>')


_MARKS = "¹²³"  # one for each different source of published numbers
