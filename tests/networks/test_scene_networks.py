"""The papers' networks: of the published size, one answer a cell, and seeing what they are said to see."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from dsac.networks.encoder import Encoder
from dsac.networks.heads import LinearHead
from dsac.networks.scene_networks import NetworkArchitecture, NetworkName, SceneNetwork

NAMES: tuple[NetworkName, ...] = ("dsac", "dsac-star")


def _small(name: NetworkName, grey: bool | None = None) -> SceneNetwork:
    torch.manual_seed(0)
    architecture = NetworkArchitecture.published(name, width=1 / 32)
    if grey is not None:
        architecture = NetworkArchitecture(name, grey, 1 / 32)
    return SceneNetwork(architecture).double()


@pytest.mark.parametrize(("name", "published"), [("dsac", 33e6), ("dsac-star", 28e6 / 4)])
def test_the_networks_have_the_published_number_of_values(name: NetworkName, published: float) -> None:
    network = SceneNetwork(NetworkArchitecture.published(name))
    head = LinearHead(network.num_features)
    values = sum(p.numel() for module in (network, head) for p in module.parameters())
    assert values == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_has_its_features(name: NetworkName) -> None:
    network = _small(name)
    assert isinstance(network, Encoder)
    features = network(torch.rand(2, 3, 96, 152, dtype=torch.float64))
    assert features.shape == (2, network.num_features, 96 // network.stride, 152 // network.stride)
    assert features.std() > 0.01


@pytest.mark.parametrize(("name", "seen_px"), [("dsac", 101), ("dsac-star", 81)])
def test_a_cell_sees_what_lies_around_it(name: NetworkName, seen_px: int) -> None:
    network = _small(name)
    for parameter in network.parameters():  # nothing cancels, no unit is silent
        parameter.data.abs_()
    image = torch.ones(1, 3, 240, 320, dtype=torch.float64, requires_grad=True)
    row, column = 15, 21
    network(image)[0, :, row, column].sum().backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0) > 0
    for axis, cell in ((1, row), (0, column)):
        (pixels,) = seen.any(axis).nonzero(as_tuple=True)
        assert pixels.max() - pixels.min() + 1 == seen_px
        middle = (pixels.max() + pixels.min()).item() / 2 + 0.5
        assert abs(middle - (cell + 0.5) * network.stride) < network.stride / 2


def test_the_dense_dsac_network_is_the_strided_one_at_every_cell() -> None:
    dense = _small("dsac")
    strided = copy.deepcopy(dense)
    convolutions = [layer for layer in strided.layers if isinstance(layer, nn.Conv2d)]
    convolutions[9].stride = (2, 2)
    convolutions[10].dilation, convolutions[10].padding = (1, 1), (0, 0)
    image = torch.rand(1, 3, 256, 288, dtype=torch.float64)
    everywhere = dense(image)
    for down in (0, 1):
        for right in (0, 1):  # the strided network answers for each second cell; a cell's shift asks the others
            there = strided(image[..., 8 * down :, 8 * right :])
            height, width = there.shape[-2:]
            asked = everywhere[..., 1 + down :: 2, 1 + right :: 2][..., :height, :width]
            # where the shifted image ends, its network sees zeros
            inner = (..., slice(4 * down, height - 4 * down), slice(4 * right, width - 4 * right))
            torch.testing.assert_close(there[inner], asked[inner])


@pytest.mark.parametrize("name", NAMES)
def test_a_grey_network_sees_brightness_alone(name: NetworkName) -> None:
    image = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    brightness = (image * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    grey = brightness.expand(1, 3, 64, 96)
    torch.testing.assert_close(_small(name, grey=True)(image), _small(name, grey=True)(grey))
    assert (_small(name, grey=False)(image) - _small(name, grey=False)(grey)).abs().max() > 1e-3


def test_published_networks_see_what_the_papers_showed_them() -> None:
    assert not NetworkArchitecture.published("dsac").grey
    assert NetworkArchitecture.published("dsac-star").grey


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_learns(name: NetworkName) -> None:
    network = _small(name)
    network(torch.rand(1, 3, 64, 96, dtype=torch.float64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_a_width_of_nothing_is_refused() -> None:
    for width in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="width: expected more than 0"):
            NetworkArchitecture("dsac", False, width)


def test_a_linear_head_starts_at_the_scenes_centre_and_trusts_all_cells_alike() -> None:
    head = LinearHead(12)
    head.scene_center.copy_(torch.tensor([10.0, -2.0, 0.5]))
    head.scene_scale.fill_(3.0)
    answer = head(torch.randn(2, 5, 12))
    assert torch.equal(answer.points, torch.tensor([10.0, -2.0, 0.5]).expand(2, 5, 3))
    assert answer.scale.shape == (2, 5) and (answer.scale == 1).all()
    with torch.no_grad():
        head.point.weight.copy_(torch.randn(3, 12))
        features: Tensor = torch.randn(7, 12)
        with torch.autocast("cpu", torch.bfloat16):  # rounds no point by itself
            rough = head(features).points
    torch.testing.assert_close(rough, head.scene_center + 3 * features @ head.point.weight.T)
