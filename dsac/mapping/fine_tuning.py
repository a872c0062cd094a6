"""Fine-tuning: a map trained end to end on the pose error, through the differentiable solver.

    map ─▶ scene coordinates of whole views ─▶ PoseSolver.expected_loss ─▶ head (encoder, score network)

What teaches and judges: a head is three times as accurate on the photos that it was mapped from as on others
of the same place, so their poses say little. Training and validation take views with a scale, roll and exposure
that mapping has not seen, and no frame has views in both. Mapping has still seen the frames of the validation
slice: that favours the map that came in, which is the first candidate, so that a change must pay to be kept.
Query frames are never looked at, nor are frames of the recording that mapping held out.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dsac.datasets import Frames, Scene
from dsac.datasets.frame import digest_of
from dsac.errors import DatasetError, DsacError, MapFormatError
from dsac.kernels import wait_until_compiled
from dsac.map_scoring import scoring_rule
from dsac.mapping.buffer import evenly_spread
from dsac.mapping.pose_learner import (
    Judged,
    PoseLearner,
    ScoreLearner,
    TuningLoss,
    TuningViews,
    train_on_poses,
)
from dsac.mapping.settings import FineTuningSettings
from dsac.mapping.trainable_map import TrainableMap, TuningView
from dsac.mapping.training import Checkpoint, Standing, train
from dsac.mapping.views import View, random_view
from dsac.networks.encoder import Encoder, working_size
from dsac.networks.heads import SceneHead
from dsac.scene_map import SceneMap


@dataclass(frozen=True)
class FineTuningProgress:
    """Where fine-tuning stands; handed to `on_progress`."""

    phase: Literal["features", "scoring", "training"]
    fraction: float  # of the phase, 0 to 1
    elapsed: float  # seconds since the start
    step: int = 0
    loss: float = math.nan  # expected pose error of the step's images, degrees or cm; "scoring": of the scores
    gradient_norm: float = math.nan  # before it was clamped
    validation: float = math.nan  # mean pose error on the slice, see `validation_error`; only where measured
    best_validation: float = math.nan


def fine_tune(
    scene_map: SceneMap,
    scene: Scene | Frames,
    settings: FineTuningSettings | None = None,
    *,
    encoder: Encoder | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: bool = False,
    on_progress: Callable[[FineTuningProgress], None] = lambda progress: None,
) -> SceneMap:
    """The map that localizes the validation slice of a scene's mapping frames best; `scene_map` stays as it is.

    Interrupted (KeyboardInterrupt) while training, it returns the best so far. With a `checkpoint` file,
    `resume=True` goes on from there; the file is yours to remove once the map is saved.

    Raises: `DatasetError` when there are fewer than four frames with poses, or the map is lost in all of the
    slice, as in another place; `MapFormatError` when encoder or checkpoint are not the map's, `DsacError` when
    the encoder cannot be trained.
    """
    settings, device = settings or FineTuningSettings(), torch.device(device)
    if not isinstance(scene_map.head, SceneHead):
        other = "forests" if scene_map.info.forest is not None else "a network trained whole"
        raise MapFormatError(f"fine-tuning is for maps of the shared encoder, got {other}")
    encoder = encoder or scene_map.load_encoder(device)
    scene_map.check_encoder(encoder)
    identity = f"{_fingerprint(scene_map)} {asdict(settings)} {seed}"
    kept = Checkpoint.at(checkpoint, "fine-tuning this map", resume, identity)
    wait_until_compiled()
    started = time.monotonic()
    frames = scene.mapping if isinstance(scene, Scene) else scene
    own, learned = scene_map.learned_from(frames), dict(scene_map.info.frames)
    if own.any():  # what was held out stays out
        frames = frames[np.flatnonzero(own)]
    else:
        learned |= {name: digest_of(frames.reader, name) for name in frames.names}
    frames = frames.within(scene_map.info.world_from_map)
    model = trainable_map(scene_map, encoder, settings, device, seed)
    views = tuning_views(
        frames, scene_map, encoder, settings, device, seed,
        lambda done: on_progress(FineTuningProgress("features", done, time.monotonic() - started)),
    )  # fmt: skip
    learner = PoseLearner(model, views, settings, seed)

    def report_scoring(standing: Standing, loss: TuningLoss) -> None:
        elapsed, fraction = time.monotonic() - started, standing.step / settings.score_steps
        on_progress(FineTuningProgress("scoring", fraction, elapsed, standing.step, **asdict(loss)))

    if kept.state is None and model.score_network is not None and scene_map.info.scoring != model.scoring:
        scorer = ScoreLearner(model, views.training, settings, seed)
        if train(scorer, steps=settings.score_steps, report=report_scoring, report_every=0.0).interrupted:
            raise KeyboardInterrupt
    begin = kept.restore(learner.parts)
    end = train_on_poses(
        learner, start=begin, checkpoint=kept, report=training_report(learner, started, on_progress)
    )
    best = learner.best
    model.load_state_dict(best.weights)
    record = tuning_record(learner, seed, end, time.monotonic() - started)
    # untouched weights need no copy in the file
    unchanged = best.step == 0 and model.scoring == scene_map.info.scoring and model.score_network is None
    tuned = scene_map if unchanged else model.to_map(scene_map)
    info = replace(tuned.info, frames=learned, training={**tuned.info.training, "fine_tuning": record})
    return replace(tuned, info=info)


def training_report(
    learner: Judged, started: float, on_progress: Callable[[FineTuningProgress], None]
) -> Callable[[Standing, TuningLoss, float], None]:
    """What `train_on_poses` reports, as progress. Raises: `DatasetError` where the map is lost at the start."""

    def report(standing: Standing, loss: TuningLoss, validation: float) -> None:
        if learner.best.start_error >= learner.largest_error:
            raise DatasetError(
                "the map localizes none of these frames within 10° and 10 cm (hundredths of the unit): "
                "are they of the recording that it was made from?"
            )
        elapsed, fraction = time.monotonic() - started, standing.step / learner.settings.steps
        on_progress(
            FineTuningProgress(
                "training", fraction, elapsed, standing.step, **asdict(loss),
                validation=validation, best_validation=learner.best.error,
            )
        )  # fmt: skip

    return report


def tuning_record(learner: Judged, seed: int, end: Standing, seconds: float) -> dict[str, Any]:
    """What the map says of its fine-tuning."""
    best = learner.best
    return {
        **asdict(learner.settings),
        "seed": seed,
        "trained_steps": end.step,
        "best_step": best.step,
        "seconds": round(seconds, 1),
        "validation_before": best.start_error,
        "validation_after": best.error,
        "interrupted": end.interrupted,
    }


def tuning_views(
    frames: Frames,
    scene_map: SceneMap,
    encoder: Encoder,
    settings: FineTuningSettings,
    device: torch.device,
    seed: int,
    on_progress: Callable[[float], None] = lambda done: None,
    cells: Callable[[View, Tensor], Tensor] | None = None,
) -> TuningViews:
    """Views that mapping has not seen: encoded, or as pictures where the encoder is to be trained.

    `cells`: what a gate looks at, of a view and its content.
    Raises: `DatasetError` when there are fewer than four frames with poses.
    """
    if len(frames) < 4 or frames.cam_from_world is None:
        raise DatasetError(f"fine-tuning needs four or more frames with poses, got {len(frames)}")
    frames = evenly_spread(frames.without_depth(), max(4, settings.num_frames)).without_damaged()
    number = min(settings.num_validation_frames, len(frames) // 4)
    held_out = np.linspace(0, len(frames) - 1, number + 2).round().astype(int)[1:-1]
    views = TuningViews([], [])
    for i in range(len(frames)):
        frame = frames[i]
        size = working_size(frame.camera.size, scene_map.info.short_side_px, encoder.size_multiple)
        rng = np.random.default_rng([seed, i, _NOT_OF_MAPPING])
        for _ in range(settings.views_per_frame):
            view = random_view(frame, size, encoder.stride, settings.augmentation, rng)
            content = _picture(view.image) if settings.encoder else _encode(view.image.to(device), encoder)
            camera = view.camera.to(device, torch.float32)
            seen = TuningView(
                content.to(device),
                (view.inside > 0).to(device),
                camera,
                view.cam_from_world,
                frame.name,
                None if cells is None else cells(view, content),
            )
            (views.validation if i in held_out else views.training).append(seen)
        on_progress((i + 1) / len(frames))
    return views


# Mapping draws its views from (seed, frame, a small number).
_NOT_OF_MAPPING = 0xF17E


def trainable_map(
    scene_map: SceneMap, encoder: Encoder, settings: FineTuningSettings, device: torch.device, seed: int
) -> TrainableMap:
    """Copies of what is to be trained, with what another rule of scoring has to learn where one is asked for.

    Raises: `DsacError` when the encoder is to be trained and is no torch module.
    """
    trained = None
    if settings.encoder:
        if not isinstance(encoder, nn.Module):
            raise DsacError(f"encoder: expected a torch module to be trained, got {type(encoder).__name__}")
        trained = encoder
    scoring, network = scene_map.info.scoring, scene_map.score_network
    if scoring.name != settings.scoring:
        scoring = scoring_rule(settings.scoring)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            network = scoring.network()
    return TrainableMap(scene_map, trained, scoring, network).to(device)


def _picture(image: Tensor) -> Tensor:
    return (255 * image).round().clamp(0, 255).byte()


@torch.no_grad()
def _encode(image: Tensor, encoder: Encoder) -> Tensor:
    return encoder(image[None])[0]


def _fingerprint(scene_map: SceneMap) -> str:
    """Of what no tuning changes: a map that was tuned in place until an interrupt is still the same."""
    data = b"".join(value.cpu().numpy().tobytes() for value in scene_map.head.buffers())
    return hashlib.sha256(data + scene_map.info.created.encode()).hexdigest()[:16]
