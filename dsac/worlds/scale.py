"""A world in metres, and else as it was: by a factor, or a distance that somebody measured."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from dsac.atlas import photos_for
from dsac.errors import DatasetError
from dsac.geometry import Pose, Similarity
from dsac.localizer import Localizer
from dsac.worlds.alignment import Alignment

_MOST_SIGMA = 0.05  # of the distance: it says little then


def by_scale(factor: float) -> Alignment:
    """Lengths become so many times as large, and metres. Raises: `ValueError` for no number above 0."""
    if not 0 < factor < math.inf:
        raise ValueError(f"scale: expected a number above 0, got {factor}")
    return Alignment(Similarity(Pose.identity(dtype=torch.float64), factor), True)


def by_distance(localizer: Localizer, photos: tuple[str, str], metres: float) -> Alignment:
    """By two photos whose cameras are so far apart.

    Raises: `DatasetError` where the map does not localize both, or knows their distance to no better than 5 %;
    `ValueError` for no number above 0.
    """
    if not 0 < metres < math.inf:
        raise ValueError(f"distance: expected a number above 0, got {metres}")
    answers = []
    for photo in photos:
        frames = photos_for(localizer.scene_map, photo)
        (answer,) = localizer.localize_frames(frames)
        if not answer.success:
            raise DatasetError(f"{photo}: expected a photo that the map localizes, it does not")
        answers.append(answer)
    first, second = answers
    distance = first.cam_from_world.center_distance(second.cam_from_world).item()
    sigma = math.hypot(first.position_sigma_m.item(), second.position_sigma_m.item())
    if not sigma < _MOST_SIGMA * distance:
        names = " and ".join(Path(photo).name for photo in photos)
        raise DatasetError(
            f"{names}: expected photos from farther apart, the map knows their distance to ± "
            f"{100 * sigma / max(distance, 1e-9):.0f} % only"
        )
    found = by_scale(metres / distance)
    return Alignment(found.world_from_this, True, accuracy=f"± {100 * sigma / distance:.2g} % of lengths")
