"""What a pose's uncertainty is made of, in two passes over the points: see `dsac/ransac/uncertainty.py`.

`points` (5, N) and poses are those of `cpu_poses.py`, all in float64: differences of the sums matter.
"""

from __future__ import annotations

import numpy as np

from dsac.kernels.cpu_backward import force, robust_slopes, second_derivative
from dsac.kernels.cpu_jit import kernel
from dsac.kernels.cpu_math import NUM_SUMS, cross, pose_rows, unpacked
from dsac.kernels.cpu_poses import pixel_slopes, seen


@kernel
def pose_scatter(pose, points, weights, focal, threshold, tiles, second, apart, together, inliers):
    """Fill the four arrays (6, 6), (6, 6), (6, 6) and (N,) of a pose (3, 4).

    Returns how many tiles hold inliers and the median depth of these, 1 where there are none.
    """
    real = points.dtype.type
    sums = np.empty(NUM_SUMS)
    second_derivative(pose, points, weights, focal, threshold, sums)
    unpacked(sums, 1.0, second)
    left, top, size = _box(points, weights)
    rows = pose_rows(pose, real)
    fx, fy, limit = real(focal[0]), real(focal[1]), real(threshold * threshold)
    pulls, held = np.zeros((tiles * tiles, 6)), np.zeros(tiles * tiles, np.bool_)
    depths, found = np.empty(points.shape[1]), 0
    pull = np.empty(6)
    apart[:] = 0.0
    for i in range(points.shape[1]):
        x, y, z, u, v = points[0, i], points[1, i], points[2, i], points[3, i], points[4, i]
        c, du, dv, inverse, front = seen(rows, fx, fy, x, y, z, u, v, real)
        square = du * du + dv * dv
        inliers[i] = front and square < limit and weights[i] > 0.0
        if not (front and weights[i] > 0.0):
            continue
        column, row = int(tiles * (u - left) / size), int(tiles * (v - top) / size)
        tile = tiles * min(row, tiles - 1) + min(column, tiles - 1)
        if inliers[i]:
            held[tile] = True
            depths[found] = c[2]
            found += 1
        p = weights[i] * robust_slopes(square, limit, front, real)[0]
        ix, iy, jx, jy = pixel_slopes(fx, fy, u + du, v + dv, inverse)
        f = force(ix, iy, jx, jy, p * du, p * dv)
        pull[0], pull[1], pull[2] = cross(c, f)
        pull[3], pull[4], pull[5] = f
        for k in range(6):
            pulls[tile, k] += pull[k]
            for m in range(6):
                apart[k, m] += pull[k] * pull[m]
    together[:] = 0.0
    for tile in range(len(pulls)):
        for k in range(6):
            for m in range(6):
                together[k, m] += pulls[tile, k] * pulls[tile, m]
    depth = np.sort(depths[:found])[(found - 1) // 2] if found > 0 else 1.0
    return held.sum(), depth


@kernel
def _box(points, weights):
    """Left, top and longer side of the box of the pixels of positive weight."""
    left = top = np.inf
    right = bottom = -np.inf
    for i in range(points.shape[1]):
        if weights[i] > 0.0:
            left, right = min(left, points[3, i]), max(right, points[3, i])
            top, bottom = min(top, points[4, i]), max(bottom, points[4, i])
    return left, top, max(right - left, bottom - top, 1e-6)
