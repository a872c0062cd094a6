"""The score network of DSAC: how good is a pose, seen from the image of its reprojection errors.

3x3 convolutions 32, 32/2, 64, 64/2, 128, 128/2, 256, 256/2, 512, 512/2 (/2 = stride), the mean over what is
left of the image, then fully connected 1024, 1024, 1: six million parameters on 40x40 errors clamped at 100 px
(Brachmann et al., CVPR 2017). It is first trained to regress -10 times the loss of noisy poses, then with the
rest of the pipeline. Unlike the soft inlier count it sees where in the image the errors lie, and so tends to
learn the scene by heart (DSAC++).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

GRID = (40, 40)  # errors the network sees; images of another size are sampled there


@dataclass(frozen=True)
class ScoreArchitecture:
    """Everything needed to build a score network; the defaults are the paper's."""

    max_error: float | int = 100.0
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    hidden: int = 1024

    def __post_init__(self) -> None:
        if not (type(self.max_error) in (int, float) and 0 < self.max_error < math.inf):
            raise ValueError(f"max_error: expected more than 0, got {self.max_error!r}")
        numbers = (*self.widths, self.hidden)
        if not (1 <= len(self.widths) <= 10 and all(type(n) is int and 1 <= n <= 65_536 for n in numbers)):
            raise ValueError(
                f"widths, hidden: expected whole numbers to 65536, got {self.widths}, {self.hidden!r}"
            )

    @staticmethod
    def from_json(fields: dict[str, Any]) -> ScoreArchitecture:
        """From what `dataclasses.asdict` made. Raises: `KeyError`, `TypeError` when it is something else."""
        return ScoreArchitecture(fields["max_error"], tuple(fields["widths"]), fields["hidden"])


class ScoreNetwork(nn.Module):
    """Error images `(B,H,h,w)` of any size to scores `(B,H)`."""

    def __init__(self, architecture: ScoreArchitecture = ScoreArchitecture()) -> None:  # noqa: B008 -- frozen
        super().__init__()
        self.architecture = architecture
        layers: list[nn.Module] = []
        channels = 1
        for width in architecture.widths:
            for stride in (1, 2):
                layers += [nn.Conv2d(channels, width, 3, stride, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(channels, architecture.hidden),
            nn.ReLU(),
            nn.Linear(architecture.hidden, architecture.hidden),
            nn.ReLU(),
            nn.Linear(architecture.hidden, 1),
        )

    def forward(self, errors: Float[Tensor, "B H h w"]) -> Float[Tensor, "B H"]:
        """Scores; errors are clamped at `max_error` and scaled to [-1, 1]."""
        limit = self.architecture.max_error
        images = errors.flatten(0, 1)[:, None].clamp(max=limit)
        images = nn.functional.interpolate(images, GRID, mode="nearest-exact")
        features = self.features(images / (0.5 * limit) - 1).mean((-2, -1))
        return self.head(features).reshape(errors.shape[:2])
