"""The closed-form gradients are those of autograd through the reference."""

import torch

from dsac.geometry import Camera, Pose
from dsac.kernels import cpu, reference
from dsac.kernels.arrays import PosedRows
from dsac.ransac import ReprojectionError
from dsac.ransac.implicit import implicit_pose
from dsac.ransac.types import Correspondences

_SIZE = (640, 480)


def _problem(batch: int = 2, hypotheses: int = 3, count: int = 300):
    """Poses near the truth, noisy points, a fifth of them wrong, a few behind; fx ≠ fy, off centre."""
    g = torch.Generator().manual_seed(11)
    options = {"generator": g, "dtype": torch.float64}
    focal = torch.tensor([[520.0, 540.0]], dtype=torch.float64).expand(batch, 2)
    center = torch.tensor([[300.0, 250.0]], dtype=torch.float64).expand(batch, 2)
    truth = Pose.exp(0.5 * torch.randn(batch, 6, **options))
    pixels = torch.rand(batch, count, 2, **options) * torch.tensor(_SIZE)
    depth = 1 + 3 * torch.rand(batch, count, 1, **options)
    seen = torch.cat([(pixels - center[:, None]) / focal[:, None], torch.ones_like(depth)], -1) * depth
    seen[:, :5] = -seen[:, :5]
    scene = truth.inverse() @ seen + 0.01 * torch.randn(batch, count, 3, **options)
    wrong = torch.rand(batch, count, 1, **options) < 0.2
    scene = torch.where(wrong, scene + torch.randn(batch, count, 3, **options), scene)
    near = Pose.exp(0.003 * torch.randn(batch, hypotheses, 6, **options)) @ truth[:, None]
    weights = 0.5 + torch.rand(batch, count, **options)
    weights[:, 5:10] = 0
    return near, pixels, scene, focal, center, weights, g


def _close(ours, theirs, relative):
    """Compared by the length of the difference: sums have errors relative to the whole."""
    assert theirs.norm() > 0
    assert (ours - theirs).norm() < relative * theirs.norm()


def test_gradient_of_the_soft_inlier_count():
    near, pixels, scene, focal, center, weights, g = _problem()
    inputs = [x.clone().requires_grad_() for x in (near.rotation, near.translation, scene, weights)]
    rotation, translation, points, scales = inputs
    live = PosedRows(rotation, translation, pixels, points, focal, center, scales)
    counts = reference.soft_inlier_count(live, 10.0, 100.0)
    cotangent = torch.randn(counts.shape, generator=g, dtype=torch.float64)
    expected = torch.autograd.grad(counts, inputs, cotangent)
    posed = PosedRows(near.rotation, near.translation, pixels, scene, focal, center, weights)
    gradients = cpu.soft_inlier_count_gradient(posed, 10.0, 100.0, cotangent)
    for ours, theirs in zip(gradients, expected, strict=True):
        _close(ours, theirs, 1e-7)


def test_gradient_of_the_refinement():
    near, pixels, scene, focal, center, weights, g = _problem()
    arrays = (pixels, scene, focal, center, weights)
    start = PosedRows(near.rotation, near.translation, *arrays)
    rotation, translation, _, _ = reference.refine(start, 10.0, 100)
    points, scales = scene.clone().requires_grad_(), weights.clone().requires_grad_()
    like = Correspondences(pixels, points, Camera(focal, center, _SIZE), weights=scales)
    pose, determined = implicit_pose(
        Pose(rotation, translation),
        ReprojectionError(),
        points[:, None],
        pixels[:, None],
        scales[:, None],
        like,
    )
    assert determined.all()
    # the increment from the fixed pose, to first order: the rotation vector and the translation of the twist
    increment = (pose @ Pose(rotation, translation).inverse()).log()
    cotangent = torch.randn(increment.shape, generator=g, dtype=torch.float64)
    expected = torch.autograd.grad(increment, [points, scales], cotangent)
    grad_points, grad_weights, ours = cpu.refine_gradient(
        PosedRows(rotation, translation, *arrays), 10.0, cotangent
    )
    assert ours.all()
    _close(grad_points, expected[0], 1e-7)
    _close(grad_weights, expected[1], 1e-7)


def test_a_pose_that_its_points_do_not_determine_passes_nothing():
    near, pixels, scene, focal, center, weights, _ = _problem(batch=1, hypotheses=1)
    cotangent = torch.ones(1, 1, 6, dtype=torch.float64)
    arrays = (pixels, scene, focal, center, torch.zeros_like(weights))
    posed = PosedRows(near.rotation, near.translation, *arrays)
    grad_points, grad_weights, determined = cpu.refine_gradient(posed, 10.0, cotangent)
    assert not determined.any() and not grad_points.any() and not grad_weights.any()
