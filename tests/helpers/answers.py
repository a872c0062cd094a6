"""What a localizer answered, in one form for one photo and for several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dsac.geometry import Camera, Pose
from dsac.localizer import Localizer


@dataclass(frozen=True, eq=False)
class Answer:
    """Of B photos, float64 on the CPU."""

    cam_from_world: Pose  # batch (B,)
    confidence: Tensor  # (B,)
    success: Tensor  # (B,)


def asked(localizer: Localizer, image: Tensor | np.ndarray, camera: Camera) -> Answer:
    """Localize one photo (B = 1) or a batch of them."""
    answer = localizer.localize(image, camera)
    pose = answer.cam_from_world.to("cpu").to(torch.float64)
    return Answer(
        Pose(pose.rotation.reshape(-1, 3, 3), pose.translation.reshape(-1, 3)),
        answer.confidence.cpu().double().reshape(-1),
        answer.success.cpu().reshape(-1),
    )
