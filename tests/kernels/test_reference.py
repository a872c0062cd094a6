from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac.geometry import Camera, Pose
from dsac.kernels import reference
from dsac.kernels.arrays import PosedRows

torch.set_num_threads(1)
DOUBLE = torch.float64


def _triangles(count: int, seed: int, scale: float = 1.0, dtype: torch.dtype = DOUBLE):
    """Bearings and world points of random triangles in front of random cameras."""
    generator = torch.Generator().manual_seed(seed)
    cam_from_world = Pose.exp(torch.randn(count, 6, generator=generator, dtype=DOUBLE))
    cam_from_world = Pose(cam_from_world.rotation, cam_from_world.translation * scale)
    spread = torch.tensor([4.0, 4.0, 5.0], dtype=DOUBLE)
    points_cam = torch.rand(count, 3, 3, generator=generator, dtype=DOUBLE) * spread
    points_cam = (points_cam + torch.tensor([-2.0, -2.0, 0.5], dtype=DOUBLE)) * scale
    points = cam_from_world.inverse() @ points_cam
    return (points_cam / points_cam[..., 2:]).to(dtype), points.to(dtype), cam_from_world


def _closest(rotation, translation, valid, truth: Pose):
    error = (Pose(rotation, translation).center.double() - truth.center[:, None]).norm(dim=-1)
    return torch.where(valid, error, torch.inf).amin(-1)


# ---- P3P ---------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_p3p_recovers_the_exact_pose(seed, scale):
    bearings, points, truth = _triangles(500, seed, scale)
    error = _closest(*reference.p3p(bearings, points), truth) / scale
    assert error.median() < 1e-12
    assert (error < 1e-5).double().mean() > 0.995  # the rest are triangles seen nearly edge on


def test_p3p_is_accurate_in_float32():
    bearings, points, truth = _triangles(5000, 0, dtype=torch.float32)
    rotation, translation, valid = reference.p3p(bearings, points)
    assert rotation.dtype == translation.dtype == torch.float32
    error = _closest(rotation, translation, valid, truth)
    assert error.median() < 5e-6
    assert (error < 1e-2).double().mean() > 0.995


def test_every_solution_of_p3p_sees_the_points_along_the_bearings():
    bearings, points, _ = _triangles(2000, 1)
    rotation, translation, valid = reference.p3p(bearings, points)
    seen = Pose(rotation, translation) @ points[:, None]
    bearings = bearings / bearings.norm(dim=-1, keepdim=True)
    away = torch.linalg.cross(seen, bearings[:, None].expand_as(seen)).norm(dim=-1)
    along = (seen * bearings[:, None]).sum(-1)
    assert (away[valid] < 1e-7).all()
    assert (along[valid] > 0).all()
    assert (torch.linalg.det(rotation) - 1).abs().max() < 1e-9
    assert 1.5 < valid.sum(-1).double().mean() < 2.5  # one to four solutions


def test_p3p_does_not_need_unit_bearings():
    bearings, points, truth = _triangles(100, 2)
    lengths = torch.rand(100, 3, 1, generator=torch.Generator().manual_seed(0), dtype=DOUBLE) + 0.1
    error = _closest(*reference.p3p(bearings * lengths, points), truth)
    torch.testing.assert_close(error, _closest(*reference.p3p(bearings, points), truth), rtol=0, atol=1e-6)


@pytest.mark.parametrize("angle", [120.0, 90.0, 60.0])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, 0.0), (-0.2, 0.1)])
def test_p3p_solves_symmetric_triangles(angle, shift):
    """Isosceles and equilateral ones, on the axis and beside it: the cubic loses its leading term there."""
    turn = torch.deg2rad(torch.tensor([0.0, angle, -angle], dtype=DOUBLE))
    points = torch.stack([turn.cos(), turn.sin(), torch.zeros(3, dtype=DOUBLE)], dim=-1)[None]
    offset = torch.tensor([*shift, 3.0], dtype=DOUBLE)
    truth = Pose(torch.eye(3, dtype=DOUBLE)[None], offset[None])
    assert _closest(*reference.p3p(points + offset, points), truth).item() < 1e-7


@pytest.mark.parametrize(
    "points",
    [
        torch.zeros(3, 3),
        torch.ones(3, 3),
        torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 2, 2]]),
        torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 2, 3]]),
    ],
)
@pytest.mark.parametrize("same_bearing", [False, True])
def test_p3p_refuses_degenerate_sets_with_finite_values(points, same_bearing):
    bearings = torch.tensor([[0.1, 0.2, 1.0], [-0.3, 0.1, 1.0], [0.2, -0.2, 1.0]])
    if same_bearing:
        bearings = bearings[:1].repeat(3, 1)
    rotation, translation, valid = reference.p3p(bearings[None], points[None])
    assert not valid.any()
    assert torch.isfinite(rotation).all() and torch.isfinite(translation).all()


# ---- Kabsch ------------------------------------------------------------------------------------------


def test_kabsch_is_the_least_squares_rotation_never_a_reflection():
    generator = torch.Generator().manual_seed(0)
    truth = Pose.exp(torch.randn(50, 6, generator=generator, dtype=DOUBLE))
    scene_points = torch.randn(50, 4, 3, generator=generator, dtype=DOUBLE)
    exact = truth @ scene_points
    rotation, translation, valid = reference.kabsch(exact, scene_points)
    assert valid.all()
    torch.testing.assert_close(rotation, truth.rotation)
    torch.testing.assert_close(translation, truth.translation)

    noisy = exact + 0.5 * torch.randn(exact.shape, generator=generator, dtype=DOUBLE)
    rotation, translation, _ = reference.kabsch(noisy, scene_points)
    assert (torch.linalg.det(rotation) > 0.999).all()
    best = Pose(rotation, translation)
    least = (best @ scene_points - noisy).square().sum((-2, -1))
    for _ in range(20):
        nearby = Pose.exp(0.01 * torch.randn(50, 6, generator=generator, dtype=DOUBLE)) @ best
        assert ((nearby @ scene_points - noisy).square().sum((-2, -1)) >= least).all()


def test_kabsch_refuses_points_on_a_line():
    line = torch.linspace(0, 1, 4)[:, None] * torch.tensor([1.0, 2.0, 3.0])
    for points in (line, torch.zeros(4, 3)):
        rotation, translation, valid = reference.kabsch(points[None], points[None])
        assert not valid.any()
        assert torch.isfinite(rotation).all() and torch.isfinite(translation).all()


# ---- errors, scores, refinement ----------------------------------------------------------------------


def _rows(batch: int = 2, poses: int = 3, count: int = 60, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(*shape, generator=generator, dtype=DOUBLE)

    focal = torch.tensor([500.0, 520.0], dtype=DOUBLE).expand(batch, 2)
    center = torch.tensor([300.0, 250.0], dtype=DOUBLE).expand(batch, 2)
    camera = Camera(focal, center, (640, 480))
    truth = Pose.exp(noise(batch, 6))
    points_cam = noise(batch, count, 3) * 0.7 + torch.tensor([0.0, 0.0, 3.0], dtype=DOUBLE)
    points_cam[:, 0, 2] = -2.0  # one point behind the camera
    scene_points = truth.inverse() @ points_cam
    pixels = camera.project(points_cam) + 3 * noise(batch, count, 2)
    pixels[:, 1::4] += 200
    weights = torch.rand(batch, count, generator=generator, dtype=DOUBLE) + 0.1
    start = Pose.exp(0.01 * noise(batch, poses, 6)) @ truth[:, None]
    return start, pixels, scene_points, camera, weights


def _posed(pose: Pose, pixels, scene_points, camera: Camera, weights=None) -> PosedRows:
    arrays = (pixels, scene_points, camera.focal_px, camera.center_px, weights)
    return PosedRows(pose.rotation, pose.translation, *arrays)


def test_reprojection_error_is_the_distance_of_projection_and_pixel():
    pose, pixels, scene_points, camera, _ = _rows()
    errors = reference.reprojection_error(_posed(pose, pixels, scene_points, camera), 50.0)
    for b in range(2):
        for h in range(3):
            points_cam = pose[b, h] @ scene_points[b]
            expected = (camera[b].project(points_cam) - pixels[b]).norm(dim=-1).clamp(max=50.0)
            expected = torch.where(points_cam[:, 2] > 0, expected, 50.0)
            torch.testing.assert_close(errors[b, h], expected)
    assert (errors[:, :, 0] == 50.0).all()  # behind the camera


def test_error_gradients_are_finite_and_vanish_where_the_error_is_bounded():
    pose, pixels, scene_points, camera, _ = _rows(poses=1)
    points_cam = pose[:, 0] @ scene_points
    pixels = camera.project(points_cam)  # no error at all, but for
    pixels[:, 5:10] += 1000
    scene_points = scene_points.clone().requires_grad_()
    errors = reference.reprojection_error(_posed(pose, pixels, scene_points, camera), 50.0)
    assert (errors[..., 5:10] == 50.0).all()
    errors.sum().backward()
    assert torch.isfinite(scene_points.grad).all()
    assert (scene_points.grad[:, 5:10] == 0).all()
    assert (scene_points.grad[:, 0] == 0).all()  # behind the camera


def test_soft_inlier_count_is_the_weighted_sum_of_sigmoids():
    pose, pixels, scene_points, camera, weights = _rows()
    posed = _posed(pose, pixels, scene_points, camera, weights)
    count = reference.soft_inlier_count(posed, 10.0, 100.0)
    errors = reference.reprojection_error(posed, 100.0)
    expected = (weights[:, None] / (1 + torch.exp(-0.5 * (10.0 - errors)))).sum(-1)
    torch.testing.assert_close(count, expected)
    doubled = reference.soft_inlier_count(posed._replace(weights=2 * weights), 10.0, 100.0)
    torch.testing.assert_close(doubled, 2 * count)


def test_refine_stops_where_the_robust_cost_is_least():
    """Gradient of Σ w e²τ²/(e² + τ²) zero; the normal matrix is Σ w ρ' JᵀJ, by autograd."""
    pose, pixels, scene_points, camera, weights = _rows()
    posed = _posed(pose, pixels, scene_points, camera, weights)
    rotation, translation, inliers, matrix = reference.refine(posed, 10.0, 100)
    refined = Pose(rotation, translation)

    def residuals(increment):
        points_cam = Pose.exp(increment) @ refined @ scene_points[:, None]
        ideal = torch.stack([camera.project(points_cam[:, k]) for k in range(3)], dim=1)
        return ideal - pixels[:, None], points_cam[..., 2] > 0

    increment = torch.zeros(2, 3, 6, dtype=DOUBLE, requires_grad=True)
    residual, front = residuals(increment)
    square = residual.square().sum(-1)
    cost = (weights[:, None] * torch.where(front, square * 100 / (square + 100), 100.0)).sum()
    (gradient,) = torch.autograd.grad(cost, increment, retain_graph=True)
    assert gradient.abs().max() < 1e-6 * cost
    torch.testing.assert_close(inliers, front & (square < 100))

    expected = torch.zeros_like(matrix)
    pull = (weights[:, None] * front * (100 / (square + 100)) ** 2).detach()
    for n in range(residual.shape[2]):
        for axis in range(2):
            (row,) = torch.autograd.grad(residual[:, :, n, axis].sum(), increment, retain_graph=True)
            expected += pull[:, :, n, None, None] * row[..., :, None] * row[..., None, :]
    torch.testing.assert_close(matrix, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_refine_points_stops_at_the_least_squares_pose_of_kabsch():
    """With a threshold far above every distance the robust cost is the plain square."""
    generator = torch.Generator().manual_seed(0)
    scene_points = torch.randn(3, 20, 3, generator=generator, dtype=DOUBLE)
    truth = Pose.exp(torch.randn(3, 6, generator=generator, dtype=DOUBLE))
    camera_points = truth @ scene_points
    camera_points = camera_points + 0.05 * torch.randn(3, 20, 3, generator=generator, dtype=DOUBLE)
    weights = torch.ones(3, 20, dtype=DOUBLE)
    targets = torch.cat([camera_points, torch.ones_like(weights)[..., None]], dim=-1)
    rotation, translation, inliers, matrix = reference.refine_points(
        truth.rotation[:, None], truth.translation[:, None], targets, scene_points, weights, 1e4, 50
    )
    expected = reference.kabsch(camera_points, scene_points)
    torch.testing.assert_close(rotation[:, 0], expected[0], rtol=0, atol=1e-8)
    torch.testing.assert_close(translation[:, 0], expected[1], rtol=0, atol=1e-8)
    assert inliers.all()
    torch.testing.assert_close(matrix[:, 0, 3:, 3:], 20 * torch.eye(3, dtype=DOUBLE).expand(3, 3, 3))


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_refine_keeps_rotations_orthonormal(dtype):
    pose, pixels, scene_points, camera, weights = _rows()
    values = _posed(pose, pixels, scene_points, camera, weights)
    rotation, _, _, _ = reference.refine(PosedRows(*(v.to(dtype) for v in values)), 10.0, 50)
    identity = torch.eye(3, dtype=dtype).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.mT, identity, rtol=0, atol=20 * torch.finfo(dtype).eps)


def test_refine_without_usable_points_changes_nothing():
    pose, pixels, scene_points, camera, weights = _rows()
    posed = _posed(pose, pixels, scene_points, camera, torch.zeros_like(weights))
    rotation, translation, inliers, matrix = reference.refine(posed, 10.0, 10)
    torch.testing.assert_close(rotation, pose.rotation)
    torch.testing.assert_close(translation, pose.translation)
    assert not inliers.any()
    assert (matrix == 0).all()
