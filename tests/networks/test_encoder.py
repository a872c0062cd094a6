"""The encoder: features of cells, frozen, known by id and digest."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from importlib import resources

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac.networks import encoder as encoder_module
from dsac.networks.encoder import (
    ENCODERS,
    EfficientNetLite,
    Encoder,
    cell_centers,
    load_encoder,
    read_encoder,
    working_size,
)


@pytest.fixture(scope="module")
def encoder() -> EfficientNetLite:
    torch.set_num_threads(1)
    return load_encoder()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Blobs: smooth enough that a shift by a cell is a shift of everything."""
    noise = torch.rand(2, 3, 10, 14, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, (160, 224), mode="bicubic").clamp(0, 1)


def test_what_ships_is_an_encoder(encoder: EfficientNetLite) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.id == ENCODERS[0]


@pytest.mark.parametrize("id", ENCODERS)
def test_the_digest_is_of_the_weights_file(id: str) -> None:
    encoder, folder = load_encoder(id), resources.files("dsac.networks") / "weights"
    weights = (folder / f"{id}.safetensors").read_bytes()
    assert encoder.id == id
    assert encoder.digest == hashlib.sha256(weights).hexdigest()[:16]
    assert encoder.digest == read_encoder(id, weights).digest != type(encoder).digest
    assert encoder.digest in (folder / "README.md").read_text(encoding="utf-8")
    assert len(weights) <= 4_000_000


def test_ours_is_efficientnet_lite0_but_for_what_was_trained() -> None:
    ours, theirs = (load_encoder(id, dtype=torch.float32).state_dict() for id in ENCODERS)
    assert {name.partition("blocks.")[2].partition(".")[0] for name in theirs.keys() - ours.keys()} == {
        "9",
        "10",
    }
    narrowed = {name for name, value in ours.items() if value.shape != theirs[name].shape}
    assert {int(name.split(".")[1]) for name in narrowed} == {1, 2}
    changed = {name for name in ours.keys() - narrowed if not torch.equal(ours[name], theirs[name])}
    assert {int(name.split(".")[1]) for name in changed} == set(range(1, 9))
    for name in changed:
        if int(name.split(".")[1]) > 2:
            assert (ours[name] - theirs[name]).norm() < 0.5 * theirs[name].norm()


@pytest.mark.parametrize("id", ["resnet", "compact", "../encoder"])
def test_an_encoder_that_does_not_ship_is_named(id: str) -> None:
    with pytest.raises(ValueError, match=f"expected one that ships, {ENCODERS[0]}.*got {id}"):
        load_encoder(id)


def test_every_cell_has_its_features(encoder: EfficientNetLite, images: torch.Tensor) -> None:
    features = encoder(images)
    assert features.shape == (2, encoder.num_features, 160 // encoder.stride, 224 // encoder.stride)
    assert torch.isfinite(features).all()
    # of each channel's spread, most is between cells and not noise: no channel is dead
    assert (features.float().std((0, 2, 3)) > 0).float().mean() > 0.95


def test_features_move_with_the_picture(encoder: EfficientNetLite, images: torch.Tensor) -> None:
    exact = deepcopy(encoder).float()
    whole = exact(images)
    shifted = exact(images[..., 16:, 32:])
    # cells that no border reaches: the receptive field is about 200 px, its weight is in the middle
    inner = (slice(None), slice(None), slice(8, 10), slice(11, 13))
    moved = whole[..., 2:, 4:][inner]
    assert (shifted[inner] - moved).norm() < 0.1 * moved.norm()
    assert (shifted[inner] - whole[inner]).norm() > 0.5 * moved.norm()


def test_features_describe_what_is_at_the_centre_of_their_cell(
    encoder: EfficientNetLite, images: torch.Tensor
) -> None:
    exact, pixels = deepcopy(encoder).float(), images.clone().requires_grad_()
    features = exact(pixels)
    offsets = []
    for row, column in ((9, 13), (9, 14), (10, 13), (10, 14)):  # all positions within a cell of stride 16
        mixed = features[:, :, row, column] @ torch.randn(
            features.shape[1], generator=torch.Generator().manual_seed(1)
        )
        influence = torch.autograd.grad(mixed.sum(), pixels, retain_graph=True)[0].square().sum((0, 1))
        away = cell_centers((224, 160), 1).float() - cell_centers((224, 160), 8)[row, column].float()
        offsets.append((influence[..., None] * away).sum((0, 1)) / influence.sum())
    assert torch.stack(offsets).mean(0).norm() < 0.5 * encoder.stride


def _plainly(encoder: EfficientNetLite, images: torch.Tensor) -> torch.Tensor:
    """Each layer by itself, zeros around what it gets."""

    def layer(conv: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        total = conv.kernel_size[0] - conv.stride[0]
        before, after = total // 2, total - total // 2
        x = F.pad(x, (before, after, before, after))
        return F.conv2d(x, conv.weight, conv.bias, conv.stride, groups=conv.groups)

    x = ((images - 127 / 255) * (255 / 128)).to(encoder.stem.weight.dtype)
    x = F.relu6(layer(encoder.stem, x))
    outputs = []
    for block in encoder.blocks:
        wide = x if block.expand is None else F.relu6(layer(block.expand, x))
        out = layer(block.project, F.relu6(layer(block.depthwise, wide)))
        x = x + out if block.residual else out
        outputs.append(x)
    coarse = F.interpolate(outputs[-1], scale_factor=2, mode="bilinear")
    return torch.cat([outputs[4], coarse], dim=1)


# relative: a few roundings of each precision
_SLACK = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 0.003, torch.bfloat16: 0.02}


@pytest.mark.parametrize("dtype", _SLACK)
def test_the_fast_way_through_the_layers_is_the_plain_one(
    encoder: EfficientNetLite, images: torch.Tensor, dtype: torch.dtype
) -> None:
    encoder, images = deepcopy(encoder).to(dtype), images[:, :, :96, :128]
    expected = _plainly(encoder, images).float()
    slack = _SLACK[dtype] * expected.norm()
    with torch.inference_mode():
        assert (encoder(images).float() - expected).norm() < slack
    assert (encoder(images).float() - expected).norm() < slack


@pytest.mark.parametrize("dtype", _SLACK)
def test_an_encoder_takes_the_precision_it_is_asked_for_on_every_processor(
    images: torch.Tensor, dtype: torch.dtype
) -> None:
    """Processors without AVX-512 have no 16-bit layers in one pass."""
    images = images[:1, :, :64, :96]
    exact = load_encoder(dtype=torch.float32)(images)
    with torch.inference_mode():
        features = load_encoder(dtype=dtype)(images)
        assert features.dtype == dtype
        assert (features - exact).norm() < 0.05 * exact.norm()
        with torch.autocast("cpu", torch.bfloat16):
            assert (load_encoder(dtype=dtype)(images) - exact).norm() < 0.05 * exact.norm()


def test_what_onednn_refuses_goes_through_the_plain_layers(
    images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a processor that has less than this one."""
    images = images[:1, :, :64, :96]
    exact = load_encoder(dtype=torch.float32)(images)
    monkeypatch.setattr(encoder_module, "_one_pass_dtypes", frozenset)
    assert encoder_module.fast_dtype("cpu") == torch.float32
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16):
            assert (load_encoder(dtype=dtype)(images) - exact).norm() < 0.05 * exact.norm()


def test_gradients_of_the_fast_way_are_those_of_the_plain_one(
    encoder: EfficientNetLite, images: torch.Tensor
) -> None:
    exact = deepcopy(encoder).double().requires_grad_()
    pixels = images[:1, :, :64, :96].double().requires_grad_()
    inputs = [pixels, *exact.parameters()]
    expected = torch.autograd.grad(_plainly(exact, pixels).square().mean(), inputs)
    for gradient, plain in zip(
        torch.autograd.grad(exact(pixels).square().mean(), inputs), expected, strict=True
    ):
        assert (gradient - plain).norm() <= 1e-9 * plain.norm()


@pytest.mark.parametrize(
    "wide", [(32, 64, 96, 144, 240, 240, 480, 480, 480), (32, 96, 144, 144, 240, 240, 480, 480, 480, 672, 672)]
)
def test_weights_that_were_written_are_read(images: torch.Tensor, wide: tuple[int, ...]) -> None:
    written = EfficientNetLite(wide).eval()
    data = safetensors.torch.save(written.state_dict())
    read = read_encoder("mine", data)
    assert (read.id, read.digest) == ("mine", hashlib.sha256(data).hexdigest()[:16])
    assert isinstance(read, Encoder)
    features = read(images).float()
    assert features.shape == (2, read.num_features, 160 // read.stride, 224 // read.stride)
    assert (features - written(images)).norm() < 0.05 * features.norm()  # bfloat16


def test_a_batch_is_a_loop(encoder: EfficientNetLite, images: torch.Tensor) -> None:
    together = encoder(images).float()
    alone = torch.cat([encoder(image[None]) for image in images]).float()
    assert (together - alone).norm() < 0.01 * alone.norm()  # other summation orders in bfloat16


def test_the_encoder_is_frozen(encoder: EfficientNetLite, images: torch.Tensor) -> None:
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder(images).requires_grad


@settings(max_examples=50, deadline=None)
@given(st.integers(64, 6000), st.integers(64, 6000), st.sampled_from([240, 480]), st.sampled_from([8, 16]))
def test_the_working_size_has_the_short_side_and_the_shape_of_the_image(
    width: int, height: int, short_side_px: int, multiple: int
) -> None:
    size = working_size((width, height), short_side_px, multiple)
    assert min(size) == short_side_px
    assert size[0] % multiple == size[1] % multiple == 0
    scale = short_side_px / min(width, height)
    assert max(abs(size[0] - width * scale), abs(size[1] - height * scale)) <= multiple / 2


def test_cell_centers_tile_the_image() -> None:
    centers = cell_centers((32, 24), 8)
    assert centers.shape == (3, 4, 2)
    assert centers[0, 0].tolist() == [4, 4]
    assert centers[2, 3].tolist() == [28, 20]
