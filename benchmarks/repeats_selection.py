"""The paper's three selections where a place repeats itself, along the dial of how much repeats differ.

    python benchmarks/repeats_selection.py [--scenes corridor stairs facade] [--difference 0 0.5 1]

Scene coordinates alone, without landmarks: each rendered place is mapped by a head of one mode and one of
several, and its queries are answered by argmax, SoftAM and DSAC (a draw) from pools that they share, before and
after each was trained end to end with its own expected loss. A pose counts as right within 30 cm and 5 degrees,
as a *wrong repeat* where it is right but for whole repeats. Measurements go to repeats_selection.jsonl, one a
line, and are not repeated when the command runs again; the table goes to repeats_selection.md.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from end_to_end import CPU, NAMES, SELECTIONS, Query, encoded_queries, to_the_end
from repeats import SCENES
from scripts import add_record, read_records, run, table_parser, write_table
from torch import Tensor

from dsac import Pose, PoseSolver, load_scene
from dsac.mapping import MappingSettings, build_map
from dsac.mapping.fine_tuning import trainable_map, tuning_views
from dsac.mapping.pose_learner import PoseLearner, TuningViews, train_on_poses
from dsac.mapping.settings import FineTuningSettings
from dsac.mapping.trainable_map import TrainableMap
from dsac.ransac import DSAC, Argmax, MaxError, SampledDSAC, SoftAM, entropy_bits, probabilities
from dsac.ransac.selection import Selection
from dsac.rooms import Repeats, write_scene

NEAR_CM, NEAR_DEG, MOST = 30.0, 5.0, 100.0  # the loss is degrees or centimetres, at most 100
RESULTS = "repeats_selection.jsonl"


@dataclass(frozen=True)
class Measurement:
    """One selection on all queries of a place."""

    place: str
    difference: float
    modes: int
    selection: str
    trained: bool  # end to end
    right: float  # percent of the answers
    wrong_repeat: float  # percent
    loss: float  # expected: of the answer, for DSAC over its probabilities
    entropy: float  # bits, of 64 hypotheses

    @property
    def key(self) -> tuple[str, float, int, str, bool]:
        return self.place, self.difference, self.modes, self.selection, self.trained


@torch.no_grad()
def measured(
    model: TrainableMap, queries: list[Query], repeats: Repeats, selections: tuple[str, ...], temperature: float
) -> dict[str, dict[str, float]]:
    """The figures of each selection, on the same pools."""
    solver = PoseSolver.rgb()
    generator = torch.Generator().manual_seed(0)
    answers: dict[str, Selection] = {
        "argmax": Argmax(),
        "softam": SoftAM(temperature),
        "dsac": SampledDSAC(1, temperature),
    }
    expected: dict[str, Selection] = {**answers, "dsac": DSAC(temperature)}
    found: dict[str, list[tuple[bool, bool, float]]] = {name: [] for name in selections}
    entropies = []
    for query in queries:
        rows, truth = model.correspondences([query.view]), query.view.cam_from_world
        pool = solver.hypotheses(rows, generator)
        entropies.append(entropy_bits(probabilities(pool, temperature)).item())
        for name in selections:
            answer = replace(solver, selection=answers[name]).refined(pool, rows, generator)
            weighed = replace(solver, selection=expected[name]).refined(pool, rows, generator)
            losses = bounded_loss(weighed.cam_from_world[0], truth)
            right, repeat = verdict(answer.cam_from_world[0, 0], truth, repeats)
            found[name].append((right, repeat, (weighed.weights[0] * losses).sum().item()))
    entropy = statistics.mean(entropies)
    return {
        name: {
            "right": 100 * statistics.mean(right for right, _, _ in of_photos),
            "wrong_repeat": 100 * statistics.mean(repeat for _, repeat, _ in of_photos),
            "loss": statistics.mean(loss for _, _, loss in of_photos),
            "entropy": entropy,
        }
        for name, of_photos in found.items()
    }


def bounded_loss(poses: Pose, truth: Pose) -> Tensor:
    """The paper's loss of poses (batch (K,)), at most 100: what is lost is no worse than what is a room off."""
    loss = MaxError()(poses.to(torch.float64), truth.to(torch.float64))
    return torch.nan_to_num(loss, nan=MOST).clamp(max=MOST)


def verdict(pose: Pose, truth: Pose, repeats: Repeats) -> tuple[bool, bool]:
    """Whether a pose is right, and whether it would be from another repeat."""
    pose, truth = pose.to(CPU, torch.float64), truth.to(CPU, torch.float64)
    if not pose.rotation_error_deg(truth).item() < NEAR_DEG:
        return False, False
    steps = repeats.steps_off(pose, truth)
    there = repeats.moved(truth, steps)
    near = 100 * pose.center_distance(there).item() < NEAR_CM
    return near and not steps.any().item(), near and bool(steps.any())


def measurements(
    name: str, difference: float, modes: list[int], arguments: argparse.Namespace, done: set
) -> Iterator[Measurement]:
    """What is not yet done of a place at one stop of the dial."""

    def missing(number: int) -> list[tuple[str, bool]]:
        wanted = [(selection, trained) for selection in SELECTIONS for trained in (False, True)]
        return [key for key in wanted if (name, difference, number, *key) not in done]

    if not any(missing(number) for number in modes):
        return
    render, repeats = SCENES[name]
    with tempfile.TemporaryDirectory() as folder:
        rendered = render(*arguments.frames, size=(320, 240), difference=difference)
        write_scene(rendered, Path(folder), lambda done, total: None)
        scene = load_scene(folder)
        for number in modes:
            wanted = missing(number)
            if not wanted:
                continue
            settings = MappingSettings(num_modes=number, steps=arguments.steps, num_landmarks=0)
            scene_map = build_map(scene, settings)
            encoder, tuning = scene_map.load_encoder(), FineTuningSettings(steps=arguments.tuning_steps)
            queries = encoded_queries(scene.query, scene_map, encoder)
            views = tuning_views(scene.mapping, scene_map, encoder, tuning, CPU, seed=0)
            start = trainable_map(scene_map, encoder, tuning, CPU, 0)
            untrained = measured(start, queries, repeats, SELECTIONS, tuning.temperature)
            for selection, trained in wanted:
                figures = untrained[selection]
                if trained:
                    model = tuned(start, views, replace(tuning, selection=selection))
                    figures = measured(model, queries, repeats, (selection,), tuning.temperature)[selection]
                yield Measurement(name, difference, number, selection, trained, **figures)


def tuned(start: TrainableMap, views: TuningViews, settings: FineTuningSettings) -> TrainableMap:
    """Trained end to end; as it was where that gains nothing on the validation slice."""
    model = copy.deepcopy(start)
    learner = PoseLearner(model, views, settings, seed=0)
    to_the_end(train_on_poses(learner))
    model.load_state_dict(learner.best.weights)
    return model


def table(found: list[Measurement]) -> list[str]:
    lines = [
        "| place, difference, modes | bits | "
        + " | ".join(f"{NAMES[name]} {how}" for how in ("componentwise", "end to end") for name in SELECTIONS)
        + " |",
        "|---" * (2 + 2 * len(SELECTIONS)) + "|",
    ]
    by_key = {m.key: m for m in found}
    for place, difference, modes in dict.fromkeys((m.place, m.difference, m.modes) for m in found):
        cells = []
        for trained in (False, True):
            for selection in SELECTIONS:
                m = by_key.get((place, difference, modes, selection, trained))
                cells.append("" if m is None else f"{m.right:.0f} / {m.wrong_repeat:.0f} / {m.loss:.0f}")
        bits = next(m.entropy for m in found if m.key[:3] == (place, difference, modes))
        lines.append(f"| {place} {difference:g}, {modes} | {bits:.1f} | " + " | ".join(cells) + " |")
    return lines


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    path = arguments.output / RESULTS

    def found() -> list[Measurement]:
        return [Measurement(**record) for record in read_records(path)]

    done = {m.key for m in found()}
    for name in arguments.scenes:
        for difference in arguments.difference:
            for m in measurements(name, difference, arguments.modes, arguments, done):
                add_record(path, asdict(m))
                print(m, flush=True)
    write_table(arguments.output, "repeats_selection.md", [_ABOUT, "", *table(found())])


_ABOUT = """# Selections where a place repeats itself

`python benchmarks/repeats_selection.py`: scene coordinates alone, exact truth, one seed. In each cell: percent
of the photos right (30 cm, 5 degrees) / at a wrong repeat / expected loss (degrees or cm, at most 100).
Bits: the entropy of the probabilities of 64 hypotheses before training."""


if __name__ == "__main__":
    parser = table_parser(__doc__)
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--difference", nargs="+", type=float, default=[0.0, 0.5, 1.0])
    parser.add_argument("--modes", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--tuning-steps", type=int, default=80)
    parser.add_argument("--frames", nargs=2, type=int, default=[120, 50], help="for mapping, for queries")
    run(parser, main)
