"""Least squares on the poses of scene points seen along rays.

A point moved into the camera, c = R X + t, and the ray b = (x, y, 1) of its pixel leave the residual P c, with
P = 1 - b bᵀ / bᵀb the projection across the ray: its length is the distance in metres from point to ray. When
the predicted point is off by isotropic noise this distance, unlike the reprojection error, has the same spread
at every depth, so least squares on it is the maximum likelihood estimate. For an increment (rotation w,
translation v) from the left, dc = w × c + v, the normal equations of weights p are sums of

    M = p P      g_v = M c      g_w = c × M c      H_vv = M      H_wv = [c] M      H_ww = [c] M [c]ᵀ

`points` is a float32 structure of arrays (5, N): scene point X, Y, Z, and the ray x, y. A pose is a
float64 (3, 4) array `cam_from_world`.
"""

from __future__ import annotations

import math

import numpy as np

from dsac.kernels.cpu_jit import kernel

# Sums: H (21, upper triangle, row by row), gradient (6), then Σp, Σp r², number in the outer ring.
NUM_SUMS = 30


@kernel
def pixel_gated_sums(points, start, stop, pose, aspect, threshold, sums):
    """Normal equations with Tukey's weight (1 - e²/τ²)² of the reprojection error e.

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
    h00 = h01 = h02 = h03 = h04 = h05 = h11 = h12 = h13 = h14 = h15 = zero
    h22 = h23 = h24 = h25 = h33 = h34 = h35 = h44 = h45 = h55 = zero
    g0 = g1 = g2 = g3 = g4 = g5 = weight_sum = square_sum = zero
    px, py, pz, rx, ry = points[0], points[1], points[2], points[3], points[4]
    for i in range(start, stop):
        x, y = rx[i], ry[i]
        c0 = r00 * px[i] + r01 * py[i] + r02 * pz[i] + t0
        c1 = r10 * px[i] + r11 * py[i] + r12 * pz[i] + t1
        c2 = r20 * px[i] + r21 * py[i] + r22 * pz[i] + t2
        ex = c0 - x * c2
        ey = c1 - y * c2
        u = one - (ex * ex + stretch * ey * ey) * inverse_square / (c2 * c2)
        p = u * u if (u > zero and c2 > zero) else zero
        k = one / (one + x * x + y * y)
        # M, and M c
        m02, m12 = -p * k * x, -p * k * y
        m00, m01, m11, m22 = p + m02 * x, m02 * y, p + m12 * y, p - p * k
        f0 = m00 * c0 + m01 * c1 + m02 * c2
        f1 = m01 * c0 + m11 * c1 + m12 * c2
        f2 = m02 * c0 + m12 * c1 + m22 * c2
        # [c] M, rows
        a00, a01, a02 = c1 * m02 - c2 * m01, c1 * m12 - c2 * m11, c1 * m22 - c2 * m12
        a10, a11, a12 = c2 * m00 - c0 * m02, c2 * m01 - c0 * m12, c2 * m02 - c0 * m22
        a20, a21, a22 = c0 * m01 - c1 * m00, c0 * m11 - c1 * m01, c0 * m12 - c1 * m02
        h00 += c1 * a02 - c2 * a01
        h01 += c2 * a00 - c0 * a02
        h02 += c0 * a01 - c1 * a00
        h11 += c2 * a10 - c0 * a12
        h12 += c0 * a11 - c1 * a10
        h22 += c0 * a21 - c1 * a20
        h03 += a00
        h04 += a01
        h05 += a02
        h13 += a10
        h14 += a11
        h15 += a12
        h23 += a20
        h24 += a21
        h25 += a22
        h33 += m00
        h34 += m01
        h35 += m02
        h44 += m11
        h45 += m12
        h55 += m22
        g0 += c1 * f2 - c2 * f1
        g1 += c2 * f0 - c0 * f2
        g2 += c0 * f1 - c1 * f0
        g3 += f0
        g4 += f1
        g5 += f2
        weight_sum += p
        square_sum += f0 * c0 + f1 * c1 + f2 * c2
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = h00, h01, h02, h03, h04, h05
    sums[6], sums[7], sums[8], sums[9], sums[10] = h11, h12, h13, h14, h15
    sums[11], sums[12], sums[13], sums[14] = h22, h23, h24, h25
    sums[15], sums[16], sums[17], sums[18], sums[19], sums[20] = h33, h34, h35, h44, h45, h55
    sums[21], sums[22], sums[23], sums[24], sums[25], sums[26] = g0, g1, g2, g3, g4, g5
    sums[27], sums[28], sums[29] = weight_sum, square_sum, zero


@kernel
def mixture_sums(points, weights, count, pose, variance, clutter, sums):
    """Normal equations weighted by the probability that a point is right.

    The residual of a right point is Gaussian with `variance` an axis, that of a wrong one uniform, with density
    `clutter` relative to the peak of the Gaussian.

    `weights` scale the inverse variance of each point.
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
    h00 = h01 = h02 = h03 = h04 = h05 = h11 = h12 = h13 = h14 = h15 = zero
    h22 = h23 = h24 = h25 = h33 = h34 = h35 = h44 = h45 = h55 = zero
    g0 = g1 = g2 = g3 = g4 = g5 = probability_sum = square_sum = ring = zero
    px, py, pz, rx, ry = points[0], points[1], points[2], points[3], points[4]
    for i in range(count):
        x, y = rx[i], ry[i]
        c0 = r00 * px[i] + r01 * py[i] + r02 * pz[i] + t0
        c1 = r10 * px[i] + r11 * py[i] + r12 * pz[i] + t1
        c2 = r20 * px[i] + r21 * py[i] + r22 * pz[i] + t2
        k = one / (one + x * x + y * y)
        along = (c0 * x + c1 * y + c2) * k
        f0 = c0 - along * x
        f1 = c1 - along * y
        f2 = c2 - along
        square = (f0 * f0 + f1 * f1 + f2 * f2) * weights[i]
        # exp(-square / 2 variance) as (1 - a/32)^32, which is 0 from 8 standard deviations on
        a = one - square * decay
        a = a if a > zero else zero
        a = a * a
        a = a * a
        a = a * a
        a = a * a
        a = a * a
        probability = a / (a + clutter32) if along > zero else zero
        ring += one if (square > inner and square < outer) else zero
        probability_sum += probability
        square_sum += probability * square
        p = probability * weights[i]
        f0 *= p
        f1 *= p
        f2 *= p
        m02, m12 = -p * k * x, -p * k * y
        m00, m01, m11, m22 = p + m02 * x, m02 * y, p + m12 * y, p - p * k
        a00, a01, a02 = c1 * m02 - c2 * m01, c1 * m12 - c2 * m11, c1 * m22 - c2 * m12
        a10, a11, a12 = c2 * m00 - c0 * m02, c2 * m01 - c0 * m12, c2 * m02 - c0 * m22
        a20, a21, a22 = c0 * m01 - c1 * m00, c0 * m11 - c1 * m01, c0 * m12 - c1 * m02
        h00 += c1 * a02 - c2 * a01
        h01 += c2 * a00 - c0 * a02
        h02 += c0 * a01 - c1 * a00
        h11 += c2 * a10 - c0 * a12
        h12 += c0 * a11 - c1 * a10
        h22 += c0 * a21 - c1 * a20
        h03 += a00
        h04 += a01
        h05 += a02
        h13 += a10
        h14 += a11
        h15 += a12
        h23 += a20
        h24 += a21
        h25 += a22
        h33 += m00
        h34 += m01
        h35 += m02
        h44 += m11
        h45 += m12
        h55 += m22
        g0 += c1 * f2 - c2 * f1
        g1 += c2 * f0 - c0 * f2
        g2 += c0 * f1 - c1 * f0
        g3 += f0
        g4 += f1
        g5 += f2
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = h00, h01, h02, h03, h04, h05
    sums[6], sums[7], sums[8], sums[9], sums[10] = h11, h12, h13, h14, h15
    sums[11], sums[12], sums[13], sums[14] = h22, h23, h24, h25
    sums[15], sums[16], sums[17], sums[18], sums[19], sums[20] = h33, h34, h35, h44, h45, h55
    sums[21], sums[22], sums[23], sums[24], sums[25], sums[26] = g0, g1, g2, g3, g4, g5
    sums[27], sums[28], sums[29] = probability_sum, square_sum, ring


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
