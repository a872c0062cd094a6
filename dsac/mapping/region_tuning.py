"""Fine-tuning a map of several regions: gate and heads are trained together, by the loss expected over regions.

    map ─▶ gate: p(region | photo) ─┐
        └▶ heads ─▶ E[l | region] ──┴▶ Σ p E[l | region] ─▶ what words are worth, heads

What teaches and judges is as in `fine_tuning`; the expectation is that of `region_learner`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dsac.atlas import Atlas, Region
from dsac.datasets import Frames, Scene
from dsac.datasets.frame import digest_of
from dsac.errors import DatasetError, DsacError, MapFormatError
from dsac.kernels import wait_until_compiled
from dsac.mapping.buffer import evenly_spread
from dsac.mapping.fine_tuning import FineTuningProgress, training_report, tuning_record, tuning_views
from dsac.mapping.pose_learner import train_on_poses
from dsac.mapping.region_learner import Experts, RegionLearner
from dsac.mapping.settings import FineTuningSettings
from dsac.mapping.trainable_gate import TrainableGate, cells_of
from dsac.mapping.training import Checkpoint
from dsac.mapping.views import View
from dsac.networks.encoder import Encoder, load_encoder
from dsac.networks.heads import LinearHead
from dsac.regressor import Regressor
from dsac.visual_words import ENCODER, SHORT_SIDE_PX


class TunedRegions(NamedTuple):
    """A map that was fine-tuned."""

    atlas: Atlas
    record: dict[str, Any]  # settings, steps, seconds, errors on the validation slice before and after


def fine_tune_regions(
    atlas: Atlas,
    scene: Scene | Frames,
    settings: FineTuningSettings | None = None,
    *,
    encoder: Encoder | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: bool = False,
    on_progress: Callable[[FineTuningProgress], None] = lambda progress: None,
) -> TunedRegions:
    """The map whose gate and regions localize the validation slice of a scene's mapping frames best.

    Regions that no photo of a step asks stay as they are; so does the gate of those that were mapped from
    other recordings. Checkpoint, interrupt and what may raise are those of `fine_tune`.
    """
    settings, device = settings or FineTuningSettings(), torch.device(device)
    frames = scene.mapping if isinstance(scene, Scene) else scene
    known = atlas.learned_from(frames)
    if known.any():  # what was held out stays out
        frames = frames[np.flatnonzero(known)]
    frames = evenly_spread(frames.without_depth(), max(4, settings.num_frames))
    own = {name: regions for name, regions in own_regions(atlas, frames).items() if regions}
    taught = sorted({region for regions in own.values() for region in regions})
    among = of_one_world(atlas, taught)
    _check_regions(atlas, among, settings)
    first = atlas.regions[among[0]].read()
    encoder = encoder or first.load_encoder(device)
    first.check_encoder(encoder)
    identity = f"{_fingerprint(atlas)} {asdict(settings)} {seed}"
    kept = Checkpoint.at(checkpoint, "fine-tuning this map", resume, identity)
    wait_until_compiled()
    started = time.monotonic()
    views = tuning_views(
        frames, first, encoder, settings, device, seed,
        lambda done: on_progress(FineTuningProgress("features", done, time.monotonic() - started)),
        Eyes(encoder, first.info.short_side_px, device),
    )  # fmt: skip
    gate = TrainableGate(
        [region.words for region in atlas.regions if region.words is not None],
        [row in (taught or among) for row in range(len(atlas))],
    )
    learner = RegionLearner(Experts(atlas, settings, device), gate, views, own, among, settings, seed)
    begin = kept.restore(learner.parts)
    report = training_report(learner, started, on_progress)
    end = train_on_poses(learner, start=begin, checkpoint=kept, report=report)
    record = tuning_record(learner, seed, end, time.monotonic() - started)
    learned = {} if known.any() else {name: digest_of(frames.reader, name) for name in frames.names}
    regions = list(atlas.regions)
    for row in among:
        regions[row] = _tuned(regions[row], row, learner, record, learned)
    return TunedRegions(Atlas(tuple(regions)), record)


def _tuned(
    region: Region, row: int, learner: RegionLearner, record: dict[str, Any], learned: dict[str, str]
) -> Region:
    """The region as it was best; what the record is of, whether its head was trained or not."""
    head, words = learner.best_head(row), learner.best_words(row)
    if head is not None:
        region = Region.of(region.name, head.to_map(region.read()))
    if words is not region.words:
        region = region.with_words(words)
    info = region.info
    training = {**info.training, "fine_tuning": record}
    return region.saying(replace(info, frames={**info.frames, **learned}, training=training))


class Eyes:
    """What a gate looks at of a view: cells' features as a query's."""

    def __init__(self, encoder: Encoder, short_side_px: int, device: torch.device) -> None:
        self._are_shared = encoder.id == ENCODER and short_side_px == SHORT_SIDE_PX
        shared = encoder if self._are_shared else load_encoder(ENCODER, device)
        self._regressor = Regressor(shared, LinearHead(shared.num_features).to(device), SHORT_SIDE_PX)

    def __call__(self, view: View, content: Tensor) -> Float[Tensor, "K C"]:
        if not self._are_shared:
            with torch.inference_mode():
                content = self._regressor.encode(view.image[None], view.camera)[0]
        return cells_of(content.flatten(1).T)


def own_regions(atlas: Atlas, frames: Frames) -> dict[str, list[int]]:
    """The regions that were made from a frame, by its name."""
    of_region = [region.info.learned_from(frames) for region in atlas.regions]
    return {
        name: [row for row, learned in enumerate(of_region) if learned[i]]
        for i, name in enumerate(frames.names)
    }


def of_one_world(atlas: Atlas, taught: Sequence[int]) -> list[int]:
    """The regions of the world that those of these numbers are in; of a map's only world where there are none.

    Raises: `DatasetError` where nobody knows which.
    """
    worlds = [atlas.regions[row].info.world for row in taught] or atlas.worlds
    if not taught and len(worlds) > 1:
        raise DatasetError(
            f"the map is of {len(worlds)} worlds and was made from none of these frames: which are they in? "
            "`dsac crop --regions` takes one out"
        )
    world = max(worlds, key=worlds.count)
    return [row for row, region in enumerate(atlas.regions) if region.info.world == world]


def _check_regions(atlas: Atlas, among: Sequence[int], settings: FineTuningSettings) -> None:
    """Raises: `MapFormatError` for a region that is not trained with the others, `DsacError` for settings."""
    if settings.encoder:
        raise DsacError(
            "encoder: the regions of a map share it, so it is not trained; `dsac crop` takes one out"
        )
    missing = [region.name for region in atlas.regions if region.words is None]
    if missing:
        raise MapFormatError(f"region {missing[0]}: a map from before there were visual words: map it again")
    first = atlas.regions[among[0]]
    for region in (atlas.regions[row] for row in among):
        info = region.info
        if info.head is None or info.own_encoder:
            other = "an encoder of its own" if info.own_encoder else "forests or a network trained whole"
            raise MapFormatError(
                f"region {region.name}: fine-tuning is for maps of the shared encoder, got {other}"
            )
        for name in ("encoder_id", "encoder_digest", "short_side_px", "stride"):
            mine, others = getattr(info, name), getattr(first.info, name)
            if mine != others:
                raise MapFormatError(
                    f"region {region.name}: expected {name} {others} as of region {first.name}, got {mine}"
                )
        if info.scoring.name != settings.scoring or info.scoring.network() is not None:
            raise DsacError(
                f"scoring: regions are fine-tuned with the soft-count that they have, got {settings.scoring} "
                f"for region {region.name} with {info.scoring.name}"
            )


def _fingerprint(atlas: Atlas) -> str:
    """Of what no tuning changes."""
    told = "\n".join(
        f"{region.name} {region.info.created} {len(region.words or ())}" for region in atlas.regions
    )
    return hashlib.sha256(told.encode()).hexdigest()[:16]
