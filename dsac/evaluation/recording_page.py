"""The page of a checked recording: one HTML file that shows what agrees and what does not.

It answers in this order: what is wrong, and what mends it; which two frames disagree most, on what; which
frames agree with none; whether depth fits; which frames are blurred.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from dsac.checking import SceneCheck
from dsac.checking.agreement import AGREES, agreement_of_frames, agreement_of_pairs
from dsac.checking.quality import BLURRED
from dsac.checking.sample import Sampled
from dsac.datasets import Conventions, Frames
from dsac.datasets.conventions import frames_as
from dsac.evaluation import gallery, plots
from dsac.evaluation.files import write_text
from dsac.evaluation.page import grid, page, section, table, tiles

_GAP_PX = 12  # between two photos
_MOST_BLURRED = 6
_MOST_DOTS = 1500


def write_recording_page(check: SceneCheck, frames: Frames, title: str, path: Path) -> None:
    """Of the frames that were checked, as they were read.

    Raises: `DsacError` when matplotlib is missing, `DatasetError` for a frame that cannot be read, or when the
    file cannot be written.
    """
    write_text(path, render_recording_page(check, frames, title))


def render_recording_page(check: SceneCheck, frames: Frames, title: str) -> str:
    """The whole page. Raises: `DsacError` when matplotlib is missing, `DatasetError`."""
    plots.require_matplotlib()
    meant = frames_as(frames, check.cure or Conventions()).without_depth()
    sections = [
        f'<header><p class="eyebrow">Check of a recording</p><h1>{escape(title)}</h1>'
        f"<p>{check.frames_seen} of {len(frames)} frames were looked at</p></header>\n",
        _tiles(check),
        _findings(check),
        _pairs(check, meant),
        _frames(check),
        _depth(check),
        _blurred(check, meant),
    ]
    return page(f"{title} · check", "".join(sections))


def _tiles(check: SceneCheck) -> str:
    numbers = [(str(check.num_shared), "", "corners that two frames share")]
    if np.isfinite(check.agreed):
        numbers += [
            (f"{100 * check.agreed:.0f}", "%", "of them agree with the poses as they were read"),
            (f"{100 * check.frames_agreed:.0f}", "%", "of the frames agree with another one" + _mended(check)),
        ]
    if check.depth is not None:
        numbers.append((f"{100 * check.depth.fits:.0f}", "%", "of the depths fit"))
    return tiles(numbers)


def _mended(check: SceneCheck) -> str:
    return "" if check.cure is None else f" with {check.cure.options()}"


def _findings(check: SceneCheck) -> str:
    if not check.findings:
        return section("What is wrong", "", "Nothing was found that contradicts the images.")
    rows = [[finding.severity, finding.text, finding.cure] for finding in check.findings]
    wrong = [i for i, finding in enumerate(check.findings) if finding.severity == "wrong"]
    return section("What is wrong", table(["", "what", "option that mends it"], rows, (0, 1, 2), wrong))


# ---- pairs of frames -----------------------------------------------------------------------------


def _pairs(check: SceneCheck, frames: Frames) -> str:
    if not len(check.shared.pairs) or not np.isfinite(check.agreed):
        return ""
    means, corners = agreement_of_pairs(check.shared, check.agreement)
    # those that share little may share nothing but looks
    much = np.flatnonzero(corners >= np.median(corners))
    order = much[np.argsort(means[much], kind="stable")]
    shown = {"disagree most": int(order[0]), "are in the middle": int(order[len(order) // 2])}
    figures = ""
    for number, (words, k) in enumerate(shown.items()):
        first, second = (check.shared.frames[i] for i in check.shared.pairs[k])
        names = " and ".join(escape(frames.names[frame.index]) for frame in (first, second))
        caption = f"<b>{names}</b>the two that {words}: {100 * means[k]:.0f}% of what they share agrees"
        picture = _picture(check, frames, k, f"pair{number}")
        figures += f'<figure class="plan">{picture}<figcaption>{caption}</figcaption></figure>'
    legend = (
        '<ul class="legend"><li><i class="c0"></i>where poses and cameras say</li>'
        '<li><i class="c3"></i>elsewhere</li></ul>'
    )
    note = (
        "Corners that two frames share, found without the poses. A line joins the places of one corner in "
        f"both; its colour says whether the poses{_mended(check)} allow them."
    )
    return section("What two frames share", legend + figures, note)


def _picture(check: SceneCheck, frames: Frames, k: int, name: str) -> str:
    """The two photos of a pair beside each other, the places of each corner joined."""
    shared = check.shared
    i, j = shared.pairs[k].tolist()
    (width, height), (other_width, other_height) = shared.frames[i].camera.size, shared.frames[j].camera.size
    rows = np.flatnonzero((shared.first == i) & (shared.second == j))
    rows = rows[np.argsort(-check.agreement[rows], kind="stable")]  # what disagrees is drawn last
    drawn = ""
    for row in rows.tolist():
        (x, y), (u, v) = shared.pixels_first[row].tolist(), shared.pixels_second[row].tolist()
        u += width + _GAP_PX
        drawn += (
            f'<g class="match {"c0" if check.agreement[row] > 0 else "c3"}">'
            f'<path d="M{x:.0f} {y:.0f}L{u:.0f} {v:.0f}"/><circle r="3" cx="{x:.0f}" cy="{y:.0f}"/>'
            f'<circle r="3" cx="{u:.0f}" cy="{v:.0f}"/></g>'
        )
    photos = "".join(
        gallery.photo(frames[shared.frames[f].index], shared.frames[f].camera, f"{name}-{f}") for f in (i, j)
    )
    whole = width + _GAP_PX + other_width, max(height, other_height)
    return (
        f'{photos}<svg class="photo" viewBox="0 0 {whole[0]} {whole[1]}" role="img"><use href="#{name}-{i}"/>'
        f'<use href="#{name}-{j}" x="{width + _GAP_PX}"/>'
        f'<rect class="shade-light" width="{whole[0]}" height="{whole[1]}"/>{drawn}</svg>'
    )


# ---- frames --------------------------------------------------------------------------------------


def _frames(check: SceneCheck) -> str:
    frames = check.shared.frames
    if not frames:
        return ""
    index = np.array([frame.index for frame in frames])
    charts = [(_chart(index, np.array([f.detail for f in frames]), BLURRED, "detail: blur leaves 0.3"), "")]
    if np.isfinite(check.agreed):
        best = agreement_of_frames(check.shared, check.agreement)
        words = "agreement with the frame that it agrees with best"
        charts.insert(0, (_chart(index, best, AGREES, words), ""))
    note = "A dot for each frame that was looked at; few of a good recording are below the line."
    return section("Each frame", grid(charts), note)


def _chart(index: Int[np.ndarray, " F"], values: Float[np.ndarray, " F"], bound: float, title: str) -> str:
    with plots.chart(plots.LOW) as (axes, svg):
        axes.axhline(bound, color=plots.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        below = values < bound
        for which, color in ((~below, plots.BLUE), (below, plots.RED)):
            axes.plot(index[which], values[which], "o", color=color, markersize=4.5)
        axes.set_ylim(0, 1.05 * max(1.0, float(values.max())))
        axes.set_xlim(-0.5, max(float(index.max()) + 0.5, 0.5))
        axes.set_xlabel("frame")
        plots.title(axes, title)
    return svg.text


def _depth(check: SceneCheck) -> str:
    depth = check.depth
    if depth is None:
        return ""
    right, top = (1.2 * np.percentile(values, 99) for values in (depth.measured, depth.triangulated))
    off = np.log(depth.triangulated / depth.measured)
    with plots.chart(plots.WIDE) as (axes, svg):
        axes.plot([0, right], [0, right * depth.ratio], color=plots.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        every = slice(None, None, max(1, len(depth.measured) // _MOST_DOTS))
        axes.plot(
            depth.measured[every], depth.triangulated[every], "o", color=plots.BLUE, markersize=2, alpha=0.4
        )
        axes.set_xlim(0, right)
        axes.set_ylim(0, top)
        axes.set_xlabel("depth that was measured")
        plots.title(axes, "depth that poses triangulate")
    with plots.chart(plots.WIDE) as (axes, histogram):
        axes.axvline(0, color=plots.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        bins = np.linspace(-0.3, 0.3, 61)
        axes.hist((off - np.median(off)).clip(-0.3, 0.3), bins=bins.tolist(), color=plots.BLUE, alpha=0.85)
        axes.set_xlabel("triangulated by measured, logarithm, about the median")
        plots.title(axes, "corners")
    note = (
        f"{depth.corners} corners with both; what poses triangulate is {depth.ratio:.3g} times the depth in "
        f"the median (dashed), {depth.fits:.0%} are within 5 % of that."
    )
    return section("Depth", grid([(svg.text, ""), (histogram.text, "")]), note)


def _blurred(check: SceneCheck, frames: Frames) -> str:
    which: list[Sampled] = sorted(
        (frame for frame in check.shared.frames if frame.detail < BLURRED), key=lambda frame: frame.detail
    )
    if not which:
        return ""
    cards = []
    for number, frame in enumerate(which[:_MOST_BLURRED]):
        width, height = frame.camera.size
        photo = gallery.photo(frames[frame.index], frame.camera, f"blurred{number}")
        picture = (
            f'<svg class="photo" viewBox="0 0 {width} {height}" role="img"><use href="#blurred{number}"/></svg>'
        )
        cards.append((photo + picture, escape(frames.names[frame.index])))
    note = (
        f"{len(which)} of {check.frames_seen} frames show hardly more detail than half their size would hold."
    )
    return section("Blurred frames", grid(cards, "three"), note)
