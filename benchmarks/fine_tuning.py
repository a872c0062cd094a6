"""Which settings of fine-tuning pay, judged on mapping frames that were left out of everything.

    python benchmarks/fine_tuning.py 7scenes/redkitchen held_out.dsac

Two tenths of the mapping frames are left out: one in the middle of the recording, between cameras that are
mapped, and one at its end, beyond them. The rest is mapped (into the map file, if it is not there yet) and then
fine-tuned with one setting after the other; each is judged by the photos left out and two augmented views of
each, localized as `dsac localize` does. Query frames are not read. Writes results/fine_tuning.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from end_to_end import encoded_queries, to_the_end
from scripts import run, table_parser

from dsac import build_map, load_scene
from dsac.cli import keep_freed_memory
from dsac.localizer import query_solver
from dsac.mapping.fine_tuning import trainable_map, tuning_views
from dsac.mapping.pose_learner import PoseLearner, train_on_poses, validation_error
from dsac.mapping.settings import FineTuningSettings
from dsac.mapping.trainable_map import TrainableMap, TuningView
from dsac.scene_map import SceneMap

CPU = torch.device("cpu")
DEFAULT = FineTuningSettings()
SETTINGS = {
    "defaults": DEFAULT,
    "another seed": DEFAULT,
    "rate 1e-5": replace(DEFAULT, learning_rate=1e-5),
    "rate 1e-4": replace(DEFAULT, learning_rate=1e-4),
    "240 steps": replace(DEFAULT, steps=240),
    "SoftAM": replace(DEFAULT, selection="softam"),
    "argmax": replace(DEFAULT, selection="argmax"),
    "temperature 10": replace(DEFAULT, temperature=10.0),
    "temperature 0.3": replace(DEFAULT, temperature=0.3),
    "8 images, 60 steps": replace(DEFAULT, images_per_step=8, steps=60),
}


@torch.no_grad()
def figures(model: TrainableMap, views: list[TuningView]) -> str:
    """Cells of a table: % within 5 cm 5°, 2 cm 2°, 1 cm 1°, median cm."""
    solver, degrees, centimetres = query_solver(), [], []
    for view in views:
        correspondences = model.correspondences([view])
        pose, truth = solver(correspondences).cam_from_world, view.cam_from_world.to(correspondences.pixels)
        degrees.append(pose.rotation_error_deg(truth).item())
        centimetres.append(100 * pose.center_distance(truth).item())
    worse = torch.maximum(torch.tensor(degrees), torch.tensor(centimetres))
    percent = [f"{100 * (worse < bound).float().mean().item():.0f}" for bound in (5, 2, 1)]
    return " / ".join([*percent, f"{torch.tensor(centimetres).median().item():.2f}"])


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("scene")
    parser.add_argument("map", type=Path)
    run(parser, compare)


def compare(arguments: argparse.Namespace) -> None:
    """Raises: `DsacError` for a scene or map that cannot be used."""
    torch.set_num_threads(1)
    keep_freed_memory()
    frames = load_scene(arguments.scene).mapping
    count, tenth = len(frames), len(frames) // 10
    middle = range(count * 9 // 20, count * 9 // 20 + tenth)
    end = range(count - tenth, count)
    rest = frames[[i for i in range(count) if i not in middle and i not in end]]
    if not arguments.map.is_file():
        build_map(rest, source=arguments.scene).save(arguments.map)
    scene_map = SceneMap.load(arguments.map)
    encoder = scene_map.load_encoder()
    views = tuning_views(rest, scene_map, encoder, DEFAULT, CPU, seed=0)
    left_out = []
    for block in (middle, end):
        of_block = tuning_views(frames[list(block)], scene_map, encoder, DEFAULT, CPU, seed=1)
        photos = [query.view for query in encoded_queries(frames[list(block)], scene_map, encoder)]
        left_out.append([*photos, *of_block.training, *of_block.validation])

    lines = [
        "# Settings of fine-tuning",
        "",
        f"{len(rest)} mapping frames of {Path(arguments.scene).name}, mapped and fine-tuned on.",
        f"Middle, end: {tenth} photos there, left out of both, and 2 views of each: % within 5 cm 5° /",
        "2 cm 2° / 1 cm 1° / median cm. Validation: mean error of views of frames that were mapped.",
        "",
        "`python benchmarks/fine_tuning.py SCENE MAP`",
        "",
        "| | validation | middle | end |",
        "|---|---|---|---|",
    ]
    start = trainable_map(scene_map, encoder, DEFAULT, CPU, 0)
    lines.append("| start | | " + " | ".join(figures(start, part) for part in left_out) + " |")
    for name, settings in SETTINGS.items():
        model = trainable_map(scene_map, encoder, settings, CPU, 0)
        learner = PoseLearner(model, views, settings, seed=1 if name == "another seed" else 0)
        to_the_end(train_on_poses(learner))
        last = validation_error(model, model.as_saved(), views.validation)
        model.load_state_dict(model.as_saved())
        cells = " | ".join(figures(model, part) for part in left_out)
        lines.append(f"| {name} | {learner.best.start_error:.2f} → {last:.2f} | {cells} |")
        print(lines[-1], flush=True)
        (arguments.output / "fine_tuning.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
