"""How wrong a pose is: the losses of end-to-end training.

pose_loss(cam_from_world, truth) -> one value per pose
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.geometry import Pose
from dsac.kernels import full_precision


@runtime_checkable
class PoseLoss(Protocol):
    def __call__(self, cam_from_world: Pose, truth: Pose) -> Tensor:
        """Loss `(...)` of poses of that batch against truths that broadcast with it."""
        ...


@dataclass(frozen=True)
class MaxError:
    """max(rotation error in degrees, error of the camera centre in centimetres), DSAC."""

    soft_clamp: float = math.inf

    def __call__(self, cam_from_world: Pose, truth: Pose) -> Float[Tensor, "*batch"]:
        rotation_deg, metres = _errors(cam_from_world, truth)
        return softly_clamped(torch.maximum(rotation_deg, 100 * metres), self.soft_clamp)


@dataclass(frozen=True)
class WeightedError:
    """Rotation error in degrees + `per_metre` times the error of the camera centre in metres, DSAC*."""

    per_metre: float = 100.0
    soft_clamp: float = 100.0

    def __call__(self, cam_from_world: Pose, truth: Pose) -> Float[Tensor, "*batch"]:
        rotation_deg, metres = _errors(cam_from_world, truth)
        return softly_clamped(rotation_deg + self.per_metre * metres, self.soft_clamp)


def _errors(cam_from_world: Pose, truth: Pose) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Of the rotation in degrees and of the camera centre in metres, whatever autocast is on."""
    with full_precision(cam_from_world.translation.device.type):
        return cam_from_world.rotation_error_deg(truth), cam_from_world.center_distance(truth)


def softly_clamped(loss: Float[Tensor, "*batch"], limit: float) -> Float[Tensor, "*batch"]:
    """`loss` up to `limit`, sqrt(limit · loss) above: what is hopeless does not rule the gradient."""
    if math.isinf(limit):
        return loss
    return torch.where(loss <= limit, loss, (limit * loss.clamp_min(limit)).sqrt())
