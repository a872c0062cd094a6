"""Loops over minimal sets, hypotheses and selected poses: the twins of `reference.py`.

`points` (5, N) are scene points and pixels from the principal point; poses are float64 (3, 4).
"""

from __future__ import annotations

import math

import numpy as np

from dsac.kernels.jit import inlined, kernel
from dsac.kernels.twins.math import (
    NUM_SUMS,
    cross,
    median_point,
    move,
    moved,
    plus3,
    plus6,
    pose_rows,
    solve,
    unpacked,
    zeros3,
    zeros6,
)
from dsac.kernels.twins.p3p import p3p_poses

_DAMPING = 1e-3  # of the diagonal, at the start; ten times less after each accepted step
_OVER_RELAXATION = 1.6  # of a step: see `reference.py`
_NUMBER = 27  # where the sums hold the number of inliers


@kernel
def p3p_sets(bearings, points, rotations, translations, valid):
    """P3P of M sets, float64 (M, 3, 3); `valid` (M, 4) marks the poses that exist, the rest is identity."""
    work = np.empty((13, 3))
    unit = np.empty((3, 3))
    for m in range(len(points)):
        for i in range(3):
            length = math.sqrt(bearings[m, i, 0] ** 2 + bearings[m, i, 1] ** 2 + bearings[m, i, 2] ** 2)
            for j in range(3):
                unit[i, j] = bearings[m, i, j] / length
        count = p3p_poses(points[m], unit, rotations[m], translations[m], work)
        for s in range(4):
            valid[m, s] = s < count
            if s >= count:
                rotations[m, s] = 0.0
                rotations[m, s, 0, 0] = rotations[m, s, 1, 1] = rotations[m, s, 2, 2] = 1.0
                translations[m, s] = 0.0


@kernel
def fill_rows(pixels, scene_points, principal_points, rotation, translation, points, centers, poses):
    """Fill `points` (B, 5, N) with scene points from their `centers` (B, 3), pixels from principal points.

    And `poses` (B, H, 3, 4) with rotations and translations, which become those of the centred points.
    """
    for b in range(len(pixels)):
        center = centers[b]
        median_point(scene_points[b], center)
        for i in range(pixels.shape[1]):
            for axis in range(3):
                points[b, axis, i] = np.float64(scene_points[b, i, axis]) - center[axis]
            for axis in range(2):
                points[b, 3 + axis, i] = np.float64(pixels[b, i, axis]) - principal_points[b, axis]
        for h in range(poses.shape[1]):
            for i in range(3):
                row = poses[b, h, i]
                row[3] = translation[b, h, i]
                for j in range(3):
                    row[j] = rotation[b, h, i, j]
                    row[3] += row[j] * center[j]


# ---- scoring -----------------------------------------------------------------------------------------


@kernel
def reprojection_errors(poses, points, focal, maximum, errors):
    """Errors (H, N) in pixels of poses (H, 3, 4)."""
    real = points.dtype.type
    fx, fy, most = real(focal[0]), real(focal[1]), real(maximum)
    px, py, pz, pu, pv = points[0], points[1], points[2], points[3], points[4]
    for h in range(len(poses)):
        rows, row = pose_rows(poses[h], real), errors[h]
        for i in range(points.shape[1]):
            _, du, dv, _, front = seen(rows, fx, fy, px[i], py[i], pz[i], pu[i], pv[i], real)
            error = np.sqrt(du * du + dv * dv)
            row[i] = error if (front and error < most) else most


@kernel
def soft_counts(poses, points, weights, focal, threshold, maximum, counts):
    """Σ w sigmoid(5 - 5 e/τ) for poses (H, 3, 4), without memory for the errors."""
    real = points.dtype.type
    fx, fy, most, slope = real(focal[0]), real(focal[1]), real(maximum), real(5.0 / threshold)
    px, py, pz, pu, pv = points[0], points[1], points[2], points[3], points[4]
    for h in range(len(poses)):
        rows, total = pose_rows(poses[h], real), real(0.0)
        for i in range(points.shape[1]):
            _, du, dv, _, front = seen(rows, fx, fy, px[i], py[i], pz[i], pu[i], pv[i], real)
            error = np.sqrt(du * du + dv * dv)
            total += weights[i] * soft_inlier(error if (front and error < most) else most, slope, real)
        counts[h] = total


@inlined
def seen(rows, fx, fy, x, y, z, u, v, real):
    """A point in the camera, how far off a pixel it projects, 1/z (1 if behind), whether it is in front."""
    one = real(1.0)
    c = moved(rows, x, y, z)
    front = c[2] > real(0.0)
    inverse = one / (c[2] if front else one)
    return c, fx * c[0] * inverse - u, fy * c[1] * inverse - v, inverse, front


@inlined
def soft_inlier(error, slope, real):
    """sigmoid(5 - slope error)."""
    one = real(1.0)
    x = error * slope - real(5.0)
    x = x if x < real(30.0) else real(30.0)
    # exp(x) as (e^(x/64))^64: no call of exp, so that the loop is vectorised; error below 1e-7
    z = x * real(1 / 64)
    e = real(1 / 6) + z * (real(1 / 24) + z * real(1 / 120))
    e = one + z * (one + z * (real(1 / 2) + z * e))
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    return one / (one + e)


# ---- refinement --------------------------------------------------------------------------------------


@kernel
def refine_poses(poses, points, weights, focal, threshold, iterations, inliers, matrices):
    """Levenberg-Marquardt on Σ w e² τ²/(e² + τ²) for poses (K, 3, 4) in place."""
    eps = np.finfo(points.dtype).eps
    sums, trial_sums = np.empty(NUM_SUMS), np.empty(NUM_SUMS)
    trial, step = np.empty((3, 4)), np.empty(6)
    for k in range(len(poses)):
        cost = _pixel_sums(poses[k], points, weights, focal, threshold, sums)
        damping = _DAMPING
        for _ in range(iterations if sums[_NUMBER] >= 4.0 else 0):
            gain = solve(sums, damping, step)
            if gain < 0.0:
                break
            trial[:] = poses[k]
            step *= -_OVER_RELAXATION
            move(trial, step)
            trial_cost = _pixel_sums(trial, points, weights, focal, threshold, trial_sums)
            better = trial_cost <= cost * (1.0 + 100.0 * eps)  # below this a difference is rounding
            if better:
                poses[k] = trial
                sums[:] = trial_sums
                cost = trial_cost
            damping = max(0.1 * damping, 1e-12) if better else min(10.0 * damping, 1e6)
            if _OVER_RELAXATION * gain <= eps**1.5 * cost:  # scale-free: what is to be gained, against the cost
                break
        _mark(poses[k], points, weights, focal, threshold, inliers[k])
        unpacked(sums, 1.0, matrices[k])


@kernel
def _pixel_sums(pose, points, weights, focal, threshold, sums):
    """Normal equations of the robust reprojection error, weights w ρ'(e²); returns the cost Σ w ρ in px²."""
    real = points.dtype.type
    rows = pose_rows(pose, real)
    fx, fy, limit = real(focal[0]), real(focal[1]), real(threshold * threshold)
    zero, one = real(0.0), real(1.0)
    total, force = no_stiffness(zero), (zeros3(zero), zeros3(zero))
    number = cost = zero
    px, py, pz, pu, pv = points[0], points[1], points[2], points[3], points[4]
    for i in range(points.shape[1]):
        c, du, dv, inverse, front = seen(rows, fx, fy, px[i], py[i], pz[i], pu[i], pv[i], real)
        square = du * du + dv * dv
        kept = limit / (limit + square)
        cost += weights[i] * (square * kept if front else limit)
        number += one if (front and square < limit and weights[i] > zero) else zero
        p = weights[i] * kept * kept if front else zero
        ix, iy, jx, jy = pixel_slopes(fx, fy, pu[i] + du, pv[i] + dv, inverse)
        pix, piy = p * ix, p * iy
        f = (pix * du, piy * dv, p * (jx * du + jy * dv))
        stiffness = ((pix * ix, zero, pix * jx), (zero, piy * iy, piy * jy))
        total = with_stiffness(
            total, c, stiffness[0], stiffness[1], (pix * jx, piy * jy, p * (jx * jx + jy * jy))
        )
        force = (plus3(force[0], cross(c, f)), plus3(force[1], f))
    store_stiffness(total, sums)
    for i in range(3):
        sums[21 + i], sums[24 + i] = force[0][i], force[1][i]
    sums[_NUMBER] = number
    return cost


@kernel
def _mark(pose, points, weights, focal, threshold, inliers):
    real = points.dtype.type
    rows = pose_rows(pose, real)
    fx, fy, limit = real(focal[0]), real(focal[1]), real(threshold * threshold)
    for i in range(points.shape[1]):
        x, y, z, u, v = points[0, i], points[1, i], points[2, i], points[3, i], points[4, i]
        _, du, dv, _, front = seen(rows, fx, fy, x, y, z, u, v, real)
        inliers[i] = front and du * du + dv * dv < limit and weights[i] > real(0.0)


@inlined
def pixel_slopes(fx, fy, u, v, inverse):
    """∂u/∂x, ∂v/∂y, ∂u/∂z, ∂v/∂z of pixels (u, v) from the principal point."""
    return fx * inverse, fy * inverse, -u * inverse, -v * inverse


# ---- second derivatives by the increment of a pose -----------------------------------------------------


@inlined
def no_stiffness(zero):
    return zeros6(zero), zeros3(zero), zeros3(zero), zeros3(zero), zeros6(zero)


@inlined
def with_stiffness(total, c, m0, m1, m2):
    """Add MᵀSM of a point c with the symmetric S = (m0, m1, m2), M = (-[c], 1): [c] S [c]ᵀ, [c] S and S."""
    turning, mixed0, mixed1, mixed2, shifting = total
    a0, a1, a2 = cross(c, m0), cross(c, m1), cross(c, m2)  # columns of [c] S
    r0 = cross(c, (a0[0], a1[0], a2[0]))
    r1 = cross(c, (a0[1], a1[1], a2[1]))
    r2 = cross(c, (a0[2], a1[2], a2[2]))
    return (
        plus6(turning, (r0[0], r0[1], r0[2], r1[1], r1[2], r2[2])),
        plus3(mixed0, a0),
        plus3(mixed1, a1),
        plus3(mixed2, a2),
        plus6(shifting, (m0[0], m0[1], m0[2], m1[1], m1[2], m2[2])),
    )


@kernel
def store_stiffness(total, sums):
    """Put the parts together to H."""
    turning, mixed0, mixed1, mixed2, shifting = total
    sums[0], sums[1], sums[2], sums[6], sums[7], sums[11] = turning
    sums[3], sums[8], sums[12] = mixed0
    sums[4], sums[9], sums[13] = mixed1
    sums[5], sums[10], sums[14] = mixed2
    sums[15], sums[16], sums[17], sums[18], sums[19], sums[20] = shifting
