"""Least squares on the poses of scene points seen along rays, with or without measured depth.

A point moved into the camera, c = R X + t, and the ray b = (x, y, 1) of its pixel leave the residual f = P c,
with P = 1 - k b bᵀ, k = 1 / bᵀb, the projection across the ray: its length is the distance in metres from point
to ray. When the predicted point is off by isotropic noise this distance, unlike the reprojection error, has the
same spread at every depth, so least squares on it is the maximum likelihood estimate. An increment (rotation w,
translation v) from the left moves c by w × c + v. With weights p the gradient is

    g_v = Σ p f        g_w = Σ p c × f

and, where residuals are small beside depths (P c = 0), the matrix of the normal equations, which is also the
Fisher information of the pose at unit variance, is

    H_vv = Σ p (1 - k b bᵀ)        H_wv = Σ p [c]        H_ww = Σ p (cᵀc - c cᵀ)

With the depth z of its pixel a point also has a residual along the ray, (b·c) k - z. The prediction is off by
noise of variance s² (s² / w for a point of weight w), the sensor by a noise that grows with the square of the
depth, so along the ray the residual counts only with a = s² / (s² + w sensor²): k becomes (1 - a) k in H_vv.
Without depth a = 0, and both kinds of rows meet in one least squares.

`points` is a float32 structure of arrays (7, N): scene point X, Y, Z, ray x, y, k, and the weight, which scales
the inverse variance of a point; `depth` (N,) holds 0 where none is measured, or is None. A pose is a float64
(3, 4) array `cam_from_world`.
"""

from __future__ import annotations

import numpy as np

from dsac.kernels.jit import inlined, kernel
from dsac.kernels.twins.math import (
    cross,
    dot,
    gauss_newton_step,
    moved,
    outer6,
    plus3,
    plus6,
    pose_rows,
    zeros3,
    zeros6,
)

# What `sums` hold behind H and g: Σ of the probabilities, Σ of weighted squares, number in the outer ring,
# Σ of the probabilities times the residuals of a point.
PROBABILITY, SQUARE, RING, FREEDOM = 27, 28, 29, 30


@kernel
def maximise_likelihood(points, depth, count, pose, noise, depth_noise, sums, iterations):
    """Improve pose and noise in place; False when the points do not determine a pose.

    Gaussian noise and uniform clutter: `noise` holds the variance an axis, and the density of the clutter
    relative to the peak of the Gaussian.
    """
    for _ in range(iterations):
        mixture_sums(points, depth, count, pose, noise[0], noise[1], depth_noise, sums)
        if not sums[FREEDOM] > 6.0:
            return False
        gain = gauss_newton_step(sums, pose)
        if gain < 0.0:
            return False
        noise[0] = max(sums[SQUARE] / sums[FREEDOM], 1e-18)
        noise[1] = sums[RING] / (10.0 * sums[PROBABILITY]) + 1e-4
        if gain < 0.05 * noise[0]:  # a step of a fifth of the standard deviation: what is left is a tenth of it
            break
    return True


@kernel
def mixture_sums(points, depth, count, pose, variance, clutter, depth_noise, sums):
    """Sums weighted by the probability that a point is right."""
    rows = pose_rows(pose, np.float32)
    zero, one, two, three = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(3.0)
    spread, sensor = np.float32(variance), np.float32(depth_noise * depth_noise)
    decay = np.float32(0.5 / (variance * 32.0))
    clutter32 = np.float32(clutter)
    inner, outer = np.float32(16.0 * variance), np.float32(36.0 * variance)
    total = _no_sums(zero)
    probability_sum = square_sum = ring = freedom = zero
    px, py, pz, rx, ry, k, weight = points[0], points[1], points[2], points[3], points[4], points[5], points[6]
    for i in range(count):
        x, y = rx[i], ry[i]
        c = moved(rows, px[i], py[i], pz[i])
        along = (c[0] * x + c[1] * y + c[2]) * k[i]
        f = (c[0] - along * x, c[1] - along * y, c[2] - along)
        square = dot(f, f)
        bearing = k[i]
        residuals = two
        if depth is not None:
            z = depth[i]
            measured = z > zero
            deviation = along - z if measured else zero
            pull = spread / (spread + weight[i] * sensor * z * z * z * z / k[i]) if measured else zero
            square += pull * deviation * deviation / k[i]
            step = pull * deviation
            f = (f[0] + step * x, f[1] + step * y, f[2] + step)
            bearing = k[i] * (one - pull)
            residuals = three if measured else two
        square *= weight[i]
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
        freedom += probability * residuals
        p = probability * weight[i]
        total = _with_point(total, c, x, y, p, p * bearing, f)
    _store(total, sums)
    sums[PROBABILITY], sums[SQUARE], sums[RING], sums[FREEDOM] = probability_sum, square_sum, ring, freedom


@kernel
def pixel_gated_sums(points, count, pose, aspect, threshold, sums):
    """Sums with Tukey's weight (1 - e²/τ²)² of the reprojection error e.

    `threshold` τ in units of the horizontal focal length; `aspect` is the ratio of focal lengths, vertical to
    horizontal.
    """
    rows = pose_rows(pose, np.float32)
    zero, one = np.float32(0.0), np.float32(1.0)
    stretch, inverse_square = np.float32(aspect * aspect), np.float32(1.0 / (threshold * threshold))
    total = _no_sums(zero)
    probability_sum = square_sum = zero
    px, py, pz, rx, ry, k = points[0], points[1], points[2], points[3], points[4], points[5]
    for i in range(count):
        x, y = rx[i], ry[i]
        c = moved(rows, px[i], py[i], pz[i])
        ex, ey = c[0] - x * c[2], c[1] - y * c[2]
        u = one - (ex * ex + stretch * ey * ey) * inverse_square / (c[2] * c[2])
        p = u * u if (u > zero and c[2] > zero) else zero
        along = (c[0] * x + c[1] * y + c[2]) * k[i]
        f = (c[0] - along * x, c[1] - along * y, c[2] - along)
        probability_sum += p
        square_sum += p * dot(f, f)
        total = _with_point(total, c, x, y, p, p * k[i], f)
    _store(total, sums)
    sums[PROBABILITY], sums[SQUARE] = probability_sum, square_sum


# ---- normal equations --------------------------------------------------------------------------------


@inlined
def _no_sums(zero):
    return zeros6(zero), zeros3(zero), zeros6(zero), zero, zeros3(zero), zeros3(zero)


@inlined
def _with_point(total, c, x, y, p, q, f):
    """Add p c cᵀ, p c, q b bᵀ, p, p c × f and p f."""
    second, first, rays, number, torque, force = total
    pc, pf, qb = (p * c[0], p * c[1], p * c[2]), (p * f[0], p * f[1], p * f[2]), (q * x, q * y, q)
    bearing = outer6(qb, (x, y, np.float32(1.0)))
    return (
        plus6(second, outer6(pc, c)),
        plus3(first, pc),
        plus6(rays, bearing),
        number + p,
        plus3(torque, cross(c, pf)),
        plus3(force, pf),
    )


@kernel
def _store(total, sums):
    """Put the sums together to H and g."""
    (s_00, s_01, s_02, s_11, s_12, s_22), (s_0, s_1, s_2), rays, number, torque, force = total
    b_00, b_01, b_0, b_11, b_1, b_2 = rays
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = s_11 + s_22, -s_01, -s_02, 0.0, -s_2, s_1
    sums[6], sums[7], sums[8], sums[9], sums[10] = s_00 + s_22, -s_12, s_2, 0.0, -s_0
    sums[11], sums[12], sums[13], sums[14] = s_00 + s_11, -s_1, s_0, 0.0
    sums[15], sums[16], sums[17] = number - b_00, -b_01, -b_0
    sums[18], sums[19], sums[20] = number - b_11, -b_1, number - b_2
    for i in range(3):
        sums[21 + i], sums[24 + i] = torque[i], force[i]
