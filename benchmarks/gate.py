"""What training a gate and its experts together gains: the right region first, and the loss that is expected.

    python benchmarks/gate.py MAP TUNED SCENE [SCENE ...] [--steps 120] [--every 2]

MAP has several regions, of one recording or, merged `--apart`, of several. It is fine-tuned on the mapping
frames of each scene, one after the other, into TUNED, unless that is there already. Both are judged by the
query frames: how often the right region is the likeliest, how many are about as likely and would be looked at,
and what is expected of scene coordinates alone, see `RegionLearner.judge_start`. Right are the regions
that know mapping frames of the query frame's folder, as the rooms of a rendered building have, or else any of
its scene. Writes results/gate.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from end_to_end import CPU, to_the_end
from scripts import run, table_parser, write_table

from dsac import Frames, Scene, load_scene
from dsac.atlas import Atlas
from dsac.evaluation import with_queries
from dsac.mapping import FineTuningSettings, fine_tune_regions
from dsac.mapping.pose_learner import TuningViews
from dsac.mapping.region_learner import Experts, RegionLearner
from dsac.mapping.region_tuning import Eyes, of_one_world, own_regions
from dsac.mapping.trainable_gate import SHARPNESS, TrainableGate
from dsac.mapping.trainable_map import TuningView
from dsac.mapping.training import Standing
from dsac.mapping.views import plain_view
from dsac.networks.encoder import Encoder, working_size

_LOOKED_AT = 0.03  # below the likeliest, as of a query


class Judged(NamedTuple):
    """What a gate and its experts make of query frames."""

    first: float  # share for which a right region is the likeliest
    two: float  # or the second
    chance: float  # mean probability of the right regions
    looked_at: float  # mean number of regions about as likely as the first
    expected: float  # loss, of right and wrong regions by their probabilities


def views_of(frames: Frames, atlas: Atlas, encoder: Encoder) -> list[TuningView]:
    """The frames themselves, encoded."""
    info = atlas.regions[0].info
    eyes, views = Eyes(encoder, info.short_side_px, CPU), []
    for i in range(len(frames)):
        frame = frames[i]
        size = working_size(frame.camera.size, info.short_side_px, encoder.size_multiple)
        view = plain_view(frame, size, encoder.stride)
        with torch.inference_mode():
            content = encoder(view.image[None])[0].clone()
        camera = view.camera.to(CPU, torch.float32)
        seen = TuningView(
            content, view.inside > 0, camera, view.cam_from_world, frame.name, eyes(view, content)
        )
        views.append(seen)
    return views


def right_regions(atlas: Atlas, among: Sequence[int], name: str) -> list[int]:
    """Those of a world that know frames of the same folder; all of them where none does."""
    folder = name.rpartition("/")[0]
    known = [
        row
        for row in among
        if any(frame.rpartition("/")[0] == folder for frame in atlas.regions[row].info.frames)
    ]
    return known or list(among)


def judged(atlas: Atlas, among: Sequence[int], views: list[TuningView]) -> Judged:
    """`among`: the regions of the world that the views are in."""
    gate = TrainableGate([r.words for r in atlas.regions if r.words is not None], [True] * len(atlas))
    settings = FineTuningSettings()
    learner = RegionLearner(
        Experts(atlas, settings, CPU), gate, TuningViews([], views), {}, among, settings, seed=0
    )
    with torch.no_grad():
        log_gate = gate([view.cells for view in views if view.cells is not None])
    right = torch.zeros(log_gate.shape, dtype=torch.bool)
    for row, view in zip(right, views, strict=True):
        row[right_regions(atlas, among, view.name)] = True
    order = log_gate.argsort(1, descending=True)
    best = right.gather(1, order)
    near = log_gate > log_gate.amax(1, keepdim=True) - SHARPNESS * _LOOKED_AT
    return Judged(
        best[:, 0].double().mean().item(),
        best[:, :2].any(1).double().mean().item(),
        (log_gate.exp() * right).sum(1).mean().item(),
        near.sum(1).double().mean().item(),
        learner.judge_start(),
    )


def tuned_on(atlas: Atlas, scenes: list[Scene], steps: int) -> tuple[Atlas, list[str]]:
    """The map after all scenes, and what each training said of its validation slice."""
    told = []
    for scene in scenes:
        atlas, record = fine_tune_regions(atlas, scene, FineTuningSettings(steps=steps))
        to_the_end(Standing(interrupted=record["interrupted"]))
        before, after = record["validation_before"], record["validation_after"]
        told.append(
            f"{Path(scene.path).name}: {before:.2f} before, {after:.2f} after, best at step "
            f"{record['best_step']} of {record['trained_steps']}, {record['seconds']:.0f} s"
        )
    return atlas, told


def row(label: str, of: Judged) -> str:
    shares = " | ".join(f"{100 * share:.1f}" for share in of[:3])
    return f"| {label} | {shares} | {of.looked_at:.2f} | {of.expected:.2f} |"


def compare(arguments: argparse.Namespace) -> None:
    """Raises: `DsacError` for scenes or a map that cannot be used."""
    torch.set_num_threads(1)
    before = Atlas.load(arguments.map)
    scenes = [load_scene(path) for path in arguments.scenes]
    lines = _head(arguments)
    if not arguments.tuned.is_file():
        tuned, told = tuned_on(before, scenes, arguments.steps)
        tuned.save(arguments.tuned)
        lines += [*told, ""]
    after = Atlas.load(arguments.tuned)
    encoder = before.regions[0].read().load_encoder()
    lines += [
        "| query frames | % right first | first or second | % chance of the right | looked at | expected |",
        "|---|---|---|---|---|---|",
    ]
    for scene in scenes:
        name = Path(scene.path).name
        taught = own_regions(before, scene.mapping[:: max(1, len(scene.mapping) // 50)])
        among = of_one_world(before, [r for regions in taught.values() for r in regions])
        queries = with_queries(scene, before).query[:: arguments.every].without_depth().without_damaged()
        views = views_of(queries, before, encoder)
        lines.append(row(f"{name}, {len(views)}, before", judged(before, among, views)))
        lines.append(row(f"{name}, after", judged(after, among, views)))
    write_table(arguments.output, "gate.md", lines)


def _head(arguments: argparse.Namespace) -> list[str]:
    scenes = " ".join(Path(path).name for path in arguments.scenes)
    return [
        "# Gate and experts, trained together",
        "",
        f"`python benchmarks/gate.py {arguments.map.name} {arguments.tuned.name} {scenes} --steps "
        f"{arguments.steps} --every {arguments.every}`, one thread.",
        "",
    ]


if __name__ == "__main__":
    parser = table_parser(__doc__)
    parser.add_argument("map", type=Path)
    parser.add_argument("tuned", type=Path)
    parser.add_argument("scenes", nargs="+", metavar="SCENE")
    parser.add_argument("--steps", type=int, default=FineTuningSettings().steps)
    parser.add_argument("--every", type=int, default=2, help="query frames, one in so many")
    run(parser, compare)
