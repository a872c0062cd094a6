"""RGB-D: poses from pixels whose depth is measured, and from those without depth beside them.

Minimal sets are of points with depth: a seed and two of the points as far from it in the scene as in the
camera. The best pose ends at the maximum likelihood on all points (`likelihood.py`).

`points` is (8, N), the last row the depth, 0 where there is none.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dsac.kernels.jit import kernel
from dsac.kernels.search.likelihood import maximise_likelihood
from dsac.kernels.search.points import below, draw_subset, mixed, prepare, with_companions
from dsac.kernels.twins.math import NUM_SUMS, moved, pose_rows, uncentre, unpacked
from dsac.kernels.twins.p3p import triangle_axes

_SUBSET = 1024
_LOCAL = 64  # companions at most
_SUPPORT = 5.0  # points (with the minimal set) and ...
_SUPPORT_SHARE = 0.3  # ... share of the companions that must agree with a pose of the minimal set
_PROMISING = 1.1  # times the best count before: a pose must have more to be optimised
_LEAST_RATIO = 0.01  # inlier ratio that is looked for as long as nothing is found


class Options(NamedTuple):
    threshold: float  # metres
    depth_noise: float  # of the sensor, metres at 1 m
    confidence: float
    max_hypotheses: int
    seed: int


@kernel
def solve_images(images, solution, options):
    """Fill the fields of a `Solution` for some `Images`: see `search.face.solve_rgbd`."""
    pose = np.empty((3, 4))
    for b in range(len(images.pixels)):
        focal, middle = images.focal_px[b], images.center_px[b]
        camera = (focal[0], focal[1], middle[0], middle[1])
        solution.num_hypotheses[b], solution.num_usable[b] = _solve(
            images.pixels[b], images.scene_points[b], images.depths[b], images.weights[b], camera, options,
            pose, solution.inliers[b], solution.information[b],
        )  # fmt: skip
        solution.rotation[b], solution.translation[b] = pose[:, :3], pose[:, 3]


@kernel
def _solve(pixels, scene_points, depths, weights, camera, options, pose, inliers, information):
    threshold, depth_noise = options.threshold, options.depth_noise
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
        return 0, usable
    state = np.empty(1, np.uint64)
    state[0] = mixed(np.uint64(options.seed))
    subset = np.empty((8, min(usable, _SUBSET)), np.float32)
    draw_subset(points, rows, usable, subset, state)
    sums = np.empty(NUM_SUMS)
    found = np.zeros((3, 4))
    num = _search(subset, options, state, found, sums)
    if not found.any():
        return num, usable
    noise = np.array([(threshold / 3.0) ** 2, 0.01])
    for rows_used, iterations in ((subset, 4), (points, 10)):
        count = rows_used.shape[1]
        if not maximise_likelihood(rows_used, rows_used[7], count, found, noise, depth_noise, sums, iterations):
            return num, usable
    pose[:] = found
    unpacked(sums, 1.0 / noise[0], information)
    _mark(points, pose, threshold, inliers)
    uncentre(pose, center)
    return num, usable


@kernel
def _search(subset, options, state, pose, sums):
    """The best pose of minimal sets with depth; returns the number of seeds drawn. `pose` stays 0 if none."""
    threshold, depth_noise = options.threshold, options.depth_noise
    size = subset.shape[1]
    local = np.empty((8, _LOCAL), np.float32)
    trial = np.empty((3, 4))
    noise = np.empty(2)
    most = best = chance = log_miss = 0.0
    log_enough = math.log(1.0 - options.confidence)
    num = 0
    while num < options.max_hypotheses and log_miss > log_enough:
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
        j, k = 1 + below(state, m - 1), 1 + below(state, m - 1)
        if not (_is_rigid(local, j, k, threshold) and _align(local, j, k, trial)):
            continue
        if _count(local, m, trial, threshold) < max(_SUPPORT, _SUPPORT_SHARE * m):
            continue
        noise[0], noise[1] = (threshold / 2.0) ** 2, 0.1
        if not maximise_likelihood(local, local[7], m, trial, noise, depth_noise, sums, 1):
            continue
        count = _count(subset, size, trial, threshold)
        if count <= _PROMISING * most:
            continue
        most = count
        noise[0], noise[1] = (threshold / 2.0) ** 2, 0.05
        if not maximise_likelihood(subset, subset[7], size, trial, noise, depth_noise, sums, 3):
            continue
        count = _count(subset, size, trial, threshold)
        if count > best:
            best = count
            pose[:] = trial
    return num


@kernel
def _align(local, j, k, pose):
    """The pose that moves the triangle of the seed and two companions onto its camera points, in place.

    False when the three are on a line.
    """
    camera, scene = np.empty((3, 3)), np.empty((3, 3))
    camera_axes, scene_axes = np.empty((3, 3)), np.empty((3, 3))
    for i in range(3):
        row = 0 if i == 0 else (j if i == 1 else k)
        z = local[7, row]
        camera[i, 0], camera[i, 1], camera[i, 2] = z * local[3, row], z * local[4, row], z
        scene[i, 0], scene[i, 1], scene[i, 2] = local[0, row], local[1, row], local[2, row]
    if not (
        triangle_axes(camera[0], camera[1], camera[2], camera_axes)
        and triangle_axes(scene[0], scene[1], scene[2], scene_axes)
    ):
        return False
    for i in range(3):
        pose[i, 3] = (camera[0, i] + camera[1, i] + camera[2, i]) / 3.0
        for axis in range(3):
            pose[i, axis] = (
                camera_axes[0, i] * scene_axes[0, axis]
                + camera_axes[1, i] * scene_axes[1, axis]
                + camera_axes[2, i] * scene_axes[2, axis]
            )
            pose[i, 3] -= pose[i, axis] * (scene[0, axis] + scene[1, axis] + scene[2, axis]) / 3.0
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
    fits[seed] = False
    return with_companions(points, seed, fits, local), fits.sum()


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
    rows = pose_rows(pose, np.float32)
    limit = np.float32(threshold * threshold)
    zero, one = np.float32(0.0), np.float32(1.0)
    near = zero
    px, py, pz, rx, ry, depth = points[0], points[1], points[2], points[3], points[4], points[7]
    for i in range(count):
        z = depth[i]
        c = moved(rows, px[i], py[i], pz[i])
        dx, dy, dz = c[0] - z * rx[i], c[1] - z * ry[i], c[2] - z
        near += one if (dx * dx + dy * dy + dz * dz < limit) & (z > zero) else zero
    return near


@kernel
def _mark(points, pose, threshold, inliers):
    """Which points lie within `threshold` of their camera point or, without depth, of their ray."""
    rows = pose_rows(pose, np.float32)
    for i in range(points.shape[1]):
        x, y, z = points[3, i], points[4, i], points[7, i]
        c = moved(rows, points[0, i], points[1, i], points[2, i])
        along = z if z > 0.0 else (c[0] * x + c[1] * y + c[2]) * points[5, i]
        square = (c[0] - along * x) ** 2 + (c[1] - along * y) ** 2 + (c[2] - along) ** 2
        inliers[i] = along > 0.0 and square < threshold * threshold
