"""Correspondences as the solver's inner loops want them, and the tests made on all of them.

A float32 array (7, N): scene points about a robust centre of the scene, X, Y, Z; rays x, y on the plane z = 1;
k = 1 / (1 + x² + y²); the weight. A row that cannot be used (NaN, infinity, weight 0) is put where no pose
meets its ray, so that no inner loop has to ask. Thresholds are in units of the horizontal focal length,
`aspect` is the ratio of focal lengths, vertical to horizontal.
"""

from __future__ import annotations

import math

import numpy as np

from dsac.kernels.cpu_jit import inlined, kernel
from dsac.kernels.cpu_math import gather, moved, pose_rows

_LARGEST = 1e9  # coordinates beyond it (in whatever unit) are not usable: their squares would overflow
_WIDEST = 1e3  # nor are rays with a larger tangent
_NEIGHBOURS = 32  # points that are seen within a tile's size of a point, on average
_SAMPLE = 63  # rows from which centre and size of the scene are told


@kernel
def prepare(pixels, scene_points, weights, camera, points, rows, center):
    """Fill `points` (7, N) and `center` (3,); `rows` lists the usable rows, in order.

    Returns how many are usable and the extent of the scene: the diagonal of the box that holds most points.
    Where there are weights a row is listed in proportion to its weight: drawing from the list honours them.
    """
    n = len(pixels)
    extent = median_point(scene_points, center)
    m0, m1, m2 = np.float32(center[0]), np.float32(center[1]), np.float32(center[2])
    cx, cy = np.float32(camera[2]), np.float32(camera[3])
    ifx, ify = np.float32(1.0 / camera[0]), np.float32(1.0 / camera[1])
    zero = np.float32(0.0)
    one = np.float32(1.0)
    largest = np.float32(_LARGEST)
    widest = np.float32(_WIDEST)
    unusable = zero
    px, py, pz, rx, ry, k, weight = points[0], points[1], points[2], points[3], points[4], points[5], points[6]
    flat_pixels, flat_points = pixels.reshape(2 * n), scene_points.reshape(3 * n)
    # Three loops without branches: each is vectorised, one loop for all is not.
    for i in range(n):
        px[i] = flat_points[3 * i] - m0
        py[i] = flat_points[3 * i + 1] - m1
        pz[i] = flat_points[3 * i + 2] - m2
    for i in range(n):
        rx[i] = (flat_pixels[2 * i] - cx) * ifx
        ry[i] = (flat_pixels[2 * i + 1] - cy) * ify
    for i in range(n):
        x, y = rx[i], ry[i]
        k[i] = one / (one + x * x + y * y)
        weight[i] = one
        good = (abs(px[i]) + abs(py[i]) + abs(pz[i]) < largest) & (abs(x) + abs(y) < widest)
        unusable += zero if good else one
    if unusable == zero and len(weights) == 0:
        for i in range(n):
            rows[i] = i
        return n, extent
    usable = 0
    total = 0.0
    for i in range(n):
        good = (abs(px[i]) + abs(py[i]) + abs(pz[i]) < largest) & (abs(rx[i]) + abs(ry[i]) < widest)
        if len(weights) > 0:
            good = good and weights[i] > zero and weights[i] < largest
        if good:
            if len(weights) > 0:
                weight[i] = weights[i]
            total += weight[i]
            usable += 1
        else:
            px[i] = py[i] = pz[i] = rx[i] = ry[i] = largest
            k[i] = np.float32(0.5) / (largest * largest)
            weight[i] = zero
    step = total / usable if usable > 0 else 1.0
    listed = 0
    passed = 0.0
    for i in range(n):
        passed += weight[i]
        while listed < usable and (listed + 0.5) * step < passed:
            rows[listed] = i
            listed += 1
        weight[i] = weight[i] if weight[i] > zero else one
    return listed, extent


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
            if not abs(value) < _LARGEST:
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


@kernel
def fill_rows(pixels, scene_points, principal_points, points, centers):
    """Fill `points` (B, 5, N) with scene points from their `centers` (B, 3), pixels from principal points."""
    for b in range(len(pixels)):
        median_point(scene_points[b], centers[b])
        for i in range(pixels.shape[1]):
            for axis in range(3):
                points[b, axis, i] = np.float64(scene_points[b, i, axis]) - centers[b, axis]
            for axis in range(2):
                points[b, 3 + axis, i] = np.float64(pixels[b, i, axis]) - principal_points[b, axis]


@kernel
def draw_subset(points, rows, usable, subset, state):
    """Fill `subset` with different rows in random order (a partial shuffle, which `rows` keeps)."""
    for k in range(subset.shape[1]):
        j = k + below(state, usable - k)
        row = rows[j]
        rows[j] = rows[k]
        rows[k] = row
        for axis in range(len(points)):
            subset[axis, k] = points[axis, row]


@kernel
def order_by_coherence(points, subset, farthest):
    """Sort `subset` by how many of the points seen beside one lie beside it in the scene, most first, in place.

    Right points that are seen beside each other are beside each other; wrong ones lie anywhere. Where one point
    in twenty is right, of the first fifty a fifth is if they are scattered, a half if they are in patches.
    Beside each other in the scene are points nearer than a quarter of what `farthest`, twice the largest depth,
    makes of their distance in the image.
    """
    size = subset.shape[1]
    tiled, starts, left, top, tile, columns = _tiles(points, subset)
    seen, near = np.float32(tile * tile), np.float32((0.25 * farthest * tile) ** 2)
    zero, one = np.float32(0.0), np.float32(1.0)
    beside = np.empty(size)
    for s in range(size):
        a, b, c, x, y = subset[0, s], subset[1, s], subset[2, s], subset[3, s], subset[4, s]
        first = int((y - top) / tile) * columns + int((x - left) / tile)
        total = zero
        for line in range(3):
            place = first + line * columns
            some = tiled[:, starts[place] : starts[place + 3]]
            px, py, pz, rx, ry = some[0], some[1], some[2], some[3], some[4]
            for i in range(some.shape[1]):
                da, db, dc, dx, dy = px[i] - a, py[i] - b, pz[i] - c, rx[i] - x, ry[i] - y
                both = (dx * dx + dy * dy < seen) & (da * da + db * db + dc * dc < near)
                total += one if both else zero
        beside[s] = -total
    subset[:] = subset[:, np.argsort(beside, kind="mergesort")]


@kernel
def _tiles(points, subset):
    """Points sorted by square tiles of the image, the box of the subset's rays and a margin around it.

    Returns X, Y, Z, x, y (5, M) of those inside, where the tiles start, left, top and size of a tile, and how
    many tiles make a line.
    """
    n = points.shape[1]
    left, right, top, bottom = subset[3].min(), subset[3].max(), subset[4].min(), subset[4].max()
    width, height = right - left, bottom - top
    tile = math.sqrt(width * height * _NEIGHBOURS / (math.pi * n))
    tile = max(tile, max(width, height) / 300.0, 1e-6)  # rays on a line would make endless tiles
    columns, lines = int(width / tile) + 3, int(height / tile) + 3
    starts = np.zeros(lines * columns + 1, np.int64)
    place = np.empty(n, np.int64)
    for i in range(n):
        column, line = math.floor((points[3, i] - left) / tile) + 1, math.floor((points[4, i] - top) / tile) + 1
        inside = column >= 0 and column < columns and line >= 0 and line < lines
        place[i] = line * columns + column if inside else -1
        if inside:
            starts[place[i] + 1] += 1
    for k in range(1, len(starts)):
        starts[k] += starts[k - 1]
    tiled = np.empty((5, starts[-1]), np.float32)
    filled = starts.copy()
    for i in range(n):
        if place[i] >= 0:
            k = filled[place[i]]
            filled[place[i]] += 1
            for axis in range(5):
                tiled[axis, k] = points[axis, i]
    return tiled, starts, left, top, tile, columns


@kernel
def mixed(x):
    """A step of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): any seed becomes a well-mixed state."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) | np.uint64(1)


@kernel
def below(state, n):
    """A random integer in [0, n): xorshift64* (Vigna 2016), multiplied down from 32 bits."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    high = (x * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(32)
    return np.int64((high * np.uint64(n)) >> np.uint64(32))


@kernel
def with_companions(points, seed, inside, local):
    """Copy the seed and the points that are `inside`, as many as fit; returns how many."""
    for axis in range(len(points)):
        local[axis, 0] = points[axis, seed]
    return gather(points, inside, 1, local)


@inlined
def meets_ray(rows, x, y, z, ray_x, ray_y, stretch, square):
    """Whether a point reprojects in front within a threshold; `stretch` aspect², `square` threshold²."""
    c0, c1, c2 = moved(rows, x, y, z)
    ex, ey = c0 - ray_x * c2, c1 - ray_y * c2
    return (ex * ex + stretch * ey * ey < square * c2 * c2) & (c2 > np.float32(0.0))


@kernel
def count_inliers(points, count, pose, aspect, threshold):
    """How many of the first points reproject within `threshold` (units of the horizontal focal length)."""
    rows = pose_rows(pose, np.float32)
    stretch, square = np.float32(aspect * aspect), np.float32(threshold * threshold)
    zero, one = np.float32(0.0), np.float32(1.0)
    number = zero
    px, py, pz, rx, ry = points[0], points[1], points[2], points[3], points[4]
    for i in range(count):
        number += one if meets_ray(rows, px[i], py[i], pz[i], rx[i], ry[i], stretch, square) else zero
    return number


@kernel
def mark_inliers(points, pose, aspect, threshold, inliers):
    """Which points reproject within `threshold`."""
    rows = pose_rows(pose, np.float32)
    stretch, square = np.float32(aspect * aspect), np.float32(threshold * threshold)
    px, py, pz, rx, ry = points[0], points[1], points[2], points[3], points[4]
    for i in range(len(px)):
        inliers[i] = meets_ray(rows, px[i], py[i], pz[i], rx[i], ry[i], stretch, square)
