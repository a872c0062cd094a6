"""The CPU kernels compute what `reference.py` computes."""

import pytest
import torch

from dsac.geometry import Pose
from dsac.kernels import cpu, reference
from dsac.kernels.arrays import PosedRows


def _problem(batch: int = 2, hypotheses: int = 5, count: int = 300, noise: float = 0.01, dtype=torch.float64):
    """Poses near the truth, and correspondences of which 30 % are wrong; the camera is off centre, fx ≠ fy."""
    g = torch.Generator().manual_seed(7)
    focal = torch.tensor([[520.0, 540.0]], dtype=torch.float64).expand(batch, 2)
    center = torch.tensor([[300.0, 250.0]], dtype=torch.float64).expand(batch, 2)
    truth = Pose.exp(0.5 * torch.randn(batch, 6, generator=g, dtype=torch.float64))
    pixels = torch.rand(batch, count, 2, generator=g, dtype=torch.float64) * torch.tensor([640.0, 480.0])
    depth = 1 + 3 * torch.rand(batch, count, 1, generator=g, dtype=torch.float64)
    rays = torch.cat([(pixels - center[:, None]) / focal[:, None], torch.ones_like(depth)], -1)
    scene = truth.inverse() @ (rays * depth)
    scene = scene + noise * torch.randn(scene.shape, generator=g, dtype=torch.float64)
    wrong = torch.rand(batch, count, 1, generator=g, dtype=torch.float64) < 0.3
    scene = torch.where(wrong, scene + torch.randn(scene.shape, generator=g, dtype=torch.float64), scene)
    near = Pose.exp(0.005 * torch.randn(batch, hypotheses, 6, generator=g, dtype=torch.float64)) @ Pose(
        truth.rotation[:, None], truth.translation[:, None]
    )
    weights = 0.5 + torch.rand(batch, count, generator=g, dtype=torch.float64)
    weights[:, :10] = 0
    arrays = (near.rotation, near.translation, pixels, scene, focal, center, weights)
    return PosedRows(*(a.to(dtype) for a in arrays)), truth


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reprojection_error_equals_the_reference(dtype):
    posed, _ = _problem(dtype=dtype)
    ours = cpu.reprojection_error(posed, 100.0)
    theirs = reference.reprojection_error(posed, 100.0)
    assert ours.dtype == dtype
    torch.testing.assert_close(
        ours, theirs, atol=2e-3, rtol=1e-4
    )  # float32 on coordinates of hundreds of pixels


def test_soft_inlier_count_equals_the_reference():
    posed, _ = _problem()
    ours = cpu.soft_inlier_count(posed, 10.0, 100.0)
    theirs = reference.soft_inlier_count(posed, 10.0, 100.0)
    torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-4)
    assert theirs.min() > 10  # the comparison has something to count


def test_refine_ends_at_the_optimum_of_the_reference():
    posed, truth = _problem(noise=0.002)  # 1 px: no point near the threshold, so one optimum
    ours = cpu.refine(posed, 10.0, 50)
    theirs = reference.refine(posed, 10.0, 50)
    torch.testing.assert_close(ours[0], theirs[0], atol=2e-5, rtol=0)
    torch.testing.assert_close(ours[1], theirs[1], atol=5e-5, rtol=0)
    assert (ours[2] != theirs[2]).double().mean() < 2e-3  # a point at the very threshold may differ
    torch.testing.assert_close(ours[3], theirs[3], rtol=0.02, atol=0.02 * theirs[3].abs().max().item())
    pose = Pose(ours[0], ours[1])
    expected = Pose(truth.rotation[:, None], truth.translation[:, None])
    assert pose.center_distance(expected).max() < 0.01


def test_refine_leaves_a_pose_without_inliers_where_it_is():
    posed, _ = _problem(batch=1, hypotheses=1)
    posed = posed._replace(weights=torch.zeros_like(posed.weights))
    rotation, translation, inliers, matrix = cpu.refine(posed, 10.0, 10)
    torch.testing.assert_close(rotation, posed.rotation)
    torch.testing.assert_close(translation, posed.translation)
    assert not inliers.any() and not matrix.any()


def test_p3p_finds_the_poses_of_the_reference():
    g = torch.Generator().manual_seed(1)
    pose = Pose.exp(torch.randn(500, 6, generator=g, dtype=torch.float64))
    bearings = torch.cat(
        [torch.rand(500, 3, 2, generator=g, dtype=torch.float64) - 0.5, torch.ones(500, 3, 1)], -1
    )
    seen = bearings * (0.5 + 4 * torch.rand(500, 3, 1, generator=g, dtype=torch.float64))
    points = pose.inverse() @ seen
    rotation, translation, valid = cpu.p3p(bearings, points)
    truth = Pose(pose.rotation[:, None], pose.translation[:, None])
    distance = (rotation - truth.rotation).abs().flatten(2).amax(-1) + (
        translation - truth.translation
    ).abs().amax(-1)
    best = torch.where(valid, distance, torch.inf).amin(-1)
    assert best.max() < 1e-6 and best.median() < 1e-12
    theirs = reference.p3p(bearings, points)[2]
    assert (valid.sum(-1) == theirs.sum(-1)).double().mean() > 0.99
    # every pose that is returned sees the points where they are
    moved = rotation @ points.mT[:, None] + translation[..., None]
    sine = torch.linalg.cross(moved.mT, bearings[:, None].expand_as(moved.mT)).norm(dim=-1) / moved.mT.norm(
        dim=-1
    )
    assert sine[valid].max() < 1e-6 and moved[..., 2, :][valid].min() > 0


def test_p3p_of_degenerate_sets_has_no_pose_and_no_nan():
    line = torch.tensor(
        [[[0.0, 0, 2], [1, 0, 2], [2, 0, 2]], [[1, 1, 1], [1, 1, 1], [1, 1, 1]]], dtype=torch.float64
    )
    bearings = torch.tensor([[[-0.2, 0, 1], [0, 0, 1], [0.2, 0, 1]]], dtype=torch.float64).expand(2, 3, 3)
    rotation, translation, valid = cpu.p3p(bearings, line)
    assert not valid.any()
    assert torch.isfinite(rotation).all() and torch.isfinite(translation).all()
