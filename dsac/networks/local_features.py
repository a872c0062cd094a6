"""Local features: keypoints of a photo with descriptors, by which the same place is known in another photo.

The network is XFeat (Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024): a
pyramid of small convolutions whose levels at strides 8, 16 and 32 are added up, a descriptor of 64 values for each
cell of 8 pixels, and beside it for each pixel how likely it is a corner. Batch normalisation is folded into the
convolutions; where the weights come from stands in `weights/README.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor, nn

STRIDE = 8  # pixels per descriptor
NUM_VALUES = 64  # of a descriptor
_SIZE_MULTIPLE = 32
_SPACING_PX = 2  # no other corner is so near
_LEAST_LIKELIHOOD = 0.02


@dataclass(frozen=True, eq=False)
class Keypoints:
    """The K corners of a photo that are the likeliest to be found again, the likeliest first. On the CPU."""

    pixels: Float[np.ndarray, "K 2"]
    descriptors: Float32[np.ndarray, "K 64"]  # of unit length
    scores: Float32[np.ndarray, " K"]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Bool[np.ndarray, " K"] | Int[np.ndarray, " M"]) -> Keypoints:
        return Keypoints(self.pixels[rows], self.descriptors[rows], self.scores[rows])

    def spaced(self, distance_px: float | int) -> Keypoints:
        """Those with no likelier one that near."""
        apart = np.abs(self.pixels[:, None] - self.pixels).max(-1)
        return self[~np.tril(apart <= distance_px, -1).any(1)]


@cache
def load_local_features() -> LocalFeatures:
    """The network that ships with the package, on the CPU."""
    path = resources.files("dsac.networks") / "weights" / "xfeat.safetensors"
    network = LocalFeatures()
    network.load_state_dict(safetensors.torch.load(path.read_bytes()))
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore


class LocalFeatures(nn.Module):
    """Grey images to descriptors and corners."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = _layers((1, 4, 3, 1), (4, 8, 3, 2), (8, 8, 3, 1), (8, 24, 3, 2))
        self.average = nn.Conv2d(1, 24, 1)  # of 4×4 pixels, beside `fine`
        self.quarter = _layers((24, 24, 3, 1), (24, 24, 3, 1))
        self.eighth = _layers((24, 64, 3, 2), (64, 64, 3, 1), (64, 64, 1, 1))
        self.sixteenth = _layers((64, 64, 3, 2), (64, 64, 3, 1), (64, 64, 3, 1))
        self.coarse = _layers((64, 128, 3, 2), (128, 128, 3, 1), (128, 128, 3, 1), (128, 64, 1, 1))
        self.fusion = _layers((64, 64, 3, 1), (64, 64, 3, 1), (64, 64, 1, 1), last_is_linear=True)
        self.reliability = _layers((64, 64, 1, 1), (64, 64, 1, 1), (64, 1, 1, 1), last_is_linear=True)
        self.corners = _layers(
            (64, 64, 1, 1), (64, 64, 1, 1), (64, 64, 1, 1), (64, 65, 1, 1), last_is_linear=True
        )

    def forward(
        self, images: Float[Tensor, "B 1 H W"]
    ) -> tuple[Float[Tensor, "B 64 h w"], Float[Tensor, "B H W"]]:
        """Descriptors at the centres of the cells, of unit length, and the likelihood that a pixel is a corner.

        H and W are multiples of 32; brightness and contrast do not matter.
        """
        x = F.instance_norm(images).contiguous(memory_format=torch.channels_last)
        cells = F.pixel_unshuffle(x, STRIDE)
        quarter = self.quarter(self.fine(x) + self.average(F.avg_pool2d(x, 4)))
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        coarse = self.coarse(sixteenth)
        size = eighth.shape[-2:]
        features = self.fusion(
            eighth
            + F.interpolate(sixteenth, size, mode="bilinear")
            + F.interpolate(coarse, size, mode="bilinear")
        )
        reliability = self.reliability(features).sigmoid()
        # the last of 65 says that no pixel of the cell is a corner
        inside = self.corners(cells).softmax(1)[:, :64]
        likelihood = (
            F.pixel_shuffle(inside, STRIDE)[:, 0]
            * F.interpolate(reliability, images.shape[-2:], mode="bilinear")[:, 0]
        )
        return F.normalize(features, dim=1), likelihood

    @torch.inference_mode()
    def detect(self, grey: UInt8[np.ndarray, "H W"], count: int) -> Keypoints:
        """At most `count` corners of an image of any size."""
        height, width = grey.shape
        image = torch.from_numpy(grey)[None, None].float()
        padding = (0, -width % _SIZE_MULTIPLE, 0, -height % _SIZE_MULTIPLE)
        descriptors, likelihood = self(F.pad(image, padding, mode="replicate"))
        return _strongest(descriptors, likelihood[0, :height, :width], count)


def _strongest(descriptors: Tensor, likelihood: Tensor, count: int) -> Keypoints:
    window = 2 * _SPACING_PX + 1
    highest = F.max_pool2d(likelihood[None], window, 1, _SPACING_PX)[0]
    row, column = ((likelihood == highest) & (likelihood > _LEAST_LIKELIHOOD)).nonzero(as_tuple=True)
    scores = likelihood[row, column]
    best = scores.argsort(descending=True, stable=True)[:count]
    pixels = torch.stack([column[best], row[best]], dim=-1) + 0.5
    return Keypoints(pixels.double().numpy(), sampled(descriptors, pixels).numpy(), scores[best].numpy())


def sampled(descriptors: Float[Tensor, "1 C h w"], pixels: Float[Tensor, "K 2"]) -> Float[Tensor, "K C"]:
    """Descriptors at pixels, between the cells' centres."""
    size = torch.tensor(descriptors.shape[:-3:-1]) * STRIDE
    places = (2 * pixels / size - 1)[None, None].float()
    values = F.grid_sample(descriptors, places, mode="bicubic", align_corners=False)[0, :, 0]
    return F.normalize(values.T, dim=-1)


def _layers(*shapes: tuple[int, int, int, int], last_is_linear: bool = False) -> nn.Sequential:
    """Convolutions (channels in, channels out, kernel, stride), each with a ReLU."""
    layers: list[nn.Module] = []
    for inner, outer, kernel, stride in shapes:
        layers += [nn.Conv2d(inner, outer, kernel, stride, kernel // 2), nn.ReLU(inplace=True)]
    return nn.Sequential(*(layers[:-1] if last_is_linear else layers))
