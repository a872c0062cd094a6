"""Correspondences as the solver's inner loops want them, and the tests made on all of them.

A float32 array (7, N): scene points about a robust centre of the scene, X, Y, Z; rays x, y on the plane z = 1;
k = 1 / (1 + x² + y²); the weight. A row that cannot be used (NaN, infinity, weight 0) is put where no pose
meets its ray, so that no inner loop has to ask. Thresholds are in units of the horizontal focal length,
`aspect` is the ratio of focal lengths, vertical to horizontal.
"""

from __future__ import annotations

import numpy as np

from dsac.kernels.cpu_jit import kernel

_LARGEST = 1e9  # coordinates beyond it (in whatever unit) are not usable: their squares would overflow
_WIDEST = 1e3  # nor are rays with a larger tangent
_SAMPLE = 63  # rows from which centre and size of the scene are told


@kernel
def prepare(pixels, scene_points, weights, camera, points, rows, center):
    """Fill `points` (7, N) and `center` (3,); `rows` lists the usable rows, in order.

    Returns how many are usable and the extent of the scene: the diagonal of the box that holds most points.
    Where there are weights a row is listed in proportion to its weight: drawing from the list honours them.
    """
    n = len(pixels)
    extent = _median(scene_points, center)
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
def _median(scene_points, center):
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
def count_inliers(points, start, stop, pose, aspect, threshold):
    """How many points reproject within `threshold` (units of the horizontal focal length), in front."""
    r00, r01, r02, t0 = (
        np.float32(pose[0, 0]),
        np.float32(pose[0, 1]),
        np.float32(pose[0, 2]),
        np.float32(pose[0, 3]),
    )
    r10, r11, r12, t1 = (
        np.float32(pose[1, 0]),
        np.float32(pose[1, 1]),
        np.float32(pose[1, 2]),
        np.float32(pose[1, 3]),
    )
    r20, r21, r22, t2 = (
        np.float32(pose[2, 0]),
        np.float32(pose[2, 1]),
        np.float32(pose[2, 2]),
        np.float32(pose[2, 3]),
    )
    stretch = np.float32(aspect * aspect)
    square = np.float32(threshold * threshold)
    count = np.float32(0.0)
    # slices from 0: an index that might be negative would keep the loop from being vectorised
    px, py, pz = points[0, start:stop], points[1, start:stop], points[2, start:stop]
    rx, ry = points[3, start:stop], points[4, start:stop]
    for i in range(len(px)):
        c2 = r20 * px[i] + r21 * py[i] + r22 * pz[i] + t2
        ex = r00 * px[i] + r01 * py[i] + r02 * pz[i] + t0 - rx[i] * c2
        ey = r10 * px[i] + r11 * py[i] + r12 * pz[i] + t1 - ry[i] * c2
        inside = ex * ex + stretch * ey * ey < square * c2 * c2 and c2 > np.float32(0.0)
        count += np.float32(1.0) if inside else np.float32(0.0)
    return count


@kernel
def mark_inliers(points, pose, aspect, threshold, inliers):
    """Which points reproject within `threshold`, in front; returns how many."""
    r00, r01, r02, t0 = (
        np.float32(pose[0, 0]),
        np.float32(pose[0, 1]),
        np.float32(pose[0, 2]),
        np.float32(pose[0, 3]),
    )
    r10, r11, r12, t1 = (
        np.float32(pose[1, 0]),
        np.float32(pose[1, 1]),
        np.float32(pose[1, 2]),
        np.float32(pose[1, 3]),
    )
    r20, r21, r22, t2 = (
        np.float32(pose[2, 0]),
        np.float32(pose[2, 1]),
        np.float32(pose[2, 2]),
        np.float32(pose[2, 3]),
    )
    stretch = np.float32(aspect * aspect)
    square = np.float32(threshold * threshold)
    count = np.float32(0.0)
    px, py, pz, rx, ry = points[0], points[1], points[2], points[3], points[4]
    for i in range(len(px)):
        c2 = r20 * px[i] + r21 * py[i] + r22 * pz[i] + t2
        ex = r00 * px[i] + r01 * py[i] + r02 * pz[i] + t0 - rx[i] * c2
        ey = r10 * px[i] + r11 * py[i] + r12 * pz[i] + t1 - ry[i] * c2
        inside = (ex * ex + stretch * ey * ey < square * c2 * c2) & (c2 > np.float32(0.0))
        inliers[i] = inside
        count += np.float32(1.0) if inside else np.float32(0.0)
    return int(count)


@kernel
def gather(points, inside, near):
    """Copy the columns of `points` that are `inside`."""
    rows = np.empty(len(inside), np.uint32)
    m = 0
    for i in range(len(inside)):
        rows[m] = i
        m += inside[i]
    for axis in range(len(points)):
        source, target = points[axis], near[axis]
        for i in range(m):
            target[i] = source[rows[i]]
