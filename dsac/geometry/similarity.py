"""Similarity transforms: how one world lies in another, turned, moved, and in another unit of length.

points_world = world_from_map @ points_map
cam_from_world = world_from_map.pose(cam_from_map)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.geometry.pose import Pose


@dataclass(frozen=True, eq=False)
class Similarity:
    """`x_a = scale · rotation @ x_b + translation`, float64."""

    motion: Pose  # batch ()
    scale: float = 1.0  # units of a that are one of b

    def __post_init__(self) -> None:
        if self.motion.shape != ():
            raise ValueError(f"motion: expected one pose, got a batch {tuple(self.motion.shape)}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale: expected a number above 0, got {self.scale}")

    @staticmethod
    def identity() -> Similarity:
        return Similarity(Pose.identity(dtype=torch.float64))

    @staticmethod
    def of(
        translation: tuple[float, float, float],
        quaternion_wxyz: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0),
        scale: float = 1.0,
    ) -> Similarity:
        quaternion, place = (torch.tensor(x, dtype=torch.float64) for x in (quaternion_wxyz, translation))
        return Similarity(Pose.from_quaternion(quaternion, place), scale)

    @property
    def is_identity(self) -> bool:
        return self.is_same(Similarity.identity())

    def is_same(self, other: Similarity) -> bool:
        """To the last bit."""
        return self.scale == other.scale and bool((self.motion.matrix == other.motion.matrix).all())

    @property
    def quaternion_wxyz(self) -> tuple[float, float, float, float]:
        w, x, y, z = self.motion.quaternion_wxyz.tolist()
        return w, x, y, z

    @property
    def translation(self) -> tuple[float, float, float]:
        x, y, z = self.motion.translation.tolist()
        return x, y, z

    def inverse(self) -> Similarity:
        back = self.motion.inverse()
        return Similarity(Pose(back.rotation, back.translation / self.scale), 1.0 / self.scale)

    def __matmul__(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Points of b in a, float64."""
        moved = self.scale * points.to("cpu", torch.float64)
        return moved @ self.motion.rotation.mT + self.motion.translation

    def after(self, other: Similarity) -> Similarity:
        """`a_from_b.after(b_from_c)` is `a_from_c`."""
        scaled = Pose(other.motion.rotation, self.scale * other.motion.translation)
        return Similarity(self.motion @ scaled, self.scale * other.scale)

    def pose(self, cam_from_b: Pose) -> Pose:
        """`cam_from_a` of cameras (any batch), float64; the camera's own frame is then in units of a."""
        pose = cam_from_b.to(torch.float64)
        if self.is_identity:
            return pose
        # rotations to the last digit: they turn coordinates of thousands of kilometres
        pose = Pose.from_quaternion(pose.quaternion_wxyz, pose.translation)
        motion = self.motion.to(pose.translation.device)
        rotation = pose.rotation @ motion.rotation.mT
        turned = (rotation @ motion.translation[..., None])[..., 0]
        return Pose(rotation, self.scale * pose.translation - turned)

    def covariance(self, of_pose: Float[Tensor, "*batch 6 6"]) -> Float[Tensor, "*batch 6 6"]:
        """Of `pose`, from that of `cam_from_b` (rad², and units of b squared)."""
        if self.scale == 1.0:
            return of_pose
        units = of_pose.new_tensor([1.0, 1.0, 1.0, self.scale, self.scale, self.scale])
        return of_pose * units * units[:, None]
