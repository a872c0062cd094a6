"""The charts of the report, as inline SVG whose colours are CSS variables of the page (light and dark).

matplotlib draws with a colour of its own for each variable; afterwards these are replaced in the text of
the SVG. It is an optional dependency: `pip install 'dsac[plots]'`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dsac.errors import DsacError
from dsac.evaluation.metrics import CENTIMETRES, LengthUnit, PoseError
from dsac.evaluation.page import style
from dsac.geometry import Pose

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# colour to draw with -> CSS variable of the page
INK, MUTED, RULE, PAPER = "#010101", "#020202", "#030303", "#040404"
BLUE, ORANGE, GREEN, RED = "#0a0001", "#0a0002", "#0a0003", "#0a0004"
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    PAPER: "paper",
    BLUE: "blue",
    ORANGE: "orange",
    GREEN: "green",
    RED: "red",
}
SERIES = (BLUE, ORANGE, GREEN, RED)  # one colour for each truth


def require_matplotlib() -> None:
    """Raises: `DsacError` with the install line when matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise DsacError("the report page needs matplotlib: pip install 'dsac[plots]'") from error


# ---- charts --------------------------------------------------------------------------------------


def cumulative_errors(errors: Mapping[str, PoseError], quantity: str, length: LengthUnit = CENTIMETRES) -> str:
    """Percent of images below an error, one curve for each truth; `quantity`: "translation" or "rotation"."""
    unit = length.name if quantity == "translation" else "°"
    with chart(WIDE) as (axes, svg):
        for (truth, error), color in zip(errors.items(), SERIES, strict=False):
            values = _in_report_units(error, length)[quantity]
            finite = np.sort(values[np.isfinite(values)]).clip(_FLOOR)
            percent = 100 * np.arange(1, len(finite) + 1) / len(values)
            axes.step([_FLOOR, *finite, 1e4], [0, *percent, percent[-1] if len(finite) else 0], where="post",
                      color=color, linewidth=2, label=truth)  # fmt: skip
        for threshold in length.thresholds:
            bound = threshold.rotation_deg if unit == "°" else length.of(threshold.translation_m)
            axes.axvline(bound, color=RULE, linewidth=1, zorder=0)
        _log_axis(axes.xaxis, unit)
        axes.set_xlim(*((0.1, 100) if unit in ("cm", "°") else (0.01, 10)))
        axes.set_ylim(0, 101)
        axes.set_xlabel(f"{quantity} error{_told(unit)}")
        title(axes, "% of images with a smaller error")
        if len(errors) > 1:
            axes.legend(loc="lower right", frameon=False, title="truth")
    return svg.text


def errors_over_sequence(error: PoseError, quantity: str, length: LengthUnit = CENTIMETRES) -> str:
    """Error of each image in recording order; images that were not localized as marks at the top."""
    unit = length.name if quantity == "translation" else "°"
    values = _in_report_units(error, length)[quantity]
    widest = length.thresholds[0]
    bound = widest.rotation_deg if unit == "°" else length.of(widest.translation_m)
    with chart(LOW) as (axes, svg):
        index = np.arange(len(values))
        finite = np.isfinite(values)
        top = 10 ** np.ceil(np.log10(values[finite].max(initial=1.98 * bound) * 1.5))
        axes.axhline(bound, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(index[finite], values[finite].clip(_FLOOR), ".", color=BLUE, markersize=3.5)
        axes.plot(index[~finite], np.full((~finite).sum(), top), "x", color=RED, markersize=6, clip_on=False)
        axes.set_ylim(10 ** np.floor(np.log10(values[finite].clip(_FLOOR).min(initial=0.1))), top)
        axes.set_xlim(-0.5, max(len(values) - 0.5, 0.5))
        _log_axis(axes.yaxis, unit)
        title(axes, f"{quantity} error of each image{_told(unit)}")
        axes.set_xlabel("query image")
    return svg.text


def trajectory(
    mapping: Pose | None, truth: Pose, estimate: Pose, error: PoseError, length: LengthUnit = CENTIMETRES
) -> str:
    """Camera centres from above: mapping frames (grey), truth (line), estimates within the first threshold
    (blue) and worse (red), each joined to its truth.

    `truth`, `estimate` and `error` belong together; where the error is infinite the estimate is not drawn.
    """
    plan = ground_plane(truth if mapping is None else Pose.cat([mapping, truth]))
    true = (truth.center @ plan.T).numpy()
    estimated = (estimate.center @ plan.T).numpy()
    localized = error.localized.numpy()
    accurate = error.within(length.thresholds[0]).numpy()
    anchors = true if mapping is None else np.concatenate([(mapping.center @ plan.T).numpy(), true])
    low, high = _limits(anchors)
    height = float(np.clip(_FULL_WIDTH * (high - low)[1] / (high - low)[0], 2.6, 5.4))
    with chart((_FULL_WIDTH, height)) as (axes, svg):
        axes.set_position((0, 0, 1, 1))
        if mapping is not None:
            axes.plot(*anchors[: len(anchors) - len(true)].T, "o", color=RULE, markersize=4.5)
        for i in np.flatnonzero(localized):
            axes.plot(*np.stack([true[i], estimated[i]]).T, color=BLUE if accurate[i] else RED, linewidth=0.8)
        axes.plot(*_path(true).T, color=INK, linewidth=1.4, zorder=3)
        axes.plot(*estimated[accurate].T, "o", color=BLUE, markersize=3.5)
        axes.plot(*estimated[localized & ~accurate].T, "o", color=RED, markersize=3.5)
        axes.plot(*true[~localized].T, "x", color=RED, markersize=8, markeredgewidth=2, zorder=4)
        _plan_axes(axes, low, high, height, LengthUnit("m", 1.0) if length == CENTIMETRES else length)
    return svg.text


def confidence_against_error(
    confidence: Float[Tensor, " B"], error: PoseError, length: LengthUnit = CENTIMETRES
) -> str:
    """Confidence and translation error, per image; in centimetres, the rotation error in degrees if larger."""
    metric = length == CENTIMETRES
    loss = (error.task_loss if metric else error.translation_m / length.size).numpy()
    bound = length.of(length.thresholds[0].translation_m)
    finite = np.isfinite(loss)
    top = 10 ** np.ceil(np.log10(loss[finite].max(initial=1.98 * bound) * 1.5))
    values = confidence.numpy()
    with chart(_SMALL) as (axes, svg):
        axes.axhline(bound, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(values[finite], loss[finite].clip(_FLOOR), "o", color=BLUE, markersize=3.5, alpha=0.6)
        axes.plot(values[~finite], np.full((~finite).sum(), top), "x", color=RED, markersize=6, clip_on=False)
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(10 ** np.floor(np.log10(loss[finite].clip(_FLOOR).min(initial=0.1))), top)
        _log_axis(axes.yaxis, "")
        axes.set_xlabel("confidence")
        title(axes, "error: max(cm, °)" if metric else f"translation error, {length.name}")
    return svg.text


def reliability(confidence: Float[Tensor, " B"], error: PoseError, length: LengthUnit = CENTIMETRES) -> str:
    """Percent of accurate images in ten bins of confidence; on the diagonal, confidence is a probability."""
    values, accurate = confidence.numpy(), error.within(length.thresholds[0]).numpy()
    bins = np.clip((10 * values).astype(int), 0, 9)
    with chart(_SMALL) as (axes, svg):
        axes.plot([0, 1], [0, 100], color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=3)
        for b in np.unique(bins):
            percent = 100 * accurate[bins == b].mean()
            axes.bar((b + 0.5) / 10, percent, width=0.085, color=BLUE, alpha=0.85)
            axes.text((b + 0.5) / 10, percent + 2, str((bins == b).sum()), ha="center", color=MUTED, fontsize=9)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 112)
        axes.set_yticks([0, 25, 50, 75, 100])
        axes.set_xlabel("confidence")
        title(axes, f"% within {length.thresholds[0]}")
    return svg.text


def sigma_against_error(
    sigma_m: Float[Tensor, " B"], error_m: Float[Tensor, " B"], length: LengthUnit = CENTIMETRES
) -> str:
    """Standard deviation of the camera centre that the estimates state, and its true error."""
    sigma, error = sigma_m.numpy() / length.size, error_m.numpy() / length.size
    shown = np.isfinite(sigma) & np.isfinite(error) & (sigma > 0) & (error > 0)
    both = np.concatenate([sigma[shown], error[shown]])
    low, high = (
        (10 ** np.floor(np.log10(both.min())), 10 ** np.ceil(np.log10(both.max()))) if len(both) else (0.1, 10)
    )
    with chart(_SMALL) as (axes, svg):
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(sigma[shown], error[shown], "o", color=BLUE, markersize=3.5, alpha=0.6)
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        _log_axis(axes.xaxis, length.name)
        _log_axis(axes.yaxis, length.name)
        axes.set_xlabel(f"stated standard deviation{_told(length.name)}")
        title(axes, f"translation error{_told(length.name)}")
    return svg.text


def ground_plane(cam_from_world: Pose) -> Float[Tensor, "2 3"]:
    """Two unit vectors that span the ground as seen from above.

    Up is the mean of the cameras' up vectors or, where they cancel (a camera that rolls), the direction in
    which the centres vary least; the first vector is the direction in which they vary most.
    """
    up = -cam_from_world.rotation[:, 1, :].mean(0)
    centered = cam_from_world.center - cam_from_world.center.mean(0)
    axes = torch.linalg.svd(torch.cat([centered, torch.zeros(3, 3, dtype=up.dtype)])).Vh
    up = up / up.norm() if up.norm() > 0.3 else axes[2]
    flat = centered - (centered @ up)[:, None] * up
    right = torch.linalg.svd(torch.cat([flat, 1e-9 * axes])).Vh[0]
    right = right - (right @ up) * up
    right = right / right.norm()
    return torch.stack([right, torch.linalg.cross(up, right)])


# ---- drawing -------------------------------------------------------------------------------------


class _Svg:
    text: str = ""


@contextmanager
def chart(size: tuple[float, float]) -> Iterator[tuple[Axes, _Svg]]:
    """One pair of axes in the page's style, `size` in inches; the SVG is there when the block has ended."""
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    look: dict = {
        "svg.fonttype": "none",
        "svg.hashsalt": "dsac",
        "font.size": 10,
        "text.color": INK,
        "axes.edgecolor": RULE,
        "axes.labelcolor": MUTED,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": RULE,
        "ytick.color": RULE,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "legend.fontsize": 9,
        "legend.title_fontsize": 9,
        "path.simplify": True,
    }
    svg = _Svg()
    with matplotlib.rc_context(look):
        figure = Figure(figsize=size)
        # margins in inches, so that charts below each other have aligned axes
        left, bottom, right, top = 0.66, 0.5, 0.24, 0.36
        width, height = size
        box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
        yield figure.add_axes(box), svg
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    svg.text = _for_page(buffer.getvalue())


def _for_page(svg: str) -> str:
    """Inline SVG: no XML header, no namespaces, fonts of the page, colours by name."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg, count=2).replace("xlink:href", "href")
    svg = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    )
    svg = re.sub(r' id="[a-z]+[a-z0-9]*_\d+"', "", svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var(--{variable})")
    return svg


def standalone(svg: str) -> str:
    """A chart of the page as a file of its own, in the page's light colours."""
    light = dict(re.findall(r"--(\w+): (#\w+)", style().split("@media")[0]))
    svg = re.sub(r"var\(--(\w+)\)", lambda match: light[match[1]], svg)
    width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{1.7 * width:.0f}" height="{1.7 * height:.0f}" '
        f'font-family="system-ui, Helvetica, Arial, sans-serif"'
    )
    paper = f'<rect width="100%" height="100%" fill="{light["paper"]}"/>'
    head, body = svg.removeprefix("<svg").split(">", 1)
    return f"{opening}{head}>{paper}{body}"


def title(axes: Axes, text: str) -> None:
    """What the y axis shows, readable without turning the head."""
    axes.set_title(text, loc="left", fontsize=10, color=MUTED, x=0.0, pad=10)


def _log_axis(axis, unit: str) -> None:
    from matplotlib.ticker import NullLocator

    axis.axes.set_xscale("log") if axis.axis_name == "x" else axis.axes.set_yscale("log")
    axis.set_minor_locator(NullLocator())  # invisible, and half of the time to draw the page
    axis.set_major_formatter(lambda value, _: _with_unit(value, unit))


def _with_unit(value: float, unit: str) -> str:
    if unit == "cm" and value >= 100:
        return f"{value / 100:g} m"
    if unit in _SHORT:
        return f"{value:g} {unit}" if unit == "cm" else f"{value:g}{unit}"
    return f"{value:g}"


_SHORT = ("cm", "°", "")  # units that stand at every tick; for a longer name there is no room


def _told(unit: str) -> str:
    """What a label says of a unit that the ticks do not."""
    return "" if unit in _SHORT else f", {unit}"


def _limits(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner around the points, with a margin."""
    low, high = points.min(0), points.max(0)
    margin = 0.1 * max((high - low).max(), 1e-6)
    return low - margin, high + margin


def _plan_axes(axes: Axes, low: np.ndarray, high: np.ndarray, height: float, length: LengthUnit) -> None:
    """Equal axes without ticks that hold the box, with a scale bar in the lower left corner.

    Its length is the largest 1, 2 or 5 times a power of ten below a sixth of the box.
    """
    size = np.array([_FULL_WIDTH, height])
    half = size * ((high - low) / size).max() / 2
    left, bottom = (low + high) / 2 - half
    axes.set_xlim(left, left + 2 * half[0])
    axes.set_ylim(bottom, bottom + 2 * half[1])
    axes.axis("off")
    longest = length.of((high - low).max() / 6)
    power = 10 ** np.floor(np.log10(longest))
    number = max(step * power for step in (1, 2, 5) if step * power <= longest)
    inch = 2 * half[0] / _FULL_WIDTH
    start, level = left + 0.1 * inch, bottom + 0.15 * inch
    end = start + number * length.size
    axes.plot([start, end], [level, level], color=MUTED, linewidth=2, solid_capstyle="butt")
    axes.text(start, level + 0.08 * inch, f"{number:g} {length.name}", color=MUTED)


def _path(points: np.ndarray) -> np.ndarray:
    """The points as a line that breaks (NaN) where the recording jumps."""
    if len(points) < 2:
        return points
    step = np.linalg.norm(np.diff(points, axis=0), axis=1)
    jumps = np.flatnonzero(step > 4 * np.median(step) + 1e-9) + 1
    return np.insert(points, jumps, np.nan, axis=0)


def _in_report_units(error: PoseError, length: LengthUnit) -> dict[str, np.ndarray]:
    return {"translation": error.translation_m.numpy() / length.size, "rotation": error.rotation_deg.numpy()}


_FULL_WIDTH = 11.0  # inches: the width of the page
WIDE, LOW, _SMALL = (5.4, 3.3), (5.4, 2.6), (3.6, 2.9)  # two and three charts beside each other
_FLOOR = 1e-3  # cm or degrees: smaller errors are drawn there, the axes are logarithmic
