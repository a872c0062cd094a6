"""What the encoder is taught by: the features of networks that were trained on far more than is at hand here.

EfficientNet-lite0, which ships, gives the start; XFeat's trunk (Potje et al., CVPR 2024; Apache-2.0), trained
on matches between photos of places, gives a first idea of what is the same seen from elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def whitening_matrix(centered: Float[Tensor, "M C"]) -> Float[Tensor, "C C"]:
    """To uncorrelated features of unit variance, weakest first; weak directions are held back, as in a head."""
    variances, axes = torch.linalg.eigh(centered.T @ centered / len(centered))
    return axes * (variances + 0.01 * variances.mean()).rsqrt()


class XFeat(nn.Module):
    """The dense trunk: 64 channels at stride 8 from the grey image, normalised by its own mean and contrast."""

    num_features = 64

    def __init__(self, path: Path) -> None:
        super().__init__()
        stored = np.load(path)
        self.weights = {name: torch.from_numpy(stored[name]) for name in stored}

    def _apply(self, fn, recurse: bool = True) -> XFeat:  # the weights are no parameters: nothing trains them
        self.weights = {name: fn(value) for name, value in self.weights.items()}
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 64 h w"]:
        grey = F.instance_norm(images.mean(1, keepdim=True))
        skip = F.conv2d(F.avg_pool2d(grey, 4), self.weights["skip1.1.weight"], self.weights["skip1.1.bias"])
        x = self._block("block1", grey, strides=(1, 2, 1, 2))
        x = self._block("block2", x + skip, strides=(1, 1))
        fine = self._block("block3", x, strides=(2, 1, 1))
        middle = self._block("block4", fine, strides=(2, 1, 1))
        coarse = self._block("block5", middle, strides=(2, 1, 1, 1))
        size = fine.shape[-2:]
        both = (
            fine + F.interpolate(middle, size, mode="bilinear") + F.interpolate(coarse, size, mode="bilinear")
        )
        x = self._block("block_fusion", both, strides=(1, 1))
        return F.conv2d(x, self.weights["block_fusion.2.weight"], self.weights["block_fusion.2.bias"])

    def _block(self, name: str, x: Tensor, strides: tuple[int, ...]) -> Tensor:
        """Convolutions without bias, each normalised and rectified."""
        for i, stride in enumerate(strides):
            weight = self.weights[f"{name}.{i}.layer.0.weight"]
            x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
            mean = self.weights[f"{name}.{i}.layer.1.running_mean"]
            x = F.batch_norm(x, mean, self.weights[f"{name}.{i}.layer.1.running_var"])
            x = F.relu(x)
        return x
