"""The scene head: rows of features to scene points with a scale, in the scene's own frame."""

from __future__ import annotations

import pytest
import torch

from dsac.networks.heads import HeadArchitecture, SceneHead


@pytest.fixture
def head() -> SceneHead:
    torch.manual_seed(0)
    return SceneHead(HeadArchitecture(num_features=12, width=32, num_blocks=2))


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_any_batch_of_rows_is_answered_row_by_row(head: SceneHead, batch: tuple[int, ...]) -> None:
    features = torch.randn(*batch, 12)
    answer = head(features)
    assert answer.points.shape == (*batch, 3)
    assert answer.scale.shape == batch
    rows = features.reshape(-1, 12)
    alone = torch.stack([head(row).points for row in rows]).reshape(*batch, 3)
    assert torch.allclose(answer.points, alone, atol=1e-5)


def test_points_move_and_grow_with_the_scene_frame(head: SceneHead) -> None:
    features = torch.randn(20, 12)
    before = head(features)
    center = torch.tensor([100.0, -20.0, 3.0])
    head.scene_center.copy_(center)
    head.scene_scale.fill_(40.0)
    after = head(features)
    assert torch.allclose(after.points, center + 40 * before.points, atol=1e-3)
    assert torch.equal(after.scale, before.scale)  # an angle


@pytest.mark.parametrize("size", [1.0, 1e6])
def test_any_features_give_finite_points_and_positive_scales(head: SceneHead, size: float) -> None:
    answer = head(size * torch.randn(100, 12))
    assert torch.isfinite(answer.points).all()
    assert torch.isfinite(answer.scale).all() and (answer.scale > 0).all()


def test_half_precision_rounds_no_point_by_itself(head: SceneHead) -> None:
    with torch.no_grad():
        head.point.weight.zero_()
        head.point.bias[:3] = torch.tensor([1.2345678, -0.9876543, 0.5555555])
        exact = head(torch.zeros(12)).points
        with torch.autocast("cpu", torch.bfloat16):
            rough = head(torch.zeros(12)).points
    assert torch.equal(rough, exact)


def test_far_points_need_only_a_small_homogeneous_weight(head: SceneHead) -> None:
    with torch.no_grad():
        head.point.weight.zero_()
        head.point.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]))
        near = head(torch.zeros(12)).points
        head.point.bias[3] = -10.0
        far = head(torch.zeros(12)).points
    assert near.norm().item() == pytest.approx(1, abs=0.03)
    assert far.norm() > 40


def test_normalisation_whitens_the_features(head: SceneHead) -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(12, 12, generator=generator) + 3 * torch.eye(12)
    features = torch.randn(5000, 12, generator=generator) @ mix + 7
    head.fit_normalisation(features)
    white = (features - head.feature_mean) @ head.feature_whitening
    assert white.mean(0).abs().max() < 1e-3
    # weak directions are held back, none is blown up
    variances = torch.linalg.eigvalsh(white.T @ white / len(white))
    assert variances.max() < 1.01
    assert variances[2:].min() > 0.5


def test_normalisation_survives_channels_that_never_change(head: SceneHead) -> None:
    features = torch.randn(500, 12)
    features[:, 3] = 5.0
    features[:, 4] = features[:, 5]
    head.fit_normalisation(features)
    assert torch.isfinite(head.feature_whitening).all()
    assert torch.isfinite(head(features).points).all()


def test_blocks_start_as_the_identity() -> None:
    torch.manual_seed(1)
    shallow = SceneHead(HeadArchitecture(12, 32, 0))
    deep = SceneHead(HeadArchitecture(12, 32, 3))
    deep.load_state_dict(shallow.state_dict(), strict=False)
    features = torch.randn(10, 12)
    assert torch.equal(deep(features).points, shallow(features).points)


def test_several_modes_are_points_with_probabilities() -> None:
    torch.manual_seed(0)
    head = SceneHead(HeadArchitecture(12, 32, 1, num_modes=3))
    answer = head(torch.randn(2, 5, 12))
    assert answer.points.shape == (2, 5, 3, 3) and answer.scale.shape == (2, 5, 3)
    assert answer.log_probability is not None
    torch.testing.assert_close(answer.log_probability.exp().sum(-1), torch.ones(2, 5))
    assert SceneHead(HeadArchitecture(12, 32, 1))(torch.randn(4, 12)).log_probability is None


def test_modes_begin_at_places_of_their_own() -> None:
    head = SceneHead(HeadArchitecture(12, 32, 1, num_modes=2))
    head.scene_center.copy_(torch.tensor([1.0, 2.0, 3.0]))
    head.scene_scale.fill_(4.0)
    with torch.no_grad():
        head.point.weight.zero_()
        head.point.bias.zero_()
    places = torch.tensor([[5.0, 2.0, 3.0], [-3.0, 0.0, 1.0]])
    head.spread_modes(places)
    torch.testing.assert_close(head(torch.randn(12)).points, places, rtol=0.03, atol=0.1)


@pytest.mark.parametrize("modes", [0, 65])
def test_a_number_of_modes_without_meaning_is_refused(modes: int) -> None:
    with pytest.raises(ValueError, match="num_modes: expected a whole number from 1 to 64"):
        HeadArchitecture(12, 32, 1, num_modes=modes)
