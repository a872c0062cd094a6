"""The fused solver of a GPU, on tensors of the CPU and of no device at all."""

from __future__ import annotations

import pytest
import torch
from devices import OnlyMeta

from dsac.kernels import cpu, gpu, reference
from dsac.kernels.search_torch import points, solver


def _batch(images: int = 5, count: int = 1500, inliers: float = 0.5) -> list[torch.Tensor]:
    """Pixels, scene points, depths, focal lengths, centres; the poses are the identity."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(images, count, 2, generator=generator) * torch.tensor([640.0, 480.0])
    focal, center = torch.full((images, 2), 520.0), torch.tensor([[300.0, 250.0]]).repeat(images, 1)
    depths = 1 + 3 * torch.rand(images, count, generator=generator)
    rays = torch.cat([(pixels - center[:, None]) / focal[:, None], torch.ones(images, count, 1)], -1)
    scene = rays * depths[..., None] + 0.01 * torch.randn(images, count, 3, generator=generator)
    wrong = torch.rand(images, count, 1, generator=generator) >= inliers
    scene = torch.where(wrong, 8 * torch.rand(images, count, 3, generator=generator) - 4, scene)
    return [pixels, scene, depths, focal, center]


def _solve(depth: bool, batch: list[torch.Tensor], kernels=gpu, **options):
    if depth:
        return kernels.solve_rgbd(*batch, threshold_m=0.1, **options)
    return kernels.solve_rgb(*batch[:2], *batch[3:], threshold_px=10.0, **options)


@pytest.mark.parametrize("depth", [False, True])
def test_it_answers_what_the_cpu_answers(depth):
    """Both end at the likeliest pose: the draws differ, the optimum does not."""
    batch = _batch()
    ours, theirs = _solve(depth, batch), _solve(depth, batch, cpu)
    step = (ours.translation - theirs.translation)[:, :, None]
    distance = (step.mT @ theirs.information[:, 3:, 3:] @ step).flatten().sqrt()
    assert distance.max() < 0.5  # standard deviations: the CPU stops where a tenth of one an axis is left
    assert (ours.inliers != theirs.inliers).float().mean() < 0.01
    difference = (ours.information - theirs.information).norm(dim=(1, 2))
    assert (difference < 0.05 * theirs.information.norm(dim=(1, 2))).all()
    assert torch.equal(ours.num_usable, theirs.num_usable)


@pytest.mark.parametrize("inliers", [0.06, 0.5])
@pytest.mark.parametrize("depth", [False, True])
def test_the_answer_depends_on_rows_and_seed_but_not_on_the_batch(depth, inliers, monkeypatch):
    batch = _batch(images=7, inliers=inliers)
    together = _solve(depth, batch, seed=3)
    monkeypatch.setattr(solver, "_IMAGES", 3)
    in_parts = _solve(depth, batch, seed=3)
    alone = _solve(depth, [x[5:6] for x in batch], seed=3)
    for one, other in zip(together, in_parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together.translation[5:6], alone.translation, rtol=0, atol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("depth", [False, True])
def test_nothing_waits_for_a_device_and_everything_stays_on_it(depth, weighted):
    """Tensors of the device "meta" have no values: a question for one raises."""
    batch = [x.to("meta") for x in _batch(images=3)]
    options = {"weights": torch.ones(3, 1500, device="meta")} if weighted else {}
    with OnlyMeta():
        solution = _solve(depth, batch, **options)
    shapes = [(3, 3, 3), (3, 3), (3, 1500), (3, 6, 6), (3,), (3,)]
    assert [tuple(x.shape) for x in solution] == shapes
    assert {x.device.type for x in solution} == {"meta"}


@pytest.mark.parametrize("kernels", [cpu, gpu], ids=["cpu", "gpu"])
@pytest.mark.parametrize("depth", [False, True])
def test_only_ratios_of_weights_count(depth, kernels):
    batch = _batch(images=2)
    weights = torch.rand(2, 1500, generator=torch.Generator().manual_seed(1)) + 0.1
    expected = _solve(depth, batch, kernels, weights=weights)
    assert (expected.translation.norm(dim=-1) < 0.01).all()
    for factor in (1e-4, 1e4):
        solution = _solve(depth, batch, kernels, weights=factor * weights)
        torch.testing.assert_close(solution.translation, expected.translation, rtol=0, atol=1e-4)
        torch.testing.assert_close(solution.information, expected.information, rtol=1e-2, atol=10.0)


def test_half_precision_around_it_is_kept_out():
    batch = _batch(images=2)
    expected = _solve(False, batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(_solve(False, batch).translation, expected.translation)


def test_rows_that_cannot_be_used_leave_no_row_twice():
    batch = _batch(images=2)
    batch[1][0, 300:] = torch.nan
    prepared, _, _ = points.prepared(batch[0], batch[1], *batch[3:], None, None)
    rows, inside = points.listed(prepared)
    assert rows[0, inside[0]].tolist() == list(range(300)) and inside[0].sum() == 300
    assert not prepared.usable[0, rows[0, ~inside[0]]].any()
    assert rows[1].tolist() == list(range(1500)) and inside[1].all()


def test_every_function_of_the_reference_that_callers_choose_is_there():
    for name in ("kabsch", "p3p", "reprojection_error", "soft_inlier_count", "refine", "refine_points"):
        assert getattr(gpu, name) is getattr(reference, name)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("depth", [False, True])
def test_a_batch_may_be_empty(depth, weighted):
    options = {"weights": torch.ones(0, 1500)} if weighted else {}
    full, empty = _solve(depth, _batch()), _solve(depth, [x[:0] for x in _batch()], **options)
    assert [x.shape for x in empty] == [(0, *x.shape[1:]) for x in full]
    assert [x.dtype for x in empty] == [x.dtype for x in full]
    assert [x.dtype for x in full] == [x.dtype for x in _solve(depth, _batch(), cpu)]


def test_a_threshold_without_meaning_is_refused():
    batch = _batch(images=1)
    with pytest.raises(ValueError, match="threshold_px: expected more than 0, got 0"):
        gpu.solve_rgb(*batch[:2], *batch[3:], threshold_px=0.0)
