"""Correspondences as the solver's inner loops want them, and the tests made on all of them.

A float32 array (7, N): scene points about a robust centre of the scene, X, Y, Z; rays x, y on the plane z = 1;
k = 1 / (1 + x² + y²); the weight. A row that cannot be used (NaN, infinity, weight 0) is put where no pose
meets its ray, so that no inner loop has to ask. Thresholds are in units of the horizontal focal length,
`aspect` is the ratio of focal lengths, vertical to horizontal.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dsac.kernels.jit import inlined, kernel
from dsac.kernels.solution import Array
from dsac.kernels.twins.math import LARGEST, gather, median_point, moved, pose_rows

_WIDEST = 1e3  # rays with a larger tangent are not usable either
_BESIDE = 16  # points that are seen in a square of the grid, on average
_MOST_BESIDE = 4  # in a cell; more count as so many, or all coherent points would come from a few places
_SHUFFLE = 0x9E3779B1  # odd: times it, modulo a power of two, every number is hit once


class Images(NamedTuple):
    """Correspondences of a batch of images; contiguous arrays of these types when a loop reads them."""

    pixels: Array  # (B, N, 2) float32
    scene_points: Array  # (B, N, 3) float32
    depths: Array | None  # (B, N) float32, of RGB-D; 0, NaN = none
    weights: Array | None  # (B, N) float32, or (B, 0); a caller's may be None
    focal_px: Array  # (B, 2) float64
    center_px: Array  # (B, 2) float64


@kernel
def prepare(pixels, scene_points, weights, camera, points, rows, center):
    """Fill `points` (7, N) and `center` (3,); `rows` lists the usable rows, in order.

    Returns how many are usable and the extent of the scene: the diagonal of the box that holds most points.
    Weights are divided by their mean, as only ratios count. Where there are some a row is listed in proportion
    to its weight: drawing from the list honours them.
    """
    n = len(pixels)
    extent = median_point(scene_points, center)
    m0, m1, m2 = np.float32(center[0]), np.float32(center[1]), np.float32(center[2])
    cx, cy = np.float32(camera[2]), np.float32(camera[3])
    ifx, ify = np.float32(1.0 / camera[0]), np.float32(1.0 / camera[1])
    zero = np.float32(0.0)
    one = np.float32(1.0)
    largest = np.float32(LARGEST)
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
    mean = np.float32(total / usable) if usable > 0 else one
    listed = 0
    passed = 0.0
    for i in range(n):
        weight[i] /= mean
        passed += weight[i]
        while listed < usable and listed + 0.5 < passed:
            rows[listed] = i
            listed += 1
        weight[i] = weight[i] if weight[i] > zero else one
    return listed, extent


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
def listed(points, rows):
    """The columns that are listed, each once, in their order: heavy ones are listed often, light ones never."""
    inside = np.zeros(points.shape[1], np.bool_)
    for row in rows:
        inside[row] = True
    number = inside.sum()
    if number == len(inside):
        return points
    once = np.empty((len(points), number), np.float32)
    gather(points, inside, 0, once)
    return once


@kernel
def coherent_points(points, farthest, most):
    """At most so many points: those that have most others beside them in image and scene, the most first.

    Right points that are seen beside each other are beside each other; wrong ones lie anywhere. Where one point
    in twenty is right, a fifth of the first hundred is if they are scattered, a third if they are in patches.
    Beside each other are points in the same cell of a grid: a square of the image that holds sixteen points,
    and a cube of the scene a quarter as large as that square seen from `farthest`, twice the largest depth. A
    second grid, half a cell off, finds those that the first one parts. Four in a cell are as good as more, and
    of equal points those are taken that are all over the image: seeds from one place would agree on its pose.
    All points must be usable.
    """
    n = points.shape[1]
    rx, ry = points[3], points[4]
    left, right, top, bottom = rx[0], rx[0], ry[0], ry[0]
    for i in range(n):
        left, right, top, bottom = min(left, rx[i]), max(right, rx[i]), min(top, ry[i]), max(bottom, ry[i])
    square = max(math.sqrt((right - left) * (bottom - top) * _BESIDE / n), 1e-6)
    cube = max(0.25 * farthest * square, 1e-9)
    size = 1024
    while size < 4 * n:
        size *= 2
    cells = np.empty(n, np.uint32)
    beside = np.zeros(n, np.uint32)
    for grid in range(2):
        _number_cells(points, np.float32(1.0 / square), np.float32(1.0 / cube), np.float32(0.5 * grid), cells)
        # A hash table of cells: eight bits of the cell's number, eight of how many points it has. Cells that
        # meet at a place do not look for another, which takes a branch that cannot be foreseen: the first one
        # with two points stays.
        table = np.zeros(size, np.uint16)
        for i in range(n):
            cell = np.int64(cells[i])
            place, tag = cell & (size - 1), (cell >> 16) & 0xFF00
            entry = np.int64(table[place])
            number = entry & 0xFF
            other = entry if number > 1 else tag + 1
            table[place] = entry + (number < 0xFF) if entry - number == tag else other
        for i in range(n):
            cell = np.int64(cells[i])
            entry, tag = np.int64(table[cell & (size - 1)]), (cell >> 16) & 0xFF00
            number = entry & 0xFF
            beside[i] += np.uint32(min(number, _MOST_BESIDE) if entry - number == tag else 1)
    return _with_most(points, beside, most)


@kernel
def _with_most(points, numbers, most):
    """At most so many points, those of the largest numbers (from 1 to 2 _MOST_BESIDE) first.

    Equal ones are in an order that has nothing to do with where they are in the image.
    """
    n = len(numbers)
    levels = 2 * _MOST_BESIDE + 1
    counts = np.zeros((4, levels), np.int64)  # four, so that the next one need not wait for the last
    for i in range(n):
        counts[i & 3, numbers[i]] += 1
    places = np.empty(levels, np.int64)  # where the next one of a number goes
    least, more, equal = levels, 0, 0  # all above `least` are taken, and of the equal ones as many as fit
    while least > 1 and more + equal < most:
        least -= 1
        more += equal
        equal = counts[:, least].sum()
        places[least] = more
    rows = np.empty(n + 1, np.uint32)
    found = 0
    for i in range(n):
        rows[found] = i
        found += numbers[i] >= least
    chosen = np.empty(min(most, found), np.uint32)
    number, share = 0, 0
    for row in rows[:found]:
        if numbers[row] == least:  # from all over the image
            share += len(chosen) - more
            if share < equal:
                continue
            share -= equal
        chosen[number] = row
        number += 1
    front = np.empty((len(points), number), np.float32)
    size = 1
    while size < number:
        size *= 2
    for j in range(size):
        i = (j * _SHUFFLE) & (size - 1)
        if i < number:
            row = chosen[i]
            place = places[numbers[row]]
            places[numbers[row]] += 1
            for axis in range(len(points)):
                front[axis, place] = points[axis, row]
    return front


@kernel
def _number_cells(points, in_image, in_scene, shift, cells):
    """A number for the cell of each point; `in_image`, `in_scene`: cells a unit of length."""
    px, py, pz, rx, ry = points[0], points[1], points[2], points[3], points[4]
    for i in range(len(cells)):
        h = np.uint32(np.int32(np.floor(rx[i] * in_image + shift))) * np.uint32(0x9E3779B1)
        h = (h ^ np.uint32(np.int32(np.floor(ry[i] * in_image + shift)))) * np.uint32(0x85EBCA77)
        h = (h ^ np.uint32(np.int32(np.floor(px[i] * in_scene + shift)))) * np.uint32(0xC2B2AE3D)
        h = (h ^ np.uint32(np.int32(np.floor(py[i] * in_scene + shift)))) * np.uint32(0x27D4EB2F)
        h = (h ^ np.uint32(np.int32(np.floor(pz[i] * in_scene + shift)))) * np.uint32(0x165667B1)
        cells[i] = h ^ (h >> np.uint32(15))


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
def inlier_share(points, pose, aspect, threshold):
    """Share of the usable points, by weight, that reproject within `threshold`."""
    rows = pose_rows(pose, np.float32)
    stretch, square = np.float32(aspect * aspect), np.float32(threshold * threshold)
    zero, largest = np.float32(0.0), np.float32(LARGEST)
    total = number = zero
    px, py, pz, rx, ry, weight = points[0], points[1], points[2], points[3], points[4], points[6]
    for i in range(len(px)):
        total += weight[i] if px[i] < largest else zero
        number += weight[i] if meets_ray(rows, px[i], py[i], pz[i], rx[i], ry[i], stretch, square) else zero
    return number / total


@kernel
def mark_inliers(points, pose, aspect, threshold, inliers):
    """Which points reproject within `threshold`."""
    rows = pose_rows(pose, np.float32)
    stretch, square = np.float32(aspect * aspect), np.float32(threshold * threshold)
    px, py, pz, rx, ry = points[0], points[1], points[2], points[3], points[4]
    for i in range(len(px)):
        inliers[i] = meets_ray(rows, px[i], py[i], pz[i], rx[i], ry[i], stretch, square)
