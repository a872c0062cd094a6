"""The paper's table on a scene: argmax, SoftAM and DSAC, componentwise and end to end, two ways of scoring.

    dsac map 7scenes/redkitchen kitchen.dsac
    python benchmarks/end_to_end.py kitchen.dsac 7scenes/redkitchen

Each cell is trained with its own selection (the settings of `dsac fine-tune`) and answers with it: argmax the
best-scored of 64 hypotheses, SoftAM their mean, DSAC a draw, each refined. A last row has the poses of
`dsac localize`. The seed varies the draws of queries and training, and the score network, not map and views.
Measurements go to results/end_to_end.jsonl, one a line, and are not repeated when the command runs again; the
table goes to results/end_to_end.md.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from scripts import add_record, read_records
from torch import Tensor

from dsac import Pose, PoseSolver, load_scene
from dsac.cli import keep_freed_memory
from dsac.datasets import Frames
from dsac.mapping.fine_tuning import trainable_map, tuning_views
from dsac.mapping.pose_learner import PoseLearner, ScoreLearner, TuningViews, train_on_poses
from dsac.mapping.settings import FineTuningSettings
from dsac.mapping.trainable_map import TrainableMap, TuningView
from dsac.mapping.training import Standing, train
from dsac.mapping.views import plain_view
from dsac.networks.encoder import Encoder, working_size
from dsac.ransac import Argmax, SampledDSAC, SoftAM, entropy_bits, probabilities
from dsac.ransac.selection import Selection
from dsac.scene_map import SceneMap

RESULTS = Path(__file__).parent / "results"
SCORINGS = ("soft-count", "score-network")
SELECTIONS = ("argmax", "softam", "dsac")
NAMES = {"argmax": "argmax", "softam": "SoftAM", "dsac": "DSAC"}
LOCALIZE = "dsac localize"  # what users run: the fused solver on the map that was trained with DSAC
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Measurement:
    """One estimator on all query frames."""

    scoring: str
    selection: str
    trained: bool  # end to end
    seed: int
    percent_5cm_5deg: float
    percent_2cm_2deg: float
    median_cm: float
    entropy_bits: float
    inlier_percent: float  # of the cells with known depth within 10 cm of the truth

    @property
    def key(self) -> tuple[str, str, bool, int]:
        return self.scoring, self.selection, self.trained, self.seed


METRICS = {
    "percent_5cm_5deg": "% within 5 cm 5°",
    "percent_2cm_2deg": "% within 2 cm 2°",
    "median_cm": "median error, cm",
    "entropy_bits": "entropy of the 64 probabilities, bits",
    "inlier_percent": "% of scene coordinates within 10 cm",
}


@dataclass(frozen=True)
class Query:
    view: TuningView
    scene_points: Tensor  # (N, 3), NaN where the depth is unknown


def encoded_queries(frames: Frames, scene_map: SceneMap, encoder: Encoder) -> list[Query]:
    queries = []
    for i in range(len(frames)):
        frame = frames[i]
        size = working_size(frame.camera.size, scene_map.info.short_side_px, encoder.size_multiple)
        view = plain_view(frame, size, encoder.stride)
        with torch.no_grad():
            features = encoder(view.image[None])[0]
        camera = view.camera.to(CPU, torch.float32)
        known = TuningView(features, view.inside > 0, camera, view.cam_from_world)
        queries.append(Query(known, view.scene_points.reshape(-1, 3)))
    return queries


def to_the_end(standing: Standing) -> None:
    """Ctrl-C ends a training in good order, and a benchmark at once."""
    if standing.interrupted:
        raise KeyboardInterrupt


@torch.no_grad()
def measure(
    model: TrainableMap,
    queries: list[Query],
    selections: tuple[str, ...],
    settings: FineTuningSettings,
    seed: int,
) -> dict[str, dict[str, float]]:
    """The figures of each selection, on pools that they share."""
    temperature = settings.temperature
    chosen: dict[str, Selection] = {
        "argmax": Argmax(),
        "softam": SoftAM(temperature),
        "dsac": SampledDSAC(1, temperature),
    }
    solver = PoseSolver.rgb(scoring=model.scoring.part(model.score_network))
    generator = torch.Generator().manual_seed(seed)
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name in selections}
    entropies, inliers = [], []
    for query in queries:
        correspondences = model.correspondences([query.view])
        hypotheses = solver.hypotheses(correspondences, generator)
        entropies.append(entropy_bits(probabilities(hypotheses, temperature)).item())
        distance = (correspondences.scene_points[0] - query.scene_points).norm(dim=-1)
        inliers.append((distance[distance.isfinite()] < 0.1).float().mean().item())
        for name in selections:
            if name == LOCALIZE:
                pose = model.scoring.solver(model.score_network)(correspondences, generator).cam_from_world[0]
            else:
                answering = replace(solver, selection=chosen[name])
                pose = answering.refined(hypotheses, correspondences, generator).cam_from_world[0, 0]
            errors[name].append(_error(pose, query.view.cam_from_world))
    shared = {
        "entropy_bits": statistics.mean(entropies),
        "inlier_percent": 100 * statistics.mean(inliers),
    }
    return {name: {**_figures(of_name), **shared} for name, of_name in errors.items()}


def _error(pose: Pose, truth: Pose) -> tuple[float, float]:
    """Degrees, centimetres."""
    pose = pose.to(CPU, torch.float64)
    return pose.rotation_error_deg(truth).item(), 100 * pose.center_distance(truth).item()


def _figures(errors: list[tuple[float, float]]) -> dict[str, float]:
    def percent_within(bound: float) -> float:
        return 100 * statistics.mean(max(error) < bound for error in errors)

    return {
        "percent_5cm_5deg": percent_within(5),
        "percent_2cm_2deg": percent_within(2),
        "median_cm": statistics.median(centimetres for _, centimetres in errors),
    }


def measurements(
    scene_map: SceneMap, queries: list[Query], views: TuningViews, encoder: Encoder, scoring: str, seed: int,
    settings: FineTuningSettings, done: set[tuple[str, str, bool, int]],
) -> Iterator[Measurement]:  # fmt: skip
    """What is not yet done of one seed and scoring."""
    localize = (LOCALIZE,) if scoring == "soft-count" else ()
    wanted = {
        (name, trained)
        for name, trained in itertools.product(SELECTIONS, (False, True))
        if (scoring, name, trained, seed) not in done
    }
    if not wanted:
        return
    settings = replace(settings, scoring=scoring)
    start = trainable_map(scene_map, encoder, settings, CPU, seed)
    if start.score_network is not None:
        to_the_end(train(ScoreLearner(start, views.training, settings, seed), steps=settings.score_steps))
    if any(not trained for _, trained in wanted):
        figures = measure(start, queries, (*SELECTIONS, *localize), settings, seed)
        yield from (Measurement(scoring, name, False, seed, **values) for name, values in figures.items())
    for selection in SELECTIONS:
        if (selection, True) not in wanted:
            continue
        model = copy.deepcopy(start)
        learner = PoseLearner(model, views, replace(settings, selection=selection), seed)
        to_the_end(train_on_poses(learner))
        model.load_state_dict(learner.best.weights)
        names = (selection, *(localize if selection == "dsac" else ()))
        for name, values in measure(model, queries, names, settings, seed).items():
            yield Measurement(scoring, name, True, seed, **values)


def table(found: list[Measurement], command: str, about: str) -> str:
    lines = ["# The paper's table", "", about, "", f"`{command}`", ""]
    for field, heading in METRICS.items():
        lines += [f"## {heading}", ""]
        columns = [
            f"{scoring}: {what}" for scoring in SCORINGS for what in ("componentwise", "end to end", "change")
        ]
        lines += ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for selection in (*SELECTIONS, LOCALIZE):
            cells = [
                cell
                for scoring in SCORINGS
                for cell in _cells(field, [m for m in found if m.scoring == scoring], selection)
            ]
            lines.append(f"| {NAMES.get(selection, selection)} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cells(field: str, found: list[Measurement], selection: str) -> tuple[str, str, str]:
    """Before, after, and the change of the seeds that have both."""
    before, after = (
        {m.seed: getattr(m, field) for m in found if m.selection == selection and m.trained == trained}
        for trained in (False, True)
    )
    change = [after[seed] - before[seed] for seed in before.keys() & after.keys()]
    return _spread([*before.values()]), _spread([*after.values()]), _spread(change, sign="+")


def _spread(values: list[float], sign: str = "") -> str:
    """Mean ± standard deviation."""
    if not values:
        return ""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{sign}.2f} ± {deviation:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("map", type=Path)
    parser.add_argument("scene")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--every", type=int, default=1, help="use every k-th query frame")
    parser.add_argument("--measurements", type=Path, default=RESULTS / "end_to_end.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()

    def found() -> list[Measurement]:
        return [Measurement(**record) for record in read_records(arguments.measurements)]

    scene, scene_map = load_scene(arguments.scene), SceneMap.load(arguments.map)
    frames, settings = scene.query[:: arguments.every], FineTuningSettings()
    jobs = list(itertools.product(SCORINGS, arguments.seeds))
    done = {m.key for m in found()}
    if any(
        (scoring, name, t, s) not in done for scoring, s in jobs for name in SELECTIONS for t in (False, True)
    ):
        encoder = scene_map.load_encoder()
        queries = encoded_queries(frames, scene_map, encoder)
        views = tuning_views(scene.mapping, scene_map, encoder, settings, CPU, seed=0)
        for scoring, seed in jobs:
            for m in measurements(scene_map, queries, views, encoder, scoring, seed, settings, done):
                add_record(arguments.measurements, asdict(m))
                print(m, flush=True)
    seeds = "; ".join(
        f"{scoring}: {', '.join(map(str, sorted({m.seed for m in found() if m.scoring == scoring})))}"
        for scoring in SCORINGS
    )
    about = (
        f"Mean ± standard deviation over seeds ({seeds}); {len(frames)} query frames of "
        f"{Path(arguments.scene).name}; {settings.steps} training steps."
    )
    every = "" if arguments.every == 1 else f" --every {arguments.every}"
    command = f"python benchmarks/end_to_end.py MAP SCENE{every}"
    text = table(found(), command, about)
    (RESULTS / "end_to_end.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
