"""A recording's query frames one after the other: each by itself, and from where the last was taken.

    python benchmarks/track.py MAP SCENE [--every 1]

Writes results/track.md: shares localized and within some distances, the worst, milliseconds a photo without
reading it (medians, one thread), and how often the network was asked.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import numpy as np
import torch
from scripts import run, table_parser, write_table

from dsac import Frames, Localizer, Tracker, load_scene
from dsac.localization import Localization


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("map", type=Path)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take one of so many frames")
    run(parser, measure)


def measure(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    localizer = Localizer.load(given.map)
    localizer.warm_up()
    frames = load_scene(given.scene).query.without_depth()
    frames = frames[np.arange(0, len(frames), given.every)]
    tracker = Tracker(localizer)
    alone = list(localizer.localize_frames(frames))
    followed = [tracker.update_frame(frames[i : i + 1]) for i in range(len(frames))]
    names = ("", "% localized", "% 5 cm 5°", "% 2 cm 2°", "% 1 cm 1°", "worst, cm", "% network asked", "ms")
    lines = [
        "# Photos one after the other",
        "",
        f"`python benchmarks/track.py MAP {given.scene.name}`: {len(frames)} query frames, "
        f"{platform.machine()}, one thread; lengths in the map's unit, where that is metres.",
        "",
        f"| {' | '.join(names)} |",
        "|---" * len(names) + "|",
        _row("each by itself", alone, frames),
        _row("from where the last was taken", followed, frames),
    ]
    write_table(given.output, "track.md", lines)


def _row(name: str, answers: list[Localization], frames: Frames) -> str:
    truth = frames.cam_from_world
    assert truth is not None
    known = np.array([bool(answer.success) for answer in answers])
    off = [100 * a.cam_from_world.center_distance(truth[i]).item() for i, a in enumerate(answers)]
    turned = [a.cam_from_world.rotation_error_deg(truth[i]).item() for i, a in enumerate(answers)]
    off, turned = np.where(known, off, np.inf), np.where(known, turned, np.inf)
    within = [100 * np.mean((off < limit) & (turned < limit)) for limit in (5, 2, 1)]
    asked = 100 * np.mean([not answer.by_prior for answer in answers])
    ms = np.median([answer.timing.total_ms - answer.timing.decode_ms for answer in answers])
    worst = off[known].max(initial=0)
    cells = [100 * known.mean(), *within, worst, asked, ms]
    return f"| {name} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |"


if __name__ == "__main__":
    main()
