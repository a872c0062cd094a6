"""How far a pose can be trusted, in two passes over the points: the twin of `dsac/ransac/uncertainty.py`.

`points` (5, N) and poses are those of `poses.py`. All sums are float64: differences of the sums matter.
"""

from __future__ import annotations

import math

import numpy as np

from dsac.kernels.jit import kernel
from dsac.kernels.twins.backward import force, robust_slopes, second_derivative
from dsac.kernels.twins.math import NUM_SUMS, cross, pose_rows, unpacked
from dsac.kernels.twins.poses import pixel_slopes, refine_poses, seen

_MIN_EIGENVALUE = 1e-9  # of the largest, of a matrix scaled to unit diagonal: less is not determined
_MAX_SWEEPS = 20


@kernel
def pose_trust(poses, points, weights, focal, threshold, iterations, chance, rules, inliers, covariance):
    """Refine a pose (1, 3, 4) in place, fill inliers (1, N) and covariance (6, 6); its confidence and success.

    `chance` is the probability that a point of a wrong pose is an inlier.
    """
    second, apart, together = np.empty((1, 6, 6)), np.empty((6, 6)), np.empty((6, 6))
    if iterations > 0:
        refine_poses(poses, points, weights, focal, threshold, iterations, inliers, second)
    tiles, depth = _scatter(
        poses[0], points.astype(np.float64), weights.astype(np.float64), focal, threshold, rules.tiles,
        second[0], apart, together, inliers[0],
    )  # fmt: skip
    count = used = 0
    for i in range(len(weights)):
        count += inliers[0, i]
        used += weights[i] > 0.0
    known = _sandwich(second[0], apart, together, count, tiles, covariance)
    expected = 4 + used * chance
    x = max(count - expected, 0.0) / (rules.chance_factor * expected)
    turn, shift = 0.0, 0.0
    for k in range(3):
        turn += covariance[k, k]
        shift += covariance[3 + k, 3 + k]
    spread = turn / rules.angle**2 + shift / max((rules.distance * depth) ** 2, 1e-30)
    return x * x / (1 + x * x) / (1 + spread), known and count > rules.least_factor * expected


@kernel
def _sandwich(second, apart, together, count, tiles, covariance):
    """The covariance and whether it is known; if not, infinite on the diagonal."""
    inverse, whitening = np.empty((6, 6)), np.empty((6, 6))
    known = _guarded_inverse(second, inverse)
    _guarded_inverse(apart, whitening)
    apart_freed, together_freed = count / max(count - 3, 1), tiles / max(tiles - 3, 1)
    effect = 0.0
    for k in range(6):
        for m in range(6):
            effect += whitening[k, m] * together[k, m]
    size = apart_freed * max(together_freed / apart_freed * effect / 6, 1.0) if count > 0 else 0.0
    half = np.zeros((6, 6))
    for k in range(6):
        for m in range(6):
            for n in range(6):
                half[k, m] += inverse[k, n] * apart[n, m]
    for k in range(6):
        for m in range(6):
            value = 0.0
            for n in range(6):
                value += half[k, n] * inverse[n, m]
            covariance[k, m] = size * value if known else (np.inf if k == m else 0.0)
    return known


@kernel
def _guarded_inverse(matrix, inverse):
    """Inverse of a symmetric matrix, zero where it is not safely positive definite; returns whether it is."""
    scaled, vectors, scale = np.empty((6, 6)), np.eye(6), np.empty(6)
    for k in range(6):
        scale[k] = 1.0 / math.sqrt(matrix[k, k]) if matrix[k, k] > 0.0 and matrix[k, k] < np.inf else 1.0
    for k in range(6):
        for m in range(6):
            value = matrix[k, m] * scale[k] * scale[m]
            scaled[k, m] = value if abs(value) < np.inf else 0.0
    _diagonalise(scaled, vectors)
    low, high = scaled[0, 0], scaled[0, 0]
    for k in range(1, 6):
        low, high = min(low, scaled[k, k]), max(high, scaled[k, k])
    inverse[:] = 0.0
    if not low > _MIN_EIGENVALUE * max(high, 1e-300):
        return False
    for k in range(6):
        for m in range(6):
            for n in range(6):
                inverse[k, m] += vectors[k, n] * vectors[m, n] / scaled[n, n]
            inverse[k, m] *= scale[k] * scale[m]
    return True


@kernel
def _diagonalise(matrix, vectors):
    """Jacobi's method (Golub & Van Loan, 8.5): turn axes two by two until the diagonal is all there is."""
    for _ in range(_MAX_SWEEPS):
        beside = along = 0.0
        for k in range(6):
            along += matrix[k, k] ** 2
            for m in range(k):
                beside += matrix[k, m] ** 2
        if not beside > 1e-30 * along:
            return
        for k in range(5):
            for m in range(k + 1, 6):
                if matrix[k, m] == 0.0:
                    continue
                ratio = 0.5 * (matrix[m, m] - matrix[k, k]) / matrix[k, m]
                tangent = 1.0 / (abs(ratio) + math.sqrt(1.0 + ratio * ratio))
                tangent = tangent if ratio >= 0.0 else -tangent
                c = 1.0 / math.sqrt(1.0 + tangent * tangent)
                s = tangent * c
                for n in range(6):
                    a, b = matrix[n, k], matrix[n, m]
                    matrix[n, k], matrix[n, m] = c * a - s * b, s * a + c * b
                for n in range(6):
                    a, b = matrix[k, n], matrix[m, n]
                    matrix[k, n], matrix[m, n] = c * a - s * b, s * a + c * b
                    a, b = vectors[n, k], vectors[n, m]
                    vectors[n, k], vectors[n, m] = c * a - s * b, s * a + c * b


@kernel
def _scatter(pose, points, weights, focal, threshold, tiles, second, apart, together, inliers):
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
        if not (front and weights[i] > 0.0 and square < np.inf):  # numbers that are not would have no tile
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
    """Left, top and longer side of the box of the finite pixels of positive weight."""
    left = top = np.inf
    right = bottom = -np.inf
    for i in range(points.shape[1]):
        if weights[i] > 0.0 and abs(points[3, i]) + abs(points[4, i]) < np.inf:
            left, right = min(left, points[3, i]), max(right, points[3, i])
            top, bottom = min(top, points[4, i]), max(bottom, points[4, i])
    return left, top, max(right - left, bottom - top, 1e-6)
