"""RGB-D: poses from pixels whose depth is measured, and from those without depth beside them.

With the depth z of its pixel a point also has a residual along the ray, (b·c) k - z. The prediction is off by
isotropic noise of variance s², the sensor by a depth noise that grows with the square of the depth, so along
the ray the residual counts only with a = s² / (s² + sensor²): the weight is M = p (1 - (1 - a) k b bᵀ), which
for a = 0, no depth, is that of `cpu_refine.py`, and both kinds of rows meet in one least squares.

`points` is (8, N), the last row the depth, 0 where there is none.
"""

from __future__ import annotations

import math

import numpy as np

from dsac.kernels.cpu_jit import kernel
from dsac.kernels.cpu_p3p import triangle_axes
from dsac.kernels.cpu_points import below, draw_subset, mixed, prepare
from dsac.kernels.cpu_refine import NUM_SUMS, gauss_newton_step, store_sums

_SUBSET = 1024
_LOCAL = 64  # companions at most
_SUPPORT = 5.0  # points (with the minimal set) and ...
_SUPPORT_SHARE = 0.3  # ... share of the companions that must agree with a pose of the minimal set
_PROMISING = 1.1  # times the best count before: a pose must have more to be optimised
_LEAST_RATIO = 0.01  # inlier ratio that is looked for as long as nothing is found


@kernel
def solve_rgbd_batch(
    pixels, scene_points, depths, weights, cameras, threshold, depth_noise, confidence, max_hypotheses, seed,
    poses, inliers, information, num_hypotheses,
):  # fmt: skip
    """Poses of a batch of images: see `dsac.kernels.cpu.solve_rgbd`. Writes the last four arguments."""
    for b in range(len(pixels)):
        num_hypotheses[b] = _solve_rgbd(
            pixels[b], scene_points[b], depths[b], weights[b], cameras[b], threshold, depth_noise, confidence,
            max_hypotheses, seed, poses[b], inliers[b], information[b],
        )  # fmt: skip


@kernel
def _solve_rgbd(
    pixels, scene_points, depths, weights, camera, threshold, depth_noise, confidence, max_hypotheses, seed,
    pose, inliers, information,
):  # fmt: skip
    pose[:] = 0.0
    pose[0, 0] = pose[1, 1] = pose[2, 2] = 1.0
    information[:] = 0.0
    inliers[:] = False
    n = len(pixels)
    points = np.empty((8, n), np.float32)
    center = np.empty(3)
    rows = np.empty(n, np.uint32)
    usable, _ = prepare(pixels, scene_points, weights, camera, points, rows, center)
    for i in range(n):
        points[7, i] = depths[i] if depths[i] > 0.0 and depths[i] < 1e9 else 0.0
    if usable < 4:
        return 0
    state = np.empty(1, np.uint64)
    state[0] = mixed(np.uint64(seed))
    subset = np.empty((8, min(usable, _SUBSET)), np.float32)
    draw_subset(points, rows, usable, subset, state)
    sums = np.empty(NUM_SUMS)
    found = np.zeros((3, 4))
    num = _search(subset, threshold, depth_noise, confidence, max_hypotheses, state, found, sums)
    if found[0, 0] == 0.0 and found[0, 1] == 0.0 and found[0, 2] == 0.0:
        return num
    noise = np.array([(threshold / 3.0) ** 2, 0.01])
    if not _likeliest(subset, found, depth_noise, noise, sums, 4):
        return num
    if not _likeliest(points, found, depth_noise, noise, sums, 10):
        return num
    pose[:] = found
    k = 0
    for i in range(6):
        for j in range(i, 6):
            information[i, j] = information[j, i] = sums[k] / noise[0]
            k += 1
    _mark(points, pose, threshold, inliers)
    for i in range(3):
        pose[i, 3] -= pose[i, 0] * center[0] + pose[i, 1] * center[1] + pose[i, 2] * center[2]
    return num


@kernel
def _search(subset, threshold, depth_noise, confidence, max_hypotheses, state, pose, sums):
    """The best pose of minimal sets with depth; returns the number of seeds drawn. `pose` stays 0 if none."""
    size = subset.shape[1]
    local = np.empty((8, _LOCAL), np.float32)
    trial = np.empty((3, 4))
    axes = np.empty((2, 3, 3))
    corners = np.empty((2, 3, 3))
    chosen = np.empty(3, np.int64)
    noise = np.empty(2)
    most = best = chance = log_miss = 0.0
    log_enough = math.log(1.0 - confidence)
    num = 0
    while num < max_hypotheses and log_miss > log_enough:
        seed = below(state, size)
        num += 1
        ratio = max(best / size, _LEAST_RATIO)
        log_miss += math.log1p(-ratio * chance)
        if subset[7, seed] == 0.0:
            continue
        m, matching = _rigid_companions(subset, seed, threshold, local)
        if m < 3:
            continue
        share = min(1.0, ratio * size / matching)
        chance = min(0.99, share * share)
        chosen[0], chosen[1], chosen[2] = 0, 1 + below(state, m - 1), 1 + below(state, m - 1)
        if not _is_rigid(local, chosen[1], chosen[2], threshold):
            continue
        for i in range(3):
            k = chosen[i]
            corners[0, i, 0] = local[7, k] * local[3, k]
            corners[0, i, 1] = local[7, k] * local[4, k]
            corners[0, i, 2] = local[7, k]
            for axis in range(3):
                corners[1, i, axis] = local[axis, k]
        if not (
            triangle_axes(corners[0, 0], corners[0, 1], corners[0, 2], axes[0])
            and triangle_axes(corners[1, 0], corners[1, 1], corners[1, 2], axes[1])
        ):
            continue
        for i in range(3):
            trial[i, 3] = (corners[0, 0, i] + corners[0, 1, i] + corners[0, 2, i]) / 3.0
            for j in range(3):
                turn = (
                    axes[0, 0, i] * axes[1, 0, j]
                    + axes[0, 1, i] * axes[1, 1, j]
                    + axes[0, 2, i] * axes[1, 2, j]
                )
                trial[i, j] = turn
                trial[i, 3] -= turn * (corners[1, 0, j] + corners[1, 1, j] + corners[1, 2, j]) / 3.0
        if _count(local, m, trial, threshold) < max(_SUPPORT, _SUPPORT_SHARE * m):
            continue
        noise[0], noise[1] = (threshold / 2.0) ** 2, 0.1
        if not _likeliest_local(local, m, trial, depth_noise, noise, sums):
            continue
        count = _count(subset, size, trial, threshold)
        if count <= _PROMISING * most:
            continue
        most = count
        noise[0], noise[1] = (threshold / 2.0) ** 2, 0.05
        if not _likeliest(subset, trial, depth_noise, noise, sums, 3):
            continue
        count = _count(subset, size, trial, threshold)
        if count > best:
            best = count
            pose[:] = trial
    return num


@kernel
def _likeliest_local(points, count, pose, depth_noise, noise, sums):
    """One step at the given noise; False when the points do not determine a pose."""
    factor = np.empty((6, 6))
    step = np.empty(6)
    depth_mixture_sums(points, count, pose, noise[0], noise[1], depth_noise, sums)
    return gauss_newton_step(sums, pose, factor, step) >= 0.0


@kernel
def _likeliest(points, pose, depth_noise, noise, sums, iterations):
    """Improve pose and noise in place; False when the points do not determine a pose."""
    factor = np.empty((6, 6))
    step = np.empty(6)
    for _ in range(iterations):
        freedom = depth_mixture_sums(points, points.shape[1], pose, noise[0], noise[1], depth_noise, sums)
        if not freedom > 9.0:
            return False
        gain = gauss_newton_step(sums, pose, factor, step)
        if gain < 0.0:
            return False
        noise[0] = max(sums[28] / freedom, 1e-18)
        noise[1] = sums[29] / (10.0 * sums[27]) + 1e-4
        if gain < 0.05 * noise[0]:
            break
    return True


@kernel
def _rigid_companions(points, seed, threshold, local):
    """Copy the seed and points as far from it in the scene as in the camera, to the threshold, as many as fit.

    Returns how many were copied and how many there are.
    """
    n = points.shape[1]
    fits = np.empty(n, np.bool_)
    px, py, pz, rx, ry, depth = points[0], points[1], points[2], points[3], points[4], points[7]
    a, b, c, z = px[seed], py[seed], pz[seed], depth[seed]
    x, y = z * rx[seed], z * ry[seed]
    tolerance = np.float32(threshold)
    zero = np.float32(0.0)
    for i in range(n):
        da, db, dc = px[i] - a, py[i] - b, pz[i] - c
        dx, dy, dz = depth[i] * rx[i] - x, depth[i] * ry[i] - y, depth[i] - z
        apart = np.sqrt(da * da + db * db + dc * dc) - np.sqrt(dx * dx + dy * dy + dz * dz)
        fits[i] = (abs(apart) < tolerance) & (depth[i] > zero)
    rows = np.empty(n + 1, np.uint32)
    rows[0] = seed
    m = 1
    for i in range(n):
        rows[m] = i
        m += fits[i]
    copied = min(m, local.shape[1])
    for axis in range(len(points)):
        source, target = points[axis], local[axis]
        for i in range(copied):
            target[i] = source[rows[i]]
    return copied, m


@kernel
def _is_rigid(points, i, j, threshold):
    """Whether two points are as far apart in the scene as in the camera, to the threshold."""
    z, w = points[7, i], points[7, j]
    dx, dy = z * points[3, i] - w * points[3, j], z * points[4, i] - w * points[4, j]
    da, db, dc = points[0, i] - points[0, j], points[1, i] - points[1, j], points[2, i] - points[2, j]
    apart = math.sqrt(da * da + db * db + dc * dc) - math.sqrt(dx * dx + dy * dy + (z - w) * (z - w))
    return abs(apart) < threshold


@kernel
def _count(points, count, pose, threshold):
    """How many of the first points with depth are moved to within `threshold` of where they are measured."""
    r = pose.astype(np.float32)
    r00, r01, r02, t0 = r[0, 0], r[0, 1], r[0, 2], r[0, 3]
    r10, r11, r12, t1 = r[1, 0], r[1, 1], r[1, 2], r[1, 3]
    r20, r21, r22, t2 = r[2, 0], r[2, 1], r[2, 2], r[2, 3]
    limit = np.float32(threshold * threshold)
    zero, one = np.float32(0.0), np.float32(1.0)
    near = zero
    px, py, pz, rx, ry, depth = points[0], points[1], points[2], points[3], points[4], points[7]
    for i in range(count):
        z = depth[i]
        dx = r00 * px[i] + r01 * py[i] + r02 * pz[i] + t0 - z * rx[i]
        dy = r10 * px[i] + r11 * py[i] + r12 * pz[i] + t1 - z * ry[i]
        dz = r20 * px[i] + r21 * py[i] + r22 * pz[i] + t2 - z
        near += one if (dx * dx + dy * dy + dz * dz < limit) & (z > zero) else zero
    return near


@kernel
def _mark(points, pose, threshold, inliers):
    """Which points lie within `threshold` of their camera point or, without depth, of their ray."""
    for i in range(points.shape[1]):
        x, y, z = points[3, i], points[4, i], points[7, i]
        a, b, c = points[0, i], points[1, i], points[2, i]
        c0 = pose[0, 0] * a + pose[0, 1] * b + pose[0, 2] * c + pose[0, 3]
        c1 = pose[1, 0] * a + pose[1, 1] * b + pose[1, 2] * c + pose[1, 3]
        c2 = pose[2, 0] * a + pose[2, 1] * b + pose[2, 2] * c + pose[2, 3]
        along = z if z > 0.0 else (c0 * x + c1 * y + c2) * points[5, i]
        square = (c0 - along * x) ** 2 + (c1 - along * y) ** 2 + (c2 - along) ** 2
        inliers[i] = along > 0.0 and square < threshold * threshold


@kernel
def depth_mixture_sums(points, count, pose, variance, clutter, depth_noise, sums):
    """`mixture_sums` with depth; returns how many residuals right points have: two, and one for depth."""
    r = pose.astype(np.float32)
    r00, r01, r02, t0 = r[0, 0], r[0, 1], r[0, 2], r[0, 3]
    r10, r11, r12, t1 = r[1, 0], r[1, 1], r[1, 2], r[1, 3]
    r20, r21, r22, t2 = r[2, 0], r[2, 1], r[2, 2], r[2, 3]
    zero, one, two, three = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(3.0)
    spread = np.float32(variance)
    sensor = np.float32(depth_noise * depth_noise)
    decay = np.float32(0.5 / (variance * 32.0))
    clutter32 = np.float32(clutter)
    inner, outer = np.float32(16.0 * variance), np.float32(36.0 * variance)
    s_00 = s_01 = s_02 = s_11 = s_12 = s_22 = s_0 = s_1 = s_2 = total = zero
    b_00 = b_01 = b_0 = b_11 = b_1 = b_2 = g0 = g1 = g2 = g3 = g4 = g5 = zero
    probability_sum = square_sum = ring = freedom = zero
    px, py, pz, rx, ry, k = points[0], points[1], points[2], points[3], points[4], points[5]
    weight, depth = points[6], points[7]
    for i in range(count):
        x, y, z = rx[i], ry[i], depth[i]
        c0 = r00 * px[i] + r01 * py[i] + r02 * pz[i] + t0
        c1 = r10 * px[i] + r11 * py[i] + r12 * pz[i] + t1
        c2 = r20 * px[i] + r21 * py[i] + r22 * pz[i] + t2
        along = (c0 * x + c1 * y + c2) * k[i]
        f0 = c0 - along * x
        f1 = c1 - along * y
        f2 = c2 - along
        measured = z > zero
        deviation = along - z if measured else zero
        squeeze = spread / (spread + sensor * z * z * z * z / k[i])
        pull = squeeze if measured else zero
        square = (f0 * f0 + f1 * f1 + f2 * f2 + pull * deviation * deviation / k[i]) * weight[i]
        a = one - square * decay
        a = a if (a > zero and along > zero) else zero
        a = a * a
        a = a * a
        a = a * a
        a = a * a
        a = a * a
        probability = a / (a + clutter32)
        ring += one if (square > inner and square < outer) else zero
        probability_sum += probability
        freedom += probability * (three if measured else two)
        square_sum += probability * square
        p = probability * weight[i]
        total += p
        f0 = p * (f0 + pull * deviation * x)
        f1 = p * (f1 + pull * deviation * y)
        f2 = p * (f2 + pull * deviation)
        p0, p1, p2 = p * c0, p * c1, p * c2
        q = p * k[i] * (one - pull)
        qx, qy = q * x, q * y
        s_00 += p0 * c0
        s_01 += p0 * c1
        s_02 += p0 * c2
        s_11 += p1 * c1
        s_12 += p1 * c2
        s_22 += p2 * c2
        s_0 += p0
        s_1 += p1
        s_2 += p2
        b_00 += qx * x
        b_01 += qx * y
        b_0 += qx
        b_11 += qy * y
        b_1 += qy
        b_2 += q
        g0 += c1 * f2 - c2 * f1
        g1 += c2 * f0 - c0 * f2
        g2 += c0 * f1 - c1 * f0
        g3 += f0
        g4 += f1
        g5 += f2
    store_sums(
        (s_00, s_01, s_02, s_11, s_12, s_22), (s_0, s_1, s_2), (b_00, b_01, b_0, b_11, b_1, b_2), total,
        (g0, g1, g2, g3, g4, g5), (probability_sum, square_sum, ring), sums,
    )  # fmt: skip
    return freedom
