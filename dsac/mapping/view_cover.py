"""Which scene points to take such that all views show about as many.

View by view what is short is taken, and what a point that is taken already shows from much the same side is not
taken again. A place that is seen from several sides or distances thereby gives several points.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Int

from dsac.kernels.jit import kernel
from dsac.landmarks.patches import PinholeView

_LEAST_COSINE = math.cos(math.radians(20.0))  # of the angle between rays, and ...
_MOST_ZOOM = 1.35  # ... the factor between distances, from which a point looks much the same
_SPACING_PX = 4.0  # from a point that is taken, ...
_SPACING_DEPTH = 0.05  # ... at the same depth to this share


def spread_over_views(
    points: Float[np.ndarray, "N 3"], owner: Int[np.ndarray, " N"], views: list[PinholeView], count: int
) -> Bool[np.ndarray, " N"]:
    """Which points (metres, world frame), at most `count`, to take.

    `owner` is the view that a point was found in, in rising order; of a view the best come first.
    Raises: `ValueError` for points without three coordinates or an owner.
    """
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points: expected (N, 3), got {points.shape}")
    if len(views) == 0:
        return np.zeros(0, bool)
    starts = np.searchsorted(owner, np.arange(len(views) + 1))
    if len(points) != starts[-1] or len(points) != len(owner) or (np.diff(owner) < 0).any():
        raise ValueError(f"owner: expected {len(points)} rising numbers below {len(views)}")
    poses = np.stack([view.cam_from_world for view in views]).astype(np.float64)
    focal, center = (
        np.array([getattr(v, name) for v in views], np.float64) for name in ("focal_px", "center_px")
    )
    size = np.array([view.size for view in views], np.float64)
    order = np.array(_from_everywhere(len(views)))
    return _spread(np.ascontiguousarray(points, np.float64), starts, (poses, focal, center, size), order, count)


def _from_everywhere(count: int) -> list[int]:
    """0 to `count` - 1 such that any first so many are spread evenly: by the mirrored binary digits."""
    digits = max(1, (count - 1).bit_length())
    mirrored = [int(f"{i:0{digits}b}"[::-1], 2) for i in range(1 << digits)]
    return [i for i in mirrored if i < count]


@kernel
def _spread(points, starts, views, order, count):
    num_views = len(order)
    chosen, covered = np.zeros(len(points), np.bool_), np.zeros(len(points), np.bool_)
    pixels = np.empty((len(points), 2))  # of each point in its own view
    distances = np.empty(len(points))
    for i in range(num_views):
        for k in range(starts[i], starts[i + 1]):
            pixels[k, 0], pixels[k, 1], _, distances[k] = _seen(points[k], views, i)
    shown, following = np.zeros(num_views, np.int64), starts[:-1].copy()
    left, wanted = count, max(1.0, count / num_views)
    while left > 0 and (following < starts[1:]).any():
        for i in order:
            while left > 0 and shown[i] < wanted and following[i] < starts[i + 1]:
                k = following[i]
                following[i] += 1
                if covered[k]:
                    continue
                chosen[k] = True
                left -= 1
                for j in range(num_views):
                    shown[j] += _cover(k, i, j, points, views, pixels, distances, starts, covered)
        wanted *= 1.5
    return chosen


@kernel
def _cover(k, i, j, points, views, pixels, distances, starts, covered):
    """Point k of view i covers what view j found near it, if that shows it much the same: 1, else 0."""
    poses, _, _, size = views
    u, v, depth, distance = _seen(points[k], views, j)
    if not (depth > 0 and u > 0 and v > 0 and u < size[j, 0] and v < size[j, 1]):
        return 0
    if not max(distance / distances[k], distances[k] / distance) < _MOST_ZOOM:
        return 0
    cosine = 0.0
    for a in range(3):
        there, here = points[k, a], points[k, a]
        for b in range(3):
            there += poses[i, b, a] * poses[i, b, 3]
            here += poses[j, b, a] * poses[j, b, 3]
        cosine += there * here
    if not cosine > _LEAST_COSINE * distance * distances[k]:
        return 0
    for m in range(starts[j], starts[j + 1]):
        if abs(pixels[m, 0] - u) <= _SPACING_PX and abs(pixels[m, 1] - v) <= _SPACING_PX:
            covered[m] = covered[m] or abs(distances[m] - distance) < _SPACING_DEPTH * distance
    return 1


@kernel
def _seen(point, views, i):
    """Pixel, depth, and distance from the camera's centre."""
    poses, focal, center, _ = views
    pose = poses[i]
    x = pose[0, 0] * point[0] + pose[0, 1] * point[1] + pose[0, 2] * point[2] + pose[0, 3]
    y = pose[1, 0] * point[0] + pose[1, 1] * point[1] + pose[1, 2] * point[2] + pose[1, 3]
    z = pose[2, 0] * point[0] + pose[2, 1] * point[1] + pose[2, 2] * point[2] + pose[2, 3]
    u, v = x / z * focal[i, 0] + center[i, 0], y / z * focal[i, 1] + center[i, 1]
    return u, v, z, np.sqrt(x * x + y * y + z * z)
