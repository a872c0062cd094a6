"""Regression forests: how long they grew, how large their maps are, and how exact with depth and without.

    for truth in dslam sfm; do dsac map redkitchen $truth.dsac --truth $truth --regressor forest; done
    python benchmarks/forests.py redkitchen dslam=dslam.dsac sfm=sfm.dsac [--every 1]

Localizes the query frames of a scene by maps made in its truths; what is not localized counts as wrong. Writes
results/forests.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scripts import run, table_parser, write_table

from dsac import Localizer, Scene, load_scene

_THRESHOLDS = 5, 2, 1  # cm and degrees


def line(label: str, errors: Sequence[tuple[float, float]], times_ms: Sequence[float]) -> str:
    """A row of the table, of errors in metres and degrees; infinite where a photo is not localized."""
    metres, degrees = np.array(errors).T
    shares = [100 * np.mean((metres < t / 100) & (degrees < t)) for t in _THRESHOLDS]
    told = " | ".join(f"{share:.1f}" for share in shares)
    exact = f"{100 * np.median(metres):.2f} | {np.median(degrees):.2f}"
    return f"| {label} | {told} | {exact} | {np.median(times_ms):.0f} |"


def asked(
    localizer: Localizer, scene: Scene, every: int, use_depth: bool
) -> tuple[list[tuple[float, float]], list[float]]:
    """Errors and times of the query frames."""
    queries, errors, times = scene.query[::every], [], []
    assert queries.cam_from_world is not None
    for i, answer in enumerate(localizer.localize_frames(queries, use_depth=use_depth)):
        pose, truth = answer.cam_from_world, queries.cam_from_world[i]
        off = pose.center_distance(truth).item(), pose.rotation_error_deg(truth).item()
        errors.append(off if answer.success else (np.inf, np.inf))
        times.append(answer.timing.total_ms - answer.timing.decode_ms)
    return errors, times


def measure(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    lines = [
        "# Regression forests",
        "",
        f"`python benchmarks/forests.py {Path(arguments.scene).name} TRUTH=MAP ... --every {arguments.every}`,",
        "one thread; times are medians, without decoding. Each map has the trees for both kinds of queries.",
        "",
        "| truth, query | % 5 cm 5° | % 2 cm 2° | % 1 cm 1° | median cm | median ° | ms |",
        "|---|---|---|---|---|---|---|",
    ]
    grown = []
    for truth, path in (given.split("=", 1) for given in arguments.maps):
        scene, localizer = load_scene(arguments.scene, truth=truth), Localizer.load(path)
        for kind, use_depth in (("RGB-D", True), ("RGB", False)):
            lines.append(line(f"{truth}, {kind}", *asked(localizer, scene, arguments.every, use_depth)))
        took, size = localizer.scene_map.info.training["seconds"], Path(path).stat().st_size / 1e6
        grown.append(f"{truth} {took:.0f} s, {size:.1f} MB")
    write_table(arguments.output, "forests.md", [*lines, "", f"Mapping: {'; '.join(grown)}."])


def _map_of_truth(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"expected TRUTH=MAP, got {text}")
    return text


if __name__ == "__main__":
    parser = table_parser(__doc__)
    parser.add_argument("scene", help="a recording with depth")
    parser.add_argument("maps", nargs="+", type=_map_of_truth, metavar="TRUTH=MAP")
    parser.add_argument("--every", type=int, default=1, help="query frames, one in so many")
    run(parser, measure)
