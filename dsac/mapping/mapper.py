"""Mapping: from posed frames to a scene map.

    frames ─▶ (triangulated depth, if they have none) ─▶ landmarks
                                                      ─▶ feature buffer ─▶ head, trained on shuffled batches

The encoder stays frozen, so that a training step costs only the small head (Brachmann et al., ACE, CVPR 2023).
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dsac.datasets import Frames
from dsac.errors import DatasetError, MapFormatError
from dsac.mapping.buffer import FeatureBuffer, collect, evenly_spread
from dsac.mapping.landmarks import collect_landmarks
from dsac.mapping.losses import BatchLoss, mapping_loss
from dsac.mapping.triangulation import with_triangulated_depth
from dsac.mapping.views import Augmentation
from dsac.networks.encoder import Encoder, fast_dtype, load_encoder
from dsac.networks.heads import HeadArchitecture, SceneHead
from dsac.scene_map import MapInfo, SceneMap, write_atomically


@dataclass(frozen=True)
class MappingSettings:
    """How a scene is learned; the defaults serve every scene."""

    steps: int = 1800
    """Training steps."""
    minutes: float | None = None
    """Time budget for everything; replaces `steps`. Two fifths at most go into features."""
    batch_size: int = 4096
    """Cells in a step."""
    learning_rate: float = 5e-3
    """Highest rate of the one-cycle schedule."""
    weight_decay: float = 0.01
    width: int = 384
    """Width of the head's layers."""
    num_blocks: int = 2
    """Residual blocks of the head."""
    reprojection_weight: float = 1.0
    """Of the reprojection loss beside the distance to known scene points."""
    num_views: int = 1000
    """Augmented views in total, spread over the frames."""
    buffer_size: int = 3_000_000
    """Cells kept in memory (0.3 kB each with the shipped encoder)."""
    short_side_px: int = 480
    """Images are resized to this short side."""
    num_landmarks: int = 8000
    """Scene points remembered with a patch of an image, spread over the frames (0.24 kB each); 0 = none."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("steps", "minutes", "batch_size", "num_views", "buffer_size", "short_side_px"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected more than 0, got {value}")


@dataclass(frozen=True)
class MappingProgress:
    """Where mapping stands; handed to `on_progress`."""

    phase: Literal["depth", "landmarks", "features", "training"]
    fraction: float  # of the phase, 0 to 1
    elapsed: float  # seconds since the start
    remaining: float | None = None  # seconds, in training
    step: int = 0
    loss: float = math.nan
    fraction_good: float = math.nan  # of the cells reproject within 10 px
    median_error_px: float = math.nan


def build_map(
    frames: Frames,
    settings: MappingSettings | None = None,
    *,
    encoder: Encoder | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    source: str = "",
    checkpoint: Path | None = None,
    resume: bool = False,
    on_progress: Callable[[MappingProgress], None] = lambda progress: None,
) -> SceneMap:
    """Learn a map of the scene that `frames` (with poses; with or without depth) show.

    Interrupted (KeyboardInterrupt) while training, it returns the map as far as it is, with
    `info.training["interrupted"]` set. With a `checkpoint` file, `resume=True` goes on from there.
    The same seed, machine and thread count give the same map, unless `settings.minutes` is used.

    Of more frames than `settings.num_views` an even selection is used.

    Raises: `DatasetError` when no frame has a pose or none can be used, `MapFormatError` when the checkpoint
    is damaged or of another mapping.
    """
    settings = settings or MappingSettings()
    device = torch.device(device)
    started = time.monotonic()
    if len(frames) == 0 or frames.cam_from_world is None:
        raise DatasetError("mapping needs frames with poses, got none")
    state = _read_checkpoint(checkpoint) if resume and checkpoint is not None else None
    encoder = encoder or load_encoder(device=device)
    supervision = "depth" if frames.has_depth else "poses"

    def report(phase: Literal["depth", "landmarks", "features"]) -> Callable[[float], None]:
        return lambda fraction: on_progress(MappingProgress(phase, fraction, time.monotonic() - started))

    frames = evenly_spread(frames, settings.num_views)
    if not frames.has_depth:
        frames = with_triangulated_depth(
            frames, short_side_px=settings.short_side_px, on_progress=report("depth")
        )
    landmarks = None
    if settings.num_landmarks > 0:
        landmarks = collect_landmarks(frames, settings.num_landmarks, report("landmarks"))
    budget = None if settings.minutes is None else settings.minutes * 60
    buffer = collect(
        frames,
        encoder,
        short_side_px=settings.short_side_px,
        num_views=settings.num_views,
        buffer_size=settings.buffer_size,
        augmentation=settings.augmentation,
        seed=seed,
        device=device,
        seconds=None if budget is None else max(0.0, 0.4 * budget - (time.monotonic() - started)),
        on_progress=report("features"),
    )
    shape = _SceneShape.of(buffer, frames)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        head = SceneHead(HeadArchitecture(encoder.num_features, settings.width, settings.num_blocks))
    info = MapInfo(
        encoder_id=encoder.id,
        encoder_digest=encoder.digest,
        head=head.architecture,
        stride=encoder.stride,
        short_side_px=settings.short_side_px,
        bounds_min=shape.bounds_min,
        bounds_max=shape.bounds_max,
        depth_range=shape.depth_range,
        camera_spacing=shape.camera_spacing,
        num_frames=len(frames),
        supervision=supervision,
        source=source,
        settings={**asdict(settings), "seed": seed},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    training = _train(head, buffer, shape, settings, seed, started, budget, checkpoint, state, on_progress)
    return SceneMap(head.cpu().eval().requires_grad_(False), replace(info, training=training), landmarks)


@dataclass(frozen=True)
class _SceneShape:
    """Where the scene is and how large; measured on the known scene points, else on the cameras."""

    center: Tensor  # (3,)
    scale: float  # metres: a typical distance from the centre
    bounds_min: tuple[float, float, float]
    bounds_max: tuple[float, float, float]
    depth_range: tuple[float, float]
    camera_spacing: float

    @staticmethod
    def of(buffer: FeatureBuffer, frames: Frames) -> _SceneShape:
        poses = frames.cam_from_world
        assert poses is not None
        spacing = (poses.center[1:] - poses.center[:-1]).norm(dim=-1).mean().item() if len(frames) > 1 else 0.0
        rows = torch.isfinite(buffer.cells.scene_points[:, 0]).nonzero()[:, 0]
        if len(rows) < 100:
            raise DatasetError(
                "too little is known of the scene: no depth, and keypoints could hardly be matched between "
                f"frames ({len(rows)} cells); expected overlapping views with some texture and correct poses"
            )
        sample = rows[torch.linspace(0, len(rows) - 1, min(len(rows), 100_000), dtype=torch.float64).long()]
        points, view = buffer.cells.scene_points[sample], buffer.cells.view[sample].long()
        pose = buffer.cam_from_world[view]
        depth = (pose[:, 2, :3] * points).sum(-1) + pose[:, 2, 3]
        center = points.median(0).values
        low, high = points.quantile(0.001, dim=0), points.quantile(0.999, dim=0)
        return _SceneShape(
            center=center,
            scale=(points - center).norm(dim=-1).median().item() / 1.5,
            bounds_min=tuple(low.tolist()),
            bounds_max=tuple(high.tolist()),
            # the nearest and farthest known depths, with a margin for what nobody measured
            depth_range=(depth.quantile(0.001).item() / 2, depth.quantile(0.999).item() * 3),
            camera_spacing=spacing,
        )


def _train(
    head: SceneHead,
    buffer: FeatureBuffer,
    shape: _SceneShape,
    settings: MappingSettings,
    seed: int,
    started: float,
    budget: float | None,
    checkpoint: Path | None,
    state: dict[str, Any] | None,
    on_progress: Callable[[MappingProgress], None],
) -> dict[str, Any]:
    """Train the head in place, from a checkpoint's `state` on if there is one; an interrupt ends it early.

    What is to be remembered of the training.
    """
    device = buffer.cells.features.device
    generator = torch.Generator(device).manual_seed(seed)
    head.to(device)
    sample = torch.randint(len(buffer), (min(len(buffer), 100_000),), generator=generator, device=device)
    head.fit_normalisation(buffer.cells.features[sample])
    head.scene_center.copy_(shape.center)
    head.scene_scale.fill_(shape.scale)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1.0, weight_decay=settings.weight_decay, fused=True)
    step, seconds, interrupted = 0, 0.0, False
    if state is not None:
        try:
            head.load_state_dict(state["head"])
            optimizer.load_state_dict(state["optimizer"])
            generator.set_state(state["generator"].cpu())
            step, seconds = state["step"], state["seconds"]
        except (RuntimeError, ValueError, LookupError, TypeError) as error:
            raise MapFormatError(
                f"{checkpoint}: expected the checkpoint of a mapping with these settings, got another's; "
                "map again without resuming"
            ) from error
        if (head.scene_center - shape.center).norm() > 0.1 * shape.scale:
            raise MapFormatError(
                f"{checkpoint}: expected this scene's checkpoint, got another's; map again without resuming"
            )

    def save_checkpoint() -> None:
        if checkpoint is not None:
            state = {
                "head": head.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(),
                "step": step,
                "seconds": seconds,
            }
            torch.save(state, data := io.BytesIO())
            write_atomically(checkpoint, data.getvalue())

    training_budget = None if budget is None else max(5.0, budget - (time.monotonic() - started))

    def fraction_done() -> float:
        return step / settings.steps if training_budget is None else seconds / training_budget

    before, last_report, last_save = seconds, 0.0, time.monotonic()
    begin = time.monotonic()
    progress = progress_before = fraction_done()
    try:
        while True:
            seconds = before + time.monotonic() - begin
            progress = fraction_done()
            if progress >= 1:
                break
            loss = _step(head, buffer, shape, settings, optimizer, progress, generator)
            step += 1
            now = time.monotonic()
            if now - last_report > 0.5 or step == 1:
                last_report = now
                made = progress - progress_before
                remaining = (seconds - before) / made * (1 - progress) if made > 0 else None
                on_progress(
                    MappingProgress(
                        "training", progress, now - started, remaining, step,
                        loss.total.item(), loss.fraction_good.item(), loss.median_error_px.item(),
                    )
                )  # fmt: skip
            if now - last_save > _CHECKPOINT_SECONDS:
                last_save = now
                save_checkpoint()
    except KeyboardInterrupt:
        interrupted = True
        save_checkpoint()
    if not interrupted and checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    final = _evaluate(head, buffer, shape, settings, generator)
    on_progress(
        MappingProgress(
            "training", min(1.0, progress), time.monotonic() - started, 0.0, step,
            final.total.item(), final.fraction_good.item(), final.median_error_px.item(),
        )
    )  # fmt: skip
    return {
        "steps": step,
        "seconds": round(time.monotonic() - started, 1),
        "loss": final.total.item(),
        "fraction_good": final.fraction_good.item(),
        "median_error_px": final.median_error_px.item(),
        "interrupted": interrupted,
    }


def _read_checkpoint(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    data = io.BytesIO(path.read_bytes())
    try:
        return torch.load(data, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise MapFormatError(
            f"{path}: expected the checkpoint of a mapping, got something else or half of one; "
            "map again without resuming"
        ) from error


_CHECKPOINT_SECONDS = 30.0
_WARM_UP = 0.1  # of the training, with a linearly rising rate
_MAX_GRADIENT_NORM = 1.0


def _step(
    head: SceneHead,
    buffer: FeatureBuffer,
    shape: _SceneShape,
    settings: MappingSettings,
    optimizer: torch.optim.Optimizer,
    progress: float,
    generator: torch.Generator,
) -> BatchLoss:
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * _one_cycle(progress)
    loss = _batch_loss(head, buffer, shape, settings, progress, generator)
    optimizer.zero_grad(set_to_none=True)
    loss.total.backward()
    torch.nn.utils.clip_grad_norm_(head.parameters(), _MAX_GRADIENT_NORM)
    optimizer.step()
    return loss


def _batch_loss(
    head: SceneHead,
    buffer: FeatureBuffer,
    shape: _SceneShape,
    settings: MappingSettings,
    progress: float,
    generator: torch.Generator,
) -> BatchLoss:
    device = buffer.cells.features.device
    rows = torch.randint(len(buffer), (settings.batch_size,), generator=generator, device=device)
    cells = buffer.take(rows)
    with torch.autocast(device.type, fast_dtype(device), enabled=fast_dtype(device) != torch.float32):
        predicted = head(cells.features.float())
    return mapping_loss(
        predicted,
        cells,
        buffer,
        progress=progress,
        depth_range=shape.depth_range,
        scene_scale=head.scene_scale,
        reprojection_weight=settings.reprojection_weight,
    )


@torch.no_grad()
def _evaluate(
    head: SceneHead,
    buffer: FeatureBuffer,
    shape: _SceneShape,
    settings: MappingSettings,
    generator: torch.Generator,
) -> BatchLoss:
    return _batch_loss(head, buffer, shape, settings, 1.0, generator)


def _one_cycle(progress: float) -> float:
    """Linear warm-up, then half a cosine down to zero (after Smith & Topin 2018)."""
    if progress < _WARM_UP:
        return max(0.04, progress / _WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))
