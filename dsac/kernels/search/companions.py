"""The likeliest companions of a seed: which points probably are right, if the seed is.

Points at depth z that are d apart in the scene, seen delta apart, have d = z delta when the line between them
is parallel to the image; slanted lines are longer. Wrong points lie anywhere, mostly much farther apart. So the
likeliest companions of a seed have the smallest apparent depth d / delta.
"""

from __future__ import annotations

import math

import numpy as np

from dsac.kernels.jit import kernel

LEVELS = 8  # bounds of the apparent depth, 1.57 apart: they reach down to a 24th of the largest
_SQUARED_BOUNDS = tuple((2.0 * 2.0 ** (0.65 * (k + 1 - LEVELS))) ** 2 for k in range(LEVELS))  # in depths


@kernel
def depth_bounds(subset, extent, largest_depth, bounds):
    """Squares of growing bounds of the apparent depth, the last one beyond any that right points have.

    Unless it is known, depths are taken to be at most the extent of the scene, or as much more as the camera
    must stand back to see all of it in its image.
    """
    if largest_depth <= 0.0:
        left = right = subset[3, 0]
        top = bottom = subset[4, 0]
        for i in range(min(subset.shape[1], 64)):
            left, right = min(left, subset[3, i]), max(right, subset[3, i])
            top, bottom = min(top, subset[4, i]), max(bottom, subset[4, i])
        view = math.sqrt((right - left) ** 2 + (bottom - top) ** 2)
        largest_depth = extent / min(max(view, 1e-6), 1.0)
    for k in range(LEVELS):
        bounds[k] = _SQUARED_BOUNDS[k] * largest_depth**2


@kernel
def likeliest_companions(points, seed, count, radius, share, bounds, depths):
    """Squared apparent depths of the points beside a seed, infinite where they are not seen within `radius`.

    Its likeliest companions are those below the first of the `bounds` that leaves the `share` of them. Returns
    how many are within the radius, how many are below the bound, how many below the next one, and the bound.
    """
    zero, one = np.float32(0.0), np.float32(1.0)
    limit = np.float32(radius * radius)
    b0, b1, b2, b3 = bounds[0], bounds[1], bounds[2], bounds[3]
    b4, b5, b6, b7 = bounds[4], bounds[5], bounds[6], bounds[7]
    px, py, pz, rx, ry = points[0], points[1], points[2], points[3], points[4]
    a, b, c, x, y = px[seed], py[seed], pz[seed], rx[seed], ry[seed]
    within = n0 = n1 = n2 = n3 = n4 = n5 = n6 = n7 = zero
    for i in range(count):
        dx, dy = rx[i] - x, ry[i] - y
        da, db, dc = px[i] - a, py[i] - b, pz[i] - c
        seen = dx * dx + dy * dy
        depth = (da * da + db * db + dc * dc) / seen
        inside = seen < limit
        depth = depth if inside else np.float32(np.inf)
        depths[i] = depth
        within += one if inside else zero
        n0 += one if depth < b0 else zero
        n1 += one if depth < b1 else zero
        n2 += one if depth < b2 else zero
        n3 += one if depth < b3 else zero
        n4 += one if depth < b4 else zero
        n5 += one if depth < b5 else zero
        n6 += one if depth < b6 else zero
        n7 += one if depth < b7 else zero
    enough = max(np.float32(share) * within, np.float32(4.0))
    if n0 >= enough:
        return within, n0, n1, b0
    if n1 >= enough:
        return within, n1, n2, b1
    if n2 >= enough:
        return within, n2, n3, b2
    if n3 >= enough:
        return within, n3, n4, b3
    if n4 >= enough:
        return within, n4, n5, b4
    if n5 >= enough:
        return within, n5, n6, b5
    if n6 >= enough:
        return within, n6, n7, b6
    return within, n7, n7, b7


@kernel
def apparent_depth(points, i, j):
    """Of two points, squared."""
    dx, dy = points[3, i] - points[3, j], points[4, i] - points[4, j]
    da, db, dc = points[0, i] - points[0, j], points[1, i] - points[1, j], points[2, i] - points[2, j]
    return (da * da + db * db + dc * dc) / (dx * dx + dy * dy)
