"""Heads: features of a cell to the scene point it shows and how far off that point may be.

`SceneHead` goes with the shared encoder and is the only part that is learned for a scene: a residual network
of 1×1 layers (here: linear layers on rows of features). Its last layer gives a homogeneous point around the
scene's centre, so that far points need no large weights, and the logarithm of a scale: the expected angle
between prediction and truth, by the Laplace likelihood of training. Where places repeat themselves, one answer
for a cell cannot be right: with several modes it gives as many points, each with a scale and a probability.
`LinearHead` is the last layer of a whole network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class HeadArchitecture:
    """Everything needed to build a head; the map file holds it."""

    num_features: int
    width: int = 256
    num_blocks: int = 2
    num_modes: int = 1

    def __post_init__(self) -> None:
        for name, least, most in (
            ("num_features", 1, 65_536),
            ("width", 1, 65_536),
            ("num_blocks", 0, 64),
            ("num_modes", 1, MOST_MODES),
        ):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ValueError(f"{name}: expected a whole number from {least} to {most}, got {value!r}")


@dataclass(frozen=True)
class SceneCoordinates:
    """Predicted scene points and their scales, for rows of any batch shape.

    The last dimension of the batch is that of the modes where there are probabilities.
    """

    points: Float[Tensor, "*batch 3"]  # metres, world frame
    scale: Float[
        Tensor, "*batch"
    ]  # radians: expected angle between point and truth, as mapping cameras see them
    log_probability: Float[Tensor, "*batch"] | None = None  # of each mode; None: there is one
    covariance: Float[Tensor, "*batch 6"] | None = None  # m²: xx, xy, xz, yy, yz, zz; None: not told


class SceneHead(nn.Module):
    """Rows of features to scene coordinates. Normalisation and scene frame are part of the weights."""

    feature_mean: Tensor
    feature_whitening: Tensor
    scene_center: Tensor
    scene_scale: Tensor

    def __init__(self, architecture: HeadArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        channels, width = architecture.num_features, architecture.width
        self.register_buffer("feature_mean", torch.zeros(channels))
        # not `eye`, for which PyTorch loads its compiler on the device "meta", where a map is read: two seconds
        self.register_buffer("feature_whitening", torch.zeros(channels, channels).fill_diagonal_(1.0))
        self.register_buffer("scene_center", torch.zeros(3))
        self.register_buffer("scene_scale", torch.ones(()))
        self.lift = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(_ResidualBlock(width) for _ in range(architecture.num_blocks))
        modes = architecture.num_modes
        # of each mode x, y, z, homogeneous weight, log scale, and of several the logarithm of their odds
        self.point = nn.Linear(width, 5 if modes == 1 else 6 * modes)

    def forward(self, features: Float[Tensor, "*batch C"]) -> SceneCoordinates:
        return self.of_whitened(self.whitened(features))

    def whitened(self, features: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """The features in the directions of their variance over the scene, which is one in each."""
        return (features - self.feature_mean) @ self.feature_whitening

    def of_whitened(self, whitened: Float[Tensor, "*batch C"]) -> SceneCoordinates:
        """What `forward` makes of features that `whitened` gave."""
        x = self.lift(whitened)
        for block in self.blocks:
            x = block(x)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would round points by 0.2 %
            raw = self.point(F.gelu(x).float())
        odds = None
        if self.architecture.num_modes > 1:
            raw = raw.unflatten(-1, (-1, 6))
            odds = raw[..., 5].log_softmax(-1)
        weight = F.softplus(raw[..., 3:4] + _SOFTPLUS_ONE) + _MIN_WEIGHT
        points = self.scene_center + self.scene_scale * raw[..., :3] / weight
        return SceneCoordinates(points, raw[..., 4].clamp(-9.0, 3.0).exp(), odds)

    @torch.no_grad()
    def spread_modes(self, places: Float[Tensor, "modes 3"]) -> None:
        """Let each mode begin at a place of its own, metres: what begins alike learns alike."""
        bias = self.point.bias.unflatten(0, (-1, 6))
        bias[:, :3] = (places - self.scene_center) / self.scene_scale

    @torch.no_grad()
    def fit_normalisation(self, features: Float[Tensor, "M C"]) -> None:
        """Whiten the features: zero mean, uncorrelated, unit variance (weak directions are held back)."""
        rows = features.float()
        mean = rows.mean(0)
        covariance = (rows - mean).T @ (rows - mean) / len(rows)
        variances, axes = torch.linalg.eigh(covariance)
        floor = _WEAK_DIRECTION * variances.mean()
        self.feature_mean.copy_(mean)
        self.feature_whitening.copy_(axes * (variances + floor).rsqrt())


def with_noise(
    whitened: Float[Tensor, "M C"], largest: float, generator: torch.Generator
) -> Float[Tensor, "M C"]:
    """Whitened features with noise of another standard deviation for each row, at most `largest`."""
    strength = largest * torch.rand(len(whitened), 1, generator=generator, device=whitened.device)
    return whitened + strength * torch.randn(whitened.shape, generator=generator, device=whitened.device)


class LinearHead(nn.Module):
    """Rows of features to scene points, at first the scene's centre; all cells count as equally good."""

    scene_center: Tensor
    scene_scale: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("scene_center", torch.zeros(3))
        self.register_buffer("scene_scale", torch.ones(()))
        self.point = nn.Linear(num_features, 3)
        nn.init.zeros_(self.point.weight)
        nn.init.zeros_(self.point.bias)

    def forward(self, features: Float[Tensor, "*batch C"]) -> SceneCoordinates:
        with torch.autocast(features.device.type, enabled=False):
            points = self.scene_center + self.scene_scale * self.point(features.float())
        return SceneCoordinates(points, torch.ones_like(points[..., 0]))


MOST_MODES = 64
_SOFTPLUS_ONE = 0.5413  # softplus of this is 1: an untrained weight leaves the point unscaled
_MIN_WEIGHT = 0.02  # points reach at most 50 times as far as the network's raw output
_WEAK_DIRECTION = 0.01


class _ResidualBlock(nn.Module):
    """x + two linear layers; the second starts at zero, so that a block starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.gelu(self.first(F.gelu(x))))
