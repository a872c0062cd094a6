"""A head behind the frozen shared encoder, trained on shuffled cells of many encoded views.

The encoder stays frozen, so that a training step costs only the small head (Brachmann et al., ACE, CVPR 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from dsac.datasets import Frames
from dsac.mapping.buffer import FeatureBuffer, collect
from dsac.mapping.learner import Learner
from dsac.mapping.losses import BatchLoss, mapping_loss
from dsac.mapping.scene_shape import SceneShape
from dsac.mapping.views import Augmentation
from dsac.networks.encoder import Encoder, fast_autocast
from dsac.networks.heads import HeadArchitecture, SceneHead, with_noise


@dataclass(frozen=True)
class MappingSettings:
    """How a scene is learned; the defaults serve every scene."""

    steps: int = 1000
    """Training steps."""
    minutes: float | None = None
    """For all of mapping; replaces `steps`. Depth and landmarks take what they need, features one view a frame
    and more only within two fifths of the time; training gets the rest, 5 s at least."""
    batch_size: int = 4096
    """Cells in a step."""
    learning_rate: float = 5e-3
    """Highest rate of the one-cycle schedule."""
    weight_decay: float = 0.01
    width: int = 384
    """Width of the head's layers."""
    num_blocks: int = 2
    """Residual blocks of the head."""
    feature_noise: float = 1.0
    """Largest standard deviation of the noise on whitened features at the start of training, half of it at the
    end: so that the head does not lean on how things look from the mapping views alone."""
    reprojection_weight: float = 1.0
    """Of the reprojection loss beside the distance to known scene points."""
    num_views: int = 1000
    """Augmented views in total, spread over the frames."""
    buffer_size: int = 3_000_000
    """Cells kept in memory (0.3 kB each with the shipped encoder)."""
    short_side_px: int = 240
    """Images are encoded at this short side; landmarks, which make the pose exact, have a size of their own."""
    num_landmarks: int = 8000
    """Scene points remembered with a patch of an image, spread over the frames (0.24 kB each); 0 = none."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("steps", "minutes", "batch_size", "num_views", "buffer_size", "short_side_px"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected more than 0, got {value}")
        for name in ("num_landmarks", "feature_noise"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")


def head_learner(
    frames: Frames,
    settings: MappingSettings,
    encoder: Encoder,
    *,
    seed: int,
    device: torch.device,
    seconds: float | None,
    on_progress: Callable[[float], None],
) -> Learner:
    """Encode views of the frames (with depth), in about `seconds` if given, and set up a head to learn them."""
    buffer = collect(
        frames,
        encoder,
        short_side_px=settings.short_side_px,
        num_views=settings.num_views,
        buffer_size=settings.buffer_size,
        augmentation=settings.augmentation,
        seed=seed,
        device=device,
        seconds=seconds,
        on_progress=on_progress,
    )
    shape = SceneShape.of(buffer, frames)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        head = SceneHead(HeadArchitecture(encoder.num_features, settings.width, settings.num_blocks))
    head.to(device)
    generator = torch.Generator(device).manual_seed(seed)
    sample = torch.randint(len(buffer), (min(len(buffer), 100_000),), generator=generator, device=device)
    head.fit_normalisation(buffer.cells.features[sample])
    head.scene_center.copy_(shape.center)
    head.scene_scale.fill_(shape.scale)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1.0, weight_decay=settings.weight_decay, fused=True)

    def update(step: int, progress: float) -> BatchLoss:
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * one_cycle(progress, *_WARM_UP)
        noise = settings.feature_noise * (1 - progress / 2)
        loss = _batch_loss(head, buffer, shape, settings, progress, noise, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), _MAX_GRADIENT_NORM)
        optimizer.step()
        return loss

    @torch.no_grad()
    def evaluate() -> BatchLoss:
        return _batch_loss(head, buffer, shape, settings, 1.0, 0.0, generator)

    parts = {"head": head, "optimizer": optimizer, "generator": generator}
    return Learner(encoder, head, shape, parts, update, evaluate)


_WARM_UP = 0.1, 0.04
_MAX_GRADIENT_NORM = 1.0


def _batch_loss(
    head: SceneHead,
    buffer: FeatureBuffer,
    shape: SceneShape,
    settings: MappingSettings,
    progress: float,
    noise: float,
    generator: torch.Generator,
) -> BatchLoss:
    device = buffer.cells.features.device
    rows = torch.randint(len(buffer), (settings.batch_size,), generator=generator, device=device)
    cells = buffer.take(rows)
    with fast_autocast(device):
        whitened = head.whitened(cells.features.float())
        if noise > 0:
            whitened = with_noise(whitened, noise, generator)
        predicted = head.of_whitened(whitened)
    return mapping_loss(
        predicted,
        cells,
        buffer,
        progress=progress,
        depth_range=shape.depth_range,
        scene_scale=head.scene_scale,
        reprojection_weight=settings.reprojection_weight,
    )


def one_cycle(progress: float, warm_up: float, least: float) -> float:
    """Share of the highest rate: up from `least` over `warm_up` of the training, then down half a cosine.

    After Smith & Topin 2018.
    """
    if progress < warm_up:
        return max(least, progress / warm_up)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))
