"""The pose of a camera from three points (P3P), in torch: what the kernel in `twins/p3p.py` computes."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dsac.kernels.precision import without_autocast

_TINY = 1e-12


@without_autocast
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
