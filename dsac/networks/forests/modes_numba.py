"""Modes of leaves and pixels, compiled: same names and arguments as in `modes.py`, which says what they are."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, Int32, Int64

from dsac.kernels.jit import kernel
from dsac.networks.forests.modes import (
    CLIMBS,
    LEAST_SHARE,
    NUM_MODES,
    SMALLEST,
    STARTS,
    Modes,
    check_leaves,
    check_merge,
)


def leaf_modes(points: Float32[np.ndarray, "N 3"], starts: Int64[np.ndarray, " S"], bandwidth: float) -> Modes:
    """As in `modes.py`. Raises: `ValueError` likewise."""
    check_leaves(points, starts)
    found = Modes.none(len(starts) - 1, NUM_MODES)
    _leaf_modes(np.ascontiguousarray(points), np.ascontiguousarray(starts), float(bandwidth), *found)
    return found


def merged(leaves: Int32[np.ndarray, "T N"], modes: Modes, count: int, bandwidth: float) -> Modes:
    """As in `modes.py`. Raises: `ValueError` likewise."""
    check_merge(leaves, modes)
    found = Modes.none(leaves.shape[1], count)
    _merge(np.ascontiguousarray(leaves), *map(np.ascontiguousarray, modes), float(bandwidth), *found)
    return found


@kernel
def _leaf_modes(all_points, starts, bandwidth, points, covariance, probability):
    fall, reach, least = -0.5 / bandwidth**2, (2.0 * bandwidth) ** 2, (SMALLEST * bandwidth) ** 2
    for leaf in range(len(starts) - 1):
        total = free = starts[leaf + 1] - starts[leaf]
        x, y, z = np.empty(total), np.empty(total), np.empty(total)  # those that are free come first
        for i in range(total):
            x[i], y[i], z[i] = all_points[starts[leaf] + i]
        for mode in range(NUM_MODES):
            if free == 0 or free < LEAST_SHARE * total:
                break
            densest, u, v, w = -1.0, 0.0, 0.0, 0.0
            for k in range(0, free, max(1, free // STARTS)):
                density = 0.0
                for i in range(free):
                    density += math.exp(fall * ((x[i] - x[k]) ** 2 + (y[i] - y[k]) ** 2 + (z[i] - z[k]) ** 2))
                if density > densest:
                    densest, u, v, w = density, x[k], y[k], z[k]
            for _ in range(CLIMBS):
                sum_x = sum_y = sum_z = total_near = 0.0
                for i in range(free):
                    near = math.exp(fall * ((x[i] - u) ** 2 + (y[i] - v) ** 2 + (z[i] - w) ** 2))
                    total_near += near
                    sum_x += near * x[i]
                    sum_y += near * y[i]
                    sum_z += near * z[i]
                u, v, w = sum_x / total_near, sum_y / total_near, sum_z / total_near
            left = 0
            xx = xy = xz = yy = yz = zz = 0.0
            for i in range(free):
                a, b, c = x[i] - u, y[i] - v, z[i] - w
                if a * a + b * b + c * c <= reach:
                    xx += a * a
                    xy += a * b
                    xz += a * c
                    yy += b * b
                    yz += b * c
                    zz += c * c
                else:
                    x[left], y[left], z[left] = x[i], y[i], z[i]
                    left += 1
            own = free - left
            if own == 0:
                break
            points[leaf, mode, 0], points[leaf, mode, 1], points[leaf, mode, 2] = u, v, w
            covariance[leaf, mode, 0], covariance[leaf, mode, 1] = xx / own + least, xy / own
            covariance[leaf, mode, 2], covariance[leaf, mode, 3] = xz / own, yy / own + least
            covariance[leaf, mode, 4], covariance[leaf, mode, 5] = yz / own, zz / own + least
            probability[leaf, mode] = own / total
            free = left


@kernel
def _merge(leaves, all_points, all_covariances, all_shares, bandwidth, points, covariance, probability):
    trees, pixels = leaves.shape
    most, count = trees * all_shares.shape[1], probability.shape[1]
    x, y, z, variance, weight = np.empty((5, most))
    spread = np.empty((most, 6))
    total_spread = np.empty(6)
    for pixel in range(pixels):
        free = 0
        for tree in range(trees):
            leaf = leaves[tree, pixel]
            if leaf < 0:
                continue
            for k in range(all_shares.shape[1]):
                if all_shares[leaf, k] > 0.0:
                    x[free], y[free], z[free] = all_points[leaf, k]
                    spread[free] = all_covariances[leaf, k]
                    variance[free] = (spread[free, 0] + spread[free, 3] + spread[free, 5]) / 3.0
                    weight[free] = all_shares[leaf, k]
                    free += 1
        for mode in range(count):
            if free == 0:
                break
            top, highest = 0, -1.0
            for k in range(free):
                density = 0.0
                for i in range(free):
                    apart = (x[i] - x[k]) ** 2 + (y[i] - y[k]) ** 2 + (z[i] - z[k]) ** 2
                    density += weight[i] * math.exp(-0.5 * apart / (variance[i] + bandwidth**2))
                if density > highest:
                    top, highest = k, density
            u, v, w = x[top], y[top], z[top]
            left, total, sum_x, sum_y, sum_z, share = 0, 0.0, 0.0, 0.0, 0.0, 0.0
            total_spread[:] = 0.0
            for i in range(free):
                apart = (x[i] - u) ** 2 + (y[i] - v) ** 2 + (z[i] - w) ** 2
                wide = variance[i] + bandwidth**2
                if apart <= 4.0 * wide:
                    near = weight[i] * math.exp(-0.5 * apart / wide) / wide
                    total += near
                    sum_x += near * x[i]
                    sum_y += near * y[i]
                    sum_z += near * z[i]
                    a, b, c = x[i] - u, y[i] - v, z[i] - w
                    total_spread[0] += near * (spread[i, 0] + a * a)
                    total_spread[1] += near * (spread[i, 1] + a * b)
                    total_spread[2] += near * (spread[i, 2] + a * c)
                    total_spread[3] += near * (spread[i, 3] + b * b)
                    total_spread[4] += near * (spread[i, 4] + b * c)
                    total_spread[5] += near * (spread[i, 5] + c * c)
                    share += weight[i]
                else:
                    x[left], y[left], z[left] = x[i], y[i], z[i]
                    variance[left], weight[left] = variance[i], weight[i]
                    spread[left] = spread[i]
                    left += 1
            points[pixel, mode, 0] = sum_x / total
            points[pixel, mode, 1] = sum_y / total
            points[pixel, mode, 2] = sum_z / total
            for k in range(6):
                covariance[pixel, mode, k] = total_spread[k] / total
            probability[pixel, mode] = share / trees
            free = left
