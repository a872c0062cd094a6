"""Rigid motions SE(3), batched.

A `Pose` is always held in a name `a_from_b`, so that neighbours cancel:

    points_cam   = cam_from_world @ points_world
    cam_from_rig = cam_from_world @ world_from_rig

Increments are 6-vectors (rotation in radians, translation in metres) applied from the left:
`Pose.exp(increment) @ cam_from_world`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import roma
import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Pose:
    """A rigid motion `x_a = rotation @ x_b + translation`, or a batch of them."""

    rotation: Float[Tensor, "*batch 3 3"]
    translation: Float[Tensor, "*batch 3"]

    def __post_init__(self) -> None:
        if self.rotation.shape[-2:] != (3, 3):
            raise ValueError(f"rotation: expected (..., 3, 3), got {tuple(self.rotation.shape)}")
        if self.translation.shape != self.rotation.shape[:-1]:
            raise ValueError(
                f"translation: expected {tuple(self.rotation.shape[:-1])} beside rotation "
                f"{tuple(self.rotation.shape)}, got {tuple(self.translation.shape)}"
            )

    # ---- construction ---------------------------------------------------------------------------

    @staticmethod
    def identity(*batch: int, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Pose:
        eye = torch.eye(3, dtype=dtype, device=device).expand(*batch, 3, 3)
        return Pose(eye, torch.zeros(*batch, 3, dtype=dtype, device=device))

    @staticmethod
    def from_matrix(matrix: Float[Tensor, "*batch rows 4"]) -> Pose:
        """From `(..., 3, 4)` or `(..., 4, 4)` matrices; the rotation part is taken as it is."""
        return Pose(matrix[..., :3, :3], matrix[..., :3, 3])

    @staticmethod
    def from_quaternion(
        quaternion_wxyz: Float[Tensor, "*batch 4"], translation: Float[Tensor, "*batch 3"]
    ) -> Pose:
        """From quaternions in COLMAP's order (w, x, y, z); normalised here."""
        unit = quaternion_wxyz / quaternion_wxyz.norm(dim=-1, keepdim=True)
        return Pose(roma.unitquat_to_rotmat(unit.roll(-1, dims=-1)), translation)

    @staticmethod
    def exp(increment: Float[Tensor, "*batch 6"]) -> Pose:
        """Exponential map of SE(3): `increment` is (rotation vector, translation part of the twist)."""
        vector, velocity = increment[..., :3], increment[..., 3:]
        return Pose(roma.rotvec_to_rotmat(vector), (_left_jacobian(vector) @ velocity[..., None])[..., 0])

    # ---- what it is ------------------------------------------------------------------------------

    @property
    def shape(self) -> torch.Size:
        """The batch shape, `()` for a single pose."""
        return self.translation.shape[:-1]

    @property
    def matrix(self) -> Float[Tensor, "*batch 4 4"]:
        top = torch.cat([self.rotation, self.translation[..., None]], dim=-1)
        bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*self.shape, 1, 4)
        return torch.cat([top, bottom], dim=-2)

    @property
    def quaternion_wxyz(self) -> Float[Tensor, "*batch 4"]:
        """Unit quaternion (w, x, y, z) with w >= 0."""
        wxyz = roma.rotmat_to_unitquat(self.rotation).roll(1, dims=-1)
        return torch.where(wxyz[..., :1] < 0, -wxyz, wxyz)

    @property
    def center(self) -> Float[Tensor, "*batch 3"]:
        """Origin of frame a in frame b: of a `cam_from_world`, where the camera stands in the world."""
        return -(self.rotation.mT @ self.translation[..., None])[..., 0]

    def log(self) -> Float[Tensor, "*batch 6"]:
        """Inverse of `exp`, for rotations by less than pi."""
        vector = roma.rotmat_to_rotvec(self.rotation)
        velocity = torch.linalg.solve(_left_jacobian(vector), self.translation[..., None])[..., 0]
        return torch.cat([vector, velocity], dim=-1)

    # ---- algebra ---------------------------------------------------------------------------------

    def inverse(self) -> Pose:
        return Pose(self.rotation.mT, self.center)

    @overload
    def __matmul__(self, other: Pose) -> Pose: ...
    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    def __matmul__(self, other: Pose | Tensor) -> Pose | Tensor:
        """Compose with a pose, or move points `(..., N, 3)`.

        The dimensions before N broadcast with the batch of poses: a pose `(B, H)` moves points
        `(B, 1, N, 3)` into `(B, H, N, 3)`.
        """
        if isinstance(other, Pose):
            moved = (self.rotation @ other.translation[..., None])[..., 0]
            return Pose(self.rotation @ other.rotation, moved + self.translation)
        return other @ self.rotation.mT + self.translation[..., None, :]

    # ---- like a tensor ---------------------------------------------------------------------------

    def __getitem__(self, index) -> Pose:
        """Index the batch dimensions."""
        if not isinstance(index, tuple):
            index = (index,)
        return Pose(
            self.rotation[(*index, Ellipsis, slice(None), slice(None))],
            self.translation[(*index, Ellipsis, slice(None))],
        )

    def __len__(self) -> int:
        return self.translation.shape[0] if self.shape else 0

    def to(self, *args, **kwargs) -> Pose:
        return Pose(self.rotation.to(*args, **kwargs), self.translation.to(*args, **kwargs))

    def detach(self) -> Pose:
        return Pose(self.rotation.detach(), self.translation.detach())

    def expand(self, *batch: int) -> Pose:
        return Pose(self.rotation.expand(*batch, 3, 3), self.translation.expand(*batch, 3))

    def reshape(self, *batch: int) -> Pose:
        return Pose(self.rotation.reshape(*batch, 3, 3), self.translation.reshape(*batch, 3))

    @staticmethod
    def stack(poses: list[Pose], dim: int = 0) -> Pose:
        """Stack along a new batch dimension, counted from the front."""
        return Pose(
            torch.stack([p.rotation for p in poses], dim),
            torch.stack([p.translation for p in poses], dim),
        )

    # ---- distances -------------------------------------------------------------------------------

    def rotation_error_deg(self, truth: Pose) -> Float[Tensor, "*batch"]:
        """Angle between the two rotations, in degrees."""
        return torch.rad2deg(rotation_angle(self.rotation.mT @ truth.rotation))

    def center_distance(self, truth: Pose) -> Float[Tensor, "*batch"]:
        """Distance between the two camera centres, in metres."""
        return (self.center - truth.center).norm(dim=-1)


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


def _left_jacobian(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Left Jacobian of SO(3), which couples rotation and translation in the exponential of SE(3).

    J = 1 + (1 - cos a)/a² [v] + (a - sin a)/a³ [v]²; below 0.01 rad by series, exact to 1e-16 there.
    """
    square = (vector * vector).sum(-1)[..., None, None]
    small = square < 1e-4
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    first = torch.where(small, 0.5 - square / 24 + square**2 / 720, (1 - angle.cos()) / safe)
    second = torch.where(small, 1 / 6 - square / 120 + square**2 / 5040, (angle - angle.sin()) / (safe * angle))
    cross = skew(vector)
    return torch.eye(3, dtype=vector.dtype, device=vector.device) + first * cross + second * cross @ cross
