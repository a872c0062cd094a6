from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac.geometry import Pose, rotation_angle, skew

BATCHES = [(), (1,), (2, 3)]


def random_increment(*batch: int, angle: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Rotation vectors of exactly this length, translations of about a metre."""
    generator = torch.Generator().manual_seed(seed)
    increment = torch.randn(*batch, 6, generator=generator, dtype=torch.float64)
    axis = increment[..., :3] / increment[..., :3].norm(dim=-1, keepdim=True)
    return torch.cat([axis * angle, increment[..., 3:]], dim=-1)


def random_pose(*batch: int, seed: int = 0) -> Pose:
    return Pose.exp(random_increment(*batch, seed=seed))


def assert_same(a: Pose, b: Pose, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a.matrix, b.matrix, atol=atol, rtol=0)


angles = st.floats(0, 3.1) | st.floats(-12, -1).map(lambda power: 10**power) | st.just(0.01)
seeds = st.integers(0, 10_000)


@settings(max_examples=60, deadline=None)
@given(angle=angles, seed=seeds)
def test_log_undoes_exp(angle, seed):
    increment = random_increment(angle=angle, seed=seed)
    # the angle is known to eps / sin(angle) near pi: 1e-14 at 3.1
    torch.testing.assert_close(Pose.exp(increment).log(), increment, atol=1e-12, rtol=0)


@settings(max_examples=60, deadline=None)
@given(angle=angles, seed=seeds)
def test_exp_is_the_matrix_exponential_of_the_twist(angle, seed):
    increment = random_increment(angle=angle, seed=seed)
    twist = torch.zeros(4, 4, dtype=torch.float64)
    twist[:3, :3], twist[:3, 3] = skew(increment[:3]), increment[3:]
    torch.testing.assert_close(Pose.exp(increment).matrix, torch.linalg.matrix_exp(twist), atol=1e-13, rtol=0)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, first=st.floats(-1, 1), second=st.floats(-1, 1))
def test_motions_about_one_axis_add(seed, first, second):
    increment = random_increment(seed=seed)
    assert_same(
        Pose.exp(first * increment) @ Pose.exp(second * increment), Pose.exp((first + second) * increment)
    )


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 0.00999, 0.01001, 1.0, 3.0])
def test_derivatives_of_exp_are_right(angle):
    increment = random_increment(angle=angle).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Pose.exp(x).matrix, increment, atol=1e-7)


@pytest.mark.parametrize("angle", [1e-5, 0.1, 1.0, 3.0])
def test_derivatives_of_log_are_right(angle):
    increment = random_increment(angle=angle)

    def through_log(step: torch.Tensor) -> torch.Tensor:
        return (Pose.exp(step) @ Pose.exp(increment)).log()

    step = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(through_log, step, atol=1e-6)


@pytest.mark.parametrize("batch", BATCHES)
def test_composition_moves_points_as_one_after_the_other(batch):
    a_from_b, b_from_c = random_pose(*batch, seed=1), random_pose(*batch, seed=2)
    points = torch.randn(*batch, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close((a_from_b @ b_from_c) @ points, a_from_b @ (b_from_c @ points))
    torch.testing.assert_close((a_from_b @ b_from_c).matrix, a_from_b.matrix @ b_from_c.matrix)


@pytest.mark.parametrize("batch", BATCHES)
def test_inverse_undoes_a_motion(batch):
    pose = random_pose(*batch)
    identity = Pose.identity(*batch, dtype=torch.float64)
    assert_same(pose @ pose.inverse(), identity)
    assert_same(pose.inverse() @ pose, identity)
    torch.testing.assert_close(pose.inverse().matrix, torch.linalg.inv(pose.matrix))


@pytest.mark.parametrize("batch", BATCHES)
def test_center_is_the_point_that_becomes_the_origin(batch):
    pose = random_pose(*batch)
    moved = pose @ pose.center[..., None, :]
    torch.testing.assert_close(moved, torch.zeros_like(moved), atol=1e-14, rtol=0)


@pytest.mark.parametrize("batch", BATCHES)
def test_matrices_and_quaternions_keep_the_pose(batch):
    pose = Pose.exp(random_increment(*batch, angle=3.0))
    quaternion = pose.quaternion_wxyz
    assert (quaternion[..., 0] >= 0).all()
    assert_same(Pose.from_matrix(pose.matrix), pose)
    assert_same(Pose.from_matrix(pose.matrix[..., :3, :]), pose)
    assert_same(Pose.from_quaternion(quaternion, pose.translation), pose)
    assert_same(Pose.from_quaternion(-5 * quaternion, pose.translation), pose)


def test_quaternion_order_is_that_of_colmap():
    quarter_turn_about_z = Pose.from_quaternion(
        torch.tensor([math.sqrt(0.5), 0, 0, math.sqrt(0.5)], dtype=torch.float64),
        torch.zeros(3, dtype=torch.float64),
    )
    moved = quarter_turn_about_z @ torch.tensor([[1.0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(moved, torch.tensor([[0.0, 1, 0]], dtype=torch.float64))


@pytest.mark.parametrize("batch", BATCHES)
def test_batches_keep_their_shape(batch):
    pose = random_pose(*batch)
    assert pose.shape == batch
    assert pose.matrix.shape == (*batch, 4, 4) and pose.log().shape == (*batch, 6)
    assert pose.inverse().shape == pose.detach().shape == pose.to(torch.float32).shape == batch
    assert pose.expand(4, *batch).shape == (4, *batch)
    assert pose.reshape(-1).shape == (math.prod(batch),)
    assert Pose.stack([pose, pose]).shape == (2, *batch)
    assert pose.rotation_error_deg(pose).shape == pose.center_distance(pose).shape == batch
    assert len(pose) == (batch[0] if batch else 0)


def test_batches_are_put_after_one_another():
    first, second = random_pose(2, 3), random_pose(4, 3)
    both = Pose.cat([first, second])
    assert both.shape == (6, 3)
    assert torch.equal(both[:2].matrix, first.matrix) and torch.equal(both[2:].matrix, second.matrix)


def test_indexing_picks_from_the_batch():
    poses = random_pose(2, 3)
    assert_same(poses[1, 2], Pose(poses.rotation[1, 2], poses.translation[1, 2]))
    assert poses[1].shape == (3,) and poses[:, 1:].shape == (2, 2) and poses[..., 0].shape == (2,)
    chosen = torch.tensor([1, 0, 1])
    assert_same(poses[chosen][0], poses[1])
    assert_same(poses[poses.translation[..., 0] > -9].reshape(2, 3), poses)


def test_a_batch_of_poses_broadcasts_over_the_points_of_its_images():
    poses = random_pose(2, 3)
    points = torch.randn(2, 1, 5, 3, dtype=torch.float64)
    moved = poses @ points
    assert moved.shape == (2, 3, 5, 3)
    torch.testing.assert_close(moved[1, 2], poses[1, 2] @ points[1, 0])


@pytest.mark.parametrize("angle", [0.0, 1e-10, 1e-6, 0.5, 3.0, math.pi])
def test_rotation_error_is_the_angle_between(angle):
    pose = random_pose()
    step = random_increment(angle=angle, seed=5)
    turned = Pose.exp(torch.cat([step[:3], torch.zeros(3, dtype=torch.float64)])) @ pose
    expected = torch.tensor(math.degrees(angle), dtype=torch.float64)
    # near 0 and near pi the angle is as exact as the matrices, about 1e-15 rad
    torch.testing.assert_close(turned.rotation_error_deg(pose), expected, atol=1e-13, rtol=1e-12)


def test_center_distance_ignores_how_the_camera_is_turned():
    pose = random_pose()
    center = pose.center + torch.tensor([0.0, 3.0, 4.0], dtype=torch.float64)
    rotation = random_pose(seed=9).rotation
    other = Pose(rotation, -(rotation @ center))
    torch.testing.assert_close(other.center_distance(pose), torch.tensor(5.0, dtype=torch.float64))


def test_gradient_of_the_rotation_angle_is_finite_at_zero():
    rotation = torch.eye(3, dtype=torch.float64, requires_grad=True)
    rotation_angle(rotation).backward()
    assert rotation.grad is not None and rotation.grad.abs().max() == 0


@pytest.mark.parametrize("angle", [1e-4, 1.0, 3.1])
def test_gradient_of_the_rotation_angle_along_its_axis_is_one(angle):
    increment = random_increment(angle=angle)
    axis = torch.cat([increment[:3] / angle, torch.zeros(3, dtype=torch.float64)])
    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    rotation_angle((Pose.exp(step * axis) @ Pose.exp(increment)).rotation).backward()
    assert step.grad is not None and float(step.grad) == pytest.approx(1, abs=1e-9)


def test_skew_is_the_cross_product():
    a, b = torch.randn(2, 4, 3, dtype=torch.float64)
    torch.testing.assert_close((skew(a) @ b[..., None])[..., 0], torch.linalg.cross(a, b))


@pytest.mark.parametrize(
    ("rotation", "translation", "message"),
    [
        ((3, 4), (3,), r"rotation: expected \(..., 3, 3\)"),
        ((2, 3, 3), (3, 3), r"translation: expected \(2, 3\)"),
    ],
)
@pytest.mark.wrong_input
def test_wrong_shapes_are_refused_outside_tests_too(rotation, translation, message):
    with pytest.raises(ValueError, match=message):
        Pose(torch.zeros(rotation), torch.zeros(translation))


def test_a_pose_is_equal_to_itself_alone():
    """Comparing the values of tensors has no one answer; `in`, sets and dictionaries must work."""
    pose, same = Pose.identity(2), Pose.identity(2)
    assert pose == pose and pose in [same, pose]
    assert pose != same and pose not in [same]
    assert {pose: 1}[pose] == 1
