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
def _leaf_modes(all_points, starts, bandwidth, points, scale, probability):
    fall, reach = -0.5 / bandwidth**2, (2.0 * bandwidth) ** 2
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
            left, squares = 0, 0.0
            for i in range(free):
                square = (x[i] - u) ** 2 + (y[i] - v) ** 2 + (z[i] - w) ** 2
                if square <= reach:
                    squares += square
                else:
                    x[left], y[left], z[left] = x[i], y[i], z[i]
                    left += 1
            own = free - left
            if own == 0:
                break
            points[leaf, mode, 0], points[leaf, mode, 1], points[leaf, mode, 2] = u, v, w
            scale[leaf, mode] = math.sqrt(squares / own / 3.0 + (SMALLEST * bandwidth) ** 2)
            probability[leaf, mode] = own / total
            free = left


@kernel
def _merge(leaves, all_points, all_scales, all_shares, bandwidth, points, scale, probability):
    trees, pixels = leaves.shape
    most, count = trees * all_shares.shape[1], probability.shape[1]
    x, y, z, variance, weight = np.empty((5, most))
    for pixel in range(pixels):
        free = 0
        for tree in range(trees):
            leaf = leaves[tree, pixel]
            if leaf < 0:
                continue
            for k in range(all_shares.shape[1]):
                if all_shares[leaf, k] > 0.0:
                    x[free], y[free], z[free] = all_points[leaf, k]
                    variance[free], weight[free] = all_scales[leaf, k] ** 2, all_shares[leaf, k]
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
            left, total, sum_x, sum_y, sum_z, spread, share = 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for i in range(free):
                apart = (x[i] - u) ** 2 + (y[i] - v) ** 2 + (z[i] - w) ** 2
                wide = variance[i] + bandwidth**2
                if apart <= 4.0 * wide:
                    near = weight[i] * math.exp(-0.5 * apart / wide) / wide
                    total += near
                    sum_x += near * x[i]
                    sum_y += near * y[i]
                    sum_z += near * z[i]
                    spread += near * (variance[i] + apart / 3.0)
                    share += weight[i]
                else:
                    x[left], y[left], z[left] = x[i], y[i], z[i]
                    variance[left], weight[left] = variance[i], weight[i]
                    left += 1
            points[pixel, mode, 0] = sum_x / total
            points[pixel, mode, 1] = sum_y / total
            points[pixel, mode, 2] = sum_z / total
            scale[pixel, mode] = math.sqrt(spread / total)
            probability[pixel, mode] = share / trees
            free = left
