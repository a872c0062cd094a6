"""What mapping asks of a regressor that is being trained; `head_training` and `network_training` make them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dsac.mapping.losses import BatchLoss
from dsac.mapping.scene_shape import SceneShape
from dsac.mapping.training import Parts
from dsac.networks.encoder import Encoder
from dsac.networks.heads import Head


@dataclass(frozen=True)
class Learner:
    """A regressor in training."""

    encoder: Encoder  # a `SceneNetwork` when it is trained too
    head: Head
    shape: SceneShape
    parts: Parts  # what a checkpoint keeps
    update: Callable[[int, float], BatchLoss]  # one step, given its number and the progress
    evaluate: Callable[[], BatchLoss]  # on a batch, without learning from it
