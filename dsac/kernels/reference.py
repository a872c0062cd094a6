"""What each kernel computes, in torch, on any device, in float32 or float64.

The faster twins in `cpu.py` have the same names and arguments and are compared with these. Arrays
only: the caller (`dsac.ransac`) has given weight 0 and finite values to the rows that must be ignored.

Shapes: M minimal sets, B images, H hypotheses, K selected poses, N correspondences. A pose is
`points_cam = rotation @ points_world + translation`; its increments are 6-vectors (rotation, translation)
applied from the left.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_TINY = 1e-12
_DAMPING = 1e-3  # of the diagonal, at the start; ten times less after each accepted step
# Gauss-Newton on a robust cost contracts by about 0.5 a step, always from the same side: longer steps converge
# in half as many (measured at 50 % outliers: 1e-4 cm from the optimum after 11 steps instead of 20).
_OVER_RELAXATION = 1.6


def p3p(
    bearings: Float[Tensor, "M 3 3"], points: Float[Tensor, "M 3 3"]
) -> tuple[Float[Tensor, "M 4 3 3"], Float[Tensor, "M 4 3"], Bool[Tensor, "M 4"]]:
    """The up to four poses that see three world points along three bearings (row i is point i).

    With unit bearings b_i, cosines c_ij = b_i·b_j and squared distances a_ij = |p_i - p_j|², the depths d
    solve d_i² + d_j² - 2 c_ij d_i d_j = a_ij (Grunert 1841). Weighting these three so that the right side
    vanishes leaves a pencil of two conics in (d_1 : d_2 : d_3); a cubic gives a degenerate member, which is
    two lines; each line meets another member of the pencil in two points (Persson and Nordberg, ECCV 2018;
    Ding et al., CVPR 2023). The scale follows from the sum of the equations, three Newton steps polish the
    depths. Runs in float64 inside. Degenerate sets are `valid=False` with finite values. Bearings need not
    be of unit length. No gradient.
    """
    dtype = points.dtype
    with torch.no_grad():
        b, p = _unit(bearings.double()), points.double()
        forms, squares, scale = _distance_equations(b, p)
        depths = _intersect_conics(forms, squares)
        depths, residual = _polish_depths(depths, b, squares)
        rotation, translation, spread = align_triangles(depths[..., None] * b[:, None], (p / scale)[:, None])
        translation = translation * scale
        finite = torch.isfinite(rotation).flatten(2).all(-1) & torch.isfinite(translation).all(-1)
        valid = finite & (depths > 0).all(-1) & (residual < 1e-8) & (spread > 1e-8)
        eye = torch.eye(3, dtype=torch.float64, device=points.device)
        rotation = torch.where(valid[..., None, None], rotation, eye)
        translation = torch.where(valid[..., None], translation, torch.zeros_like(translation))
    return rotation.to(dtype), translation.to(dtype), valid


def kabsch(
    camera_points: Float[Tensor, "M k 3"], scene_points: Float[Tensor, "M k 3"]
) -> tuple[Float[Tensor, "M 3 3"], Float[Tensor, "M 3"], Bool[Tensor, " M"]]:
    """The pose with the least squared distance between moved scene points and camera points (Kabsch 1976).

    Sets whose points coincide or lie on a line are `valid=False` with finite values. No gradient.
    """
    with torch.no_grad():
        x, y = camera_points.double(), scene_points.double()
        x_mean, y_mean = x.mean(1), y.mean(1)
        covariance = (x - x_mean[:, None]).mT @ (y - y_mean[:, None])
        u, s, vt = torch.linalg.svd(covariance)
        sign = torch.linalg.det(u @ vt)
        u = torch.cat([u[..., :2], u[..., 2:] * sign[:, None, None]], dim=-1)
        rotation = u @ vt
        translation = x_mean - (rotation @ y_mean[..., None])[..., 0]
        valid = s[:, 1] > 1e-6 * s[:, 0].clamp_min(_TINY)
    return rotation.to(scene_points.dtype), translation.to(scene_points.dtype), valid


def reprojection_error(
    rotation: Float[Tensor, "B H 3 3"],
    translation: Float[Tensor, "B H 3"],
    pixels: Float[Tensor, "B N 2"],
    scene_points: Float[Tensor, "B N 3"],
    focal_px: Float[Tensor, "B 2"],
    center_px: Float[Tensor, "B 2"],
    max_error_px: float | int,
) -> Float[Tensor, "B H N"]:
    """Distance in pixels between each pixel and the projection of its scene point, at most `max_error_px`.

    Behind the camera or not finite: `max_error_px`, so that no hypothesis gains from such points.
    Differentiable in poses, pixels and scene points; the gradient is 0 where the maximum holds.
    """
    x, y, z = _camera_axes(rotation, translation, scene_points)
    front = z > 0
    inverse = torch.where(front, z, torch.ones_like(z)).reciprocal()
    du = x * inverse * _column(focal_px, 0) - _column(pixels - center_px[:, None], 0)
    dv = y * inverse * _column(focal_px, 1) - _column(pixels - center_px[:, None], 1)
    return _bounded_norm(du * du + dv * dv, front, max_error_px)


def point_distance(
    rotation: Float[Tensor, "B H 3 3"],
    translation: Float[Tensor, "B H 3"],
    targets: Float[Tensor, "B N 4"],
    scene_points: Float[Tensor, "B N 3"],
    max_error_m: float | int,
) -> Float[Tensor, "B H N"]:
    """Distance in metres between each moved scene point and its target, at most `max_error_m`.

    Targets are homogeneous: (camera point, 1), or (unit direction of a ray, 0), of which the point must lie in
    front.
    """
    offsets, usable = _point_offsets(_camera_axes(rotation, translation, scene_points), targets)
    x, y, z = offsets
    square = x * x + y * y + z * z
    return _bounded_norm(square, usable & torch.isfinite(square), max_error_m)


def soft_inlier_count(
    rotation: Float[Tensor, "B H 3 3"],
    translation: Float[Tensor, "B H 3"],
    pixels: Float[Tensor, "B N 2"],
    scene_points: Float[Tensor, "B N 3"],
    focal_px: Float[Tensor, "B 2"],
    center_px: Float[Tensor, "B 2"],
    weights: Float[Tensor, "B N"],
    threshold_px: float | int,
    max_error_px: float | int,
) -> Float[Tensor, "B H"]:
    """Σ_i w_i sigmoid(β (τ - e_i)) with β = 5/τ (DSAC*, Brachmann and Rother 2021)."""
    error = reprojection_error(rotation, translation, pixels, scene_points, focal_px, center_px, max_error_px)
    return soft_count(error, weights, threshold_px)


def soft_count(
    errors: Float[Tensor, "B H N"], weights: Float[Tensor, "B N"], threshold: float | int
) -> Float[Tensor, "B H"]:
    """The soft inlier count of given errors, in any unit."""
    return (torch.sigmoid(5.0 - errors * (5.0 / threshold)) @ weights[..., None])[..., 0]


def refine(
    rotation: Float[Tensor, "B K 3 3"],
    translation: Float[Tensor, "B K 3"],
    pixels: Float[Tensor, "B N 2"],
    scene_points: Float[Tensor, "B N 3"],
    focal_px: Float[Tensor, "B 2"],
    center_px: Float[Tensor, "B 2"],
    weights: Float[Tensor, "B N"],
    threshold_px: float | int,
    iterations: int,
) -> tuple[Float[Tensor, "B K 3 3"], Float[Tensor, "B K 3"], Bool[Tensor, "B K N"], Float[Tensor, "B K 6 6"]]:
    """Poses with the least Σ_i w_i ρ(e_i) near the given ones, e_i the reprojection error in pixels.

    ρ(e) = e² τ² / (e² + τ²) is the smooth form of the truncated square min(e, τ)² (Geman and McClure 1985):
    it has a true optimum, which the implicit function theorem needs, and is more accurate than least squares
    on hard inliers. Points behind the camera count as ρ = τ². Levenberg-Marquardt; returns poses, inliers
    (e_i < τ) and the normal matrix Σ w_i ρ'(e_i²) J_iᵀJ_i in px². A pose with fewer than four inliers stays
    where it is. No gradient.
    """
    measured = (pixels - center_px[:, None]) / focal_px[:, None]
    fx, fy = _column(focal_px, 0), _column(focal_px, 1)

    def residual_rows(axes: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y, z = axes
        front = z > 0
        inverse = torch.where(front, z, torch.ones_like(z)).reciprocal()
        a, b = x * inverse, y * inverse
        du, dv = fx * (a - _column(measured, 0)), fy * (b - _column(measured, 1))
        slope_x, slope_y, zero = fx * inverse, fy * inverse, torch.zeros_like(a)
        rows = torch.stack(
            [-fx * a * b, fx * (1 + a * a), -fx * b, slope_x, zero, -slope_x * a, du]
            + [-fy * (1 + b * b), fy * a * b, fy * a, zero, slope_y, -slope_y * b, dv],
            dim=-2,
        )
        return rows.unflatten(-2, (2, 7)), front

    with torch.no_grad():
        return _levenberg_marquardt(
            residual_rows, scene_points, weights, threshold_px, rotation, translation, iterations
        )


def refine_points(
    rotation: Float[Tensor, "B K 3 3"],
    translation: Float[Tensor, "B K 3"],
    targets: Float[Tensor, "B N 4"],
    scene_points: Float[Tensor, "B N 3"],
    weights: Float[Tensor, "B N"],
    threshold_m: float | int,
    iterations: int,
) -> tuple[Float[Tensor, "B K 3 3"], Float[Tensor, "B K 3"], Bool[Tensor, "B K N"], Float[Tensor, "B K 6 6"]]:
    """`refine` for RGB-D: e_i is the distance in metres between moved scene point and target."""
    direction = (1 - targets[..., 3:]) * targets[..., :3]  # of the ray, along which nothing is measured

    def residual_rows(axes: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y, z = axes
        (dx, dy, dz), usable = _point_offsets(axes, targets)
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        moves = torch.stack(
            [zero, z, -y, one, zero, zero] + [-z, zero, x, zero, one, zero] + [y, -x, zero, zero, zero, one],
            dim=-2,
        ).unflatten(-2, (3, 6))
        u = direction.mT[:, None, :, None]  # (B, 1, 3, 1, N)
        moves = moves - u * (u * moves).sum(-3, keepdim=True)
        return torch.cat([moves, torch.stack([dx, dy, dz], dim=-2)[..., None, :]], dim=-2), usable

    with torch.no_grad():
        return _levenberg_marquardt(
            residual_rows, scene_points, weights, threshold_m, rotation, translation, iterations
        )


def settled(done: Bool[Tensor, "*batch"]) -> bool:
    """Whether all are done, so that a loop may end early. A device is not asked: the host would wait for it."""
    return done.device.type == "cpu" and bool(done.all())


# ---- poses and residuals -----------------------------------------------------------------------------


def _camera_axes(rotation: Tensor, translation: Tensor, scene_points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x, y and z of the scene points in each camera, `(B,H,N)` each: three passes over contiguous memory."""
    # one product for all poses of an image: many products of 3x3 matrices take five times as long
    moved = (rotation.flatten(1, 2) @ scene_points.mT).unflatten(1, (-1, 3)) + translation[..., None]
    x, y, z = moved.unbind(-2)
    return x, y, z


def _point_offsets(
    axes: tuple[Tensor, Tensor, Tensor], targets: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """x, y, z from the targets, across the ray for those at infinity; which points are in front of these."""
    *point, measured = (_column(targets, i) for i in range(4))
    x, y, z = (axis - measured * target for axis, target in zip(axes, point, strict=True))
    along = (1 - measured) * (x * point[0] + y * point[1] + z * point[2])
    return (x - along * point[0], y - along * point[1], z - along * point[2]), (along > 0) | (measured > 0)


def _column(values: Tensor, index: int) -> Tensor:
    """Component `index` of `(B,2)` or `(B,N,2)` values, to broadcast against `(B,H,N)`."""
    column = values[..., index]
    return column[:, None, None] if column.ndim == 1 else column[:, None]


def _bounded_norm(square: Tensor, usable: Tensor, maximum: float) -> Tensor:
    """sqrt of `square` from 1e-6 to `maximum`, `maximum` where not usable; no gradient at either bound."""
    within = usable & (square < maximum**2)
    bounded = torch.where(within, square, torch.full_like(square, maximum**2))
    return bounded.clamp_min(_TINY).sqrt()


# ---- Levenberg-Marquardt on the robust cost ----------------------------------------------------------


def rotation_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Of a rotation vector (Rodrigues)."""
    eye, cross = torch.eye(3, dtype=vector.dtype, device=vector.device), cross_matrix(vector)
    angle = vector.norm(dim=-1)[..., None, None]
    half = torch.sinc(angle / (2 * math.pi))
    return eye + torch.sinc(angle / math.pi) * cross + 0.5 * half * half * (cross @ cross)


def cross_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """[v]×, whose product with x is v × x."""
    axes = torch.eye(3, dtype=vector.dtype, device=vector.device).expand(*vector.shape, 3)
    return torch.linalg.cross(axes, vector[..., None, :].expand_as(axes))  # row i: e_i × v


def _levenberg_marquardt(
    residual_rows: Callable[[tuple[Tensor, Tensor, Tensor]], tuple[Tensor, Tensor]],
    scene_points: Tensor,
    weights: Tensor,
    threshold: float | int,
    rotation: Tensor,
    translation: Tensor,
    iterations: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Poses, inliers and normal matrices at the least Σ w ρ.

    `residual_rows` tells of moved points, x, y, z (B, K, N) each, the rows (B, K, c, 7, N) of c residuals: six
    derivatives by the increment, then the residual, and whether a point is in front; otherwise it counts as τ².
    """

    def linearise(rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cost (B, K), Σ w ρ' [J r]ᵀ[J r] (B, K, 7, 7), which are inliers (B, K, N)."""
        rows, front = residual_rows(_camera_axes(rotation, translation, scene_points))
        square = rows[..., 6, :].square().sum(-2)
        kept = threshold**2 / (threshold**2 + square)
        cost = (weights[:, None] * torch.where(front, square * kept, threshold**2)).sum(-1)
        pull = weights[:, None] * front * kept * kept
        normal = ((rows * pull[..., None, None, :]) @ rows.mT).sum(-3)
        return cost, normal, front & (square < threshold**2) & (weights > 0)[:, None]

    eps = torch.finfo(rotation.dtype).eps
    cost, normal, inliers = linearise(rotation, translation)
    damping = torch.full_like(cost, _DAMPING)
    movable = (inliers.sum(-1) >= 4)[..., None]
    for _ in range(iterations):
        gradient = normal[..., :6, 6]
        step = _OVER_RELAXATION * movable * _damped_step(normal[..., :6, :6], gradient, damping)
        turn = rotation_matrix(step[..., :3])
        new_rotation = turn @ rotation
        new_translation = (turn @ translation[..., None])[..., 0] + step[..., 3:]
        new_cost, new_normal, new_inliers = linearise(new_rotation, new_translation)
        better = new_cost <= cost * (1 + 100 * eps)  # below this a difference is rounding
        # scale-free: what the step could gain, against the cost
        converged = -(gradient * step).sum(-1) <= eps**1.5 * cost
        rotation = torch.where(better[..., None, None], new_rotation, rotation)
        translation = torch.where(better[..., None], new_translation, translation)
        normal = torch.where(better[..., None, None], new_normal, normal)
        inliers = torch.where(better[..., None], new_inliers, inliers)
        cost = torch.where(better, new_cost, cost)
        damping = (damping * torch.where(better, 0.1, 10.0)).clamp(1e-12, 1e6)
        if settled(converged):
            break
    eye = torch.eye(3, dtype=rotation.dtype, device=rotation.device)
    rotation = rotation @ (1.5 * eye - 0.5 * rotation.mT @ rotation)  # a Newton step back onto SO(3)
    return rotation, translation, inliers, normal[..., :6, :6]


def _damped_step(matrix: Tensor, gradient: Tensor, damping: Tensor) -> Tensor:
    """-(A + λ diag A)⁻¹ g in float64 and equilibrated; 0 where that is singular."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1).double()
    scale = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).rsqrt()
    scaled = matrix.double() * scale[..., None] * scale[..., None, :]
    scaled = scaled + torch.diag_embed(damping.double()[..., None].expand_as(scale))
    solution = torch.linalg.solve_ex(scaled, (gradient.double() * scale)[..., None])[0][..., 0]
    return torch.nan_to_num(-solution * scale, nan=0.0, posinf=0.0, neginf=0.0).to(gradient.dtype)


# ---- P3P ---------------------------------------------------------------------------------------------


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(_TINY)


_PAIRS = ((0, 1), (0, 2), (1, 2))


def _distance_equations(b: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quadratic forms `(M,3,3,3)`; squared distances `(M,3)` of the triangle at unit size; size `(M,1,1)`."""
    squares = torch.stack([(p[:, i] - p[:, j]).square().sum(-1) for i, j in _PAIRS], dim=-1)
    size = squares.sum(-1, keepdim=True).clamp_min(_TINY)
    forms = b.new_zeros(len(b), 3, 3, 3)
    for k, (i, j) in enumerate(_PAIRS):
        forms[:, k, i, i] = forms[:, k, j, j] = 1.0
        forms[:, k, i, j] = forms[:, k, j, i] = -(b[:, i] * b[:, j]).sum(-1)
    return forms, squares / size, size[..., None].sqrt()


def _intersect_conics(forms: Tensor, squares: Tensor) -> Tensor:
    """Depths `(M,4,3)` of the triangle at unit size; complex intersections come out as NaN."""
    m12, m13, m23 = forms.unbind(1)
    a12, a13, a23 = squares[..., None, None].unbind(1)
    first, second = m12 * a23 - m23 * a12, m13 * a23 - m23 * a13
    # Turned by one radian: the degenerate members of isosceles and equilateral triangles lie on the axes
    # of the pencil, where the cubic would lose its leading term.
    cosine, sine = math.cos(1.0), math.sin(1.0)
    first, second = cosine * first + sine * second, cosine * second - sine * first
    sigma = _isolated_real_root(_pencil_determinant(first, second))[:, None, None]
    lines = _split_into_lines(first + sigma * second)
    other = (second - sigma * first) / (1 + sigma.abs())
    depths = torch.cat([_meet(line, other) for line in lines], dim=1)
    depths = depths * torch.sign(depths.sum(-1, keepdim=True))
    length = torch.einsum("msi,mij,msj->ms", depths, forms.sum(1), depths)
    return depths * (squares.sum(-1, keepdim=True) / length).sqrt()[..., None]


def _pencil_determinant(first: Tensor, second: Tensor) -> Tensor:
    """Coefficients `(M,4)` of det(first + σ second), constant term first."""
    (a0, a1, a2), (b0, b1, b2) = first.unbind(1), second.unbind(1)

    def triple(u: Tensor, v: Tensor, w: Tensor) -> Tensor:
        return (u * torch.linalg.cross(v, w)).sum(-1)

    return torch.stack(
        [
            triple(a0, a1, a2),
            triple(b0, a1, a2) + triple(a0, b1, a2) + triple(a0, a1, b2),
            triple(a0, b1, b2) + triple(b0, a1, b2) + triple(b0, b1, a2),
            triple(b0, b1, b2),
        ],
        dim=-1,
    )


def _isolated_real_root(coefficients: Tensor) -> Tensor:
    """The real root of each cubic that lies farthest from the others: simple, so well conditioned.

    Substituting x = t - b/3 in x³ + bx² + cx + d leaves t³ + pt + q; Cardano's or Viète's formula, then Newton.
    """
    d, c, b, a = coefficients.unbind(-1)
    a = torch.where(a.abs() > 0, a, torch.full_like(a, _TINY))
    b, c, d = b / a, c / a, d / a
    p = c - b * b / 3
    q = (2 * b * b / 9 - c) * b / 3 + d
    sign = torch.where(q > 0, -1.0, 1.0)
    discriminant = q * q / 4 + p**3 / 27
    # one real root: with the sign opposite to q both cube roots add up without cancellation
    cube = (q.abs() / 2 + discriminant.clamp_min(0).sqrt()).pow(1 / 3)
    single = cube - p / (3 * cube.clamp_min(_TINY))
    radius = (-p / 3).clamp_min(0).sqrt()
    angle = torch.acos((q.abs() / 2 / radius.pow(3).clamp_min(1e-300)).clamp(max=1.0)) / 3
    x = sign * torch.where(discriminant > 0, single, 2 * radius * angle.cos()) - b / 3
    for _ in range(2):
        slope = (3 * x + 2 * b) * x + c
        x = x - (((x + b) * x + c) * x + d) / torch.where(slope.abs() > _TINY, slope, torch.ones_like(x))
    return x


def _split_into_lines(conic: Tensor) -> tuple[Tensor, Tensor]:
    """The two lines `(M,3)` of a conic of rank 2: conic = (l mᵀ + m lᵀ)/2 up to scale.

    The adjugate is -p pᵀ with p = l × m up to scale, and conic + [p] is the rank one matrix l mᵀ.
    """
    r0, r1, r2 = conic.unbind(1)
    cross = torch.linalg.cross
    adjugate = torch.stack([cross(r1, r2), cross(r2, r0), cross(r0, r1)], dim=1)
    diagonal = -adjugate.diagonal(dim1=1, dim2=2)
    largest = diagonal.argmax(-1)
    value = diagonal.gather(1, largest[:, None])
    # complex lines (no real intersection) make the root imaginary: NaN marks all four solutions
    p = adjugate[torch.arange(len(conic), device=conic.device), :, largest] / value.sqrt().clamp_min(_TINY)
    x, y, z = p.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(-1, 3, 3)
    product = conic + skew
    place = product.abs().flatten(1).nan_to_num(0).argmax(-1)
    rows = torch.arange(len(conic), device=conic.device)
    return product[rows, place // 3], product[rows, :, place % 3]


def _meet(line: Tensor, conic: Tensor) -> Tensor:
    """The two points `(M,2,3)` of a line on a conic, homogeneous; NaN where they are complex."""
    axis = torch.eye(3, dtype=line.dtype, device=line.device)[line.abs().nan_to_num(0).argmin(-1)]
    u = _unit(torch.linalg.cross(line, axis))
    v = _unit(torch.linalg.cross(line, u))
    uu, uv, vv = (torch.einsum("mi,mij,mj->m", left, conic, right) for left, right in ((u, u), (u, v), (v, v)))
    root = (uv * uv - uu * vv).sqrt()
    q = -(uv + torch.where(uv < 0, -root, root))
    return torch.stack([q[:, None] * u + uu[:, None] * v, vv[:, None] * u + q[:, None] * v], dim=1)


def _polish_depths(depths: Tensor, b: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """Newton steps on the distance equations; depths and the largest equation error left."""
    cosines = [(b[:, i] * b[:, j]).sum(-1)[:, None] for i, j in _PAIRS]

    def equations(d: Tensor) -> Tensor:
        return torch.stack(
            [
                d[..., i] ** 2 + d[..., j] ** 2 - 2 * c * d[..., i] * d[..., j] - squares[:, None, k]
                for k, ((i, j), c) in enumerate(zip(_PAIRS, cosines, strict=True))
            ],
            dim=-1,
        )

    c12, c13, c23 = cosines
    for _ in range(3):
        x, y, z = depths.unbind(-1)
        # half the Jacobian is [[p, q, 0], [r, 0, s], [0, t, u]]; solved by Cramer's rule
        p, q, r, s, t, u = x - c12 * y, y - c12 * x, x - c13 * z, z - c13 * x, y - c23 * z, z - c23 * y
        e, f, g = (0.5 * equations(depths)).unbind(-1)
        determinant = -p * s * t - q * r * u
        step = torch.stack(
            [
                -e * s * t - q * (f * u - g * s),
                p * (f * u - g * s) - e * r * u,
                e * r * t - p * f * t - q * r * g,
            ],
            dim=-1,
        )
        step = step / torch.where(determinant.abs() > _TINY, determinant, torch.inf)[..., None]
        depths = depths - step
    return depths, equations(depths).abs().amax(-1)


def align_triangles(x: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pose that moves triangles p onto the congruent triangles x, and twice the smaller of their areas."""

    def frame(corners: Tensor) -> tuple[Tensor, Tensor]:
        side = corners[..., 1, :] - corners[..., 0, :]
        normal = torch.linalg.cross(side, corners[..., 2, :] - corners[..., 0, :])
        e1, e3 = _unit(side), _unit(normal)
        return torch.stack([e1, torch.linalg.cross(e3, e1), e3], dim=-1), normal.norm(dim=-1)

    axes_cam, area_cam = frame(x)
    axes_world, area_world = frame(p)
    rotation = axes_cam @ axes_world.mT
    translation = x.mean(-2) - (rotation @ p.mean(-2)[..., None])[..., 0]
    return rotation, translation, torch.minimum(area_cam, area_world)
