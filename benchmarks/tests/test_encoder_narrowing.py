"""Narrowing of the encoder: which channels go, and how the rest makes up for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from encoder_training import narrowing
from encoder_training.narrowing import Narrowing, NarrowingSettings, chosen_channels, narrowed
from encoder_training.pack import Pack, room_pack
from encoder_training.runs import train

from dsac.errors import DatasetError
from dsac.networks.encoder import EfficientNetLite, load_encoder, read_encoder


@pytest.fixture(scope="module")
def pack() -> Pack:
    return room_pack(7, 4)


@pytest.fixture(scope="module")
def whole() -> EfficientNetLite:
    torch.set_num_threads(1)
    return load_encoder("efficientnet-lite0", dtype=torch.float32)


@pytest.fixture(scope="module")
def images(pack: Pack) -> torch.Tensor:
    return pack.halved[:2].float() / 255


def test_channels_that_others_tell_go_first() -> None:
    generator = torch.Generator().manual_seed(0)
    free = torch.randn(5, 4000, generator=generator, dtype=torch.float64)
    mixing = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    rows = torch.cat([free, mixing @ free])[torch.tensor([0, 5, 1, 6, 2, 7, 3, 4])]
    weights = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    kept, refitted = chosen_channels(rows @ rows.T / 4000, weights, 5)
    assert len(kept) == 5
    expected = weights @ rows
    assert (refitted @ rows[kept] - expected).norm() < 1e-3 * expected.norm()


def test_the_rest_is_refitted_by_least_squares() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(8, 8, generator=generator, dtype=torch.float64) @ torch.randn(
        8, 4000, generator=generator, dtype=torch.float64
    )
    weights = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    kept, refitted = chosen_channels(rows @ rows.T / 4000, weights, 5)
    fitted = torch.linalg.lstsq(rows[kept].T, (weights @ rows).T).solution.T
    torch.testing.assert_close(refitted, fitted, rtol=1e-3, atol=1e-3)  # damping 1e-6, condition < 1e3
    errors = [
        (torch.linalg.lstsq(part.T, (weights @ rows).T).solution.T @ part - weights @ rows).norm().item()
        for part in (rows[list(some)] for some in torch.combinations(torch.arange(8), 5).tolist())
    ]
    chosen = (fitted @ rows[kept] - weights @ rows).norm().item()
    assert sum(error < 0.999 * chosen for error in errors) < 0.1 * len(errors)  # greedy, but good


def test_an_encoder_with_all_its_channels_is_the_same(whole: EfficientNetLite, images: torch.Tensor) -> None:
    same = narrowed(whole, {1: 96}, images)
    expected = whole(images)
    assert (same(images) - expected).norm() < 1e-5 * expected.norm()


def test_fewer_channels_give_nearly_the_same_features(
    whole: EfficientNetLite, images: torch.Tensor, pack: Pack
) -> None:
    others = pack.halved[2:].float() / 255
    expected, off = whole(others), []
    for number in (80, 48, 16):
        encoder = narrowed(whole, {1: number}, images)
        assert len(encoder.state_dict()["blocks.1.depthwise.bias"]) == number
        off.append(((encoder(others) - expected).norm() / expected.norm()).item())
    assert off[0] < 0.1 and off == sorted(off)


def test_the_means_of_a_narrowed_block_stay(whole: EfficientNetLite, images: torch.Tensor) -> None:
    encoder = narrowed(whole, {1: 40}, images)
    x = whole.blocks[0](whole.start(images))
    expected, means = (model.blocks[1](x).mean((0, 2, 3)) for model in (whole, encoder))
    torch.testing.assert_close(means, expected, rtol=1e-4, atol=1e-4)


def small(pack: Pack, whole: EfficientNetLite, **more) -> Narrowing:
    return Narrowing(pack, whole, NarrowingSettings(((2, 48),), views_to_choose=4, views=2, **more))


def test_narrowed_blocks_learn_the_features(whole: EfficientNetLite, pack: Pack) -> None:
    run = small(pack, whole)
    before = {name: value.clone() for name, value in run.average.items()}
    off = [run.train_step(0.05)["off"] for _ in range(30)]
    assert sum(off[-8:]) < 0.8 * sum(off[:8])
    moved = {name for name, value in run.average.items() if not torch.equal(value, before[name])}
    assert {name.split(".")[1] for name in moved} == {str(block) for block in range(2, 11)}


def test_an_interrupted_narrowing_goes_on(
    whole: EfficientNetLite, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(small(pack, whole, steps=3), tmp_path / "whole", None)
    train_step, interrupts = Narrowing.train_step, [2]

    def step(self: Narrowing, progress: float) -> dict[str, float]:
        if interrupts == [self.step]:
            interrupts.clear()
            raise KeyboardInterrupt
        return train_step(self, progress)

    monkeypatch.setattr(Narrowing, "train_step", step)
    with pytest.raises(KeyboardInterrupt):
        train(small(pack, whole, steps=3), tmp_path / "parts", None)
    train(small(pack, whole, steps=3), tmp_path / "parts", None)
    whole_run, in_parts = (
        read_encoder("mine", (tmp_path / name / "encoder.safetensors").read_bytes(), dtype=torch.float32)
        for name in ("whole", "parts")
    )
    assert in_parts.digest == whole_run.digest
    assert whole_run.state_dict()["blocks.2.depthwise.bias"].shape == (48,)
    for name, value in whole_run.state_dict().items():
        if name.startswith(("stem.", "blocks.0.", "blocks.1.")):
            assert torch.equal(value, whole.state_dict()[name]), name


@pytest.mark.parametrize(
    "channels, wanted", [({0: 16}, "1 to 10, got 0"), ({1: 97}, "1 to 96 of block 1, got 97")]
)
def test_channels_that_cannot_be_are_named(
    whole: EfficientNetLite, images: torch.Tensor, channels: dict[int, int], wanted: str
) -> None:
    with pytest.raises(DatasetError, match=wanted):
        narrowed(whole, channels, images)


@pytest.mark.parametrize("wrong", [["--channels", "1"], ["--views", "0"], ["--minutes", "0"], []])
def test_wrong_input_is_answered_in_a_line(
    wrong: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["narrowing", "--photos", f"{tmp_path}/none", "--output", f"{tmp_path}/out", *wrong]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stop:
        narrowing.main()
    assert stop.value.code == 2
    expected = {"--channels": "expected BLOCK:CHANNELS, got 1", "--views": "views: expected more than 0"}
    expected |= {"--minutes": "minutes: expected more than 0", "": f"{tmp_path}/none"}
    assert expected[wrong[0] if wrong else ""] in capsys.readouterr().err
