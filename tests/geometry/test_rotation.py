from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac.geometry.rotation import (
    nearest_rotation,
    quaternion_from_rotation,
    rotation_angle,
    rotation_from_quaternion,
    rotation_from_vector,
    vector_from_rotation,
)

roma = pytest.importorskip("roma")

angles = st.floats(0, 3.14) | st.floats(-12, -1).map(lambda power: 10**power) | st.just(0.01)
seeds = st.integers(0, 10_000)


def vector_of(angle: float, seed: int) -> torch.Tensor:
    axis = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return axis / axis.norm() * angle


@settings(max_examples=60, deadline=None)
@given(angle=angles, seed=seeds)
def test_conversions_agree_with_roma(angle, seed):
    vector = vector_of(angle, seed)
    rotation = rotation_from_vector(vector)
    # below 1e-6 rad roma's rotation is of first order, off by angle²/2 = 5e-13
    torch.testing.assert_close(rotation, roma.rotvec_to_rotmat(vector), atol=1e-12, rtol=0)
    torch.testing.assert_close(vector_from_rotation(rotation), vector, atol=1e-12, rtol=0)
    quaternion = quaternion_from_rotation(rotation)
    torch.testing.assert_close(roma.unitquat_to_rotmat(quaternion.roll(-1)), rotation, atol=1e-14, rtol=0)
    torch.testing.assert_close(rotation_from_quaternion(-3 * quaternion), rotation, atol=1e-14, rtol=0)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0, 0.8), (-0.6, 0.8, 0)])
def test_half_turns_have_their_quaternion(axis):
    half_turn = rotation_from_vector(torch.tensor(axis, dtype=torch.float64) * math.pi)
    quaternion = quaternion_from_rotation(half_turn)
    assert float(quaternion.norm()) == pytest.approx(1)
    torch.testing.assert_close(rotation_from_quaternion(quaternion), half_turn, atol=1e-14, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 2e-4, 1.0, 2.5, 3.1])
def test_derivatives_of_conversions_are_right(angle):
    vector = vector_of(angle, seed=4).requires_grad_()
    assert torch.autograd.gradcheck(rotation_from_vector, vector, atol=1e-7)
    assert torch.autograd.gradcheck(
        lambda v: quaternion_from_rotation(rotation_from_vector(v)), vector, atol=1e-6
    )
    assert torch.autograd.gradcheck(lambda v: vector_from_rotation(rotation_from_vector(v)), vector, atol=1e-6)


def test_gradient_of_the_rotation_vector_is_finite_at_a_half_turn():
    rotation = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)).requires_grad_()
    vector = vector_from_rotation(rotation)
    assert vector.tolist() == pytest.approx([math.pi, 0, 0])
    vector.sum().backward()
    assert rotation.grad is not None and rotation.grad.isfinite().all()


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_nearest_rotation_is_a_rotation_and_the_nearest(seed):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(2, 3, 3, dtype=torch.float64, generator=generator)
    nearest = nearest_rotation(matrix)
    identity = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    torch.testing.assert_close(nearest @ nearest.mT, identity, atol=1e-13, rtol=0)
    assert (torch.linalg.det(nearest) > 0).all()
    step = 0.1 * torch.randn(50, 1, 3, dtype=torch.float64, generator=generator)
    others = rotation_from_vector(step) @ nearest
    assert ((others - matrix).square().sum((-1, -2)) >= (nearest - matrix).square().sum((-1, -2))).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_is_kept_at_every_angle(dtype):
    for angle in (1e-6, 1e-3, 0.009, 0.011, 0.1, 1.0, 3.0):
        vector = vector_of(angle, seed=1)
        error = vector_from_rotation(rotation_from_vector(vector.to(dtype))).double() - vector
        assert float(error.abs().max()) < 20 * torch.finfo(dtype).eps
        measured = rotation_angle(rotation_from_vector(vector.to(dtype)))
        assert float(measured) == pytest.approx(angle, abs=20 * torch.finfo(dtype).eps)


def test_geometry_and_datasets_load_no_heavy_package():
    heavy = "{'torch._dynamo', 'cv2', 'numba', 'fsspec', 'triton'}"
    code = (
        "import sys, torch; before = set(sys.modules); import dsac.datasets; "
        f"print(({heavy} & set(sys.modules)) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
