"""Rotations as matrices, rotation vectors and quaternions (w, x, y, z), batched and differentiable everywhere.

    exp: R = 1 + sin a / a [v] + (1 - cos a) / a² [v]²,   a = |v|        (Rodrigues)

The quotients are taken by series where a is small. `log` goes through the quaternion, read from the largest
of the four rows of 4 q qᵀ, so that it is exact up to pi.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rotation_from_vector(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation about an axis by the vector's length in radians."""
    first, second = _quotients(vector)
    cross = skew(vector)
    sinc = 1 - second * (vector * vector).sum(-1)[..., None, None]
    return _identity_like(cross) + sinc * cross + first * cross @ cross


def vector_from_rotation(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Inverse of `rotation_from_vector`, for angles below pi."""
    quaternion = quaternion_from_rotation(rotation)
    w, xyz = quaternion[..., :1], quaternion[..., 1:]
    square = (xyz * xyz).sum(-1, keepdim=True)
    small = square < 1e-8
    sine = torch.where(small, torch.ones_like(square), square).sqrt()
    near_one = torch.where(small, w, torch.ones_like(w))  # w may be 0 where it is not used: its gradient too
    series = 2 / near_one - 2 * square / (3 * near_one**3)
    return xyz * torch.where(small, series, 2 * torch.atan2(sine, w) / sine)


def rotation_from_quaternion(quaternion_wxyz: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation of a quaternion of any length but 0."""
    unit = quaternion_wxyz / quaternion_wxyz.norm(dim=-1, keepdim=True)
    w, cross = unit[..., :1, None], skew(unit[..., 1:])
    return _identity_like(cross) + 2 * (w * cross + cross @ cross)


def quaternion_from_rotation(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion (w, x, y, z) with w >= 0."""
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in rotation.unbind(-2))
    rows = (
        (1 + a + e + i, h - f, c - g, d - b),
        (h - f, 1 + a - e - i, d + b, c + g),
        (c - g, d + b, 1 - a + e - i, h + f),
        (d - b, c + g, h + f, 1 - a - e + i),
    )
    products = torch.stack([torch.stack(row, -1) for row in rows], -2)  # 4 q qᵀ
    largest = products.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None].expand(*rotation.shape[:-2], 1, 4)
    row = products.gather(-2, largest)[..., 0, :]
    unit = row / row.norm(dim=-1, keepdim=True)
    return torch.where(unit[..., :1] < 0, -unit, unit)


def nearest_rotation(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation closest to a matrix (least squares of the entries)."""
    U, _, Vh = torch.linalg.svd(matrix)
    last = torch.linalg.det(U @ Vh)[..., None, None]
    return U[..., :2] @ Vh[..., :2, :] + last * U[..., 2:] @ Vh[..., 2:, :]


def left_jacobian(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Left Jacobian of SO(3), which couples rotation and translation in the exponential of SE(3).

    J = 1 + (1 - cos a)/a² [v] + (a - sin a)/a³ [v]².
    """
    first, second = _quotients(vector)
    cross = skew(vector)
    return _identity_like(cross) + first * cross + second * cross @ cross


def rotation_angle(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Angle of a rotation in radians, accurate near 0 and near pi; its gradient at 0 is 0."""
    sine = (
        torch.stack(
            [
                rotation[..., 2, 1] - rotation[..., 1, 2],
                rotation[..., 0, 2] - rotation[..., 2, 0],
                rotation[..., 1, 0] - rotation[..., 0, 1],
            ],
            dim=-1,
        )
        .norm(dim=-1)
        .div(2)
    )
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return torch.atan2(sine, cosine)


def skew(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The matrix with `skew(v) @ x = v × x`."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [torch.stack(row, -1) for row in ([zero, -z, y], [z, zero, -x], [-y, x, zero])]
    return torch.stack(rows, dim=-2)


def _quotients(vector: Tensor) -> tuple[Tensor, Tensor]:
    """(1 - cos a)/a² and (a - sin a)/a³ as `(..., 1, 1)`; below 0.01 rad by series, exact to 1e-16 there."""
    square = (vector * vector).sum(-1)[..., None, None]
    small = square < 1e-4
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    half = (angle / 2).sin()  # 1 - cos a = 2 sin²(a/2) does not cancel
    first = torch.where(small, 0.5 - square / 24 + square**2 / 720, 2 * half * half / safe)
    second = torch.where(small, 1 / 6 - square / 120 + square**2 / 5040, (angle - angle.sin()) / (safe * angle))
    return first, second


def _identity_like(matrix: Tensor) -> Tensor:
    return torch.eye(3, dtype=matrix.dtype, device=matrix.device)
