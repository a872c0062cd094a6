"""What the loops over points and poses are made of.

Loops take the floating type of their arrays, `real`, so the same code runs in float32 and float64. Sums are
tuples that a loop carries along: the compiler keeps their entries in registers. The normal equations of a
pose's increment (rotation, translation, from the left) are packed as `sums`: H (21, upper triangle, row by
row), then the gradient (6), then whatever the caller counts.
"""

from __future__ import annotations

import math

import numpy as np

from dsac.kernels.jit import inlined, kernel

NUM_SUMS = 31
LARGEST = 1e9  # coordinates beyond it (in whatever unit) are not usable: their squares would overflow
_SAMPLE = 63  # rows from which centre and size of the scene are told
_SINGULAR = 1e-7  # smallest pivot of H scaled to unit diagonal: float32 sums do not resolve less


# ---- points ------------------------------------------------------------------------------------------


@inlined
def pose_rows(pose, real):
    """The rows of a (3, 4) pose as tuples of a type."""
    return (
        (real(pose[0, 0]), real(pose[0, 1]), real(pose[0, 2]), real(pose[0, 3])),
        (real(pose[1, 0]), real(pose[1, 1]), real(pose[1, 2]), real(pose[1, 3])),
        (real(pose[2, 0]), real(pose[2, 1]), real(pose[2, 2]), real(pose[2, 3])),
    )


@inlined
def moved(rows, x, y, z):
    """A point moved by a pose of `pose_rows`."""
    a, b, c = rows
    return (
        a[0] * x + a[1] * y + a[2] * z + a[3],
        b[0] * x + b[1] * y + b[2] * z + b[3],
        c[0] * x + c[1] * y + c[2] * z + c[3],
    )


@inlined
def turned_back(rows, x, y, z):
    """Rᵀ (x, y, z)."""
    a, b, c = rows
    return a[0] * x + b[0] * y + c[0] * z, a[1] * x + b[1] * y + c[1] * z, a[2] * x + b[2] * y + c[2] * z


@inlined
def cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@inlined
def dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@inlined
def zeros3(zero):
    return zero, zero, zero


@inlined
def zeros6(zero):
    return zero, zero, zero, zero, zero, zero


@inlined
def plus3(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@inlined
def plus6(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4], a[5] + b[5]


@inlined
def outer6(a, b):
    """The upper triangle of a bᵀ."""
    return a[0] * b[0], a[0] * b[1], a[0] * b[2], a[1] * b[1], a[1] * b[2], a[2] * b[2]


@kernel
def gather(points, inside, start, target):
    """Copy columns of `points` that are `inside` behind the first `start` of `target`, as many as fit.

    Returns how many columns `target` then has.
    """
    rows = np.empty(len(inside) + 1, np.uint32)
    found = 0
    for i in range(len(inside)):
        rows[found] = i
        found += inside[i]
    found = min(found, target.shape[1] - start)
    for axis in range(len(points)):
        source, sink = points[axis], target[axis, start:]
        for i in range(found):
            sink[i] = source[rows[i]]
    return start + found


@kernel
def median_point(scene_points, center):
    """Median of the finite among a few rows, axis by axis, 0 where there are none; returns the extent."""
    n = len(scene_points)
    tries = min(n, _SAMPLE)
    sample = np.empty(tries, np.float32)
    square = 0.0
    for axis in range(3):
        count = 0
        for t in range(tries):
            value = scene_points[(t * n) // tries, axis]
            if not abs(value) < LARGEST:
                continue
            j = count
            while j > 0 and sample[j - 1] > value:
                sample[j] = sample[j - 1]
                j -= 1
            sample[j] = value
            count += 1
        center[axis] = 0.0
        if count > 0:
            center[axis] = sample[count // 2]
            square += (sample[count - 1 - count // 10] - sample[count // 10]) ** 2
    return np.sqrt(square)


# ---- poses -------------------------------------------------------------------------------------------


@kernel
def unpacked(sums, factor, matrix):
    """Write H times a factor as a symmetric matrix (6, 6)."""
    k = 0
    for i in range(6):
        for j in range(i, 6):
            matrix[i, j] = matrix[j, i] = sums[k] * factor
            k += 1


@kernel
def solve(sums, damping, solution):
    """Write (H + damping diag H)⁻¹ g; returns gᵀ of it, or -1 where the matrix is singular or not positive.

    By Cholesky's method, scaled to unit diagonal.
    """
    factor = np.empty((6, 6))
    scale = np.empty(6)
    unpacked(sums, 1.0, factor)
    for i in range(6):
        if not factor[i, i] > 0.0:
            return -1.0
        scale[i] = 1.0 / math.sqrt(factor[i, i])
    for i in range(6):
        for j in range(i + 1):
            value = factor[i, j] * scale[i] * scale[j]
            for m in range(j):
                value -= factor[i, m] * factor[j, m]
            if i == j:
                value += damping
                if not value > _SINGULAR:
                    return -1.0
                factor[i, i] = math.sqrt(value)
            else:
                factor[i, j] = value / factor[j, j]
    gain = 0.0
    for i in range(6):
        value = sums[21 + i] * scale[i]
        for m in range(i):
            value -= factor[i, m] * solution[m]
        solution[i] = value / factor[i, i]
        gain += solution[i] * solution[i]
    for i in range(5, -1, -1):
        value = solution[i]
        for m in range(i + 1, 6):
            value -= factor[m, i] * solution[m]
        solution[i] = value / factor[i, i]
    for i in range(6):
        solution[i] *= scale[i]
    return gain


@kernel
def move(pose, step):
    """Turn `pose` by the rotation vector step[:3], then shift it by step[3:], in place."""
    square = step[0] * step[0] + step[1] * step[1] + step[2] * step[2]
    angle = math.sqrt(square)
    half = 0.5 - square / 48.0 if angle < 1e-3 else math.sin(0.5 * angle) / angle
    w = math.cos(0.5 * angle)
    x, y, z = half * step[0], half * step[1], half * step[2]
    rows = (
        (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y), 0.0),
        (2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x), 0.0),
        (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y), 0.0),
    )
    for j in range(4):
        pose[0, j], pose[1, j], pose[2, j] = moved(rows, pose[0, j], pose[1, j], pose[2, j])
    for i in range(3):
        pose[i, 3] += step[3 + i]


@kernel
def gauss_newton_step(sums, pose):
    """Move `pose` by -H⁻¹g, in place; returns the gain gᵀH⁻¹g, or -1 where H is singular."""
    step = np.empty(6)
    gain = solve(sums, 0.0, step)
    if gain >= 0.0:
        for i in range(6):
            step[i] = -step[i]
        move(pose, step)
    return gain


@kernel
def uncentre(pose, center):
    """Make a pose of points about a centre one of the points themselves, in place."""
    for i in range(3):
        pose[i, 3] -= pose[i, 0] * center[0] + pose[i, 1] * center[1] + pose[i, 2] * center[2]
