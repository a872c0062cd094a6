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
from dsac.mapping.learner import Learner
from dsac.mapping.losses import BatchLoss, coordinate_loss, dsac_star_loss
from dsac.mapping.scene_shape import SceneShape
from dsac.mapping.views import Augmentation, View, random_view
from dsac.networks.encoder import working_size
from dsac.networks.heads import LinearHead
from dsac.networks.scene_networks import NetworkArchitecture, SceneNetwork

_HALVINGS = 5  # of the rate, evenly spread
_EVALUATED = 8  # views


@dataclass(frozen=True)
class NetworkSettings:
    """How a network of the papers learns a scene; the defaults are the published ones and want a GPU."""

    network: NetworkArchitecture
    steps: int = 300_000
    """Updates, each with one view."""
    minutes: float | None = None
    """For all of mapping; replaces `steps`. Triangulation takes what it needs; training gets the rest, 5 s at
    least."""
    learning_rate: float = 1e-4
    """Of Adam, at the start; halved five times."""
    short_side_px: int = 480
    """Images are resized to this short side."""
    augmentation: Augmentation = Augmentation(2 / 3, 3 / 2, 30.0, 0.1, max_gamma=1.0, max_blur_px=0.0)
    """DSAC*'s."""

    def __post_init__(self) -> None:
        for name in ("steps", "minutes", "learning_rate", "short_side_px"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected more than 0, got {value}")


def network_learner(
    frames: Frames,
    settings: NetworkSettings,
    *,
    exact_depth: bool,
    seed: int,
    device: torch.device,
    on_progress: Callable[[float], None],
) -> Learner:
    """Set up a network to learn the frames (with depth); `exact_depth`: it was measured, not triangulated."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network = SceneNetwork(settings.network)
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    shape = _look_around(frames, settings, network, seed, device, on_progress)
    head = LinearHead(network.num_features).to(device)
    head.scene_center.copy_(shape.center)
    head.scene_scale.fill_(shape.scale)
    values = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(values, settings.learning_rate, fused=True)
    loss_of = coordinate_loss if exact_depth else dsac_star_loss
    views: list[Iterator[View]] = []  # one, from the first update on

    def batch_loss(view: View) -> BatchLoss:
        buffer = cells_of_view(view, network(view.image[None].to(device))[0], network.stride)
        return loss_of(
            head(buffer.cells.features), buffer.cells, buffer,
            depth_range=shape.depth_range, scene_scale=head.scene_scale,
        )  # fmt: skip

    def update(step: int, progress: float) -> BatchLoss:
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * 0.5 ** int(progress * (_HALVINGS + 1))
        if not views:
            views.append(_views(frames, settings, network, seed, first=step))
        loss = batch_loss(next(views[0]))
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        optimizer.step()
        return loss

    @torch.no_grad()
    def evaluate() -> BatchLoss:
        # views of its own: an interrupt may have ended those of the updates
        some = islice(_views(frames, settings, network, seed, first=0), _EVALUATED)
        losses = [batch_loss(view) for view in some]
        return BatchLoss(
            torch.stack([loss.total for loss in losses]).mean(),
            torch.stack([loss.fraction_good for loss in losses]).mean(),
            torch.stack([loss.median_error_px for loss in losses]).mean(),
        )

    parts = {"network": network, "head": head, "optimizer": optimizer}
    return Learner(network, head, shape, parts, update, evaluate)


def _views(
    frames: Frames, settings: NetworkSettings, network: SceneNetwork, seed: int, first: int
) -> Iterator[View]:
    """The view of each step from the `first` on; the same steps have the same views in every sitting."""

    def make(step: int) -> View:
        rng = np.random.default_rng([seed, step])
        frame = frames[int(rng.integers(len(frames)))]
        size = working_size(frame.camera.size, settings.short_side_px, network.size_multiple)
        return random_view(frame, size, network.stride, settings.augmentation, rng)

    return prefetched(make, ((step,) for step in count(first)), workers=max(1, (os.cpu_count() or 1) // 2))


def _look_around(
    frames: Frames,
    settings: NetworkSettings,
    network: SceneNetwork,
    seed: int,
    device: torch.device,
    on_progress: Callable[[float], None],
) -> SceneShape:
    """The scene's shape, from some views."""
    some = evenly_spread(frames, _LOOKS)
    buffer = collect(
        some,
        _NoFeatures(network.stride, network.size_multiple),
        short_side_px=settings.short_side_px,
        num_views=_LOOKS,
        buffer_size=1_000_000,
        augmentation=settings.augmentation,
        seed=seed,
        device=device,
        on_progress=on_progress,
    )
    return SceneShape.of(buffer, frames)


_LOOKS = 200


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
