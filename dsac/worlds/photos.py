"""Photos in the map's present world."""

from __future__ import annotations

from dsac.datasets import Frames
from dsac.errors import DatasetError
from dsac.geometry import Pose
from dsac.localizer import Localizer


def localized(localizer: Localizer, frames: Frames) -> dict[str, Pose]:
    """`cam_from_world` by name, of those that are found; what cannot be read is left out."""
    found = {}
    for i in range(len(frames)):
        try:
            (answer,) = localizer.localize_frames(frames[i : i + 1])
        except DatasetError:
            continue
        if answer.success:
            found[answer.name] = answer.cam_from_world.to("cpu")
    return found
