"""Every picture of README and docs, drawn again from the results that are committed: `make docs-figures`.

Measuring is another matter:

    dsac demo && python benchmarks/docs_figures.py --demo demo      # results/demo.json
    dsac evaluate MAP 7scenes/redkitchen --figures figures          # figures/evidence.csv
    python benchmarks/modes.py                                      # results/modes.json
    python benchmarks/repeats_selection.py                          # results/repeats_selection.jsonl
    dsac bench solver --output benchmarks/results                   # results/solver.json

The second is `results/evidence_kitchen.csv` with a map of the defaults, `results/evidence_kitchen_short.csv`
with one of `--steps 120 --landmarks 0`. A picture holds a digest of what it was drawn from: its results and the
code that draws. `tests/test_docs_figures.py` names pictures whose digest is another.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsac import Pose
    from dsac.datasets import Frame
    from dsac.studies.evidence import FrameEvidence

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
IMAGES = ROOT / "docs" / "images"
HERE, STUDIES = Path(__file__), ROOT / "dsac" / "studies"


@dataclass(frozen=True)
class Figure:
    """A picture, what it shows, and how it is drawn."""

    picture: Path  # .svg or .png
    results: Path
    draw: Callable[[str], bytes]  # of the results' text
    code: Path = HERE  # where the drawing is

    @property
    def digest(self) -> str:
        """Of results and code; ends of lines do not count."""
        digest = blake2b(digest_size=8)
        for path in (self.results, self.code):
            digest.update(path.read_text().encode())
        return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, help="folder of `dsac demo`: write results/demo.json first")
    arguments = parser.parse_args()
    if arguments.demo is not None:
        (RESULTS / "demo.json").write_text(measure_demo(arguments.demo))
    IMAGES.mkdir(exist_ok=True)
    for figure in FIGURES:
        picture = stamped(figure.draw(figure.results.read_text()), figure.digest)
        figure.picture.write_bytes(picture)
        print(f"{figure.picture.relative_to(ROOT)}: {len(picture) / 1000:.0f} kB")


# ---- digests -------------------------------------------------------------------------------------


def stamped(picture: bytes, digest: str) -> bytes:
    """A picture that holds a digest: a comment of an SVG, a chunk of text in a PNG."""
    if not picture.startswith(b"\x89PNG"):
        before, end, after = picture.rpartition(b"</svg>")
        return before + f"<!-- Source: {digest} -->".encode() + end + after
    content = b"tEXtSource\0" + digest.encode()
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    behind_header = 33
    return picture[:behind_header] + chunk + picture[behind_header:]


def stamp_of(picture: bytes) -> str | None:
    """The digest that a picture holds."""
    found = re.search(rb"Source(?:\0|: )([0-9a-f]{16})", picture)
    return None if found is None else found[1].decode()


# ---- the demo ------------------------------------------------------------------------------------

SHOWN = ("query-008.jpg", "query-037.jpg")
ERRORS_PX = (1.0, 3.0, 6.0)  # limits of the first three colours
COLORS = ("#2bd4a4", "#b4e04a", "#f5b227", "#f25c4d")
TOLD = ("agrees to 1 px", "3 px", "6 px", "10 px")
BLUE, RED, INK, MUTED, RULE = "#2563c9", "#cf2e3c", "#16191d", "#626a73", "#d5d9de"


def measure_demo(folder: Path) -> str:
    """JSON: the poses of the demo's queries as its map tells them, and the inlier cells of the photos shown."""
    import torch

    from dsac import Localizer, load_scene

    scene, localizer = load_scene(str(folder / "room")), Localizer.load(folder / "room.dsac")
    localizer.warm_up()
    poses, cells = {}, {}
    for answer in localizer.localize_frames(scene.query):
        if answer.success:
            poses[answer.name] = [
                round(value, 6) for value in answer.cam_from_world.matrix[:3].flatten().tolist()
            ]
        if answer.name in SHOWN:
            rows, camera = answer.correspondences, answer.camera
            points = answer.cam_from_world @ answer.scene_points[0]
            error = (camera.to(torch.float64).project(points) - rows.pixels[0]).norm(dim=-1)
            color = torch.bucketize(error[answer.inliers], error.new_tensor(ERRORS_PX))
            places = rows.pixels[0, answer.inliers] / torch.tensor(camera.size)
            cells[answer.name] = [
                [round(x, 4), round(y, 4), c] for (x, y), c in zip(places.tolist(), color.tolist(), strict=True)
            ]
    return json.dumps({"cam_from_world": poses, "cells": cells}) + "\n"


def draw_demo(text: str) -> bytes:
    """The room from above with the query cameras; below, two of their photos."""
    import torch
    from matplotlib.figure import Figure as Page

    from dsac import Pose
    from dsac.evaluation.plots import ground_plane
    from dsac.rooms import synthetic_scene

    found, scene = json.loads(text), synthetic_scene()
    mapping, truth = scene.mapping.cam_from_world, scene.query.cam_from_world
    assert mapping is not None and truth is not None
    estimates = {
        name: Pose.from_matrix(torch.tensor(values, dtype=torch.float64).reshape(3, 4))
        for name, values in found["cam_from_world"].items()
    }
    page = Page(figsize=(9.8, 4.5), facecolor="white")
    plan, photos = page.subfigures(1, 2, width_ratios=(1.75, 1), wspace=0)
    _plan(
        plan.add_axes((0.01, 0.02, 0.98, 0.88)),
        ground_plane(mapping),
        mapping,
        truth,
        scene.query.names,
        estimates,
    )
    for axes, name in zip(photos.subplots(2, 1), SHOWN, strict=True):
        _cells(axes, scene.query[scene.query.names.index(name)], found["cells"][name])
    photos.subplots_adjust(0, 0.01, 0.99, 0.92, hspace=0.03)
    _legend(photos, [("s", color, told) for color, told in zip(COLORS, TOLD, strict=True)])
    return _png(page)


def _plan(
    axes: Any, plan: Any, mapping: Pose, truth: Pose, names: list[str], estimates: dict[str, Pose]
) -> None:
    """Camera centres in metres, each estimate joined to its truth."""
    true = (truth.center @ plan.T).numpy()
    axes.plot(*(mapping.center @ plan.T).T.numpy(), "o", color=RULE, markersize=4.5)
    axes.plot(*true.T, color=INK, linewidth=1.2)
    shown = {"near": False, "far": False, "lost": False}
    for name, at, pose in zip(names, true, truth, strict=True):
        if name not in estimates:
            axes.plot(*at, "x", color=RED, markersize=8, markeredgewidth=2)
            shown["lost"] = True
            continue
        estimate = estimates[name]
        near = estimate.center_distance(pose) < 0.05 and estimate.rotation_error_deg(pose) < 5
        shown["near" if near else "far"] = True
        color = BLUE if near else RED
        axes.plot(*zip(at, (plan @ estimate.center).numpy(), strict=True), color=color, linewidth=0.8)
        axes.plot(*(plan @ estimate.center).numpy(), "o", color=color, markersize=3.8)
    axes.set_aspect("equal")
    axes.margins(0.02, 0.05)
    axes.axis("off")
    left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
    axes.plot([left, left + 0.5], [bottom, bottom], color=MUTED, linewidth=2)
    axes.text(left, bottom + 0.04, "0.5 m", color=MUTED, fontsize=9)
    meaning = [
        ("o", RULE, "mapping frames"),
        ("-", INK, "queries, true"),
        ("o", BLUE, "estimate within 5 cm 5°"),
    ]
    meaning += [("o", RED, "worse")] * shown["far"] + [("x", RED, "not localized")] * shown["lost"]
    _legend(axes.figure, meaning)


def _cells(axes: Any, frame: Frame, cells: list[tuple[float, float, int]]) -> None:
    """A photo, and where the scene points that agree with its pose are projected, by error."""
    width, height = frame.camera.size
    axes.imshow(0.85 * frame.image.permute(1, 2, 0).numpy(), extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for number, color in enumerate(COLORS):
        places = [(width * x, height * y) for x, y, c in cells if c == number]
        if places:
            axes.plot(*zip(*places, strict=True), "s", color=color, markersize=2.0, markeredgewidth=0)


def _legend(parent: Any, meaning: Sequence[tuple[str, str, str]]) -> None:
    """Above, to the left: marks (a marker, or a line's style) with colours and what they mean."""
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=color, label=told, markersize=6, linewidth=1.6, markeredgewidth=2 * (mark == "x"),
               **({"linestyle": mark} if mark[0] == "-" else {"linestyle": "", "marker": mark}))
        for mark, color, told in meaning
    ]  # fmt: skip
    parent.legend(handles=marks, loc="upper left", ncols=len(marks), frameon=False, fontsize=9.5, borderpad=0.1,
                  labelcolor=MUTED, handlelength=1.2, handletextpad=0.4, columnspacing=1.3)  # fmt: skip


# ---- the others ----------------------------------------------------------------------------------


def draw_modes(text: str) -> bytes:
    """What the training of each selection comes to where a place exists twice (`modes.py`)."""
    from matplotlib.figure import Figure as Page

    page = Page(figsize=(9, 3.4))
    left, right = page.subplots(1, 2)
    right.plot([0, 100], [0, 0], "x", markersize=11, markeredgewidth=1.6, color=INK, label="the two poses")
    for (name, found), marker, color in zip(json.loads(text).items(), "so", (RED, BLUE), strict=True):
        loss = found["expected_loss"]
        left.plot(range(1, len(loss) + 1), loss, color=color)
        left.annotate(name, (len(loss), loss[-1]), (0, 6), textcoords="offset points", ha="right", color=color)
        right.plot(*zip(*found["centers_cm"], strict=True), marker, color=color, markersize=6, label=name)
    left.set(xlabel="training step", ylim=(-2, 56))
    left.set_title("expected loss: cm to the nearer pose", loc="left", fontsize=10)
    right.set(xlabel="east, cm", ylabel="north, cm", xlim=(-20, 120), ylim=(-60, 60))
    right.set_title("refined poses after training", loc="left", fontsize=10)
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    page.tight_layout()
    return _png(page)


def draw_repeats(text: str) -> bytes:
    """What each selection makes of places that repeat themselves (`repeats_selection.py`)."""
    from matplotlib.figure import Figure as Page

    found = [json.loads(line) for line in text.splitlines()]
    colors = {"argmax": INK, "softam": RED, "dsac": BLUE}
    page = Page(figsize=(9, 3.6))
    left, right = page.subplots(1, 2)
    for modes, line in ((1, "--"), (8, "-")):
        for name, color in colors.items():
            of_line = [
                m for m in found if (m["place"], m["modes"], m["selection"]) == ("corridor", modes, name)
            ]
            along = sorted((m["difference"], m["right"]) for m in of_line if not m["trained"])
            left.plot(*zip(*along, strict=True), line, marker="o", markersize=4, color=color, linewidth=1.4)
    places = list(dict.fromkeys(m["place"] for m in found if m["difference"] == 0.5))
    for m in found:
        if m["modes"] == 8 and m["difference"] == 0.5:
            x = places.index(m["place"]) + 0.2 * list(colors).index(m["selection"]) - 0.2
            filled = colors[m["selection"]] if m["trained"] else "none"
            right.plot(x, m["loss"], "o", markersize=8, color=colors[m["selection"]], markerfacecolor=filled)
    left.set(xlabel="share of the doors with something of their own", xticks=[0, 0.5, 1], ylim=(0, None))
    left.set_title("corridor: % of the photos right", loc="left", fontsize=10)
    right.set(xticks=range(len(places)), xticklabels=places, xlim=(-0.5, len(places) - 0.5))
    right.set_title("eight modes, half differ: expected loss", loc="left", fontsize=10)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    page.tight_layout(rect=(0, 0, 1, 0.9))
    names = [("o", colors[name], told) for name, told in zip(colors, ("argmax", "SoftAM", "DSAC"), strict=True)]
    lines = [("-", MUTED, "eight modes"), ("--", MUTED, "one mode"), ("o", MUTED, "filled: trained end to end")]
    _legend(page, names + lines)
    return _png(page)


def draw_solver(text: str) -> bytes:
    from dsac.studies.solver_benchmark import Row
    from dsac.studies.solver_tables import plot

    return plot([Row(**row) for row in json.loads(text)["rows"]])


def draw_inlier_ratios(text: str) -> bytes:
    from dsac.evaluation import plots
    from dsac.studies.figures import inlier_ratio_histogram

    return plots.standalone(inlier_ratio_histogram(read_evidence(text))).encode()


def draw_accuracy(text: str) -> bytes:
    from dsac.evaluation import plots
    from dsac.studies.figures import accuracy_by_inlier_ratio

    return plots.standalone(accuracy_by_inlier_ratio(read_evidence(text))).encode()


def read_evidence(text: str) -> list[FrameEvidence]:
    """Of the table that `dsac evaluate --figures` writes, which has no times; lengths in centimetres."""
    from dsac.studies.evidence import NAIVE, SELECTIONS, FrameEvidence

    def error(row: dict[str, str], way: str) -> tuple[float, float]:
        column = way.replace(" ", "_")
        return float(row[f"{column}_rotation_deg"]), float(row[f"{column}_translation_cm"]) / 100

    return [
        FrameEvidence(
            row["name"], float(row["inlier_ratio"]), {way: error(row, way) for way in (*SELECTIONS, NAIVE)}, {},
            float(row["gradients"]), float(row["sharpness"]), float(row["repetition"]),
        )
        for row in csv.DictReader(io.StringIO(text))
    ]  # fmt: skip


def _png(page: Any) -> bytes:
    data = io.BytesIO()
    page.savefig(data, dpi=110, format="png")
    return data.getvalue()


KITCHEN, SHORT = RESULTS / "evidence_kitchen.csv", RESULTS / "evidence_kitchen_short.csv"
FIGURES = (
    Figure(IMAGES / "demo.png", RESULTS / "demo.json", draw_demo),
    Figure(IMAGES / "modes.png", RESULTS / "modes.json", draw_modes),
    Figure(IMAGES / "repeats.png", RESULTS / "repeats_selection.jsonl", draw_repeats),
    Figure(IMAGES / "kitchen_inlier_ratios.svg", KITCHEN, draw_inlier_ratios, STUDIES / "figures.py"),
    Figure(IMAGES / "kitchen_accuracy.svg", KITCHEN, draw_accuracy, STUDIES / "figures.py"),
    Figure(IMAGES / "kitchen_accuracy_short.svg", SHORT, draw_accuracy, STUDIES / "figures.py"),
    Figure(RESULTS / "solver.png", RESULTS / "solver.json", draw_solver, STUDIES / "solver_tables.py"),
)

if __name__ == "__main__":
    main()
