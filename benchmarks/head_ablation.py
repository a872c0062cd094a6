"""Alternatives to how a head learns scene coordinates and a query asks for them, each a line of a table.

    python benchmarks/head_ablation.py 7scenes/redkitchen south-building [--rows "as it is" …] [--seeds 0 1]

Mapping frames alone, no landmarks. `near`: every third is mapped, others are asked; `far`: the last 36 % are
mapped, and of the first 60 % some are asked. Views are encoded once and shared by the rows that can. Writes
results/head_ablation.jsonl, a line a row and seed that is not made again, and results/head_ablation.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from scripts import add_record, read_records, run, table_parser, write_table
from torch import Tensor, nn

from dsac import Camera, Localizer, MappingSettings, Pose, build_map, load_scene
from dsac.cli import keep_freed_memory
from dsac.datasets import Frames
from dsac.mapping.buffer import FeatureBuffer, collect
from dsac.mapping.head_learner import one_cycle
from dsac.mapping.losses import BatchLoss, coordinate_loss, mapping_loss
from dsac.mapping.scene_shape import SceneShape
from dsac.mapping.triangulation import with_triangulated_depth
from dsac.mapping.views import Augmentation
from dsac.networks.encoder import fast_autocast, load_encoder
from dsac.networks.heads import HeadArchitecture, SceneCoordinates, SceneHead, with_noise
from dsac.ransac import Correspondences
from dsac.regressor import Regressor
from dsac.scene_map import SceneMap

SETTINGS = MappingSettings(steps=300, num_views=600, num_landmarks=0)
ASKED = 75  # frames of a part, at most
NO_AUGMENTATION = Augmentation(1.0, 1.0, 0.0, 0.0, 1.0, 0.0)


# ---- other heads -------------------------------------------------------------------------------------


class SomeFeatures(SceneHead):
    """Sees only some of the encoder's features."""

    channels = slice(None)

    def __init__(self, architecture: HeadArchitecture) -> None:
        number = len(range(architecture.num_features)[self.channels])
        super().__init__(replace(architecture, num_features=number))

    def whitened(self, features: Tensor) -> Tensor:
        return super().whitened(features[..., self.channels])

    def fit_normalisation(self, features: Tensor) -> None:
        super().fit_normalisation(features[..., self.channels])


class Fine(SomeFeatures):
    channels = slice(0, 40)


class Coarse(SomeFeatures):
    channels = slice(40, None)


class Standardised(SceneHead):
    """Features of zero mean and unit variance, but correlated."""

    @torch.no_grad()
    def fit_normalisation(self, features: Tensor) -> None:
        self.feature_mean.copy_(features.float().mean(0))
        self.feature_whitening.copy_(torch.diag(features.float().std(0).clamp_min(1e-6).reciprocal()))


class Euclidean(SceneHead):
    """A point instead of a homogeneous one."""

    def of_whitened(self, whitened: Tensor) -> SceneCoordinates:
        raw = self._raw(whitened)
        return SceneCoordinates(self.scene_center + self.scene_scale * raw[..., :3], self._scale(raw))

    def _raw(self, whitened: Tensor) -> Tensor:
        x = self.lift(whitened)
        for block in self.blocks:
            x = block(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.point(nn.functional.gelu(x).float())

    def _scale(self, raw: Tensor) -> Tensor:
        return raw[..., 4].clamp(-9.0, 3.0).exp()


class Clustered(Euclidean):
    """A weighted mean of places of the scene, and an offset from it."""

    places: Tensor

    def __init__(self, architecture: HeadArchitecture) -> None:
        super().__init__(architecture)
        self.point = nn.Linear(architecture.width, 5 + 50)
        self.register_buffer("places", torch.zeros(50, 3))

    def of_whitened(self, whitened: Tensor) -> SceneCoordinates:
        raw = self._raw(whitened)
        around = raw[..., 5:].softmax(-1) @ self.places
        return SceneCoordinates(around + 0.3 * self.scene_scale * raw[..., :3], self._scale(raw))


class WithContext(nn.Module):
    """A head that was learned on features beside the mean of all of their view's."""

    def __init__(self, head: SceneHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> SceneCoordinates:
        return self.head(torch.cat([features, features.mean(-2, keepdim=True).expand_as(features)], -1))


def with_context(buffer: FeatureBuffer) -> FeatureBuffer:
    """Each view's mean behind the features of its cells."""
    features, view = buffer.cells.features, buffer.cells.view.long()
    total = torch.zeros(len(buffer.cam_from_world), features.shape[1]).index_add_(0, view, features.float())
    count = torch.bincount(view, minlength=len(total)).clamp_min(1)
    mean = (total / count[:, None]).to(features.dtype)
    return replace(buffer, cells=replace(buffer.cells, features=torch.cat([features, mean[view]], 1)))


# ---- other queries -----------------------------------------------------------------------------------


class EqualCells(Regressor):
    """Predicted scales are not used."""

    def at_cells(self, *arguments: Any) -> Correspondences:
        return replace(super().at_cells(*arguments), weights=None)


class AllColumns(Regressor):
    def column_step(self, height: int, width: int) -> int:
        return 1


class SmallPhotos(Regressor):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.short_side_px = 320


class TwoScales(Regressor):
    """Cells of the photo at the map's size and at four thirds of it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.finer = Regressor(*arguments)
        self.finer.short_side_px = round(self.short_side_px * 4 / 3)

    def encode(self, images: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
        return super().encode(images, camera), self.finer.encode(images, camera)

    def predict(self, features: tuple[Tensor, Tensor], camera: Camera) -> Correspondences:
        one, more = super().predict(features[0], camera), self.finer.predict(features[1], camera)
        ratio = one.camera.size[0] / more.camera.size[0]
        assert one.weights is not None and more.weights is not None
        return replace(
            one,
            pixels=torch.cat([one.pixels, more.pixels * ratio], 1),
            scene_points=torch.cat([one.scene_points, more.scene_points], 1),
            weights=torch.cat([one.weights, more.weights], 1),
            grid=None,
        )


# ---- rows --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What differs from the way things are."""

    settings: MappingSettings = SETTINGS
    head: type[SceneHead] = SceneHead
    optimizer: Callable[..., torch.optim.Optimizer] = partial(torch.optim.AdamW, fused=True)
    average: float = 0.0  # decay of an exponential moving average of the weights
    harder_half: bool = False  # of twice as many cells
    loss: Callable[..., BatchLoss] = mapping_loss
    known_points: bool = True
    context: bool = False
    regressor: type[Regressor] = Regressor


def changed(**settings: Any) -> Row:
    return Row(replace(SETTINGS, **settings))


ROWS = {
    "as it is": Row(),
    "features of stride 8 alone": Row(head=Fine),
    "features of stride 16 alone": Row(head=Coarse),
    "standardised, not whitened": Row(head=Standardised),
    "the view's mean features beside a cell's": Row(context=True),
    "width 256": changed(width=256),
    "width 512": changed(width=512),
    "1 residual block": changed(num_blocks=1),
    "3 residual blocks": changed(num_blocks=3),
    "batches of 2048": changed(batch_size=2048),
    "batches of 8192": changed(batch_size=8192),
    "rate 2e-3": changed(learning_rate=2e-3),
    "rate 1e-2": changed(learning_rate=1e-2),
    "SGD with momentum": Row(
        replace(SETTINGS, learning_rate=0.1),
        optimizer=partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    ),
    "no weight decay": changed(weight_decay=0.0),
    "moving average of the weights": Row(average=0.98),
    "the harder half of twice as many cells": Row(harder_half=True),
    "no noise on features": changed(feature_noise=0.0),
    "twice the noise": changed(feature_noise=2.0),
    "Euclidean output": Row(head=Euclidean),
    "50 places and an offset": Row(head=Clustered),
    "distance to known points alone": Row(loss=coordinate_loss),
    "known points, no reprojection": changed(reprojection_weight=0.0),
    "reprojection alone, no known points": Row(known_points=False),
    "no augmentation": changed(augmentation=NO_AUGMENTATION),
    "scale 0.8 to 1.25, roll 10°": changed(augmentation=Augmentation(0.8, 1.25, 10.0)),
    "200 views": changed(num_views=200),
    "query: cells of equal weight": Row(regressor=EqualCells),
    "query: all columns of cells": Row(regressor=AllColumns),
    "query: at short side 320": Row(regressor=SmallPhotos),
    "query: at two scales": Row(regressor=TwoScales),
}


# ---- work --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Part:
    """Some mapping frames to learn, and others to ask."""

    name: str
    mapped: Frames  # with depth
    asked: Frames
    unit: float  # what counts as a centimetre; where nobody knows the metre a thirtieth of a camera spacing
    buffers: dict[Any, FeatureBuffer] = field(default_factory=dict)
    maps: dict[Any, tuple[SceneMap, float]] = field(default_factory=dict)  # learned, and in which time

    def buffer(self, settings: MappingSettings, seed: int) -> FeatureBuffer:
        key = (settings.num_views, settings.augmentation, seed)
        if key not in self.buffers:
            self.buffers[key] = collect(
                self.mapped,
                load_encoder(),
                short_side_px=settings.short_side_px,
                num_views=settings.num_views,
                buffer_size=settings.buffer_size,
                augmentation=settings.augmentation,
                seed=seed,
                device=torch.device("cpu"),
            )
        return self.buffers[key]

    @cache  # noqa: B019 -- parts live as long as the process
    def untrained(self) -> SceneMap:
        settings = replace(SETTINGS, steps=1, num_views=len(self.mapped))
        return build_map(self.mapped, settings)


def parts_of(path: str) -> list[Part]:
    scene = load_scene(path)
    frames = scene.mapping
    count = len(frames)
    assert frames.cam_from_world is not None
    centers = frames.cam_from_world.center
    spacing = (centers[1:] - centers[:-1]).norm(dim=-1).mean().item()

    def part(name: str, mapped: list[int], others: list[int]) -> Part:
        asked = others[:: -(-len(others) // ASKED)]
        some = frames[mapped]
        if not frames.has_depth:
            some = with_triangulated_depth(some, short_side_px=SETTINGS.short_side_px)
        return Part(f"{Path(path).name}, {name}", some, frames[asked], 0.01 if scene.metric else spacing / 30)

    near = [k for k in range(count) if k % 3 == 0]
    parts = [part("near", near, [k for k in range(count) if k % 3])]
    if frames.has_depth:
        parts.append(part("far", [*range(count - count * 36 // 100, count)], [*range(count * 6 // 10)]))
    return parts


def learned(part: Part, row: Row, seed: int) -> tuple[SceneMap, float]:
    """A map, and processor seconds of learning it from encoded views."""
    key = (replace(row, regressor=Regressor), seed)
    if key in part.maps:
        return part.maps[key]
    settings, buffer = row.settings, part.buffer(row.settings, seed)
    shape = SceneShape.of(buffer)
    if not row.known_points:
        unknown = torch.full_like(buffer.cells.scene_points, torch.nan)
        buffer = replace(buffer, cells=replace(buffer.cells, scene_points=unknown))
    if row.context:
        buffer = with_context(buffer)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    features = buffer.cells.features
    head = row.head(HeadArchitecture(features.shape[1], settings.width, settings.num_blocks))
    head.fit_normalisation(features[torch.randint(len(buffer), (100_000,), generator=generator)])
    head.scene_center.copy_(shape.center)
    head.scene_scale.fill_(shape.scale)
    if isinstance(head, Clustered):
        known = buffer.cells.scene_points[torch.isfinite(buffer.cells.scene_points[:, 0])]
        head.places.copy_(known[torch.randint(len(known), (50,), generator=generator)])
    optimizer = row.optimizer(head.parameters(), lr=1.0, weight_decay=settings.weight_decay)
    averaged = {name: value.clone() for name, value in head.state_dict().items()}

    def loss_of(rows: Tensor, progress: float, noise: float) -> BatchLoss:
        cells = buffer.take(rows)
        with fast_autocast(features.device):
            whitened = head.whitened(cells.features.float())
            if noise > 0:
                whitened = with_noise(whitened, noise, generator)
            predicted = head.of_whitened(whitened)
        options = {"depth_range": shape.depth_range, "scene_scale": head.scene_scale}
        if row.loss is mapping_loss:
            options |= {"progress": progress, "reprojection_weight": settings.reprojection_weight}
        return row.loss(predicted, cells, buffer, **options)

    def hard_rows() -> Tensor:
        rows = torch.randint(len(buffer), (2 * settings.batch_size,), generator=generator)
        cells = buffer.take(rows)
        with torch.no_grad(), fast_autocast(features.device):
            predicted = head(cells.features.float()).points
        distance = (predicted - cells.scene_points).norm(dim=-1).nan_to_num(0.0)
        return rows[distance.topk(settings.batch_size).indices]

    started = time.process_time()
    for step in range(settings.steps):
        progress = step / settings.steps
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * one_cycle(progress, 0.1, 0.04)
        plain = torch.randint(len(buffer), (settings.batch_size,), generator=generator)
        rows = hard_rows() if row.harder_half else plain
        loss = loss_of(rows, progress, settings.feature_noise * (1 - progress / 2))
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        if row.average > 0:
            for name, value in head.state_dict().items():
                averaged[name].lerp_(value, 1 - row.average)
    seconds = time.process_time() - started
    if row.average > 0:
        head.load_state_dict(averaged)
    learned_head = WithContext(head) if row.context else head
    part.maps[key] = replace(part.untrained(), head=learned_head).frozen(), seconds
    return part.maps[key]


def measure(part: Part, name: str, seed: int) -> dict[str, Any]:
    row = ROWS[name]
    scene_map, seconds = learned(part, row, seed)
    info = scene_map.info
    regressor = row.regressor(load_encoder(), scene_map.head, info.short_side_px, info.focal_range)
    answers = list(Localizer(scene_map, regressor=regressor).localize_frames(part.asked))
    truth = part.asked.cam_from_world
    assert truth is not None
    ours = Pose.stack([answer.cam_from_world for answer in answers])
    success = torch.stack([answer.success for answer in answers])
    distance = torch.where(success, ours.center_distance(truth) / part.unit, torch.inf)
    angle = ours.rotation_error_deg(truth)
    return {
        "part": part.name,
        "row": name,
        "seed": seed,
        "steps": SETTINGS.steps,
        "views": SETTINGS.num_views,
        "asked": len(answers),
        "localized": int(success.sum()),
        "within_5": int(((distance < 5) & (angle < 5)).sum()),
        "within_2": int(((distance < 2) & (angle < 2)).sum()),
        "median": distance.median().item(),
        "training_s": round(seconds, 1),
        "query_ms": round(statistics.median(a.timing.total_ms - a.timing.decode_ms for a in answers), 1),
        "kilobytes": round(2 * sum(p.numel() for p in scene_map.head.parameters()) / 1e3),
    }


def table(records: list[dict[str, Any]]) -> list[str]:
    parts = list(dict.fromkeys(r["part"] for r in records))
    lines = [
        "| | " + " | ".join(parts) + " | training, CPU s | query ms | kB |",
        "|---" * (len(parts) + 4) + "|",
    ]
    for name in ROWS:
        mine = [r for r in records if r["row"] == name]
        if not mine:
            continue
        cells = []
        for part in parts:
            runs = [r for r in mine if r["part"] == part]
            if not runs:
                cells.append("not made")
                continue
            shares = (
                100 * sum(r[k] for r in runs) / sum(r["asked"] for r in runs)
                for k in ("localized", "within_5", "within_2")
            )
            median = statistics.mean(r["median"] for r in runs)
            told = "–" if median == float("inf") else f"{median:.1f}"
            cells.append(" / ".join(f"{share:.0f}" for share in shares) + f", {told}")
        means = (statistics.mean(r[k] for r in mine) for k in ("training_s", "query_ms", "kilobytes"))
        lines.append(f"| {name} | " + " | ".join([*cells, *(f"{mean:.0f}" for mean in means)]) + " |")
    return lines


def work(arguments: argparse.Namespace) -> None:
    keep_freed_memory()
    path = arguments.output / "head_ablation.jsonl"
    records = read_records(path)
    records = [r for r in records if (r["steps"], r["views"]) == (SETTINGS.steps, SETTINGS.num_views)]
    made = {(r["part"], r["row"], r["seed"]) for r in records}
    parts = [part for scene in arguments.scenes for part in parts_of(scene)]
    for seed in arguments.seeds:
        for row in arguments.rows:
            for part in parts:
                if (part.name, row, seed) in made:
                    continue
                record = measure(part, row, seed)
                print(json.dumps(record), flush=True)
                add_record(path, record)
                records.append(record)
    lines = [
        "# Alternatives to how a head learns and a query asks",
        "",
        f"`python benchmarks/head_ablation.py SCENE …`; {SETTINGS.steps} steps, {SETTINGS.num_views} views, no "
        "landmarks; mapping frames alone. Cells: % localized / within 5 cm 5° / within 2 cm 2°, median cm "
        "(of a recording without metres, thirtieths of a camera spacing).",
        "",
        *table(records),
    ]
    write_table(arguments.output, "head_ablation.md", lines)


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("scenes", nargs="+", metavar="SCENE")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    run(parser, work)


if __name__ == "__main__":
    main()
