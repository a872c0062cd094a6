"""Make a trained encoder faster: fewer channels in the wide middle of early blocks. They and all blocks behind
them learn to give the features of the whole one.

PYTHONPATH=.:benchmarks python -m encoder_training.narrowing --photos FOLDER --output runs/encoder --minutes 20

narrows `encoder.safetensors` in the output folder, the result of `python -m encoder_training`, and writes
`narrowed/encoder.safetensors` there; goes on from the checkpoint beside it if there is one.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dsac.errors import DatasetError
from dsac.mapping.head_learner import one_cycle
from dsac.networks.encoder import EfficientNetLite, InvertedResidual, fast_autocast
from dsac.ransac.types import check_positive
from encoder_training.pack import Pack
from encoder_training.runs import encoder_of, run
from encoder_training.views import JUDGED, draw_views

_WARM_UP = 0.05, 0.01


@dataclass(frozen=True)
class NarrowingSettings:
    """How the encoder is narrowed; docs/encoder.md has what came out."""

    channels: tuple[tuple[int, int], ...] = ((1, 64), (2, 96))
    """Block and how many expanded channels it keeps."""
    views_to_choose: int = 32
    """By which channels are chosen."""
    steps: int = 4000
    views: int = 6
    """In a step."""
    learning_rate: float = 1e-3
    """Highest."""
    averaging: float = 0.998
    """Of the exponential moving average of the weights, which is kept."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises: `ValueError` for numbers that mean nothing."""
        names = ("views_to_choose", "steps", "views", "learning_rate")
        check_positive(**{name: getattr(self, name) for name in names})


def main() -> None:
    def add_channels(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--channels",
            nargs="+",
            type=_block_and_channels,
            default=NarrowingSettings.channels,
            metavar="BLOCK:CHANNELS",
            help="how many expanded channels blocks keep (default: 1:64 2:96)",
        )

    def make(pack: Pack, settings: NarrowingSettings, arguments: argparse.Namespace) -> Narrowing:
        whole = encoder_of(str(arguments.output / "encoder.safetensors"), arguments.device, torch.float32)
        return Narrowing(pack, whole, replace(settings, channels=tuple(arguments.channels)))

    run("encoder_training.narrowing", __doc__, NarrowingSettings, make, add_channels, "narrowed")


class Narrowing:
    """An encoder with narrowed blocks: they and all behind them learn to give the features of the whole one.

    Raises: `DatasetError` for blocks and channels that the encoder does not have.
    """

    def __init__(self, pack: Pack, whole: EfficientNetLite, settings: NarrowingSettings) -> None:
        self.pack, self.whole, self.settings = pack, whole, settings
        self.step = 0
        images = self._views(settings.views_to_choose)
        self._variance = whole(images).var((0, 2, 3), keepdim=True).clamp_min(1e-6)
        channels = dict(settings.channels)
        self.encoder = narrowed(whole, channels, images)
        self._trained = list(self.encoder.blocks[min(channels) :].parameters())
        for parameter in self._trained:
            parameter.requires_grad_(True)
        self.optimizer = torch.optim.Adam(self._trained, lr=settings.learning_rate)
        self.average = {name: value.clone() for name, value in self.encoder.state_dict().items()}

    def train_step(self, progress: float) -> dict[str, float]:
        """One update at `progress` (0 to 1) of the schedule; how much of the features' variance is off."""
        s = self.settings
        images = self._views(s.views)
        with fast_autocast(images.device):
            with torch.no_grad():
                expected = self.whole(images)
            features = self.encoder(images)
        loss = self.off(features.float(), expected.float())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = s.learning_rate * one_cycle(progress, *_WARM_UP)
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0, error_if_nonfinite=True)
        self.optimizer.step()
        self.step += 1
        decay = min(s.averaging, self.step / (self.step + 10))
        with torch.no_grad():
            for name, value in self.encoder.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        return {"off": loss.item()}

    def off(self, features: Float[Tensor, "B C h w"], expected: Float[Tensor, "B C h w"]) -> Tensor:
        """Squared error of features in units of their variance, mean of the channels."""
        return ((features - expected) ** 2 / self._variance).mean()

    def weights(self) -> dict[str, Tensor]:
        return self.average

    def state(self) -> dict:
        return {
            "step": self.step,
            "encoder": self.encoder.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }

    def resume(self, state: dict) -> None:
        self.step = state["step"]
        self.encoder.load_state_dict(state["encoder"])
        self.average = {name: value.to(self.pack.images.device) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])

    def _views(self, count: int) -> Float[Tensor, "B 3 H W"]:
        """The same for a seed and step."""
        device = self.pack.images.device
        generator = torch.Generator(device).manual_seed(self.settings.seed * 1_000_003 + self.step)
        sources = torch.randint(len(self.pack), (count,), generator=generator, device=device)
        return draw_views(self.pack, sources, JUDGED, generator).images


@torch.no_grad()
def narrowed(
    whole: EfficientNetLite, channels: dict[int, int], images: Float[Tensor, "B 3 H W"]
) -> EfficientNetLite:
    """An encoder whose blocks (by number) have so many expanded channels: those that least squares picks.

    Raises: `DatasetError` for blocks and channels that it does not have.
    """
    encoder = copy.deepcopy(whole)
    for i, number in channels.items():
        if not 0 < i < len(whole.blocks):
            raise DatasetError(f"channels: expected a block from 1 to {len(whole.blocks) - 1}, got {i}")
        wide = encoder.blocks[i].depthwise.out_channels  # type: ignore[union-attr]
        if not 0 < number <= wide:  # type: ignore[operator]
            raise DatasetError(f"channels: expected 1 to {wide} of block {i}, got {number}")
    x = whole.start(images)
    for i, block in enumerate(whole.blocks):
        assert isinstance(block, InvertedResidual)
        if i in channels:
            encoder.blocks[i] = _narrowed(block, channels[i], block.expanded(x))
        x = block(x)
    return encoder


def _narrowed(block: InvertedResidual, number: int, expanded: Float[Tensor, "B E h w"]) -> InvertedResidual:
    """The block with those of its expanded channels from which its output is told best."""
    assert block.expand is not None
    rows = expanded.transpose(0, 1).flatten(1).double()
    weights = block.project.weight[:, :, 0, 0].double()
    kept, refitted = chosen_channels(rows.cov(correction=0), weights, number)
    mean = rows.mean(1)
    before = block.expand.in_channels
    kernel, stride = block.depthwise.kernel_size[0], block.depthwise.stride[0]
    new = InvertedResidual(before, number, block.project.out_channels, kernel, stride, expand=True)
    assert new.expand is not None
    for conv, old in ((new.expand, block.expand), (new.depthwise, block.depthwise)):
        _set(conv, old.weight[kept], _bias(old)[kept])
    shift = weights @ mean - refitted @ mean[kept]  # the output's mean stays
    _set(new.project, refitted[:, :, None, None], _bias(block.project) + shift)
    return new.to(expanded.device, block.project.weight.dtype).requires_grad_(False)


def chosen_channels(
    covariance: Float[Tensor, "E E"], weights: Float[Tensor, "C E"], number: int
) -> tuple[Int[Tensor, " K"], Float[Tensor, "C K"]]:
    """Which inputs of a linear layer to keep, and its weights for them.

    One after the other goes without which the outputs, refitted by least squares, change least: optimal brain
    surgeon (Hassibi & Stork, NIPS 1992) for all outputs at once, with the inputs' covariance as Hessian.
    """
    damping = 1e-6 * covariance.diagonal().mean()
    inverse = torch.linalg.inv(covariance + damping * torch.eye(len(covariance)).to(covariance))
    kept, weights = torch.arange(len(covariance), device=weights.device), weights.clone()
    while len(kept) > number:
        least = int((weights.square().sum(0) / inverse.diagonal()).argmin())
        weights -= weights[:, least : least + 1] * (inverse[least] / inverse[least, least])
        inverse -= inverse[:, least : least + 1] * (inverse[least] / inverse[least, least])
        rest = torch.arange(len(kept), device=kept.device) != least
        kept, weights, inverse = kept[rest], weights[:, rest], inverse[rest][:, rest]
    return kept, weights


def _set(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    conv.weight.copy_(weight)
    _bias(conv).copy_(bias)


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def _block_and_channels(word: str) -> tuple[int, int]:
    block, _, channels = word.partition(":")
    if not (block.isdecimal() and channels.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected BLOCK:CHANNELS, got {word}")
    return int(block), int(channels)


if __name__ == "__main__":
    main()
