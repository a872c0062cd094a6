"""Vector-Jacobian products of scoring and refinement, in closed form, in one pass over the points.

With X = R Y + t in front of the camera, r its residual in pixels and J = ∂r/∂X:

*Score* S = Σ w sigmoid(5 - 5 e/τ), e = |r|. The force f = ∂S/∂X = -(5/τ) w σ (1 - σ) Jᵀr / e pulls on the scene
point by Rᵀf, on the translation by Σ f and on the rotation by Σ f Yᵀ.

*Refinement* ends where the gradient g = Σ (X × f, f) of the cost Σ w ρ(e²) vanishes, f = w ρ' q with q = Jᵀr.
By the implicit function theorem a cotangent t of the pose's increment gives the points -(∂g/∂Y)ᵀ G⁻¹ t. With
(a, b) = G⁻¹ t and m = a × X + b, how the points would move with that increment,

    grad_Y = -Rᵀ (S m + f × a)       grad_w = -ρ' q·m       S = ∂f/∂X = w (ρ' ∂q/∂X + 2 ρ'' q qᵀ)

and G, the derivative of g by the increment, is a sum of S, [X] S, [X] S [X]ᵀ and of the turning of the forces.

`points` (5, N) and poses are those of `poses.py`.
"""

from __future__ import annotations

import numpy as np

from dsac.kernels.jit import inlined, kernel
from dsac.kernels.twins.math import (
    NUM_SUMS,
    cross,
    dot,
    plus3,
    plus6,
    pose_rows,
    solve,
    turned_back,
    zeros3,
    zeros6,
)
from dsac.kernels.twins.poses import (
    no_stiffness,
    pixel_slopes,
    seen,
    soft_inlier,
    store_stiffness,
    with_stiffness,
)


@kernel
def soft_counts_gradient(
    poses, points, weights, focal, threshold, maximum, cotangents, grad_poses, grad_points, grad_weights
):
    """Pull `cotangents` (H,) of the scores back to poses (H, 3, 4); adds to the other two gradients."""
    real = points.dtype.type
    zero, one = real(0.0), real(1.0)
    fx, fy, most, slope = real(focal[0]), real(focal[1]), real(maximum), real(5.0 / threshold)
    px, py, pz, pu, pv = points[0], points[1], points[2], points[3], points[4]
    gx, gy, gz = grad_points[0], grad_points[1], grad_points[2]
    for h in range(len(poses)):
        rows, scale = pose_rows(poses[h], real), real(cotangents[h])
        g0, g1, g2, g3 = zeros3(zero), zeros3(zero), zeros3(zero), zeros3(zero)
        for i in range(points.shape[1] if scale != zero else 0):
            x, y, z = px[i], py[i], pz[i]
            _, du, dv, inverse, front = seen(rows, fx, fy, x, y, z, pu[i], pv[i], real)
            error = np.sqrt(du * du + dv * dv)
            within = front and error < most
            inlier = soft_inlier(error if within else most, slope, real)
            grad_weights[i] += scale * inlier
            pull = -slope * scale * weights[i] * inlier * (one - inlier)
            pull = pull / (error if error > real(1e-6) else real(1e-6)) if within else zero
            f = force(*pixel_slopes(fx, fy, pu[i] + du, pv[i] + dv, inverse), pull * du, pull * dv)
            bx, by, bz = turned_back(rows, f[0], f[1], f[2])
            gx[i] += bx
            gy[i] += by
            gz[i] += bz
            g0 = plus3(g0, (f[0] * x, f[1] * x, f[2] * x))
            g1 = plus3(g1, (f[0] * y, f[1] * y, f[2] * y))
            g2 = plus3(g2, (f[0] * z, f[1] * z, f[2] * z))
            g3 = plus3(g3, f)
        for k in range(3):
            grad_poses[h, k, 0], grad_poses[h, k, 1] = g0[k], g1[k]
            grad_poses[h, k, 2], grad_poses[h, k, 3] = g2[k], g3[k]


@kernel
def refinement_gradient(
    poses, points, weights, focal, threshold, cotangents, grad_points, grad_weights, determined
):
    """Pull cotangents (K, 6) of the increments of refined poses (K, 3, 4) back; adds to the two gradients.

    Where G is singular or no minimum, `determined` is False and the pose passes nothing.
    """
    sums = np.empty(NUM_SUMS)
    solution = np.empty(6)
    pulls = np.empty((3, points.shape[1]), points.dtype)  # on the points, in the camera frame
    for k in range(len(poses)):
        determined[k] = True
        if np.abs(cotangents[k]).max() > 0.0:
            second_derivative(poses[k], points, weights, focal, threshold, sums)
            sums[21:27] = cotangents[k]
            determined[k] = solve(sums, 0.0, solution) >= 0.0
            if determined[k]:
                _pull_points(
                    poses[k], points, weights, focal, threshold, solution, pulls, grad_points, grad_weights
                )


@kernel
def second_derivative(pose, points, weights, focal, threshold, sums):
    """G, symmetric part."""
    real = points.dtype.type
    rows = pose_rows(pose, real)
    fx, fy, limit = real(focal[0]), real(focal[1]), real(threshold * threshold)
    zero, two = real(0.0), real(2.0)
    total, twist = no_stiffness(zero), zeros6(zero)
    px, py, pz, pu, pv = points[0], points[1], points[2], points[3], points[4]
    for i in range(points.shape[1]):
        c, du, dv, inverse, front = seen(rows, fx, fy, px[i], py[i], pz[i], pu[i], pv[i], real)
        slope, curve = robust_slopes(du * du + dv * dv, limit, front, real)
        p, r = weights[i] * slope, weights[i] * curve
        ix, iy, jx, jy = pixel_slopes(fx, fy, pu[i] + du, pv[i] + dv, inverse)
        q = force(ix, iy, jx, jy, du, dv)
        m01 = r * q[0] * q[1]
        m02 = p * (ix * jx - q[0] * inverse) + r * q[0] * q[2]
        m12 = p * (iy * jy - q[1] * inverse) + r * q[1] * q[2]
        m22 = p * (jx * jx + jy * jy - two * q[2] * inverse) + r * q[2] * q[2]
        m00, m11 = p * ix * ix + r * q[0] * q[0], p * iy * iy + r * q[1] * q[1]
        total = with_stiffness(total, c, (m00, m01, m02), (m01, m11, m12), (m02, m12, m22))
        # the turning of the forces, X fᵀ - (X·f) 1; the forces themselves add up to zero at the optimum
        f = (p * q[0], p * q[1], p * q[2])
        xx, yy, zz = c[0] * f[0], c[1] * f[1], c[2] * f[2]
        xy, xz, yz = c[0] * f[1] + c[1] * f[0], c[0] * f[2] + c[2] * f[0], c[1] * f[2] + c[2] * f[1]
        twist = plus6(twist, (-yy - zz, xy / two, xz / two, -xx - zz, yz / two, -xx - yy))
    turning, mixed0, mixed1, mixed2, shifting = total
    store_stiffness((plus6(turning, twist), mixed0, mixed1, mixed2, shifting), sums)


@kernel
def _pull_points(pose, points, weights, focal, threshold, solution, pulls, grad_points, grad_weights):
    real = points.dtype.type
    rows = pose_rows(pose, real)
    a = (real(solution[0]), real(solution[1]), real(solution[2]))
    b = (real(solution[3]), real(solution[4]), real(solution[5]))
    fx, fy, limit = real(focal[0]), real(focal[1]), real(threshold * threshold)
    two = real(2.0)
    px, py, pz, pu, pv = points[0], points[1], points[2], points[3], points[4]
    gx, gy, gz = grad_points[0], grad_points[1], grad_points[2]
    nx, ny, nz = pulls[0], pulls[1], pulls[2]
    for i in range(points.shape[1]):
        c, du, dv, inverse, front = seen(rows, fx, fy, px[i], py[i], pz[i], pu[i], pv[i], real)
        slope, curve = robust_slopes(du * du + dv * dv, limit, front, real)
        ix, iy, jx, jy = pixel_slopes(fx, fy, pu[i] + du, pv[i] + dv, inverse)
        q = force(ix, iy, jx, jy, du, dv)
        m = plus3(cross(a, c), b)
        power = dot(q, m)
        grad_weights[i] -= slope * power
        # S m = p (Jᵀ(J m) + Σ r ∂²r m) + curve q (q·m), and f × a
        p, r = weights[i] * slope, weights[i] * curve * power
        ju, jv = ix * m[0] + jx * m[2], iy * m[1] + jy * m[2]
        bend0, bend1 = -q[0] * inverse, -q[1] * inverse
        twist = cross(q, a)
        nx[i] = p * (ix * ju + bend0 * m[2] + twist[0]) + r * q[0]
        ny[i] = p * (iy * jv + bend1 * m[2] + twist[1]) + r * q[1]
        along = jx * ju + jy * jv + bend0 * m[0] + bend1 * m[1] - two * q[2] * inverse * m[2]
        nz[i] = p * (along + twist[2]) + r * q[2]
    for i in range(points.shape[1]):  # apart from the loop above, which would not be vectorised with it
        bx, by, bz = turned_back(rows, nx[i], ny[i], nz[i])
        gx[i] -= bx
        gy[i] -= by
        gz[i] -= bz


@inlined
def force(ix, iy, jx, jy, du, dv):
    """Jᵀr."""
    return ix * du, iy * dv, jx * du + jy * dv


@inlined
def robust_slopes(square, limit, front, real):
    """ρ' and 2 ρ'' of ρ(s) = s τ²/(s + τ²); 0 behind the camera."""
    kept = limit / (limit + square)
    slope = kept * kept if front else real(0.0)
    return slope, -real(4.0) * slope * kept / limit
