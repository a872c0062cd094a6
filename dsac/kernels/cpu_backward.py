"""Vector-Jacobian products of scoring and refinement, in closed form, in one pass over the points.

With X = R Y + t in front of the camera, r its residual in pixels and J = ∂r/∂X:

*Score* S = Σ w sigmoid(5 - 5 e/τ), e = |r|. The force f = ∂S/∂X = -(5/τ) w σ (1 - σ) Jᵀr / e pulls on the scene
point by Rᵀf, on the translation by Σ f and on the rotation by Σ f Yᵀ.

*Refinement* ends where the gradient g = Σ (X × f, f) of the cost Σ w ρ(e²) vanishes, f = w ρ' q with q = Jᵀr.
By the implicit function theorem a cotangent t of the pose's increment gives the points -(∂g/∂Y)ᵀ G⁻¹ t. With
(a, b) = G⁻¹ t and m = a × X + b, how the points would move with that increment,

    grad_Y = -Rᵀ (S m + f × a)       grad_w = -ρ' q·m       S = ∂f/∂X = w (ρ' ∂q/∂X + 2 ρ'' q qᵀ)

and G, the derivative of g by the increment, is a sum of S, [X] S, [X] S [X]ᵀ and of the turning of the forces.

`points` (5, N) are scene points and pixels from the principal point, as in `cpu_poses.py`.
"""

from __future__ import annotations

import math

import numpy as np

from dsac.kernels.cpu_jit import kernel


@kernel
def soft_counts_gradient(
    rotation, translation, points, weights, focal, threshold, maximum, cotangents,
    grad_rotation, grad_translation, grad_points, grad_weights,
):  # fmt: skip
    """Pull `cotangents` (H,) of the scores back; grad_points (3, N) and grad_weights (N,) are added to."""
    fx, fy = focal[0], focal[1]
    px, py, pz, pu, pv = points[0], points[1], points[2], points[3], points[4]
    gx, gy, gz = grad_points[0], grad_points[1], grad_points[2]
    zero, one = np.float32(0.0), np.float32(1.0)
    slope = np.float32(5.0) / threshold
    part = np.float32(1.0 / 64.0)
    for h in range(len(rotation)):
        r, t, scale = rotation[h], translation[h], cotangents[h]
        if scale == zero:
            grad_rotation[h] = zero
            grad_translation[h] = zero
            continue
        r00, r01, r02, t0 = r[0, 0], r[0, 1], r[0, 2], t[0]
        r10, r11, r12, t1 = r[1, 0], r[1, 1], r[1, 2], t[1]
        r20, r21, r22, t2 = r[2, 0], r[2, 1], r[2, 2], t[2]
        s0 = s1 = s2 = s00 = s01 = s02 = s10 = s11 = s12 = s20 = s21 = s22 = zero
        for i in range(points.shape[1]):
            a, b, c = px[i], py[i], pz[i]
            c0 = r00 * a + r01 * b + r02 * c + t0
            c1 = r10 * a + r11 * b + r12 * c + t1
            c2 = r20 * a + r21 * b + r22 * c + t2
            front = c2 > zero
            inverse = one / (c2 if front else one)
            u, v = fx * c0 * inverse, fy * c1 * inverse
            du, dv = u - pu[i], v - pv[i]
            error = np.sqrt(du * du + dv * dv)
            within = front & (error < maximum)
            x = (error if within else maximum) * slope - np.float32(5.0)
            x = x if x < np.float32(30.0) else np.float32(30.0)
            z = x * part
            third = np.float32(1 / 6) + z * (np.float32(1 / 24) + z * np.float32(1 / 120))
            e = one + z * (one + z * (np.float32(1 / 2) + z * third))
            e = e * e
            e = e * e
            e = e * e
            e = e * e
            e = e * e
            e = e * e
            inlier = one / (one + e)
            grad_weights[i] += scale * inlier
            pull = -slope * scale * weights[i] * inlier * (one - inlier) * inverse
            pull = pull / (error if error > np.float32(1e-6) else np.float32(1e-6))
            pull = pull if within else zero
            f0, f1 = pull * du * fx, pull * dv * fy
            f2 = -pull * (du * u + dv * v)
            gx[i] += r00 * f0 + r10 * f1 + r20 * f2
            gy[i] += r01 * f0 + r11 * f1 + r21 * f2
            gz[i] += r02 * f0 + r12 * f1 + r22 * f2
            s0 += f0
            s1 += f1
            s2 += f2
            s00 += f0 * a
            s01 += f0 * b
            s02 += f0 * c
            s10 += f1 * a
            s11 += f1 * b
            s12 += f1 * c
            s20 += f2 * a
            s21 += f2 * b
            s22 += f2 * c
        grad_translation[h, 0], grad_translation[h, 1], grad_translation[h, 2] = s0, s1, s2
        g = grad_rotation[h]
        g[0, 0], g[0, 1], g[0, 2] = s00, s01, s02
        g[1, 0], g[1, 1], g[1, 2] = s10, s11, s12
        g[2, 0], g[2, 1], g[2, 2] = s20, s21, s22


@kernel
def refinement_gradient(
    poses, points, weights, focal, threshold, cotangents, grad_points, grad_weights, determined
):
    """Pull cotangents (K, 6) of the increments of refined poses (K, 3, 4) back; adds to the two gradients.

    Where G is singular or no minimum, `determined` is False and the pose passes nothing.
    """
    matrix = np.empty((6, 6))
    solution = np.empty(6)
    pulls = np.empty((3, points.shape[1]), np.float32)  # on the points, in the camera frame
    for k in range(len(poses)):
        if not np.abs(cotangents[k]).max() > 0.0:
            determined[k] = True
            continue
        _second_derivative(poses[k], points, weights, focal, threshold, matrix)
        determined[k] = _solve(matrix, cotangents[k], solution)
        if determined[k]:
            _pull_points(
                poses[k], points, weights, focal, threshold, solution, pulls, grad_points, grad_weights
            )


@kernel
def _second_derivative(pose, points, weights, focal, threshold, matrix):
    """G (6, 6), symmetric part."""
    r = pose.astype(np.float32)
    r00, r01, r02, t0 = r[0, 0], r[0, 1], r[0, 2], r[0, 3]
    r10, r11, r12, t1 = r[1, 0], r[1, 1], r[1, 2], r[1, 3]
    r20, r21, r22, t2 = r[2, 0], r[2, 1], r[2, 2], r[2, 3]
    fx, fy = focal[0], focal[1]
    zero, one, two = np.float32(0.0), np.float32(1.0), np.float32(2.0)
    limit = threshold * threshold
    px, py, pz, pu, pv = points[0], points[1], points[2], points[3], points[4]
    h00 = h01 = h02 = h03 = h04 = h05 = h11 = h12 = h13 = h14 = h15 = zero
    h22 = h23 = h24 = h25 = h33 = h34 = h35 = h44 = h45 = h55 = zero
    w00 = w01 = w02 = w11 = w12 = w22 = power = zero
    for i in range(points.shape[1]):
        a, b, c = px[i], py[i], pz[i]
        c0 = r00 * a + r01 * b + r02 * c + t0
        c1 = r10 * a + r11 * b + r12 * c + t1
        c2 = r20 * a + r21 * b + r22 * c + t2
        front = c2 > zero
        inverse = one / (c2 if front else one)
        u, v = fx * c0 * inverse, fy * c1 * inverse
        du, dv = u - pu[i], v - pv[i]
        kept = limit / (limit + du * du + dv * dv)
        p = (weights[i] if front else zero) * kept * kept
        curve = -two * two * p * kept / limit  # w 2 ρ''
        ix, iy = fx * inverse, fy * inverse
        jx, jy = -u * inverse, -v * inverse
        q0, q1 = du * ix, dv * iy
        q2 = du * jx + dv * jy
        m00 = p * ix * ix + curve * q0 * q0
        m01 = curve * q0 * q1
        m02 = p * (ix * jx - q0 * inverse) + curve * q0 * q2
        m11 = p * iy * iy + curve * q1 * q1
        m12 = p * (iy * jy - q1 * inverse) + curve * q1 * q2
        m22 = p * (jx * jx + jy * jy - two * q2 * inverse) + curve * q2 * q2
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
        # the turning of the forces, X fᵀ - (X·f) 1; the forces themselves add up to zero at the optimum
        f0, f1, f2 = p * q0, p * q1, p * q2
        w00 += c0 * f0
        w11 += c1 * f1
        w22 += c2 * f2
        w01 += c0 * f1 + c1 * f0
        w02 += c0 * f2 + c2 * f0
        w12 += c1 * f2 + c2 * f1
    power = w00 + w11 + w22
    half = np.float32(0.5)
    h00, h11, h22 = h00 + w00 - power, h11 + w11 - power, h22 + w22 - power
    h01, h02, h12 = h01 + half * w01, h02 + half * w02, h12 + half * w12
    rows = (
        h00,
        h01,
        h02,
        h03,
        h04,
        h05,
        h11,
        h12,
        h13,
        h14,
        h15,
        h22,
        h23,
        h24,
        h25,
        h33,
        h34,
        h35,
        h44,
        h45,
        h55,
    )
    n = 0
    for i in range(6):
        for j in range(i, 6):
            matrix[i, j] = matrix[j, i] = rows[n]
            n += 1


@kernel
def _pull_points(pose, points, weights, focal, threshold, solution, pulls, grad_points, grad_weights):
    r = pose.astype(np.float32)
    r00, r01, r02, t0 = r[0, 0], r[0, 1], r[0, 2], r[0, 3]
    r10, r11, r12, t1 = r[1, 0], r[1, 1], r[1, 2], r[1, 3]
    r20, r21, r22, t2 = r[2, 0], r[2, 1], r[2, 2], r[2, 3]
    s = solution.astype(np.float32)
    a0, a1, a2, b0, b1, b2 = s[0], s[1], s[2], s[3], s[4], s[5]
    fx, fy = focal[0], focal[1]
    zero, one, two = np.float32(0.0), np.float32(1.0), np.float32(2.0)
    limit = threshold * threshold
    px, py, pz, pu, pv = points[0], points[1], points[2], points[3], points[4]
    gx, gy, gz = grad_points[0], grad_points[1], grad_points[2]
    nx, ny, nz = pulls[0], pulls[1], pulls[2]
    for i in range(points.shape[1]):
        a, b, c = px[i], py[i], pz[i]
        c0 = r00 * a + r01 * b + r02 * c + t0
        c1 = r10 * a + r11 * b + r12 * c + t1
        c2 = r20 * a + r21 * b + r22 * c + t2
        front = c2 > zero
        inverse = one / (c2 if front else one)
        u, v = fx * c0 * inverse, fy * c1 * inverse
        du, dv = u - pu[i], v - pv[i]
        kept = limit / (limit + du * du + dv * dv)
        slope = kept * kept if front else zero
        p = weights[i] * slope
        curve = -two * two * p * kept / limit
        ix, iy = fx * inverse, fy * inverse
        jx, jy = -u * inverse, -v * inverse
        q0, q1 = du * ix, dv * iy
        q2 = du * jx + dv * jy
        m0 = a1 * c2 - a2 * c1 + b0
        m1 = a2 * c0 - a0 * c2 + b1
        m2 = a0 * c1 - a1 * c0 + b2
        power = q0 * m0 + q1 * m1 + q2 * m2
        grad_weights[i] -= slope * power
        # S m = p (Jᵀ(J m) + Σ r ∂²r m) + curve q (q·m), and f × a
        ju, jv = ix * m0 + jx * m2, iy * m1 + jy * m2
        bend0, bend1 = -q0 * inverse, -q1 * inverse
        n0 = p * (ix * ju + bend0 * m2 + q1 * a2 - q2 * a1) + curve * q0 * power
        n1 = p * (iy * jv + bend1 * m2 + q2 * a0 - q0 * a2) + curve * q1 * power
        n2 = p * (jx * ju + jy * jv + bend0 * m0 + bend1 * m1 - two * q2 * inverse * m2 + q0 * a1 - q1 * a0)
        n2 += curve * q2 * power
        nx[i], ny[i], nz[i] = n0, n1, n2
    for i in range(points.shape[1]):  # apart from the loop above, which would not be vectorised with it
        gx[i] -= r00 * nx[i] + r10 * ny[i] + r20 * nz[i]
        gy[i] -= r01 * nx[i] + r11 * ny[i] + r21 * nz[i]
        gz[i] -= r02 * nx[i] + r12 * ny[i] + r22 * nz[i]


@kernel
def _solve(matrix, right, solution):
    """matrix⁻¹ right by Cholesky, scaled to unit diagonal; False where it is not safely positive definite."""
    scale = np.empty(6)
    for i in range(6):
        if not matrix[i, i] > 0.0:
            return False
        scale[i] = 1.0 / math.sqrt(matrix[i, i])
    factor = np.empty((6, 6))
    for i in range(6):
        for j in range(i + 1):
            value = matrix[i, j] * scale[i] * scale[j]
            for m in range(j):
                value -= factor[i, m] * factor[j, m]
            if i == j:
                if not value > 1e-7:  # float32 sums do not resolve less
                    return False
                factor[i, i] = math.sqrt(value)
            else:
                factor[i, j] = value / factor[j, j]
    for i in range(6):
        value = right[i] * scale[i]
        for m in range(i):
            value -= factor[i, m] * solution[m]
        solution[i] = value / factor[i, i]
    for i in range(5, -1, -1):
        value = solution[i]
        for m in range(i + 1, 6):
            value -= factor[m, i] * solution[m]
        solution[i] = value / factor[i, i]
    for i in range(6):
        solution[i] *= scale[i]
    return True
