"""Loops over minimal sets, hypotheses and selected poses: the CPU twins of `reference.py`, in float32."""

from __future__ import annotations

import math

import numpy as np

from dsac.kernels.cpu_jit import kernel
from dsac.kernels.cpu_p3p import p3p_poses
from dsac.kernels.cpu_refine import NUM_SUMS, move

_DAMPING = 1e-3  # of the diagonal, at the start; ten times less after each accepted step
_ROUNDING = 1e-5  # of the cost: below it a change is float32 rounding
_OVER_RELAXATION = 1.6  # of a step: see `reference.py`


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
def reprojection_errors(rotation, translation, points, focal, maximum, errors):
    """Errors (H, N) in pixels of poses (H, 3, 3), (H, 3); `points` (5, N): pixels from the principal point."""
    fx, fy = focal[0], focal[1]
    px, py, pz, u, v = points[0], points[1], points[2], points[3], points[4]
    for h in range(len(rotation)):
        r, t = rotation[h], translation[h]
        r00, r01, r02, t0 = r[0, 0], r[0, 1], r[0, 2], t[0]
        r10, r11, r12, t1 = r[1, 0], r[1, 1], r[1, 2], t[1]
        r20, r21, r22, t2 = r[2, 0], r[2, 1], r[2, 2], t[2]
        for i in range(points.shape[1]):
            c0 = r00 * px[i] + r01 * py[i] + r02 * pz[i] + t0
            c1 = r10 * px[i] + r11 * py[i] + r12 * pz[i] + t1
            c2 = r20 * px[i] + r21 * py[i] + r22 * pz[i] + t2
            inverse = np.float32(1.0) / c2
            du, dv = fx * c0 * inverse - u[i], fy * c1 * inverse - v[i]
            error = np.sqrt(du * du + dv * dv)
            errors[h, i] = error if (c2 > np.float32(0.0) and error < maximum) else maximum


@kernel
def soft_counts(rotation, translation, points, weights, focal, threshold, maximum, counts):
    """Σ w sigmoid(5 - 5 e/τ) for poses (H, 3, 3), (H, 3), without memory for the errors."""
    fx, fy = focal[0], focal[1]
    px, py, pz, u, v = points[0], points[1], points[2], points[3], points[4]
    one = np.float32(1.0)
    slope = np.float32(5.0) / threshold
    part = np.float32(1.0 / 64.0)
    for h in range(len(rotation)):
        r, t = rotation[h], translation[h]
        r00, r01, r02, t0 = r[0, 0], r[0, 1], r[0, 2], t[0]
        r10, r11, r12, t1 = r[1, 0], r[1, 1], r[1, 2], t[1]
        r20, r21, r22, t2 = r[2, 0], r[2, 1], r[2, 2], t[2]
        total = np.float32(0.0)
        for i in range(points.shape[1]):
            c0 = r00 * px[i] + r01 * py[i] + r02 * pz[i] + t0
            c1 = r10 * px[i] + r11 * py[i] + r12 * pz[i] + t1
            c2 = r20 * px[i] + r21 * py[i] + r22 * pz[i] + t2
            inverse = one / c2
            du, dv = fx * c0 * inverse - u[i], fy * c1 * inverse - v[i]
            error = np.sqrt(du * du + dv * dv)
            error = error if (c2 > np.float32(0.0) and error < maximum) else maximum
            # exp(x) as (e^(x/64))^64: no call of exp, so that the loop is vectorised; error below 1e-6
            x = error * slope - np.float32(5.0)
            x = x if x < np.float32(30.0) else np.float32(30.0)
            z = x * part
            e = one + z * (
                one
                + z
                * (
                    np.float32(1 / 2)
                    + z * (np.float32(1 / 6) + z * (np.float32(1 / 24) + z * np.float32(1 / 120)))
                )
            )
            e = e * e
            e = e * e
            e = e * e
            e = e * e
            e = e * e
            e = e * e
            total += weights[i] / (one + e)
        counts[h] = total


@kernel
def refine_poses(poses, points, weights, focal, threshold, iterations, inliers, matrices):
    """Levenberg-Marquardt on Σ w e² τ²/(e² + τ²) for poses (K, 3, 4) in place, float64."""
    sums = np.empty(NUM_SUMS)
    trial_sums = np.empty(NUM_SUMS)
    trial = np.empty((3, 4))
    step = np.empty(6)
    for k in range(len(poses)):
        cost = _pixel_sums(poses[k], points, weights, focal, threshold, sums)
        damping = _DAMPING
        for _ in range(iterations):
            if sums[27] < 3.0 or not damped_step(sums, damping, step):
                break
            trial[:] = poses[k]
            step *= _OVER_RELAXATION
            move(trial, step)
            trial_cost = _pixel_sums(trial, points, weights, focal, threshold, trial_sums)
            if trial_cost <= cost * (1.0 + _ROUNDING):
                settled = abs(trial_cost - cost) <= _ROUNDING * cost and np.abs(step).max() < 1e-7
                poses[k] = trial
                sums[:] = trial_sums
                cost = trial_cost
                damping = max(0.1 * damping, 1e-12)
                if settled:
                    break
            else:
                damping = min(10.0 * damping, 1e6)
        _mark(poses[k], points, weights, focal, threshold, inliers[k])
        n = 0
        for i in range(6):
            for j in range(i, 6):
                matrices[k, i, j] = matrices[k, j, i] = sums[n]
                n += 1


@kernel
def _pixel_sums(pose, points, weights, focal, threshold, sums):
    """Normal equations of the robust reprojection error, weights w ρ'(e²); returns the cost Σ w ρ in px²."""
    fx, fy = focal[0], focal[1]
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
    zero = np.float32(0.0)
    one = np.float32(1.0)
    limit = threshold * threshold
    h00 = h01 = h02 = h03 = h04 = h05 = h11 = h12 = h13 = h14 = h15 = zero
    h22 = h23 = h24 = h25 = h33 = h35 = h44 = h45 = h55 = zero
    g0 = g1 = g2 = g3 = g4 = g5 = number = cost = zero
    px, py, pz, u, v = points[0], points[1], points[2], points[3], points[4]
    for i in range(points.shape[1]):
        c0 = r00 * px[i] + r01 * py[i] + r02 * pz[i] + t0
        c1 = r10 * px[i] + r11 * py[i] + r12 * pz[i] + t1
        c2 = r20 * px[i] + r21 * py[i] + r22 * pz[i] + t2
        front = c2 > zero
        inverse = one / (c2 if front else one)
        a, b = c0 * inverse, c1 * inverse
        du, dv = fx * a - u[i], fy * b - v[i]
        square = du * du + dv * dv
        kept = limit / (limit + square)
        cost += weights[i] * (square * kept if front else limit)
        number += one if front and square < limit and weights[i] > zero else zero
        w = weights[i] * kept * kept if front else zero
        ju0, ju1, ju2, ju3, ju5 = -fx * a * b, fx * (one + a * a), -fx * b, fx * inverse, -fx * a * inverse
        jv0, jv1, jv2, jv4, jv5 = -fy * (one + b * b), fy * a * b, fy * a, fy * inverse, -fy * b * inverse
        wu0, wu1, wu2, wu3, wu5 = w * ju0, w * ju1, w * ju2, w * ju3, w * ju5
        wv0, wv1, wv2, wv4, wv5 = w * jv0, w * jv1, w * jv2, w * jv4, w * jv5
        h00 += wu0 * ju0 + wv0 * jv0
        h01 += wu0 * ju1 + wv0 * jv1
        h02 += wu0 * ju2 + wv0 * jv2
        h03 += wu0 * ju3
        h04 += wv0 * jv4
        h05 += wu0 * ju5 + wv0 * jv5
        h11 += wu1 * ju1 + wv1 * jv1
        h12 += wu1 * ju2 + wv1 * jv2
        h13 += wu1 * ju3
        h14 += wv1 * jv4
        h15 += wu1 * ju5 + wv1 * jv5
        h22 += wu2 * ju2 + wv2 * jv2
        h23 += wu2 * ju3
        h24 += wv2 * jv4
        h25 += wu2 * ju5 + wv2 * jv5
        h33 += wu3 * ju3
        h35 += wu3 * ju5
        h44 += wv4 * jv4
        h45 += wv4 * jv5
        h55 += wu5 * ju5 + wv5 * jv5
        g0 += wu0 * du + wv0 * dv
        g1 += wu1 * du + wv1 * dv
        g2 += wu2 * du + wv2 * dv
        g3 += wu3 * du
        g4 += wv4 * dv
        g5 += wu5 * du + wv5 * dv
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = h00, h01, h02, h03, h04, h05
    sums[6], sums[7], sums[8], sums[9], sums[10] = h11, h12, h13, h14, h15
    sums[11], sums[12], sums[13], sums[14] = h22, h23, h24, h25
    sums[15], sums[16], sums[17], sums[18], sums[19], sums[20] = h33, zero, h35, h44, h45, h55
    sums[21], sums[22], sums[23], sums[24], sums[25], sums[26] = g0, g1, g2, g3, g4, g5
    sums[27], sums[28], sums[29] = number, zero, zero
    return cost


@kernel
def _mark(pose, points, weights, focal, threshold, inliers):
    fx, fy = focal[0], focal[1]
    r = pose.astype(np.float32)
    for i in range(points.shape[1]):
        x, y, z = points[0, i], points[1, i], points[2, i]
        c0 = r[0, 0] * x + r[0, 1] * y + r[0, 2] * z + r[0, 3]
        c1 = r[1, 0] * x + r[1, 1] * y + r[1, 2] * z + r[1, 3]
        c2 = r[2, 0] * x + r[2, 1] * y + r[2, 2] * z + r[2, 3]
        du, dv = fx * c0 / c2 - points[3, i], fy * c1 / c2 - points[4, i]
        inliers[i] = c2 > 0.0 and du * du + dv * dv < threshold * threshold and weights[i] > 0.0


@kernel
def damped_step(sums, damping, step):
    """Solve (H + damping diag H) step = -g, scaled to unit diagonal; False where that is singular."""
    matrix = np.empty((6, 6))
    scale = np.empty(6)
    k = 0
    for i in range(6):
        for j in range(i, 6):
            matrix[j, i] = sums[k]
            k += 1
    for i in range(6):
        scale[i] = 1.0 / math.sqrt(matrix[i, i]) if matrix[i, i] > 0.0 else 1.0
    for i in range(6):
        for j in range(i + 1):
            value = matrix[i, j] * scale[i] * scale[j]
            for m in range(j):
                value -= matrix[i, m] * matrix[j, m]
            if i == j:
                value += damping
                if not value > 1e-12:
                    return False
                matrix[i, i] = math.sqrt(value)
            else:
                matrix[i, j] = value / matrix[j, j]
    for i in range(6):
        value = -sums[21 + i] * scale[i]
        for m in range(i):
            value -= matrix[i, m] * step[m]
        step[i] = value / matrix[i, i]
    for i in range(5, -1, -1):
        value = step[i]
        for m in range(i + 1, 6):
            value -= matrix[m, i] * step[m]
        step[i] = value / matrix[i, i]
    for i in range(6):
        step[i] *= scale[i]
    return True
