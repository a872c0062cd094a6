"""The pose of a camera from three points (P3P), as the intersection of two conics.

The depths a, b, c of the points along their unit bearings obey, with cosines k and squared distances d,

    a² + b² - 2 k_ab a b = d_ab        a² + c² - 2 k_ac a c = d_ac        b² + c² - 2 k_bc b c = d_bc

Eliminating the right sides leaves two conics E, F in the homogeneous (a : b : c). Of the pencil that they
span, a real root of the cubic det(E + g F) = 0 picks a conic that is a pair of lines; each line meets a conic
of the pencil in two points, so there are up to four poses. This is the geometry of Persson and Nordberg,
"Lambda Twist: An Accurate Fast Robust Perspective Three Point (P3P) Solver", ECCV 2018, and of Ding et al.,
"Revisiting the P3P Problem", CVPR 2023; the lines are split with the adjugate as in Richter-Gebert,
"Perspectives on Projective Geometry", 2011, section 11. The derivation below is our own.
"""

from __future__ import annotations

import math

import numpy as np

from dsac.kernels.jit import kernel


@kernel
def p3p_poses(points, bearings, rotations, translations, work):
    """All poses with `rotation @ points[i] + translation` in front of the camera and along `bearings[i]`.

    points (3, 3), unit bearings (3, 3); writes rotations (4, 3, 3), translations (4, 3), all float64; returns
    how many. Collinear or coincident points have none. `work`: float64 (13, 3) to compute in.
    """
    depths = work[0:4]
    count = _depths(points, bearings, depths)
    if count == 0:
        return 0
    world = work[4:7]
    camera = work[7:10]
    seen = work[10:13]
    if not triangle_axes(points[0], points[1], points[2], world):
        return 0
    kept = 0
    for s in range(count):
        for i in range(3):
            for k in range(3):
                seen[i, k] = depths[s, i] * bearings[i, k]
        if not triangle_axes(seen[0], seen[1], seen[2], camera):
            continue
        for i in range(3):
            for j in range(3):
                rotations[kept, i, j] = (
                    camera[0, i] * world[0, j] + camera[1, i] * world[1, j] + camera[2, i] * world[2, j]
                )
        for i in range(3):
            translations[kept, i] = (
                seen[0, i]
                - rotations[kept, i, 0] * points[0, 0]
                - rotations[kept, i, 1] * points[0, 1]
                - rotations[kept, i, 2] * points[0, 2]
            )
        kept += 1
    return kept


@kernel
def _depths(points, bearings, depths):
    """Positive depths (4, 3) of the three points; returns the number of solutions."""
    d_ab = _square_distance(points[0], points[1])
    d_ac = _square_distance(points[0], points[2])
    d_bc = _square_distance(points[1], points[2])
    if not (d_ab > 0.0 and d_ac > 0.0 and d_bc > 0.0):
        return 0
    k_ab = _dot(bearings[0], bearings[1])
    k_ac = _dot(bearings[0], bearings[2])
    k_bc = _dot(bearings[1], bearings[2])
    p = d_ab / d_bc
    q = d_ac / d_bc
    sin_ab = 1.0 - k_ab * k_ab
    sin_ac = 1.0 - k_ac * k_ac
    sin_bc = 1.0 - k_bc * k_bc

    # E = [[1, -k_ab, 0], [., 1-p, p k_bc], [., ., -p]],  F = [[1, 0, -k_ac], [., -q, q k_bc], [., ., 1-q]]
    both = 2.0 * k_ab * k_ac * k_bc
    c0 = p * (p * sin_bc - sin_ab)
    c3 = q * (q * sin_bc - sin_ac)
    c1 = (
        -p * (1.0 - p)
        - p * p * k_bc * k_bc
        + p * q
        + (sin_ab - p) * (1.0 - q)
        + p * both
        - 2.0 * p * q * k_bc * k_bc
    )
    c2 = (
        -q * (1.0 - q)
        - q * q * k_bc * k_bc
        + p * q
        + (sin_ac - q) * (1.0 - p)
        + q * both
        - 2.0 * p * q * k_bc * k_bc
    )
    e = 1.0
    f = 1.0
    if max(abs(c0), abs(c3)) < 1e-14 * (abs(c1) + abs(c2)):
        f = 0.0  # E is a pair of lines already (a symmetric set)
    elif abs(c3) >= abs(c0):
        f = _cubic_root(c2 / c3, c1 / c3, c0 / c3)
    else:
        e = _cubic_root(c1 / c0, c2 / c0, c3 / c0)
    aa = e + f
    ab = -e * k_ab
    ac = -f * k_ac
    bb = e * (1.0 - p) - f * q
    bc = (e * p + f * q) * k_bc
    cc = f * (1.0 - q) - e * p

    # The adjugate of a pair of lines is -x xᵀ, x their meeting point; adding [x] leaves the rank-1 matrix l mᵀ.
    m_aa = bc * bc - bb * cc
    m_bb = ac * ac - aa * cc
    m_cc = ab * ab - aa * bb
    if m_aa >= m_bb and m_aa >= m_cc:
        x, y, z = m_aa, ab * cc - ac * bc, ac * bb - ab * bc
        norm = m_aa
    elif m_bb >= m_cc:
        x, y, z = ab * cc - ac * bc, m_bb, aa * bc - ab * ac
        norm = m_bb
    else:
        x, y, z = ac * bb - ab * bc, aa * bc - ab * ac, m_cc
        norm = m_cc
    if not norm > 0.0:
        return 0
    scale = 1.0 / math.sqrt(norm)
    x *= scale
    y *= scale
    z *= scale
    row_a = abs(aa) + abs(ab - z) + abs(ac + y)
    row_b = abs(ab + z) + abs(bb) + abs(bc - x)
    row_c = abs(ac - y) + abs(bc + x) + abs(cc)
    if row_a >= row_b and row_a >= row_c:
        l0, l1, l2 = aa, ab - z, ac + y
    elif row_b >= row_c:
        l0, l1, l2 = ab + z, bb, bc - x
    else:
        l0, l1, l2 = ac - y, bc + x, cc
    column_a = abs(aa) + abs(ab + z) + abs(ac - y)
    column_b = abs(ab - z) + abs(bb) + abs(bc + x)
    column_c = abs(ac + y) + abs(bc - x) + abs(cc)
    if column_a >= column_b and column_a >= column_c:
        n0, n1, n2 = aa, ab + z, ac - y
    elif column_b >= column_c:
        n0, n1, n2 = ab - z, bb, bc + x
    else:
        n0, n1, n2 = ac + y, bc - x, cc

    # Of E and F, the one that the pair of lines resembles less meets the lines at the steeper angle.
    cosines = (k_ab, k_ac, k_bc)
    squares = (d_ab, d_ac, d_bc)
    if abs(f) > abs(e):
        conic = (1.0, -k_ab, 0.0, 1.0 - p, p * k_bc, -p)
    else:
        conic = (1.0, 0.0, -k_ac, -q, q * k_bc, 1.0 - q)
    count = _meet(l0, l1, l2, conic, cosines, squares, depths, 0)
    return _meet(n0, n1, n2, conic, cosines, squares, depths, count)


@kernel
def _meet(l0, l1, l2, conic, cosines, squares, depths, count):
    """Append the positive depths where the line l meets the conic (aa, ab, ac, bb, bc, cc)."""
    aa, ab, ac, bb, bc, cc = conic
    # Two points of the line, (u) and (v), by eliminating the coordinate with the largest coefficient.
    if abs(l0) >= abs(l1) and abs(l0) >= abs(l2):
        u0, u1, u2 = -l1 / l0, 1.0, 0.0
        v0, v1, v2 = -l2 / l0, 0.0, 1.0
    elif abs(l1) >= abs(l2):
        u0, u1, u2 = 1.0, -l0 / l1, 0.0
        v0, v1, v2 = 0.0, -l2 / l1, 1.0
    else:
        u0, u1, u2 = 1.0, 0.0, -l0 / l2
        v0, v1, v2 = 0.0, 1.0, -l1 / l2
    w0 = aa * u0 + ab * u1 + ac * u2
    w1 = ab * u0 + bb * u1 + bc * u2
    w2 = ac * u0 + bc * u1 + cc * u2
    uu = u0 * w0 + u1 * w1 + u2 * w2
    uv = v0 * w0 + v1 * w1 + v2 * w2
    vv = v0 * (aa * v0 + ab * v1 + ac * v2) + v1 * (ab * v0 + bb * v1 + bc * v2)
    vv += v2 * (ac * v0 + bc * v1 + cc * v2)
    square = uv * uv - uu * vv
    if not square >= 0.0:
        return count
    root = math.sqrt(square)
    large = -uv - root if uv > 0.0 else -uv + root
    for which in range(2):
        # The points s u + t v with uu s² + 2 uv s t + vv t² = 0, without a division that could fail.
        s, t = (vv, large) if which == 0 else (large, uu)
        a = s * u0 + t * v0
        b = s * u1 + t * v1
        c = s * u2 + t * v2
        if a < 0.0:
            a, b, c = -a, -b, -c
        if not (a > 0.0 and b > 0.0 and c > 0.0):
            continue
        _scale_and_polish(a, b, c, cosines, squares, depths[count])
        if depths[count, 0] > 0.0 and depths[count, 1] > 0.0 and depths[count, 2] > 0.0:
            count += 1
    return count


@kernel
def _scale_and_polish(a, b, c, cosines, squares, depths):
    """Give (a : b : c) its size and take one Newton step on the three distance equations."""
    k_ab, k_ac, k_bc = cosines
    d_ab, d_ac, d_bc = squares
    total = 2.0 * (a * a + b * b + c * c - k_ab * a * b - k_ac * a * c - k_bc * b * c)
    scale = math.sqrt((d_ab + d_ac + d_bc) / total)
    a *= scale
    b *= scale
    c *= scale
    r_ab = 0.5 * (a * a + b * b - 2.0 * k_ab * a * b - d_ab)
    r_ac = 0.5 * (a * a + c * c - 2.0 * k_ac * a * c - d_ac)
    r_bc = 0.5 * (b * b + c * c - 2.0 * k_bc * b * c - d_bc)
    # Jacobian rows (ab_a, ab_b, 0), (ac_a, 0, ac_c), (0, bc_b, bc_c), solved by Cramer's rule.
    ab_a, ab_b = a - k_ab * b, b - k_ab * a
    ac_a, ac_c = a - k_ac * c, c - k_ac * a
    bc_b, bc_c = b - k_bc * c, c - k_bc * b
    determinant = -ab_a * ac_c * bc_b - ab_b * ac_a * bc_c
    step_a = -r_ab * ac_c * bc_b - ab_b * r_ac * bc_c + ab_b * ac_c * r_bc
    step_b = ab_a * (r_ac * bc_c - ac_c * r_bc) - r_ab * ac_a * bc_c
    step_c = -ab_a * r_ac * bc_b - ab_b * ac_a * r_bc + r_ab * ac_a * bc_b
    # Near the danger cylinder the Jacobian is singular and a step would leave the solution.
    trust = 0.1 * abs(determinant) * min(a, b, c)
    if abs(step_a) + abs(step_b) + abs(step_c) < trust:
        a -= step_a / determinant
        b -= step_b / determinant
        c -= step_c / determinant
    depths[0] = a
    depths[1] = b
    depths[2] = c


@kernel
def _cubic_root(b, c, d):
    """The real root of x³ + b x² + c x + d farthest from the inflection, which is never a double root.

    With x = y - b/3 the cubic is y³ - 3 h y + g. On the side of the root it is convex, and Newton's method from
    a bound beyond the root runs down to it without overshooting.
    """
    shift = b / 3.0
    h = shift * shift - c / 3.0
    g = shift * (2.0 * shift * shift - c) + d
    size = abs(g)
    reach = math.sqrt(max(h, 0.0))
    y = 2.0 * reach if size <= 2.0 * reach * reach * reach else np.cbrt(size) + reach
    for _ in range(50):
        slope = 3.0 * (y * y - h)
        if not slope > 0.0:
            break
        step = (y * (y * y - 3.0 * h) - size) / slope
        y -= step
        if abs(step) <= 1e-12 * abs(y):
            break
    return (y if g <= 0.0 else -y) - shift


@kernel
def triangle_axes(a, b, c, axes):
    """Orthonormal axes (rows) of a triangle; False when its corners are (nearly) on a line."""
    x0, x1, x2 = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    y0, y1, y2 = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    z0, z1, z2 = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
    square_x = x0 * x0 + x1 * x1 + x2 * x2
    square_y = y0 * y0 + y1 * y1 + y2 * y2
    square_z = z0 * z0 + z1 * z1 + z2 * z2
    if not square_z > 1e-12 * square_x * square_y:  # sine of the angle below 1e-6
        return False
    scale_x = 1.0 / math.sqrt(square_x)
    scale_z = 1.0 / math.sqrt(square_z)
    axes[0, 0], axes[0, 1], axes[0, 2] = x0 * scale_x, x1 * scale_x, x2 * scale_x
    axes[2, 0], axes[2, 1], axes[2, 2] = z0 * scale_z, z1 * scale_z, z2 * scale_z
    axes[1, 0] = axes[2, 1] * axes[0, 2] - axes[2, 2] * axes[0, 1]
    axes[1, 1] = axes[2, 2] * axes[0, 0] - axes[2, 0] * axes[0, 2]
    axes[1, 2] = axes[2, 0] * axes[0, 1] - axes[2, 1] * axes[0, 0]
    return True


@kernel
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel
def _square_distance(a, b):
    x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
    return x * x + y * y + z * z
