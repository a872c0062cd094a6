"""Least squares on the poses of scene points seen along rays.

A point moved into the camera, c = R X + t, and the ray b = (x, y, 1) of its pixel leave the residual f = P c,
with P = 1 - k b bᵀ, k = 1 / bᵀb, the projection across the ray: its length is the distance in metres from point
to ray. When the predicted point is off by isotropic noise this distance, unlike the reprojection error, has the
same spread at every depth, so least squares on it is the maximum likelihood estimate. An increment (rotation w,
translation v) from the left moves c by w × c + v. With weights p the gradient is

    g_v = Σ p f        g_w = Σ p c × f

and, where residuals are small beside depths (P c = 0), the matrix of the normal equations, which is also the
Fisher information of the pose at unit variance, is

    H_vv = Σ p (1 - k b bᵀ)        H_wv = Σ p [c]        H_ww = Σ p (cᵀc - c cᵀ)

`points` is a float32 structure of arrays (7, N): scene point X, Y, Z, ray x, y, k, and the weight, which scales
the inverse variance of a point. A pose is a float64 (3, 4) array `cam_from_world`.
"""

from __future__ import annotations

import math

import numpy as np

from dsac.kernels.cpu_jit import kernel

# Sums: H (21, upper triangle, row by row), gradient (6), then Σp, Σp f², number in the outer ring.
NUM_SUMS = 30


@kernel
def pixel_gated_sums(points, count, pose, aspect, threshold, sums):
    """Sums with Tukey's weight (1 - e²/τ²)² of the reprojection error e.

    `threshold` τ in units of the horizontal focal length; `aspect` is the ratio of focal lengths, vertical to
    horizontal.
    """
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
    stretch = np.float32(aspect * aspect)
    inverse_square = np.float32(1.0 / (threshold * threshold))
    s_00 = s_01 = s_02 = s_11 = s_12 = s_22 = s_0 = s_1 = s_2 = zero
    b_00 = b_01 = b_0 = b_11 = b_1 = b_2 = g0 = g1 = g2 = g3 = g4 = g5 = zero
    probability_sum = square_sum = zero
    px, py, pz, rx, ry, k = points[0], points[1], points[2], points[3], points[4], points[5]
    for i in range(count):
        x, y = rx[i], ry[i]
        c0 = r00 * px[i] + r01 * py[i] + r02 * pz[i] + t0
        c1 = r10 * px[i] + r11 * py[i] + r12 * pz[i] + t1
        c2 = r20 * px[i] + r21 * py[i] + r22 * pz[i] + t2
        ex = c0 - x * c2
        ey = c1 - y * c2
        u = one - (ex * ex + stretch * ey * ey) * inverse_square / (c2 * c2)
        p = u * u if (u > zero and c2 > zero) else zero
        along = (c0 * x + c1 * y + c2) * k[i]
        f0 = c0 - along * x
        f1 = c1 - along * y
        f2 = c2 - along
        probability_sum += p
        square_sum += p * (f0 * f0 + f1 * f1 + f2 * f2)
        f0 *= p
        f1 *= p
        f2 *= p
        p0, p1, p2 = p * c0, p * c1, p * c2
        q = p * k[i]
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
        (s_00, s_01, s_02, s_11, s_12, s_22), (s_0, s_1, s_2), (b_00, b_01, b_0, b_11, b_1, b_2),
        b_00 + b_11 + b_2, (g0, g1, g2, g3, g4, g5), (probability_sum, square_sum, zero), sums,
    )  # fmt: skip


@kernel
def mixture_sums(points, count, pose, variance, clutter, sums):
    """Sums weighted by the probability that a point is right.

    The residual of a right point is Gaussian with `variance` an axis, that of a wrong one uniform, with density
    `clutter` relative to the peak of the Gaussian.
    """
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
    decay = np.float32(0.5 / (variance * 32.0))
    clutter32 = np.float32(clutter)
    inner = np.float32(16.0 * variance)
    outer = np.float32(36.0 * variance)
    s_00 = s_01 = s_02 = s_11 = s_12 = s_22 = s_0 = s_1 = s_2 = zero
    b_00 = b_01 = b_0 = b_11 = b_1 = b_2 = g0 = g1 = g2 = g3 = g4 = g5 = zero
    probability_sum = square_sum = ring = zero
    px, py, pz, rx, ry, k = points[0], points[1], points[2], points[3], points[4], points[5]
    weight = points[6]
    for i in range(count):
        x, y = rx[i], ry[i]
        c0 = r00 * px[i] + r01 * py[i] + r02 * pz[i] + t0
        c1 = r10 * px[i] + r11 * py[i] + r12 * pz[i] + t1
        c2 = r20 * px[i] + r21 * py[i] + r22 * pz[i] + t2
        along = (c0 * x + c1 * y + c2) * k[i]
        f0 = c0 - along * x
        f1 = c1 - along * y
        f2 = c2 - along
        square = (f0 * f0 + f1 * f1 + f2 * f2) * weight[i]
        # exp(-square / 2 variance) as (1 - a/32)^32, which is 0 from 8 standard deviations on
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
        square_sum += probability * square
        p = probability * weight[i]
        f0 *= p
        f1 *= p
        f2 *= p
        p0, p1, p2 = p * c0, p * c1, p * c2
        q = p * k[i]
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
        (s_00, s_01, s_02, s_11, s_12, s_22), (s_0, s_1, s_2), (b_00, b_01, b_0, b_11, b_1, b_2),
        b_00 + b_11 + b_2, (g0, g1, g2, g3, g4, g5), (probability_sum, square_sum, ring), sums,
    )  # fmt: skip


@kernel
def store_sums(second, first, rays, total, gradient, rest, sums):
    """Put the sums of p c cᵀ, p c, p k b bᵀ and p together to H."""
    s_00, s_01, s_02, s_11, s_12, s_22 = second
    s_0, s_1, s_2 = first
    b_00, b_01, b_0, b_11, b_1, b_2 = rays
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = s_11 + s_22, -s_01, -s_02, 0.0, -s_2, s_1
    sums[6], sums[7], sums[8], sums[9], sums[10] = s_00 + s_22, -s_12, s_2, 0.0, -s_0
    sums[11], sums[12], sums[13], sums[14] = s_00 + s_11, -s_1, s_0, 0.0
    sums[15], sums[16], sums[17] = total - b_00, -b_01, -b_0
    sums[18], sums[19], sums[20] = total - b_11, -b_1, total - b_2
    for i in range(6):
        sums[21 + i] = gradient[i]
    for i in range(3):
        sums[27 + i] = rest[i]


@kernel
def gauss_newton_step(sums, pose, factor, step):
    """Move `pose` by -H⁻¹g, in place; returns the gain gᵀH⁻¹g, or -1 where H is singular.

    `factor` (6, 6) and `step` (6,) are written: the Cholesky factor of H scaled to unit diagonal, the move.
    """
    scale = np.empty(6)
    k = 0
    for i in range(6):
        for j in range(i, 6):
            factor[j, i] = sums[k]
            k += 1
    for i in range(6):
        if not factor[i, i] > 0.0:
            return -1.0
        scale[i] = 1.0 / math.sqrt(factor[i, i])
    for i in range(6):
        for j in range(i + 1):
            value = factor[i, j] * scale[i] * scale[j]
            for m in range(j):
                value -= factor[i, m] * factor[j, m]
            if i == j:
                if not value > 1e-7:  # float32 sums do not resolve less
                    return -1.0
                factor[i, i] = math.sqrt(value)
            else:
                factor[i, j] = value / factor[j, j]
    gain = 0.0
    for i in range(6):
        value = sums[21 + i] * scale[i]
        for m in range(i):
            value -= factor[i, m] * step[m]
        step[i] = value / factor[i, i]
        gain += step[i] * step[i]
    for i in range(5, -1, -1):
        value = step[i]
        for m in range(i + 1, 6):
            value -= factor[m, i] * step[m]
        step[i] = value / factor[i, i]
    for i in range(6):
        step[i] *= -scale[i]
    move(pose, step)
    return gain


@kernel
def move(pose, step):
    """Turn `pose` by the rotation vector step[:3], then shift it by step[3:], in place."""
    square = step[0] * step[0] + step[1] * step[1] + step[2] * step[2]
    angle = math.sqrt(square)
    half = 0.5 - square / 48.0 if angle < 1e-3 else math.sin(0.5 * angle) / angle
    w = math.cos(0.5 * angle)
    x, y, z = half * step[0], half * step[1], half * step[2]
    a00, a01, a02 = 1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)
    a10, a11, a12 = 2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)
    a20, a21, a22 = 2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)
    for j in range(4):
        p0, p1, p2 = pose[0, j], pose[1, j], pose[2, j]
        pose[0, j] = a00 * p0 + a01 * p1 + a02 * p2
        pose[1, j] = a10 * p0 + a11 * p1 + a12 * p2
        pose[2, j] = a20 * p0 + a21 * p1 + a22 * p2
    pose[0, 3] += step[3]
    pose[1, 3] += step[4]
    pose[2, 3] += step[5]
