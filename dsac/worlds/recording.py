"""By another recording of the place: its frames are localized in the map, and their poses tell its world."""

from __future__ import annotations

import numpy as np
import torch

from dsac.datasets import Scene
from dsac.errors import DatasetError
from dsac.geometry import GeoPoint, Pose, fit_cameras
from dsac.localizer import Localizer
from dsac.worlds.alignment import Alignment
from dsac.worlds.photos import localized

_MOST_FRAMES = 60
_LEAST_FRAMES = 3


def by_recording(
    localizer: Localizer, scene: Scene, *, rigid: bool = False, origin: GeoPoint | None = None
) -> Alignment:
    """By the scene's mapping frames, sixty of them spread over all: most that are found have to agree.

    Places and rotations count, so that frames along a line are enough. `origin`: where the scene's is on Earth.
    Raises: `DatasetError` where too few are found, or they do not agree on one transform.
    """
    count = len(scene.mapping)
    rows = np.unique(np.linspace(0, count - 1, min(count, _MOST_FRAMES)).round().astype(int))
    frames = scene.mapping[rows]
    if frames.cam_from_world is None:
        raise DatasetError(f"{scene.path}: expected frames with poses, found none")
    found = localized(localizer, frames)
    if len(found) < _LEAST_FRAMES:
        raise DatasetError(
            f"{scene.path}: expected {_LEAST_FRAMES} frames or more that the map localizes, found {len(found)} "
            f"of {len(frames)}: it shows another place, or from elsewhere"
        )
    there = frames.cam_from_world[torch.tensor([frames.names.index(name) for name in found])]
    try:
        fit = fit_cameras(Pose.stack(list(found.values())), there, rigid=rigid)
    except ValueError as error:
        raise DatasetError(
            f"{scene.path}: the {len(found)} frames that the map localizes agree on no transform ({error})"
        ) from None
    if 2 * int(fit.agree.sum()) <= len(found):
        raise DatasetError(
            f"{scene.path}: expected most of its {len(found)} frames that the map localizes to agree on one "
            f"transform, {int(fit.agree.sum())} do"
        )
    return Alignment(fit.a_from_b, scene.metric, origin, list(found), fit.residuals, fit.agree)
