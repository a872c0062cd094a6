"""Encoders: an image to a grid of features, shared by all scenes and frozen while a scene is mapped.

Those that ship are truncated EfficientNet-lite0 (Tan & Le 2019, the variant without squeeze-and-excitation and
with ReLU6): its features at strides 8 and 16, the latter upsampled, side by side. Batch normalisation is folded
into the convolutions. `efficientnet-lite0` is as its authors trained it, `dsac-lite0`, two blocks shorter and
narrower in two others, was trained further by us (docs/encoder.md); where the weights come from stands in
`weights/README.md`. Any other module with the members of `Encoder` can take their place.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Protocol, runtime_checkable

import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

ENCODERS = ("dsac-lite0", "efficientnet-lite0")  # that ship; the first is the default


@runtime_checkable
class Encoder(Protocol):
    """What mapping and the localizer need of an encoder."""

    id: str
    digest: str  # fingerprint of the weights: a map names the encoder that it was made with
    stride: int  # pixels per cell
    size_multiple: int  # image sides are multiples of this
    num_features: int

    def __call__(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Features at the centre of each `stride`-pixel cell of RGB images in [0, 1]."""
        ...


@runtime_checkable
class DepthEncoder(Protocol):
    """What an `Encoder` has beside that can look at depth, too."""

    def with_depth(
        self, images: Float[Tensor, "B 3 H W"], depth: Float[Tensor, "B H W"]
    ) -> Float[Tensor, "B C h w"]:
        """Features of images with depth: metres along the optical axis, 0 where unknown."""
        ...


def load_encoder(
    id: str = ENCODERS[0], device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> EfficientNetLite:
    """An encoder that ships with the package, by default in the device's fast precision.

    Any precision can be asked for; one that the processor does not compute in is slower than float32.

    Raises: `ValueError` for an id that does not ship.
    """
    if id not in ENCODERS:
        raise ValueError(f"encoder: expected one that ships, {' or '.join(ENCODERS)}, got {id}")
    path = resources.files("dsac.networks") / "weights" / f"{id}.safetensors"
    return read_encoder(id, path.read_bytes(), device, dtype)


def read_encoder(
    id: str, weights: bytes, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> EfficientNetLite:
    """An encoder by the name `id` with the weights of a safetensors file."""
    state = safetensors.torch.load(weights)
    expanded = []
    while (bias := state.get(f"blocks.{len(expanded)}.depthwise.bias")) is not None:
        expanded.append(len(bias))
    encoder = EfficientNetLite(expanded)
    encoder.load_state_dict(state)
    encoder.id = id
    encoder.digest = hashlib.sha256(weights).hexdigest()[:16]
    encoder = encoder.eval().requires_grad_(False).to(device, dtype or fast_dtype(device))
    return encoder.to(memory_format=torch.channels_last)  # type: ignore


def fast_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 where the device computes in it (CUDA; processors with AVX512-BF16 or AMX: 3.5× faster here)."""
    if torch.device(device).type == "cuda":
        return torch.bfloat16
    on_chip = torch.cpu._is_avx512_bf16_supported() and torch.bfloat16 in _one_pass_dtypes()
    return torch.bfloat16 if on_chip else torch.float32


def fast_autocast(device: torch.device) -> torch.autocast:
    """In which networks compute in the device's fast precision."""
    fast = fast_dtype(device)
    return torch.autocast(device.type, fast, enabled=fast != torch.float32)


def working_size(size: tuple[int, int], short_side_px: int, multiple: int) -> tuple[int, int]:
    """The (width, height) closest to `size` in shape with that short side, both multiples of `multiple`."""
    scale = short_side_px / min(size)
    width, height = (max(multiple, round(side * scale / multiple) * multiple) for side in size)
    return width, height


def cell_centers(size: tuple[int, int], stride: int) -> Float[Tensor, "h w 2"]:
    """Pixel coordinates of the centres of the `stride`-pixel cells of an image of `size` (width, height)."""
    columns = (torch.arange(size[0] // stride, dtype=torch.float64) + 0.5) * stride
    rows = (torch.arange(size[1] // stride, dtype=torch.float64) + 0.5) * stride
    grid_y, grid_x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([grid_x, grid_y], dim=-1)


# (output channels, kernel, stride) of blocks 0 to 10, and their expanded channels
_BLOCKS = (
    (16, 3, 1),
    (24, 3, 2), (24, 3, 1),
    (40, 5, 2), (40, 5, 1),
    (80, 3, 2), (80, 3, 1), (80, 3, 1),
    (112, 5, 1), (112, 5, 1), (112, 5, 1),
)  # fmt: skip
_EXPANDED = (32, 96, 144, 144, 240, 240, 480, 480, 480, 672, 672)
_LAST_AT_STRIDE_8 = 4


class EfficientNetLite(nn.Module):
    """The first 9 to 11 blocks of EfficientNet-lite0: 40 channels at stride 8 beside 112 at stride 16."""

    id = "untrained"
    digest = "untrained"
    stride = 8
    size_multiple = 16
    num_features = 40 + 112

    def __init__(self, expanded: Sequence[int] = _EXPANDED) -> None:
        """With a block for each number of expanded channels. Raises: `ValueError` for more than eleven."""
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=2)
        channels = 32
        self.blocks = nn.ModuleList()
        for wide, (out_channels, kernel, stride) in zip(expanded, _BLOCKS[: len(expanded)], strict=True):
            expand = len(self.blocks) > 0
            self.blocks.append(InvertedResidual(channels, wide, out_channels, kernel, stride, expand))
            channels = out_channels

    def start(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 32 h w"]:
        """Output of the stem, which the first block reads."""
        x = (images - 127 / 255).mul_(255 / 128)
        x = x.to(self.stem.weight.dtype).contiguous(memory_format=torch.channels_last)
        before, after = _zeros_around(self.stem)
        return _conv(self.stem, F.pad(x, (before, after) * 2))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        fine = x = self.start(images)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i == _LAST_AT_STRIDE_8:
                fine = x
        coarse = F.interpolate(x, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([fine, coarse], dim=1)


class InvertedResidual(nn.Module):
    """1×1 expansion, depthwise convolution, 1×1 projection, and the identity where shapes agree."""

    def __init__(
        self, channels: int, wide: int, out_channels: int, kernel: int, stride: int, expand: bool
    ) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, wide, 1) if expand else None
        self.depthwise = nn.Conv2d(wide, wide, kernel, stride=stride, groups=wide)
        self.project = nn.Conv2d(wide, out_channels, 1)
        self.residual = stride == 1 and channels == out_channels

    def expanded(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B E H2 W2"]:
        """Output of the depthwise convolution, which the projection reads."""
        before, after = _zeros_around(self.depthwise)
        even = before == after
        y = x if even else F.pad(x, (before, after) * 2)  # here and not below, where it is a sixth of the data
        if self.expand is not None:
            y = _conv(self.expand, y)
            if not even:
                _clear_around(y, before, after)
        return _conv(self.depthwise, y, padding=before if even else 0)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        y = _conv(self.project, self.expanded(x), relu6=False)
        return x + y if self.residual else y


def _zeros_around(conv: nn.Conv2d) -> tuple[int, int]:
    """Left and above, right and below: as the weights were trained with, for sides divisible by the stride."""
    total = conv.kernel_size[0] - conv.stride[0]
    return total // 2, total - total // 2


def _clear_around(y: Float[Tensor, "B C H W"], before: int, after: int) -> None:
    for i in (*range(before), *range(-after, 0)):
        y[:, :, i] = y[..., i] = 0


def _conv(
    conv: nn.Conv2d, x: Float[Tensor, "B C H W"], padding: int = 0, relu6: bool = True
) -> Float[Tensor, "B C2 H2 W2"]:
    """With ReLU6 in one pass where oneDNN does both; the same values otherwise."""
    tracked = torch.is_grad_enabled()
    on_cpu = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if on_cpu and not tracked and x.dtype in _one_pass_dtypes():
        stride, paddings = list(conv.stride), [padding, padding]
        after = ("hardtanh", [0.0, 6.0], "") if relu6 else ("none", [], "")
        return torch.ops.mkldnn._convolution_pointwise(
            x, conv.weight, conv.bias, paddings, stride, [1, 1], conv.groups, *after
        )
    y = F.conv2d(x, conv.weight, conv.bias, conv.stride, padding, groups=conv.groups)
    return F.relu6(y, inplace=not tracked) if relu6 else y


@cache
def _one_pass_dtypes() -> frozenset[torch.dtype]:
    """Precisions in which oneDNN does a layer and its ReLU6 in one pass on this processor.

    Those of 16 bits need AVX-512 or AVX-NE-CONVERT. Without these oneDNN refuses the one pass, not the layers.
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")  # where it was measured
    operations = torch.ops.mkldnn
    if not (x86 and torch.backends.mkldnn.is_available() and hasattr(operations, "_convolution_pointwise")):
        return frozenset()
    checks = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    short = [dtype for dtype, name in checks.items() if getattr(operations, name, lambda: False)()]
    return frozenset([torch.float32, *short])
