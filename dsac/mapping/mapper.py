"""Mapping: from posed frames to a scene map.

    frames ─▶ (triangulated depth, if they have none) ─▶ landmarks ───────────────▶ map
                                                      ─▶ learner ─▶ training ─▶

What learns is a head behind the shared encoder (`head_learner`), a whole network (`network_learner`) or forests
(`forest_learner`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch

from dsac.datasets import Frames, Scene
from dsac.datasets.frame import digest_of
from dsac.errors import DatasetError, MapFormatError
from dsac.geometry import Similarity
from dsac.kernels import wait_until_compiled
from dsac.map_info import MapInfo
from dsac.mapping.buffer import evenly_spread
from dsac.mapping.forest_learner import forest_learner
from dsac.mapping.head_learner import HeadLearner, head_learner
from dsac.mapping.landmark_choice import remember
from dsac.mapping.losses import BatchLoss
from dsac.mapping.network_learner import network_learner
from dsac.mapping.scene_shape import map_origin
from dsac.mapping.settings import ForestSettings, MappingSettings, NetworkSettings
from dsac.mapping.training import Checkpoint, Standing, train
from dsac.mapping.triangulation import with_triangulated_depth
from dsac.mapping.words import visual_words
from dsac.networks import local_features
from dsac.networks.encoder import Encoder, load_encoder
from dsac.networks.forests.forest import ForestEncoder
from dsac.networks.heads import SceneHead
from dsac.networks.scene_networks import SceneNetwork
from dsac.scene_map import SceneMap
from dsac.visual_words import ENCODER


@dataclass(frozen=True)
class MappingProgress:
    """Where mapping stands; handed to `on_progress`."""

    phase: Literal["depth", "landmarks", "features", "training"]
    fraction: float  # of the phase, 0 to 1
    elapsed: float  # seconds since the start
    remaining: float | None = None  # seconds, in training
    step: int = 0
    loss: float = math.nan
    fraction_good: float = math.nan  # of the cells: those that reproject within 10 px
    median_error_px: float = math.nan


def build_map(
    scene: Scene | Frames,
    settings: MappingSettings | NetworkSettings | ForestSettings | None = None,
    *,
    encoder: Encoder | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    source: str = "",
    checkpoint: Path | None = None,
    resume: bool = False,
    on_progress: Callable[[MappingProgress], None] = lambda progress: None,
) -> SceneMap:
    """Learn a map from a scene's mapping frames, or from frames alone (with poses; with or without depth).

    Frames alone know neither the unit of length nor how photos are stored: their map leaves both open. The map
    says that it was made from `source`, by default the scene's path and format.

    The kind of settings says what learns: a head behind the shared encoder (`encoder`, default the one that
    ships), a whole network, or forests.

    Interrupted (KeyboardInterrupt) while training, it returns the map as far as it is, with
    `info.training["interrupted"]` set. With a `checkpoint` file, `resume=True` goes on from there; the file is
    yours to remove once the map is saved.
    The same seed, machine and thread count give the same map, unless `settings.minutes` is used. Kernels are
    compiled first, once after an install; that is not counted.

    Of more frames than `MappingSettings.num_views` an even selection is used. Damaged images are named and left
    out.

    Raises: `DatasetError` when no frame has a pose or none can be used, `MapFormatError` when the checkpoint
    is damaged or of another mapping.
    """
    settings = settings or MappingSettings()
    device = torch.device(device)
    frames, recording = (scene.mapping, scene) if isinstance(scene, Scene) else (scene, None)
    if len(frames) == 0 or frames.cam_from_world is None:
        raise DatasetError("mapping needs frames with poses, got none")
    kept = Checkpoint.at(checkpoint, "a mapping", resume)
    wait_until_compiled()
    started = time.monotonic()
    origin = map_origin(frames.cam_from_world.center)
    frames = frames.within(Similarity.of(origin))
    recorded = frames.reader
    exact_depth = frames.has_depth
    minutes = None if isinstance(settings, ForestSettings) else settings.minutes
    budget = None if minutes is None else minutes * 60

    def report(phase: Literal["depth", "landmarks", "features"]) -> Callable[[float], None]:
        return lambda fraction: on_progress(MappingProgress(phase, fraction, time.monotonic() - started))

    def with_depth(frames: Frames) -> Frames:
        if frames.has_depth:
            return frames
        return with_triangulated_depth(
            frames, short_side_px=settings.short_side_px, on_progress=report("depth")
        )

    memory = None
    if isinstance(settings, ForestSettings):
        frames = with_depth(evenly_spread(frames, settings.num_frames).without_damaged())
        learner = forest_learner(
            frames, settings, exact_depth=exact_depth, seed=seed, on_progress=report("features")
        )
        steps = learner.steps
    elif isinstance(settings, NetworkSettings):
        steps = settings.steps
        frames = frames if exact_depth else evenly_spread(frames, _MOST_TRIANGULATED)
        frames = with_depth(frames.without_damaged())
        learner = network_learner(
            frames, settings, exact_depth=exact_depth, seed=seed, device=device, on_progress=report("features")
        )
    else:
        steps = settings.steps
        frames = with_depth(evenly_spread(frames, settings.num_views).without_damaged())
        if settings.num_landmarks > 0:
            memory = remember(frames, settings.num_landmarks, report("landmarks"))
        learner = head_learner(
            frames,
            settings,
            encoder or load_encoder(device=device),
            seed=seed,
            device=device,
            seconds=None if budget is None else max(0.0, 0.4 * budget - (time.monotonic() - started)),
            on_progress=report("features"),
        )
    shared = learner.buffer if isinstance(learner, HeadLearner) and learner.encoder.id == ENCODER else None
    words = visual_words(frames, shared, seed, device)
    digests = {name: digest_of(recorded, name) for name in frames.names}
    begin = kept.restore(learner.parts)
    if (learner.head.scene_center - learner.shape.center).norm() > 0.1 * learner.shape.scale:
        raise MapFormatError(
            f"{checkpoint}: expected this scene's checkpoint, got another's; start again without resuming"
        )
    before = time.monotonic() - started

    def report_training(standing: Standing, loss: BatchLoss) -> None:
        on_progress(
            MappingProgress(
                "training", standing.progress, before + standing.elapsed, standing.remaining, standing.step,
                loss.total.item(), loss.fraction_good.item(), loss.median_error_px.item(),
            )
        )  # fmt: skip

    end = train(
        learner,
        steps=steps,
        seconds=None if budget is None else max(_LEAST_TRAINING, budget - before),
        start=begin,
        checkpoint=kept,
        report=report_training,
    )
    final = learner.evaluate()
    report_training(end, final)
    training = {
        "steps": end.step,
        "seconds": round(time.monotonic() - started, 1),
        "loss": final.total.item(),
        "fraction_good": final.fraction_good.item(),
        "median_error_px": final.median_error_px.item(),
        "interrupted": end.interrupted,
    }
    encoder, head, shape = learner.encoder, learner.head, learner.shape
    network = encoder if isinstance(encoder, (SceneNetwork, ForestEncoder)) else None
    by_focal = sorted((frames.cameras[i] for i in frames.camera_index), key=lambda c: c.relative_focal)
    info = MapInfo(
        encoder_id=encoder.id,
        encoder_digest=encoder.digest,
        head=head.architecture if isinstance(head, SceneHead) else None,
        network=network.architecture if isinstance(network, SceneNetwork) else None,
        forest=network.architecture if isinstance(network, ForestEncoder) else None,
        stride=encoder.stride,
        short_side_px=settings.short_side_px,
        bounds_min=shape.bounds_min,
        bounds_max=shape.bounds_max,
        depth_range=shape.depth_range,
        num_frames=len(frames),
        camera=by_focal[len(by_focal) // 2].to_text(),
        focal_range=(by_focal[0].relative_focal, by_focal[-1].relative_focal),
        frames=digests,
        origin=origin,
        supervision="depth" if exact_depth else "poses",
        source=source if source or recording is None else f"{recording.path} ({recording.format})",
        metric=None if recording is None else recording.metric,
        described_by="" if memory is None else local_features.ID,
        as_stored=recording is not None and recording.stores_turned,
        compact=isinstance(settings, MappingSettings) and settings.compact,
        settings={**asdict(settings), "seed": seed},
        training=training,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    remembered = {} if memory is None else memory._asdict()
    return SceneMap(head, info, network, words=words, **remembered).frozen()


_MOST_TRIANGULATED = 1000  # frames: each is matched with several others
_LEAST_TRAINING = 5.0  # seconds, when what comes before has used up the time
