"""The whole chain in every format that is read: written, checked, mapped, its held-out frames localized.

    python benchmarks/every_format.py [--formats tum euroc …] [--frames 48] [--steps 60]

A walk through the rendered room is written in each format, exactly, as the tests write it
(tests/helpers/written_walks.py). Each folder is then read, held against itself as `dsac check` does, and mapped
as `dsac map` does: every eighth frame is held out, few steps and views. Writes results/formats.md. Wants what
`make test` installs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from scripts import run, table_parser, write_table

from dsac import Localizer, MappingSettings, build_map, evaluate, load_scene
from dsac.checking import SceneCheck, check_scene
from dsac.datasets import hold_out
from dsac.evaluation import Summary

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from written_walks import WRITERS, Walk, Writer  # noqa: E402  (found by the line above)

FORMATS = {writer.__name__: writer for writer in WRITERS}


@dataclass(frozen=True, eq=False)
class Chain:
    """What came of a recording, and how long it took from its folder to its score."""

    format: str
    check: SceneCheck
    summary: Summary
    seconds: float


def chain(folder: Path, settings: MappingSettings) -> Chain:
    """Raises: `DsacError` for a recording that is not read or mapped."""
    started = time.perf_counter()
    scene = hold_out(load_scene(folder))
    check = check_scene(scene)
    localizer = Localizer(build_map(scene, settings))
    (summary,) = evaluate(localizer, scene).summaries
    return Chain(scene.format, check, summary, time.perf_counter() - started)


def line(name: str, done: Chain) -> str:
    """A row of the table."""
    check, summary = done.check, done.summary
    said = "; ".join(finding.text for finding in check.findings)
    fits = "–" if check.depth is None else f"{100 * check.depth.fits:.0f}"
    localized = summary.num_images - summary.num_not_localized
    cells = [
        f"`{name}`",
        done.format,
        said or "right",
        f"{100 * check.agreed:.0f}",
        fits,
        f"{localized} of {summary.num_images}",
        f"{summary.percent_5cm_5deg:.0f} % {summary.unit.thresholds[0]}",
        f"{summary.unit.of(summary.median_translation_m):.2g} {summary.unit.name}",
        f"{done.seconds:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    walk = Walk.render(arguments.frames, tuple(arguments.size))
    settings = MappingSettings(steps=arguments.steps, num_views=2 * arguments.frames, buffer_size=300_000)
    lines = [_ABOUT.format(frames=arguments.frames, size="×".join(map(str, arguments.size)),
                           views=settings.num_views, steps=settings.steps), ""]  # fmt: skip
    lines += [_HEAD, "|" + "---|" * 9]
    for name in arguments.formats:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            folder = FORMATS[name](walk, Writer(folder)) or folder
            lines.append(line(name, chain(folder, settings)))
            print(lines[-1], flush=True)
    write_table(arguments.output, "formats.md", lines)


_ABOUT = """# Every format, from the folder to a score

`python benchmarks/every_format.py`: {frames} frames of one walk, {size}, written in each format, exactly; every
eighth is held out, maps learn {steps} steps from {views} views, one thread. Lengths are in spacings, from a
mapping camera to the nearest one, where the format has no metres."""

_HEAD = (
    "| written | read as | check says | corners agree % | depth fits % | held-out photos localized | within | "
    "median | s |"
)


if __name__ == "__main__":
    parser = table_parser(__doc__)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), metavar="FORMAT")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--size", type=int, nargs=2, default=[320, 240])
    parser.add_argument("--steps", type=int, default=60)
    run(parser, main)
