"""The papers' own networks: trained whole and from scratch for each scene, with no shared encoder.

DSAC (Brachmann et al., CVPR 2017): a VGG-like network on patches of 42 px, 33 million values:
    3×3 convolutions 64, 64/2, 128, 128/2, 256, 256, 256/2, 512, 512, 512/2, fully connected 4096, 4096, 3.
DSAC* (Brachmann & Rother, PAMI 2021): fully convolutional on a grey image, 7 million values, sees 81 px:
    3×3 convolutions 32, 64/2, 128/2, 256/2, residual blocks 256, 512, (1×1) 512, 1×1 convolutions 512, 512, 3.

DSAC's network is made fully convolutional without a change to its weights. Its fully connected layers are
convolutions, the first over the 2×2 places that four strides leave of a patch. One answer for each 8-pixel cell
needs a stride of 8, not 16: the fourth strided layer keeps stride 1 and the 2×2 kernel takes every second place
(dilation 2), which computes at each cell what the strided network computes on the patch around it. Where the
patch ends, the strided network saw zeros; here the picture goes on: a cell sees 101 px.

A `SceneNetwork` is all layers but the last: an encoder that belongs to one scene. The last is a `LinearHead`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

NetworkName = Literal["dsac", "dsac-star"]


@dataclass(frozen=True)
class NetworkArchitecture:
    """Everything needed to build a network; the map file holds it."""

    name: NetworkName
    grey: bool
    width: float | int = 1.0  # of all layers, relative to the published ones

    def __post_init__(self) -> None:
        if self.name not in _LAYERS:
            raise ValueError(f"network: expected {' or '.join(_LAYERS)}, got {self.name}")
        if not isinstance(self.grey, bool):
            raise ValueError(f"grey: expected true or false, got {self.grey!r}")
        if type(self.width) not in (int, float) or not self.width > 0:
            raise ValueError(f"width: expected more than 0, got {self.width!r}")
        if not 1 / 64 <= self.width <= 16:
            raise ValueError(f"width: expected 1/64 to 16 of the published one, got {self.width!r}")

    @staticmethod
    def published(name: NetworkName, width: float | int = 1.0) -> NetworkArchitecture:
        """As in the paper: DSAC sees colours, DSAC* does not."""
        return NetworkArchitecture(name, grey=name == "dsac-star", width=width)


class SceneNetwork(nn.Module):
    """An `Encoder` whose weights are part of the map."""

    digest = "own"  # of the map, which holds the weights
    stride = 8
    size_multiple = 8

    def __init__(self, architecture: NetworkArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.id: str = architecture.name
        self.layers = _LAYERS[architecture.name](1 if architecture.grey else 3, float(architecture.width))
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        self.num_features = convolutions[-1].out_channels
        for convolution in convolutions:  # He et al. 2015: what is deep and has no normalisation needs it
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        weight = next(self.parameters())
        x = images.to(weight.dtype)
        if self.architecture.grey:
            x = torch.einsum("bchw,c->bhw", x, x.new_tensor(_LUMINANCE))[:, None]
        return self.layers(((x - _MEAN) / _SPREAD).contiguous(memory_format=torch.channels_last))


_LUMINANCE = (0.299, 0.587, 0.114)
_MEAN, _SPREAD = 0.4, 0.25  # of the values of indoor photos


def _dsac(channels: int, width: float) -> nn.Sequential:
    widths = [round(width * full) for full in (64, 64, 128, 128, 256, 256, 256, 512, 512, 512)]
    strides = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1)  # the last one would be 2 on a patch
    layers: list[nn.Module] = []
    for (before, after), stride in zip(pairwise([channels, *widths]), strides, strict=True):
        layers += [nn.Conv2d(before, after, 3, stride, padding=1), nn.ReLU(inplace=True)]
    hidden = round(width * 4096)
    layers += [nn.Conv2d(widths[-1], hidden, 2, padding=1, dilation=2), nn.ReLU(inplace=True)]
    layers += [nn.Conv2d(hidden, hidden, 1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _dsac_star(channels: int, width: float) -> nn.Sequential:
    widths = [round(width * full) for full in (32, 64, 128, 256)]
    layers: list[nn.Module] = []
    for (before, after), stride in zip(pairwise([channels, *widths]), (1, 2, 2, 2), strict=True):
        layers += [nn.Conv2d(before, after, 3, stride, padding=1), nn.ReLU(inplace=True)]
    wide = round(width * 512)
    layers += [
        _ResidualBlock(widths[-1], widths[-1], (3, 1, 3)),
        _ResidualBlock(widths[-1], wide, (3, 1, 3)),
        _ResidualBlock(wide, wide, (1, 1, 1)),
        nn.Conv2d(wide, wide, 1), nn.ReLU(inplace=True),
        nn.Conv2d(wide, wide, 1), nn.ReLU(inplace=True),
    ]  # fmt: skip
    return nn.Sequential(*layers)


class _ResidualBlock(nn.Module):
    """x + three convolutions with their ReLU; x through a 1×1 convolution where it changes its width."""

    def __init__(self, channels: int, width: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for (before, after), kernel in zip(pairwise([channels, *[width] * len(kernels)]), kernels, strict=True):
            layers += [nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.skip = nn.Identity() if channels == width else nn.Conv2d(channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.layers(x)


_LAYERS = {"dsac": _dsac, "dsac-star": _dsac_star}
