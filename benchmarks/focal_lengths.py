"""How well photos are localized whose focal length is wrong or not known, beside those where it is right.

    python benchmarks/focal_lengths.py MAP SCENE [MAP SCENE ...] [--every 4]

Queries are told focal lengths that are off, in turn, by the factors of the row: as known, as from EXIF data
(rough), as a mere guess (unknown), as the mapping camera's (assumed). Distances are centimetres, or
hundredths of the distance between neighbouring cameras where the recording has no metres. NEES is the squared
error in standard deviations of the stated covariance: six of a true one. Writes results/focal_lengths.md.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import torch
from scripts import run, table_parser, write_table

from dsac import Localizer, Scene, load_scene
from dsac.datasets.frame import Focal
from dsac.evaluation.metrics import camera_spacing
from dsac.ransac import refocused


@dataclass(frozen=True)
class Row:
    how: Focal
    factors: tuple[float, ...]

    @property
    def label(self) -> str:
        return f"{self.how}, " + " ".join(f"{factor:g}" for factor in self.factors)


ROWS = [
    Row("known", (1.0,)),
    Row("known", (1.037,)),
    Row("rough", (0.9, 0.95, 1.05, 1.1)),
    Row("unknown", (0.6, 1.0, 1.6)),
    Row("assumed", (1.0,)),
    Row("assumed", (0.8, 1.2)),
]
assert {row.how for row in ROWS} == set(get_args(Focal))


def measured(localizer: Localizer, scene: Scene, rows: list[int], row: Row, unit: float) -> str:
    """A line of the table."""
    asked, errors, angles, squares, focal, times = scene.query[rows].without_depth(), [], [], [], [], []
    for i in range(len(asked)):
        factor = row.factors[i % len(row.factors)]
        one = asked[[i]]
        told = replace(one, cameras=[refocused(camera, factor) for camera in one.cameras], focal=(row.how,))
        answer = next(localizer.localize_frames(told))
        times.append(answer.timing.total_ms)
        if not answer.success:
            continue
        assert one.cam_from_world is not None
        truth = one.cam_from_world[0]
        errors.append(answer.cam_from_world.center_distance(truth).item() / unit)
        angles.append(answer.cam_from_world.rotation_error_deg(truth).item())
        error = (truth @ answer.cam_from_world.inverse()).log()
        squares.append(float(error @ torch.linalg.solve(answer.covariance.double(), error)))
        focal.append(100 * abs(math.log(answer.focal_px / one.camera(0).focal_px[0].item())))
    within = 100 * np.sum(np.array(errors) < 5) / len(asked)
    return (
        f"| {row.label} | {len(errors)} of {len(asked)} | {within:.0f} | {np.median(errors):.2f} | "
        f"{np.quantile(errors, 0.9):.2f} | {np.median(angles):.3f} | {np.median(squares):.0f} | "
        f"{np.median(focal):.2f} | {np.median(times):.0f} |"
    )


def measure(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    lines = [
        "# Focal lengths that are wrong or not known",
        "",
        f"`python benchmarks/focal_lengths.py MAP SCENE --every {arguments.every}`, one thread; medians.",
    ]
    for map_file, path in zip(arguments.inputs[::2], arguments.inputs[1::2], strict=True):
        localizer, scene = Localizer.load(map_file), load_scene(path)
        localizer.warm_up()
        scene = scene if len(scene.query) else replace(scene, query=_not_learned(localizer, scene))
        truth = scene.mapping.cam_from_world
        assert truth is not None
        unit = 0.01 if scene.metric else 0.01 * camera_spacing(truth.center)
        rows = list(range(0, len(scene.query), arguments.every))
        lines += [
            "",
            f"{path.rstrip('/').rpartition('/')[2]}, in {'cm' if scene.metric else 'spacings / 100'}:",
            "",
        ]
        lines += [
            "| told | localized | % within 5 | median | 90 % | ° | NEES | focal length off, % | ms |",
            "|---" * 9 + "|",
        ]
        for row in ROWS:
            lines.append(measured(localizer, scene, rows, row, unit))
            print(lines[-1], flush=True)
    write_table(arguments.output, "focal_lengths.md", lines)


def _not_learned(localizer: Localizer, scene: Scene):
    return scene.mapping[np.flatnonzero(~localizer.scene_map.learned_from(scene.mapping)).tolist()]


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("inputs", nargs="+", metavar="MAP SCENE")
    parser.add_argument("--every", type=int, default=4, help="one of so many queries")
    run(parser, measure)


if __name__ == "__main__":
    main()
