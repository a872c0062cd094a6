"""What becomes of photos of rendered places that repeat themselves, along the dial of how much repeats differ.

    python benchmarks/repeats.py [--scenes corridor stairs facade] [--difference 0 0.5 1] [--modes 1 8]

Each place is rendered (160 mapping and 50 query frames, 480×360), mapped with heads of so many modes, and its
queries are localized twice: by a map that knows nothing of look-alikes, and by one that does. A photo *tells*
where it was taken if no other repeat would look the same. Writes results/repeats.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scripts import run, table_parser, write_table

from dsac import Localizer, Scene, load_scene
from dsac.mapping import MappingSettings, build_map
from dsac.ransac import alternatives
from dsac.rooms import Repeats, corridor_scene, facade_scene, lookalikes, staircase_scene, write_scene
from dsac.rooms.corridor import CORRIDOR
from dsac.rooms.staircase import STAIRCASE
from dsac.rooms.street_front import FACADE

SCENES = {
    "corridor": (corridor_scene, CORRIDOR),
    "stairs": (staircase_scene, STAIRCASE),
    "facade": (facade_scene, FACADE),
}
NEAR, NEAR_BY_CELLS = 0.05, 0.3  # metres; scene coordinates alone are not exact


@dataclass(frozen=True)
class Told:
    """What was answered for a photo."""

    localized: bool
    right: bool  # the first place is
    named: bool  # one of the places is
    probability: float  # of the first
    ms: float


def asked(localizer: Localizer, scene: Scene) -> list[Told]:
    told = []
    for frame in scene.query.without_depth():
        assert frame.cam_from_world is not None
        started = time.perf_counter()
        answer = localizer.localize(frame.image, frame.camera)
        ms = 1e3 * (time.perf_counter() - started)
        off = [p.cam_from_world.center_distance(frame.cam_from_world).item() < NEAR for p in answer.places]
        told.append(Told(bool(answer.success), off[0], any(off), answer.places[0].probability, ms))
    return told


def by_cells(localizer: Localizer, scene: Scene) -> str:
    """A line about the scene coordinates alone: their answer, and the others that their modes support."""
    first, named, number = [], [], []
    for frame in scene.query.without_depth():
        assert frame.cam_from_world is not None
        rows = localizer.regressor.predict(
            localizer.regressor.encode(frame.image[None], frame.camera), frame.camera
        )
        estimate = localizer.solver(rows)
        found = [estimate, *alternatives(localizer.solver, rows, estimate)]
        poses = [localizer.scene_map.in_world(pose.cam_from_world)[0] for pose in found]
        off = [pose.center_distance(frame.cam_from_world).item() < NEAR_BY_CELLS for pose in poses]
        first.append(off[0])
        named.append(any(off))
        number.append(len(found))
    return f"{100 * np.mean(first):.0f} | {100 * np.mean(named):.0f} | {np.mean(number):.1f}"


def line(name: str, told: list[Told], telling: np.ndarray) -> str:
    """A line of the table; `telling` (N,) says which photos tell where they were taken."""
    localized, right, named, probability, ms = (
        np.array([getattr(t, key) for t in told], float)
        for key in ("localized", "right", "named", "probability", "ms")
    )
    wrong = localized * (1 - right)
    of_telling = 100 * (localized * right)[telling].mean() if telling.any() else float("nan")
    return (
        f"| {name} | {100 * localized.mean():.0f} | {100 * wrong.mean():.0f} | {of_telling:.0f} "
        f"| {100 * right.mean():.0f} | {100 * probability.mean():.0f} | {100 * named.mean():.0f} "
        f"| {np.median(ms):.0f} |"
    )


def measured(
    name: str, difference: float, modes: list[int], steps: int, counts: tuple[int, int]
) -> tuple[list[str], list[str]]:
    """Lines of the two tables."""
    render, repeats = SCENES[name]
    rendered = render(*counts, size=(480, 360), difference=difference)
    telling = _telling(rendered, repeats)
    lines, of_cells = [], []
    with tempfile.TemporaryDirectory() as folder:
        write_scene(rendered, Path(folder), lambda done, total: None)
        scene = load_scene(folder)
        for number in modes:
            settings = MappingSettings(num_modes=number, steps=steps, num_views=3 * counts[0])
            scene_map = build_map(scene, settings)
            good = scene_map.info.training["fraction_good"]
            what = f"{name} {difference:g}, modes {number}, {good:.0%} of the cells"
            print(f"{what}: {telling.mean():.0%} of the photos tell", flush=True)
            of_cells.append(f"| {what} | {by_cells(Localizer(scene_map), scene)} |")
            print(of_cells[-1], flush=True)
            for kind, asked_map in (
                ("without look-alikes", replace(scene_map, look_alikes=None)),
                (f"{scene_map.share_repeated:.0%} of the views look alike", scene_map),
            ):
                lines.append(line(f"{what}, {kind}", asked(Localizer(asked_map), scene), telling))
                print(lines[-1], flush=True)
    return lines, of_cells


def _telling(scene: Scene, repeats: Repeats) -> np.ndarray:
    query, room = scene.query, scene.query.reader.room  # type: ignore[attr-defined]
    assert query.cam_from_world is not None
    alike = [lookalikes(room, repeats, query.camera(i), query.cam_from_world[i]) for i in range(len(query))]
    return np.array([len(parts) == 1 for parts in alike])


def main(arguments: argparse.Namespace) -> None:
    lines = [
        "| place and difference, head, cells within 10 px | localized | of all photos wrong "
        "| of those that tell, right | first place right | its mean probability | right place named | ms |",
        "|" + "---|" * 8,
    ]
    of_cells = [
        "| place and difference, head, cells within 10 px | first pose right | one of them right | poses |",
        "|" + "---|" * 4,
    ]
    for name in arguments.scenes:
        for difference in arguments.difference:
            more = measured(name, difference, arguments.modes, arguments.steps, tuple(arguments.frames))
            lines += more[0]
            of_cells += more[1]
    write_table(arguments.output, "repeats.md", [_ABOUT, "", *lines, "", _OF_CELLS, "", *of_cells])


_ABOUT = """# Places that repeat themselves

`python benchmarks/repeats.py`: percent of the photos, truth exact, right means within 5 cm. A photo whose
likeliest place is not sure (below 0.7) is not *localized*, its places are named."""

_OF_CELLS = """Scene coordinates alone, without landmarks: the solver's pose and the others that the modes
support, right within 30 cm."""


if __name__ == "__main__":
    parser = table_parser(__doc__)
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--difference", nargs="+", type=float, default=[0.0, 0.5, 1.0])
    parser.add_argument("--modes", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--frames", nargs=2, type=int, default=[160, 50], help="for mapping, for queries")
    run(parser, main)
