"""Which scene points to take such that all views show about as many.

View by view what is short is taken, and what a point that is taken already shows from much the same side is not
taken again. A place that is seen from several sides or distances thereby gives several points.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Int

from dsac.landmarks.patches import PinholeView, SeenPoints, Visibility

_MUCH_THE_SAME = Visibility(margin_px=0.0, max_angle=math.radians(20.0), max_zoom=1.35)
_SPACING_PX = 4.0  # from a point that is taken, ...
_SPACING_DEPTH = 0.05  # ... at the same depth to this share


def spread_over_views(
    points: Float[np.ndarray, "N 3"], owner: Int[np.ndarray, " N"], views: list[PinholeView], count: int
) -> Bool[np.ndarray, " N"]:
    """Which points, at most `count`, to take so that the views show about as many each.

    `owner` is the view that a point was found in; of a view the first come first.
    """
    from dsac.landmarks.patches_numba import visible_patches  # Numba, which takes a second to load

    seen = _as_seen(points, owner, views)
    chosen = np.zeros(len(points), bool)
    left, wanted = min(count, len(points)), max(1.0, count / len(views))
    while left > 0:
        before = left
        for i in _from_everywhere(len(views)):
            known = np.flatnonzero(chosen)
            taken = SeenPoints(*(values[known] for values in seen))
            shown = known[visible_patches(taken, views[i], _MUCH_THE_SAME, len(known))]
            short = int(wanted) - len(shown)
            if short <= 0:
                continue
            own = np.flatnonzero((owner == i) & ~chosen)
            (pixels, depths), (there, how_far) = (views[i].project(points[rows]) for rows in (own, shown))
            same = (np.abs(pixels[:, None] - there).max(-1) <= _SPACING_PX) & (
                np.abs(depths[:, None] - how_far) < _SPACING_DEPTH * depths[:, None]
            )
            new = own[~same.any(1)][: min(short, left)]
            chosen[new] = True
            left -= len(new)
        if left == before and wanted > len(points):
            break
        wanted *= 1.5
    return chosen


def _as_seen(
    points: Float[np.ndarray, "N 3"], owner: Int[np.ndarray, " N"], views: list[PinholeView]
) -> SeenPoints:
    poses = np.stack([view.cam_from_world for view in views])[owner]
    rays = points + np.einsum("nji,nj->ni", poses[:, :, :3], poses[:, :, 3])
    depths = np.einsum("ni,ni->n", rays, poses[:, 2, :3])
    focal = np.array([view.focal_px[0] for view in views])[owner]
    return SeenPoints(points, rays, np.zeros((len(points), 2, 3)), depths / focal)


def _from_everywhere(count: int) -> list[int]:
    """0 to `count` - 1 such that any first so many are spread evenly: by the mirrored binary digits."""
    digits = max(1, (count - 1).bit_length())
    mirrored = [int(f"{i:0{digits}b}"[::-1], 2) for i in range(1 << digits)]
    return [i for i in mirrored if i < count]
