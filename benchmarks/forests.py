"""Regression forests: how long they grew, how large their maps are, and how exact with depth and without.

    for truth in dslam sfm; do dsac map redkitchen $truth.dsac --truth $truth --regressor forest; done
    python benchmarks/forests.py redkitchen dslam=dslam.dsac sfm=sfm.dsac [--every 1]

Localizes the query frames of a scene by maps made in its truths, with each of three solvers; what is not
localized counts as wrong. Writes results/forests.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scripts import run, table_parser, write_table
from torch import Tensor

from dsac import Camera, Localizer, Scene, load_scene
from dsac.ransac import Correspondences, DenseSolver, MixtureSolver, PreemptiveSolver, Solver
from dsac.regressor import CorrespondenceSource

_THRESHOLDS = 5, 2, 1  # cm and degrees


def solvers(use_depth: bool) -> dict[str, Solver]:
    if use_depth:
        return {
            "dense search": DenseSolver.rgbd(),
            "preemptive": PreemptiveSolver.rgbd(),
            "dense search, likelihood": MixtureSolver.rgbd(),
        }
    return {
        "dense search": DenseSolver.rgb(4.0),
        "preemptive": PreemptiveSolver.rgb(),
        "dense search, likelihood": MixtureSolver.rgb(),
    }


class Once:
    """A `CorrespondenceSource` that looks at each photo once, whoever asks."""

    def __init__(self, regressor: CorrespondenceSource) -> None:
        self._regressor = regressor
        self._of: Tensor | None = None  # photos that it has seen

    def encode(self, images: Tensor, camera: Camera, depth: Tensor | None = None) -> Tensor:
        if self._of is not images:
            self._of, self._features = images, self._regressor.encode(images, camera, depth)
            self._rows = self._regressor.predict(self._features, camera)
        return self._features

    def predict(self, features: Tensor, camera: Camera) -> Correspondences:
        return self._rows

    def zoom(self, camera: Camera) -> float:
        return self._regressor.zoom(camera)


def line(label: str, errors: Sequence[tuple[float, float]], times_ms: Sequence[float] | np.ndarray) -> str:
    """A row of the table, of errors in metres and degrees; infinite where a photo is not localized."""
    metres, degrees = np.array(errors).T
    shares = [100 * np.mean((metres < t / 100) & (degrees < t)) for t in _THRESHOLDS]
    told = " | ".join(f"{share:.1f}" for share in shares)
    exact = f"{100 * np.median(metres):.2f} | {np.median(degrees):.2f}"
    return f"| {label} | {told} | {exact} | {np.median(times_ms):.0f} |"


def asked(
    localizer: Localizer, scene: Scene, every: int, use_depth: bool
) -> dict[str, tuple[list[tuple[float, float]], list[float]]]:
    """Errors of the query frames and processor time, ms, by each solver; and the time to predict."""
    found = {name: ([], []) for name in ["predict", *solvers(use_depth)]}
    queries = scene.query[::every] if use_depth else scene.query[::every].without_depth()
    truth = queries.cam_from_world
    assert truth is not None
    source = localizer.in_map.regressor
    for i in range(len(queries)):
        frame = queries[i]
        images, depth = frame.image[None], None if frame.depth is None else frame.depth[None]
        localizer.in_map.regressor = once = Once(source)
        started = time.process_time()
        once.encode(images, frame.camera, depth)
        found["predict"][1].append(1000 * (time.process_time() - started))
        for name, solver in solvers(use_depth).items():
            localizer.in_map.solver = localizer.in_map.depth_solver = solver
            started = time.process_time()
            answer = localizer.localize(images, frame.camera, depth=depth)[0]
            found[name][1].append(1000 * (time.process_time() - started))
            pose = answer.cam_from_world
            off = pose.center_distance(truth[i]).item(), pose.rotation_error_deg(truth[i]).item()
            found[name][0].append(off if answer.success else (np.inf, np.inf))
    localizer.in_map.regressor = source
    return found


def measure(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    lines = [
        "# Regression forests",
        "",
        f"`python benchmarks/forests.py {Path(arguments.scene).name} TRUTH=MAP ... --every {arguments.every}`,",
        "one thread; times are medians of processor time, without decoding. Each map has the trees for",
        "both kinds of queries.",
        "",
        "| truth, query, solver | % 5 cm 5° | % 2 cm 2° | % 1 cm 1° | median cm | median ° | ms |",
        "|---|---|---|---|---|---|---|",
    ]
    grown = []
    for truth, path in (given.split("=", 1) for given in arguments.maps):
        scene, localizer = load_scene(arguments.scene, truth=truth), Localizer.load(path)
        for kind, use_depth in (("RGB-D", True), ("RGB", False)):
            found = asked(localizer, scene, arguments.every, use_depth)
            before_ms = np.median(found.pop("predict")[1])
            for name, (errors, times_ms) in found.items():
                lines.append(line(f"{truth}, {kind}, {name}", errors, before_ms + np.array(times_ms)))
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
