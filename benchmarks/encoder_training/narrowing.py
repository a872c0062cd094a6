"""A narrower network that gives nearly the same features, in closed form.

Of a block's expanded channels those are kept that explain most of its output together (forward selection),
and the projection is fitted anew by least squares, on what the narrowed blocks before it give: each block mends
what it can of their error (after He, Zhang & Sun, ICCV 2017).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dsac.networks.encoder import EfficientNetLite
from encoder_training.teachers import whitening_matrix

_RIDGE = 1e-4  # of a channel's variance


@torch.no_grad()
def narrow(wide: EfficientNetLite, into: EfficientNetLite, images: Float[Tensor, "B 3 H W"]) -> None:
    """Fill `into`, which has the same first blocks with fewer expanded channels, from `wide`.

    Blocks of `wide` beyond the last one of `into` are what that one is fitted to give, too.
    """
    into.stem.load_state_dict(wide.stem.state_dict())
    given = taught = wide.start(images)
    for i, own in enumerate(into.blocks):
        block = wide.blocks[i]
        taught = block(taught)
        if i + 1 == len(into.blocks):
            for rest in wide.blocks[i + 1 :]:
                taught = rest(taught)
        channels = block.widened(given)
        target = taught - given if block.residual else taught
        kept, weight, bias = _fit(_rows(channels), _rows(target), own.project.in_channels)
        for name in ("expand", "depthwise"):
            source, narrowed = getattr(block, name), getattr(own, name)
            if source is not None:
                narrowed.weight.copy_(source.weight[kept])
                narrowed.bias.copy_(source.bias[kept])
        own.project.weight.copy_(weight[..., None, None])
        own.project.bias.copy_(bias)
        given = own(given)


def _fit(
    channels: Float[Tensor, "M W"], target: Float[Tensor, "M C"], count: int
) -> tuple[Int[Tensor, " K"], Float[Tensor, "C K"], Float[Tensor, " C"]]:
    """Which `count` channels to keep, and the affine map from them to the target."""
    mean, target_mean = channels.mean(0), target.mean(0)
    z, y = channels - mean, target - target_mean
    covariance, cross = z.T @ z / len(z), z.T @ y / len(z)
    ridge = _RIDGE * covariance.diagonal().clamp_min(1e-6)
    kept = _selected(covariance + ridge.diag(), cross @ whitening_matrix(y), count)
    system = covariance[kept][:, kept] + ridge[kept].diag()
    weight = torch.linalg.solve(system, cross[kept]).T
    return kept, weight, target_mean - weight @ mean[kept]


def _selected(covariance: Float[Tensor, "W W"], cross: Float[Tensor, "W C"], count: int) -> Int[Tensor, " K"]:
    """Forward selection: each time the channel whose part that the kept ones do not explain helps most."""
    covariance, cross = covariance.double(), cross.double()
    least = 1e-6 * covariance.diagonal()
    kept: list[int] = []
    for _ in range(count):
        variance = covariance.diagonal().clamp_min(least)
        gain = cross.square().sum(1) / variance
        gain[kept] = -1
        best = int(gain.argmax())
        kept.append(best)
        share = covariance[:, best] / variance[best]
        cross = cross - share[:, None] * cross[best]
        covariance = covariance - share[:, None] * covariance[best]
    return torch.tensor(sorted(kept), device=cross.device)


def _rows(features: Float[Tensor, "B C h w"]) -> Float[Tensor, "M C"]:
    return features.float().permute(0, 2, 3, 1).flatten(0, 2)
