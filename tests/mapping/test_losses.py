"""The losses of mapping: lowest at the truth, finite everywhere, the same for scenes of any size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dsac.geometry import Pose
from dsac.mapping.buffer import Cells, FeatureBuffer
from dsac.mapping.losses import BatchLoss, coordinate_loss, dsac_star_loss, mapping_loss
from dsac.networks.heads import SceneCoordinates

NUM_CELLS, NUM_VIEWS = 64, 5
DEPTH_RANGE = (0.5, 20.0)


def _scene(known: bool, size: float = 1.0) -> tuple[FeatureBuffer, Tensor]:
    """Cells of five cameras and the true points 1 to 5 m before them, all lengths times `size`."""
    generator = torch.Generator().manual_seed(0)
    view = torch.arange(NUM_CELLS) % NUM_VIEWS
    pose = Pose.exp(0.5 * torch.randn(NUM_VIEWS, 6, generator=generator, dtype=torch.float64))
    focal, center = torch.tensor([[400.0, 420.0]]), torch.tensor([[310.0, 250.0]])
    pixels = torch.rand(NUM_CELLS, 2, generator=generator) * torch.tensor([640.0, 480.0])
    depth = 1 + 4 * torch.rand(NUM_CELLS, 1, generator=generator)
    points_cam = torch.cat([(pixels - center) / focal, torch.ones(NUM_CELLS, 1)], dim=-1) * depth
    points = (pose[view].inverse() @ points_cam.double()[:, None])[:, 0].float()
    cam_from_world = pose.matrix[:, :3].float()
    cam_from_world[:, :, 3] *= size
    points = points * size
    cells = Cells(
        torch.zeros(NUM_CELLS, 4), points if known else torch.full_like(points, torch.nan), pixels, view.int()
    )
    buffer = FeatureBuffer(cells, cam_from_world, focal.expand(NUM_VIEWS, 2), center.expand(NUM_VIEWS, 2))
    return buffer, points


def _loss(
    points: Tensor, buffer: FeatureBuffer, scale: float = 0.1, progress: float = 0.5, size: float = 1.0
) -> BatchLoss:
    return mapping_loss(
        SceneCoordinates(points, torch.full_like(points[:, 0], scale)),
        buffer.cells,
        buffer,
        progress=progress,
        depth_range=(DEPTH_RANGE[0] * size, DEPTH_RANGE[1] * size),
        scene_scale=torch.tensor(size),
        reprojection_weight=1.0,
    )


def _gradient(points: Tensor, buffer: FeatureBuffer, progress: float = 0.5) -> Tensor:
    points = points.clone().requires_grad_()
    _loss(points, buffer, progress=progress).total.backward()
    assert points.grad is not None
    return points.grad


def _centers(buffer: FeatureBuffer) -> Tensor:
    """The camera's centre for each cell."""
    return Pose.from_matrix(buffer.cam_from_world).center[buffer.cells.view.long()]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("error", [0.003, 0.1, 3.0])
def test_the_truth_has_the_lowest_loss(known: bool, progress: float, error: float) -> None:
    buffer, truth = _scene(known)
    at_truth = _loss(truth, buffer, progress=progress)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        beside = truth + error * torch.randn(truth.shape, generator=generator)
        assert _loss(beside, buffer, progress=progress).total > at_truth.total
    assert at_truth.fraction_good == 1.0
    assert at_truth.median_error_px < 1e-2


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [1.0, 50.0])
def test_the_best_scale_is_the_angle_beside_the_truth_at_any_depth(known: bool, size: float) -> None:
    buffer, truth = _scene(known, size)
    pose = buffer.cam_from_world[buffer.cells.view.long()]
    depth = (pose[:, 2, :3] * truth).sum(-1) + pose[:, 2, 3]
    off = truth + 0.02 * depth[:, None] * pose[:, 0, :3]  # to the right by a fiftieth of the depth
    for rows in (depth < 2 * size, depth > 4 * size):
        alone = Cells(*(x[rows] for x in vars(buffer.cells).values()))
        losses = [
            _loss(off[rows], replace(buffer, cells=alone), scale=scale, size=size).total.item()
            for scale in (0.005, 0.01, 0.02, 0.04, 0.08)
        ]
        assert min(losses) == losses[2]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("progress", [0.0, 1.0])
@pytest.mark.parametrize("depth", [-3.0, -1e-6, 0.0, 1e-9, 1e-3, 1e6])
def test_loss_and_gradient_are_finite_wherever_a_prediction_lies(
    known: bool, progress: float, depth: float
) -> None:
    buffer, truth = _scene(known)
    pose = Pose.from_matrix(buffer.cam_from_world)[buffer.cells.view.long()]
    beside = torch.tensor([0.0, 0.0, depth]) + torch.tensor([[0.0, 0.0, 0.0], [0.7, -0.3, 0.0]])
    for points_cam in beside:
        points = (pose.inverse() @ points_cam.expand(NUM_CELLS, 1, 3))[:, 0]
        assert torch.isfinite(_loss(points, buffer, progress=progress).total)
        assert torch.isfinite(_gradient(points, buffer, progress)).all()
    assert torch.isfinite(_gradient(truth, buffer, progress)).all()


def test_without_depth_a_plausible_point_is_free_along_its_ray() -> None:
    buffer, truth = _scene(known=False)
    rays = torch.nn.functional.normalize(truth - _centers(buffer), dim=-1)
    sideways = torch.linalg.cross(rays, torch.tensor([0.3, -0.5, 0.8]).expand_as(rays))
    gradient = _gradient(truth + 0.05 * sideways, buffer)
    along = (gradient * rays).sum(-1).abs()
    assert (gradient * sideways).sum(-1).min() > 0
    assert (along < 0.05 * gradient.norm(dim=-1)).all()


@pytest.mark.parametrize("known", [True, False])
def test_a_point_behind_its_camera_does_not_count_as_good(known: bool) -> None:
    buffer, truth = _scene(known)
    mirrored = _loss(2 * _centers(buffer) - truth, buffer)  # whose projections are the true pixels
    assert mirrored.fraction_good == 0.0
    assert mirrored.median_error_px > 1000


def test_without_depth_a_point_behind_its_camera_is_drawn_before_it() -> None:
    buffer, truth = _scene(known=False)
    behind = 2 * _centers(buffer) - truth
    downhill = -_gradient(behind, buffer)
    rays = torch.nn.functional.normalize(truth - _centers(buffer), dim=-1)
    # straight to the point at typical depth on the ray
    assert (torch.nn.functional.normalize(downhill, dim=-1) * rays).sum(-1).min() > 0.999


def test_a_known_point_behind_its_camera_is_drawn_to_the_truth() -> None:
    buffer, truth = _scene(known=True)
    behind = 2 * _centers(buffer) - truth
    downhill = torch.nn.functional.normalize(-_gradient(behind, buffer), dim=-1)
    assert (downhill * torch.nn.functional.normalize(truth - behind, dim=-1)).sum(-1).min() > 0.999


def test_far_errors_count_early_in_training_and_are_let_go_at_the_end() -> None:
    buffer, truth = _scene(known=False)
    rays = torch.nn.functional.normalize(truth - _centers(buffer), dim=-1)
    sideways = torch.nn.functional.normalize(
        torch.linalg.cross(rays, torch.tensor([0.3, -0.5, 0.8]).expand_as(rays)), dim=-1
    )
    half_metre = truth + 0.5 * sideways  # 40 to 200 px
    early, late = (_gradient(half_metre, buffer, progress).norm() for progress in (0.0, 0.999))
    assert late < 0.1 * early


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_a_scene_of_another_size_has_the_same_loss(known: bool, size: float) -> None:
    buffer, truth = _scene(known)
    resized, _ = _scene(known, size)
    generator = torch.Generator().manual_seed(2)
    for spread in (0.01, 1.0, 10.0):
        points = truth + spread * torch.randn(truth.shape, generator=generator)
        expected = _loss(points, buffer, scale=0.1)
        answer = _loss(size * points, resized, scale=0.1, size=size)
        assert answer.total.item() == pytest.approx(expected.total.item(), rel=1e-3)
        assert answer.median_error_px.item() == pytest.approx(expected.median_error_px.item(), rel=1e-2)


def test_rows_with_and_without_a_known_point_are_judged_each_by_its_own_rule() -> None:
    known, truth = _scene(known=True)
    unknown, _ = _scene(known=False)
    half = torch.arange(NUM_CELLS) < NUM_CELLS // 2
    points = torch.where(half[:, None], known.cells.scene_points, unknown.cells.scene_points)
    mixed = replace(known, cells=replace(known.cells, scene_points=points))
    off = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(3))
    gradient = _gradient(off, mixed)
    assert torch.allclose(gradient[half], _gradient(off, known)[half])
    assert torch.allclose(gradient[~half], _gradient(off, unknown)[~half])


# ---- the papers' losses --------------------------------------------------------------------------


def _of_network(loss, points: Tensor, buffer: FeatureBuffer, size: float = 1.0) -> Tensor:  # noqa: ANN001
    return loss(
        SceneCoordinates(points, torch.ones_like(points[:, 0])),
        buffer.cells,
        buffer,
        depth_range=(DEPTH_RANGE[0] * size, DEPTH_RANGE[1] * size),
        scene_scale=torch.tensor(2.0 * size),
    ).total


@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_dsacs_loss_is_the_mean_distance_to_the_known_points(size: float) -> None:
    buffer, truth = _scene(known=True, size=size)
    assert _of_network(coordinate_loss, truth, buffer, size) < 1e-6
    shift = size * torch.tensor([0.3, 0.0, 0.4])
    shifted = _of_network(coordinate_loss, truth + shift, buffer, size)
    assert shifted.item() == pytest.approx(0.5 / 2.0, rel=1e-4)
    # what is unknown has no say
    half = buffer.cells.scene_points.clone()
    half[::2] = torch.nan
    partly = replace(buffer, cells=replace(buffer.cells, scene_points=half))
    points = truth.clone()
    points[::2] += 100 * size
    assert _of_network(coordinate_loss, points, partly, size) < 1e-6
    nothing, _ = _scene(known=False, size=size)
    points.requires_grad_()
    loss = _of_network(coordinate_loss, points, nothing, size)
    loss.backward()
    assert loss == 0 and points.grad is not None and not points.grad.any()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_dsac_stars_rule_is_the_reprojection_error_where_a_prediction_can_be_right(
    known: bool, size: float
) -> None:
    buffer, truth = _scene(known, size)
    assert _of_network(dsac_star_loss, truth, buffer, size) < 1e-2
    # along its ray, a point that can be right costs nothing
    centers = _centers(buffer)
    assert _of_network(dsac_star_loss, centers + 1.5 * (truth - centers), buffer, size) < 1e-2
    # sideways by 3 cm at 1 to 5 m: pixels
    right = buffer.cam_from_world[buffer.cells.view.long(), 0, :3]
    depth = ((truth - centers) * buffer.cam_from_world[buffer.cells.view.long(), 2, :3]).sum(-1)
    aside = _of_network(dsac_star_loss, truth + 0.03 * size * right, buffer, size)
    assert aside.item() == pytest.approx((0.03 * size * 400 / depth).mean().item(), rel=1e-3)


@pytest.mark.parametrize("known", [True, False])
def test_dsac_stars_rule_pulls_what_cannot_be_right_to_a_point_that_can(known: bool) -> None:
    buffer, truth = _scene(known)
    centers = _centers(buffer)
    behind = (centers - (truth - centers)).requires_grad_()
    loss = _of_network(dsac_star_loss, behind, buffer)
    loss.backward()
    assert behind.grad is not None
    target = truth if known else centers + (truth - centers) * (
        (DEPTH_RANGE[0] * DEPTH_RANGE[1]) ** 0.5
        / ((truth - centers) * buffer.cam_from_world[buffer.cells.view.long(), 2, :3]).sum(-1, keepdim=True)
    )  # fmt: skip
    towards = torch.nn.functional.normalize(target - behind.detach(), dim=-1)
    downhill = torch.nn.functional.normalize(-behind.grad, dim=-1)
    assert (towards * downhill).sum(-1).min() > 0.999


def _of_modes(points: Tensor, log_odds: Tensor, buffer: FeatureBuffer) -> BatchLoss:
    predicted = SceneCoordinates(points, torch.full_like(log_odds, 0.1), log_odds.log_softmax(-1))
    return mapping_loss(
        predicted, buffer.cells, buffer,
        progress=0.5, depth_range=DEPTH_RANGE, scene_scale=torch.tensor(1.0), reprojection_weight=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("known", [True, False])
def test_a_mixture_of_which_one_mode_is_sure_is_that_mode(known: bool) -> None:
    buffer, truth = _scene(known)
    points = torch.stack([truth + 0.05, truth + 3.0], dim=1)
    sure = torch.tensor([[30.0, -30.0]]).expand(NUM_CELLS, 2)
    alone, mixed = _loss(truth + 0.05, buffer), _of_modes(points, sure, buffer)
    torch.testing.assert_close(mixed.total, alone.total)
    torch.testing.assert_close(mixed.median_error_px, alone.median_error_px)


def test_each_mode_learns_what_it_explains_best_and_what_explains_more_becomes_likelier() -> None:
    buffer, truth = _scene(known=True)
    first = torch.arange(NUM_CELLS) % 4 > 0  # mode 0 is near the truth three times of four
    near, far = truth + 0.02, truth + 2.0
    points = torch.stack(
        [torch.where(first[:, None], near, far), torch.where(first[:, None], far, near)], 1
    ).requires_grad_()
    odds = torch.zeros(NUM_CELLS, 2, requires_grad=True)
    _of_modes(points, odds, buffer).total.backward()
    assert points.grad is not None and odds.grad is not None
    pull = points.grad.norm(dim=-1)
    right, wrong = pull[:, 0][first], pull[:, 1][first]
    assert (right > 10 * wrong).double().mean() > 0.9
    assert (odds.grad[first, 0] < 0).all() and (odds.grad[~first, 1] < 0).all()
