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

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.geometry.rotation import (
    left_jacobian,
    quaternion_from_rotation,
    rotation_angle,
    rotation_from_quaternion,
    rotation_from_vector,
    vector_from_rotation,
)


@dataclass(frozen=True, eq=False)
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
        return Pose(rotation_from_quaternion(quaternion_wxyz), translation)

    @staticmethod
    def exp(increment: Float[Tensor, "*batch 6"]) -> Pose:
        """Exponential map of SE(3): `increment` is (rotation vector, translation part of the twist)."""
        vector, velocity = increment[..., :3], increment[..., 3:]
        return Pose(rotation_from_vector(vector), (left_jacobian(vector) @ velocity[..., None])[..., 0])

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
        return quaternion_from_rotation(self.rotation)

    @property
    def center(self) -> Float[Tensor, "*batch 3"]:
        """Origin of frame a in frame b: of a `cam_from_world`, where the camera stands in the world."""
        return -(self.rotation.mT @ self.translation[..., None])[..., 0]

    def log(self) -> Float[Tensor, "*batch 6"]:
        """Inverse of `exp`, for rotations by less than pi."""
        vector = vector_from_rotation(self.rotation)
        velocity = torch.linalg.solve(left_jacobian(vector), self.translation[..., None])[..., 0]
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

    @staticmethod
    def cat(poses: list[Pose]) -> Pose:
        """Concatenate along the first batch dimension."""
        return Pose(torch.cat([p.rotation for p in poses]), torch.cat([p.translation for p in poses]))

    # ---- distances -------------------------------------------------------------------------------

    def rotation_error_deg(self, truth: Pose) -> Float[Tensor, "*batch"]:
        """Angle between the two rotations, in degrees."""
        return torch.rad2deg(rotation_angle(self.rotation.mT @ truth.rotation))

    def center_distance(self, truth: Pose) -> Float[Tensor, "*batch"]:
        """Distance between the two camera centres, in metres."""
        return (self.center - truth.center).norm(dim=-1)
