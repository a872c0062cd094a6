"""Local features: for each cell of a photo a descriptor, by which the same place is known in another photo.

The network is the dense half of XFeat (Potje et al., "XFeat: Accelerated Features for Lightweight Image
Matching", CVPR 2024): a pyramid of small convolutions whose levels at strides 8, 16 and 32 are added up, then
64 values for each cell of 8 pixels. Batch normalisation is folded into the convolutions; where the weights come
from stands in `weights/README.md`.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from dsac.networks.encoder import fast_dtype

ID = "xfeat"  # of the network that ships: a map names what describes its points
STRIDE = 8  # pixels per cell
NUM_VALUES = 64  # of a descriptor
_SIZE_MULTIPLE = 32


@cache
def load_local_features() -> LocalFeatures:
    """The network that ships with the package, on the CPU, in its fast precision."""
    path = resources.files("dsac.networks") / "weights" / f"{ID}.safetensors"
    network = LocalFeatures()
    network.load_state_dict(safetensors.torch.load(path.read_bytes()))
    network = network.eval().requires_grad_(False).to(fast_dtype("cpu"))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class LocalFeatures(nn.Module):
    """Grey images to descriptors."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = _layers((1, 4, 3, 1), (4, 8, 3, 2), (8, 8, 3, 1), (8, 24, 3, 2))
        self.average = nn.Conv2d(1, 24, 1)  # of 4×4 pixels, beside `fine`
        self.quarter = _layers((24, 24, 3, 1), (24, 24, 3, 1))
        self.eighth = _layers((24, 64, 3, 2), (64, 64, 3, 1), (64, 64, 1, 1))
        self.sixteenth = _layers((64, 64, 3, 2), (64, 64, 3, 1), (64, 64, 3, 1))
        self.coarse = _layers((64, 128, 3, 2), (128, 128, 3, 1), (128, 128, 3, 1), (128, 64, 1, 1))
        self.fusion = _layers((64, 64, 3, 1), (64, 64, 3, 1), (64, 64, 1, 1))[:-1]

    def forward(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 64 h w"]:
        """Descriptors at the centres of the cells, of unit length; H and W are multiples of 32.

        Brightness and contrast do not matter.
        """
        x = F.instance_norm(images).to(self.average.weight.dtype).contiguous(memory_format=torch.channels_last)
        eighth = self.eighth(self.quarter(self.fine(x) + self.average(F.avg_pool2d(x, 4))))
        sixteenth = self.sixteenth(eighth)
        coarse = self.coarse(sixteenth)
        raised = [F.interpolate(level, eighth.shape[-2:], mode="bilinear") for level in (sixteenth, coarse)]
        return F.normalize(self.fusion(eighth + raised[0] + raised[1]).float(), dim=1)

    @torch.inference_mode()
    def describe(
        self, grey: UInt8[np.ndarray, "H W"], pixels: Float[np.ndarray, "K 2"]
    ) -> Float32[np.ndarray, "K 64"]:
        """Descriptors of unit length at some pixels of an image of any size."""
        if len(pixels) == 0:
            return np.zeros((0, NUM_VALUES), np.float32)
        height, width = grey.shape
        padding = (0, -width % _SIZE_MULTIPLE, 0, -height % _SIZE_MULTIPLE)
        image = torch.from_numpy(np.ascontiguousarray(grey))[None, None].float()
        return sampled(self(F.pad(image, padding, mode="replicate")), torch.from_numpy(pixels)).numpy()


def sampled(descriptors: Float[Tensor, "1 C h w"], pixels: Float[Tensor, "K 2"]) -> Float[Tensor, "K C"]:
    """Descriptors at pixels, between the cells' centres."""
    size = torch.tensor(descriptors.shape[:-3:-1]) * STRIDE
    places = (2 * pixels / size - 1)[None, None].float()
    values = F.grid_sample(descriptors, places, mode="bicubic", align_corners=False)[0, :, 0]
    return F.normalize(values.T, dim=-1)


def _layers(*shapes: tuple[int, int, int, int]) -> nn.Sequential:
    """Convolutions (channels in, channels out, kernel, stride), each with a ReLU."""
    layers: list[nn.Module] = []
    for inner, outer, kernel, stride in shapes:
        layers += [nn.Conv2d(inner, outer, kernel, stride, kernel // 2), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
