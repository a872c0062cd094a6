"""A network of the papers, trained whole: each step sees one augmented view of one frame, all its cells.

With measured depth the loss is the mean distance to the known scene coordinates (DSAC, DSAC*), without it the
rule of DSAC* (`losses.py`). The published batch of 64 patches becomes the thousands of cells of a view; rate
and length are DSAC's: Adam 1e-4, halved after each sixth of 300 000 updates.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dsac.datasets import Frames
from dsac.mapping.buffer import cells_of_view, collect, evenly_spread, prefetched
from dsac.mapping.losses import BatchLoss, coordinate_loss, dsac_star_loss
from dsac.mapping.scene_shape import SceneShape
from dsac.mapping.settings import NetworkSettings
from dsac.mapping.training import Parts
from dsac.mapping.views import View, random_view
from dsac.networks.encoder import working_size
from dsac.networks.heads import LinearHead
from dsac.networks.scene_networks import SceneNetwork

_HALVINGS = 5  # of the rate, evenly spread
_EVALUATED = 8  # views


class NetworkLearner:
    """A network and its last layer in training (a `Learner`)."""

    def __init__(
        self,
        network: SceneNetwork,
        head: LinearHead,
        shape: SceneShape,
        frames: Frames,
        settings: NetworkSettings,
        *,
        exact_depth: bool,
        seed: int,
    ) -> None:
        self.encoder, self.head, self.shape = network, head, shape
        self._frames, self._settings, self._seed = frames, settings, seed
        values = [*network.parameters(), *head.parameters()]
        self._optimizer = torch.optim.Adam(values, settings.learning_rate, fused=True)
        self._loss_of = coordinate_loss if exact_depth else dsac_star_loss
        self._of_updates: Iterator[View] | None = None  # from the first update on

    @property
    def parts(self) -> Parts:
        return {"network": self.encoder, "head": self.head, "optimizer": self._optimizer}

    def update(self, step: int, progress: float) -> BatchLoss:
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * 0.5 ** int(progress * (_HALVINGS + 1))
        if self._of_updates is None:
            self._of_updates = self._views(first=step)
        loss = self._view_loss(next(self._of_updates))
        self._optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        self._optimizer.step()
        return loss

    @torch.no_grad()
    def evaluate(self) -> BatchLoss:
        """The mean loss of a few views."""
        # views of its own: an interrupt may have ended those of the updates
        losses = [self._view_loss(view) for view in islice(self._views(first=0), _EVALUATED)]
        return BatchLoss(
            torch.stack([loss.total for loss in losses]).mean(),
            torch.stack([loss.fraction_good for loss in losses]).mean(),
            torch.stack([loss.median_error_px for loss in losses]).mean(),
        )

    def _view_loss(self, view: View) -> BatchLoss:
        image = view.image[None].to(self.head.scene_center.device)
        buffer = cells_of_view(view, self.encoder(image)[0], self.encoder.stride)
        return self._loss_of(
            self.head(buffer.cells.features), buffer.cells, buffer,
            depth_range=self.shape.depth_range, scene_scale=self.head.scene_scale,
        )  # fmt: skip

    def _views(self, first: int) -> Iterator[View]:
        """The view of each step from the `first` on; the same steps have the same views in every sitting."""
        frames, settings, network = self._frames, self._settings, self.encoder

        def make(step: int) -> View:
            rng = np.random.default_rng([self._seed, step])
            frame = frames[int(rng.integers(len(frames)))]
            size = working_size(frame.camera.size, settings.short_side_px, network.size_multiple)
            return random_view(frame, size, network.stride, settings.augmentation, rng)

        return prefetched(make, ((step,) for step in count(first)), workers=max(1, (os.cpu_count() or 1) // 2))


def network_learner(
    frames: Frames,
    settings: NetworkSettings,
    *,
    exact_depth: bool,
    seed: int,
    device: torch.device,
    on_progress: Callable[[float], None],
) -> NetworkLearner:
    """Set up a network to learn the frames (with depth); `exact_depth`: it was measured, not triangulated."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network = SceneNetwork(settings.network)
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    shape = _scene_shape(frames, settings, network, seed, device, on_progress)
    head = LinearHead(network.num_features).to(device)
    head.scene_center.copy_(shape.center)
    head.scene_scale.fill_(shape.scale)
    return NetworkLearner(network, head, shape, frames, settings, exact_depth=exact_depth, seed=seed)


def _scene_shape(
    frames: Frames,
    settings: NetworkSettings,
    network: SceneNetwork,
    seed: int,
    device: torch.device,
    on_progress: Callable[[float], None],
) -> SceneShape:
    """The scene's shape, from views spread over the frames."""
    frames = evenly_spread(frames, _SHAPE_VIEWS)
    buffer = collect(
        frames,
        _NoFeatures(network.stride, network.size_multiple),
        short_side_px=settings.short_side_px,
        num_views=_SHAPE_VIEWS,
        buffer_size=1_000_000,
        augmentation=settings.augmentation,
        seed=seed,
        device=device,
        on_progress=on_progress,
    )
    return SceneShape.of(buffer)


_SHAPE_VIEWS = 200


@dataclass
class _NoFeatures:
    """An encoder for those who ask only where cells are."""

    stride: int
    size_multiple: int
    id: str = ""
    digest: str = ""
    num_features: int = 0

    def __call__(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 0 h w"]:
        batch, _, height, width = images.shape
        return images.new_zeros(batch, 0, height // self.stride, width // self.stride)
