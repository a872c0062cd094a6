"""How a compact map lies in its file: in no more levels than answers need.

A tensor NAME becomes NAME.levels, whole numbers, and NAME.step, what one of them is worth:

- weights: a step for each column, a 127th of its largest value;
- points: a 4096th of how near cameras came, from where half of it is a sixteenth of a pixel;
- patches: the amplitudes of their cosine transform (Ahmed et al. 1974), as JPEG has them of pictures, in steps
  of six tenths of the patch's contrast: what they are compared by, the correlation, loses 0.008;
- descriptors: 24 of the 127 that stand for a half, of which a cosine loses 0.02; words and colours: 8.

The file is deflated, which takes as many bits of each level as it tells. What was unpacked packs as it was
(patches about so): a map may be read and written again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, Int8, UInt8
from torch import Tensor


def packed(tensors: Mapping[str, Tensor], nearest: float) -> dict[str, Tensor]:
    """Those that a map file would hold, in few levels; `nearest` is how near cameras came to scene points."""
    found = {}
    for name, value in tensors.items():
        form = _form_of(name)
        if form is None or value.numel() == 0:
            found[name] = value
        else:
            levels, step = form.pack(value, nearest)
            found |= {name + _LEVELS: levels.contiguous(), name + _STEP: step}
    return found


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those that were packed, about as they were, and others as they are.

    Raises: `KeyError`, `RuntimeError` or `ValueError` for levels that were not packed so.
    """
    found = {}
    for name, value in tensors.items():
        packed_name = name.removesuffix(_LEVELS)
        if packed_name != name:
            form = _form_of(packed_name)
            if form is None:
                raise ValueError(f"{name}: expected no levels of {packed_name}")
            found[packed_name] = form.unpack(value, tensors[packed_name + _STEP])
        elif not name.endswith(_STEP):
            found[name] = value
    return found


class _Packed(NamedTuple):
    levels: Tensor
    step: Tensor


@runtime_checkable
class Form(Protocol):
    def pack(self, value: Tensor, nearest: float) -> _Packed: ...

    def unpack(self, levels: Tensor, step: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Columns:
    """A matrix of which each column has its own step, of so few digits that it is found again exactly."""

    most: int  # levels above 0

    def pack(self, value: Float[Tensor, "R C"], nearest: float) -> _Packed:
        step = (value.float().abs().amax(0) / self.most).clamp(min=_TINY).bfloat16()
        levels = (value.float() / step.float()).round().clamp(-self.most, self.most)
        return _Packed(levels.to(torch.int8), step)

    def unpack(self, levels: Int8[Tensor, "R C"], step: Float[Tensor, " C"]) -> Float32[Tensor, "R C"]:
        return levels.float() * step.float()


class Points:
    """Coordinates in one step, byte by byte: of most points the upper ones are alike."""

    def pack(self, value: Float[Tensor, "N 3"], nearest: float) -> _Packed:
        points = value.double()
        step = max(nearest * _POINT_STEP, points.abs().max().item() / _MOST_STEPS, _TINY)
        counts = (points / step).round().to(torch.int32).T.contiguous()
        levels = counts[..., None].view(torch.uint8).movedim(-1, 0)
        return _Packed(levels, torch.tensor(step, dtype=torch.float64))

    def unpack(self, levels: UInt8[Tensor, "4 3 N"], step: Float[Tensor, ""]) -> Float32[Tensor, "N 3"]:
        counts = levels.movedim(0, -1).contiguous().view(torch.int32)[..., 0]
        return (counts.T.double() * step.double()).float().contiguous()


@dataclass(frozen=True)
class Patches:
    """Square patches, from 0 to 255, by their amplitudes; the mean has steps of its own."""

    step: float  # of the patch's standard deviation, to half an octave

    def pack(self, value: UInt8[Tensor, "N P P"], nearest: float) -> _Packed:
        grey = value.flatten(1).float() - _MIDDLE_GREY
        contrast = grey.std(1, correction=0)
        half_octaves = (2 * (self.step * contrast).clamp(2.0, 64.0).log2()).round().to(torch.uint8)
        side = value.shape[-1]
        levels = _waves(side) @ grey.T / _steps(half_octaves, side)
        return _Packed(levels.round().clamp(-_MOST, _MOST).to(torch.int8), half_octaves)

    def unpack(self, levels: Int8[Tensor, "PP N"], step: UInt8[Tensor, " N"]) -> UInt8[Tensor, "N P P"]:
        side = math.isqrt(len(levels))
        amplitudes = levels.float() * _steps(step, side)
        grey = (amplitudes.T @ _waves(side) + _MIDDLE_GREY).round().clamp(0, 255)
        return grey.to(torch.uint8).unflatten(1, (side, side))


def _steps(half_octaves: UInt8[Tensor, " N"], side: int) -> Float32[Tensor, "PP N"]:
    steps = torch.exp2(half_octaves.float() / 2).repeat(side * side, 1)
    steps[0] = side + 1  # the mean's amplitude is at most 128 times the side
    return steps


@cache
def _waves(side: int) -> Float32[Tensor, "PP PP"]:
    """Rows are pictures of unit length: a cosine of rising frequency down times one across."""
    place = torch.arange(side, dtype=torch.float64)
    waves = torch.cos(math.pi / side * place[:, None] * (place + 0.5)) * math.sqrt(2 / side)
    waves[0] /= math.sqrt(2)
    return torch.kron(waves, waves).float()


@dataclass(frozen=True)
class Rounded:
    """Whole numbers in coarser steps, column by column."""

    step: int

    def pack(self, value: Tensor, nearest: float) -> _Packed:
        most = torch.iinfo(value.dtype).max // self.step
        levels = (value.float() / self.step).round().clamp(-most, most).to(value.dtype)
        return _Packed(levels.T, torch.tensor(self.step, dtype=value.dtype))

    def unpack(self, levels: Tensor, step: Tensor) -> Tensor:
        return (levels * step).T.contiguous()


def _form_of(name: str) -> Form | None:
    return next((form for begin, end, form in FORMS if name.startswith(begin) and name.endswith(end)), None)


_LEVELS, _STEP = ".levels", ".step"
_MOST, _TINY = 127, 1e-30
_POINT_STEP, _MOST_STEPS = 2.0**-12, 2**30
_MIDDLE_GREY = 128.0
# what names begin and end with; weights are those of heads behind the shared encoder
FORMS: tuple[tuple[str, str, Form], ...] = (
    ("feature_whitening", "", Columns(_MOST)),
    ("lift.", "weight", Columns(_MOST)),
    ("blocks.", "weight", Columns(_MOST)),
    ("", ".points", Points()),
    ("landmark.", "patches", Patches(0.6)),
    ("landmark.", "colors", Rounded(8)),
    ("described.", "descriptors", Rounded(24)),
    ("", "words", Rounded(8)),
)
