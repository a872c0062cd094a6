"""A head behind the frozen shared encoder, trained on shuffled cells of many encoded views.

The encoder stays frozen, so that a training step costs only the small head (Brachmann et al., ACE, CVPR 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dsac.datasets import Frames
from dsac.mapping.buffer import FeatureBuffer, collect
from dsac.mapping.losses import BatchLoss, mapping_loss
from dsac.mapping.scene_shape import SceneShape
from dsac.mapping.settings import MappingSettings
from dsac.mapping.training import Parts
from dsac.networks.encoder import Encoder, fast_autocast
from dsac.networks.heads import HeadArchitecture, SceneHead, with_noise


@dataclass(frozen=True, eq=False)
class HeadLearner:
    """A head in training (a `Learner`)."""

    encoder: Encoder  # frozen
    head: SceneHead
    shape: SceneShape
    buffer: FeatureBuffer
    settings: MappingSettings
    optimizer: torch.optim.Optimizer
    generator: torch.Generator

    @property
    def parts(self) -> Parts:
        return {"head": self.head, "optimizer": self.optimizer, "generator": self.generator}

    def update(self, step: int, progress: float) -> BatchLoss:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * one_cycle(progress, *_WARM_UP)
        loss = self._batch_loss(progress, noise=self.settings.feature_noise * (1 - progress / 2))
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), _MAX_GRADIENT_NORM)
        self.optimizer.step()
        return loss

    @torch.no_grad()
    def evaluate(self) -> BatchLoss:
        """The loss of a batch as it counts at the end of training."""
        return self._batch_loss(1.0, noise=0.0)

    def _batch_loss(self, progress: float, noise: float) -> BatchLoss:
        device = self.buffer.cells.features.device
        rows = torch.randint(
            len(self.buffer), (self.settings.batch_size,), generator=self.generator, device=device
        )
        cells = self.buffer.take(rows)
        with fast_autocast(device):
            whitened = self.head.whitened(cells.features.float())
            if noise > 0:
                whitened = with_noise(whitened, noise, self.generator)
            predicted = self.head.of_whitened(whitened)
        return mapping_loss(
            predicted,
            cells,
            self.buffer,
            progress=progress,
            depth_range=self.shape.depth_range,
            scene_scale=self.head.scene_scale,
            reprojection_weight=self.settings.reprojection_weight,
        )


_WARM_UP = 0.1, 0.04
_MAX_GRADIENT_NORM = 1.0


def head_learner(
    frames: Frames,
    settings: MappingSettings,
    encoder: Encoder,
    *,
    seed: int,
    device: torch.device,
    seconds: float | None,
    on_progress: Callable[[float], None],
) -> HeadLearner:
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
    shape = SceneShape.of(buffer)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        head = SceneHead(
            HeadArchitecture(encoder.num_features, settings.width, settings.num_blocks, settings.num_modes)
        )
    head.to(device)
    generator = torch.Generator(device).manual_seed(seed)
    sample = torch.randint(len(buffer), (min(len(buffer), 100_000),), generator=generator, device=device)
    head.fit_normalisation(buffer.cells.features[sample])
    head.scene_center.copy_(shape.center)
    head.scene_scale.fill_(shape.scale)
    if settings.num_modes > 1:
        head.spread_modes(places(buffer, settings.num_modes, seed))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1.0, weight_decay=settings.weight_decay, fused=True)
    return HeadLearner(encoder, head, shape, buffer, settings, optimizer, generator)


def places(buffer: FeatureBuffer, count: int, seed: int) -> Float[Tensor, "count 3"]:
    """Middles of so many parts of the scene, by the known points of cells or else the cameras (k-means)."""
    points = buffer.cells.scene_points
    points = points[torch.isfinite(points[:, 0])]
    if len(points) < count:
        poses = buffer.cam_from_world
        points = -(poses[:, :, :3].mT @ poses[:, :, 3:])[..., 0]
    rng = np.random.default_rng(seed)
    known = points.cpu().numpy()[rng.choice(len(points), min(len(points), _PLACED), replace=False)]
    cv2.setRNGSeed(seed)
    steps = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-3)
    if len(known) < count:
        known = np.resize(known, (count, 3))
    _, _, middles = cv2.kmeans(known.astype(np.float32), count, None, steps, 3, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    return torch.from_numpy(middles).to(points)


_PLACED = 20_000


def one_cycle(progress: float, warm_up: float, least: float) -> float:
    """Share of the highest rate: up from `least` over `warm_up` of the training, then down half a cosine.

    After Smith & Topin 2018.
    """
    if progress < warm_up:
        return max(least, progress / warm_up)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))
