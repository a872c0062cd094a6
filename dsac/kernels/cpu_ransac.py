"""From scene coordinates to a pose in one call: draw, solve, score in stages, refine, estimate the uncertainty.

Everything works on float32 arrays of coordinates about a robust centre of the scene. A row that cannot be
used (NaN, infinity, weight 0) is given a ray that no pose can meet, so that no inner loop has to ask.
"""

from __future__ import annotations

import math

import numpy as np

from dsac.kernels.cpu_jit import kernel
from dsac.kernels.cpu_p3p import p3p_poses
from dsac.kernels.cpu_refine import NUM_SUMS, gauss_newton_step, mixture_sums, pixel_gated_sums

LARGEST = 1e9  # coordinates beyond it (in whatever unit) are not usable: their squares would overflow
_SUBSET = 1024  # correspondences that hypotheses are compared on
_FIRST_STAGE = 128  # of these, looked at first
_WIDE = 2.0  # pose of a minimal set is noisy: it is scored at this multiple of the threshold
_FIRST_MINIMUM = 3.0  # inliers in the first stage below which a hypothesis is chance


@kernel
def solve_rgb_batch(
    pixels, scene_points, weights, cameras, grid, threshold_px, depth_range, confidence, max_hypotheses, seed,
    poses, inliers, information, num_hypotheses,
):  # fmt: skip
    """Poses of a batch of images: see `dsac.kernels.cpu.solve_rgb`. Writes the last four arguments.

    cameras (B, 4): fx, fy, cx, cy; grid (2,): zeros = none; depth_range (2,): zeros = unknown.
    """
    for b in range(len(pixels)):
        num_hypotheses[b] = _solve_rgb(
            pixels[b], scene_points[b], weights[b], cameras[b], grid, threshold_px, depth_range, confidence,
            max_hypotheses, seed, poses[b], inliers[b], information[b],
        )  # fmt: skip


@kernel
def _solve_rgb(
    pixels, scene_points, weights, camera, grid, threshold_px, depth_range, confidence, max_hypotheses, seed,
    pose, inliers, information,
):  # fmt: skip
    n = len(pixels)
    points = np.empty((5, n), np.float32)
    center = np.empty(3)
    rows = np.empty(n, np.int32)
    usable = _prepare(pixels, scene_points, weights, camera, points, rows, center)
    pose[:] = 0.0
    pose[0, 0] = pose[1, 1] = pose[2, 2] = 1.0
    information[:] = 0.0
    inliers[:] = False
    if usable < 4:
        return 0

    aspect = camera[1] / camera[0]
    threshold = threshold_px / camera[0]
    state = np.empty(1, np.uint64)
    state[0] = _mixed(np.uint64(seed))
    subset_size = min(usable, _SUBSET)
    subset = np.empty((5, subset_size), np.float32)
    _draw_subset(points, rows, usable, subset, state)

    num = _search(
        points,
        rows,
        usable,
        subset,
        grid,
        aspect,
        threshold,
        depth_range,
        confidence,
        max_hypotheses,
        state,
        pose,
    )
    if num < 0:
        return -num
    _finish(points, weights, aspect, threshold, pose, information)
    _mark_inliers(points, pose, aspect, threshold, inliers)
    for i in range(3):
        pose[i, 3] -= pose[i, 0] * center[0] + pose[i, 1] * center[1] + pose[i, 2] * center[2]
    return num


# ---- preparation -------------------------------------------------------------------------------------


@kernel
def _prepare(pixels, scene_points, weights, camera, points, rows, center):
    """Centred points and rays (5, N); `rows` lists the usable ones, in order; returns how many."""
    n = len(pixels)
    largest = np.float32(LARGEST)
    widest = np.float32(1e3)
    fx, fy, cx, cy = np.float32(camera[0]), np.float32(camera[1]), np.float32(camera[2]), np.float32(camera[3])
    ifx, ify = np.float32(1.0) / fx, np.float32(1.0) / fy
    weighted = len(weights) > 0
    usable = 0
    for i in range(n):
        x, y = (pixels[i, 0] - cx) * ifx, (pixels[i, 1] - cy) * ify
        a, b, c = scene_points[i, 0], scene_points[i, 1], scene_points[i, 2]
        good = (
            abs(a) < largest and abs(b) < largest and abs(c) < largest and abs(x) < widest and abs(y) < widest
        )
        if weighted:
            good = good and weights[i] > 0.0 and weights[i] < largest
        points[0, i] = a
        points[1, i] = b
        points[2, i] = c
        points[3, i] = x
        points[4, i] = y
        if good:
            rows[usable] = i
            usable += 1
        else:
            points[0, i] = points[1, i] = points[2, i] = np.float32(0.0)
            points[3, i] = points[4, i] = largest
    # centre: median of at most 63 rows
    count = min(usable, 63)
    sample = np.empty(count, np.float32)
    for axis in range(3):
        for k in range(count):
            value = points[axis, rows[(k * usable) // count]]
            j = k
            while j > 0 and sample[j - 1] > value:
                sample[j] = sample[j - 1]
                j -= 1
            sample[j] = value
        center[axis] = sample[count // 2] if count > 0 else 0.0
        shift = np.float32(center[axis])
        for i in range(n):
            points[axis, i] -= shift
    return usable


@kernel
def _draw_subset(points, rows, usable, subset, state):
    """Fill `subset` with different rows in random order (a partial shuffle, which `rows` keeps)."""
    for k in range(subset.shape[1]):
        j = k + _below(state, usable - k)
        row = rows[j]
        rows[j] = rows[k]
        rows[k] = row
        for axis in range(5):
            subset[axis, k] = points[axis, row]


@kernel
def _mixed(x):
    """A step of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): any seed becomes a well-mixed state."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) | np.uint64(1)


@kernel
def _below(state, n):
    """A random integer in [0, n): xorshift64* (Vigna 2016), multiplied down from 32 bits."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    high = (x * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(32)
    return np.int64((high * np.uint64(n)) >> np.uint64(32))


# ---- search ------------------------------------------------------------------------------------------


@kernel
def _search(
    points, rows, usable, subset, grid, aspect, threshold, depth_range, confidence, max_hypotheses, state, pose
):  # fmt: skip
    """The pose with most inliers; returns the number of minimal sets drawn, negated when nothing was found."""
    rotations = np.empty((4, 3, 3))
    translations = np.empty((4, 3))
    work = np.empty((13, 3))
    triple = np.empty((3, 3))
    bearings = np.empty((3, 3))
    trial = np.empty((3, 4))
    sums = np.empty(NUM_SUMS)
    factor = np.empty((6, 6))
    step = np.empty(6)
    size = subset.shape[1]
    first = min(size, _FIRST_STAGE)
    wide = _WIDE * threshold
    raw_best = _FIRST_MINIMUM - 1.0
    best = 0.0
    needed = max_hypotheses
    num = 0
    while num < needed:
        num += 1
        for k in range(3):
            row = rows[_below(state, usable)]
            x, y = float(points[3, row]), float(points[4, row])
            scale = 1.0 / math.sqrt(x * x + y * y + 1.0)
            bearings[k, 0], bearings[k, 1], bearings[k, 2] = x * scale, y * scale, scale
            triple[k, 0], triple[k, 1], triple[k, 2] = points[0, row], points[1, row], points[2, row]
        for s in range(p3p_poses(triple, bearings, rotations, translations, work)):
            trial[:, :3] = rotations[s]
            trial[:, 3] = translations[s]
            count = count_inliers(subset, 0, first, trial, aspect, wide)
            if count < _FIRST_MINIMUM or count * size < 0.5 * raw_best * first:
                continue
            count += count_inliers(subset, first, size, trial, aspect, wide)
            if count <= raw_best:
                continue
            raw_best = count
            refined = count
            for scale in (3.0, 2.0, 2.0):
                pixel_gated_sums(subset, 0, size, trial, aspect, scale * threshold, sums)
                if gauss_newton_step(sums, trial, factor, step) < 0.0:
                    break
            refined = count_inliers(subset, 0, size, trial, aspect, wide)
            if refined <= best:
                continue
            best = refined
            pose[:] = trial
            right = (best / size) ** 3
            if right < 1.0:
                needed = min(needed, 1 + int(math.log(1.0 - confidence) / math.log(1.0 - right)))
            else:
                needed = 1
    return num if best > 0.0 else -num


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
    px, py, pz, rx, ry = points[0], points[1], points[2], points[3], points[4]
    for i in range(start, stop):
        c2 = r20 * px[i] + r21 * py[i] + r22 * pz[i] + t2
        ex = r00 * px[i] + r01 * py[i] + r02 * pz[i] + t0 - rx[i] * c2
        ey = r10 * px[i] + r11 * py[i] + r12 * pz[i] + t1 - ry[i] * c2
        inside = ex * ex + stretch * ey * ey < square * c2 * c2 and c2 > np.float32(0.0)
        count += np.float32(1.0) if inside else np.float32(0.0)
    return count


# ---- the last refinement -----------------------------------------------------------------------------


@kernel
def _finish(points, weights, aspect, threshold, pose, information):
    """Maximum likelihood pose on the points within four thresholds, Gaussian noise and uniform clutter."""
    n = points.shape[1]
    near = np.empty((5, n), np.float32)
    scales = np.empty(n, np.float32)
    m = _gather(points, weights, pose, aspect, 4.0 * threshold, near, scales)
    if m < 4:
        return
    sums = np.empty(NUM_SUMS)
    factor = np.empty((6, 6))
    step = np.empty(6)
    pixel_gated_sums(near, 0, m, pose, aspect, 2.0 * threshold, sums)
    variance = 0.5 * sums[28] / sums[27] if sums[27] > 0.0 else 0.0
    variance = max(variance, 1e-18)
    clutter = 0.01
    for _ in range(10):
        mixture_sums(near, scales, m, pose, variance, clutter, sums)
        if not sums[27] > 3.0:
            return
        gain = gauss_newton_step(sums, pose, factor, step)
        if gain < 0.0:
            return
        previous = variance
        variance = max(0.5 * sums[28] / sums[27], 1e-18)
        clutter = sums[29] / (10.0 * sums[27]) + 1e-4
        if gain < 1e-4 * variance and abs(variance - previous) < 0.01 * variance:
            break
    k = 0
    for i in range(6):
        for j in range(i, 6):
            information[i, j] = information[j, i] = sums[k] / variance
            k += 1


@kernel
def _gather(points, weights, pose, aspect, threshold, near, scales):
    """Copy the points that reproject within `threshold`, and their weights; returns how many."""
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
    px, py, pz, rx, ry = points[0], points[1], points[2], points[3], points[4]
    weighted = len(weights) > 0
    m = 0
    for i in range(points.shape[1]):
        c2 = r20 * px[i] + r21 * py[i] + r22 * pz[i] + t2
        ex = r00 * px[i] + r01 * py[i] + r02 * pz[i] + t0 - rx[i] * c2
        ey = r10 * px[i] + r11 * py[i] + r12 * pz[i] + t1 - ry[i] * c2
        if ex * ex + stretch * ey * ey < square * c2 * c2 and c2 > np.float32(0.0):
            near[0, m], near[1, m], near[2, m], near[3, m], near[4, m] = px[i], py[i], pz[i], rx[i], ry[i]
            scales[m] = weights[i] if weighted else np.float32(1.0)
            m += 1
    return m


@kernel
def _mark_inliers(points, pose, aspect, threshold, inliers):
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
    px, py, pz, rx, ry = points[0], points[1], points[2], points[3], points[4]
    for i in range(points.shape[1]):
        c2 = r20 * px[i] + r21 * py[i] + r22 * pz[i] + t2
        ex = r00 * px[i] + r01 * py[i] + r02 * pz[i] + t0 - rx[i] * c2
        ey = r10 * px[i] + r11 * py[i] + r12 * pz[i] + t1 - ry[i] * c2
        inliers[i] = ex * ex + stretch * ey * ey < square * c2 * c2 and c2 > np.float32(0.0)
