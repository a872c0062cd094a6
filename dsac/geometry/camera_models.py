"""Camera models: how a lens moves image coordinates (x, y) = (X/Z, Y/Z) on the plane z = 1; a class each kind.

A model maps (x, y) to the distorted (x', y'), and `pixel = focal_px * (x', y') + center_px`. With r² = x² + y²,
θ = atan r, and the model's parameters behind f, cx, cy or fx, fy, cx, cy:

    SIMPLE_PINHOLE, PINHOLE                       x' = x
    SIMPLE_RADIAL, RADIAL  k1, k2                 x' = x (1 + k1 r² + k2 r⁴)
    OPENCV                 k1, k2, p1, p2         radial + tangential, x' = ... + 2 p1 x y + p2 (r² + 2 x²)
    BROWN_CONRADY          k1, k2, p1, p2, k3, k4 the same up to k4 r⁸; not COLMAP's
    FULL_OPENCV            k1, ..., p2, k3 to k6  the radial part divided by 1 + k4 r² + k5 r⁴ + k6 r⁶
    SIMPLE_FISHEYE, FISHEYE                       x' = x θ/r
    SIMPLE_RADIAL_FISHEYE, RADIAL_FISHEYE, OPENCV_FISHEYE   x' = x θ/r (1 + k1 θ² + ... + k4 θ⁸)
    THIN_PRISM_FISHEYE     k1, ..., p2, k3, k4, sx1, sy1   of x θ/r: radial, tangential and prism, + sx1 θ²
    RAD_TAN_THIN_PRISM_FISHEYE                    radial of x θ/r; of that tangential and prism (Project Aria)
    FOV                    omega                  x' = x/r · atan(2 r tan(omega/2)) / omega
    SIMPLE_DIVISION, DIVISION  k                  x = x' / (1 + k r'²)
    EUCM                   alpha, beta            x' = x / (alpha √(beta r² + 1) + 1 - alpha)

To add a model, write a class and put it into `MODELS`: the camera and the readers of recordings know it then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Plane = Float[Tensor, "... N 2"]  # image coordinates on the plane z = 1
Coefficients = Sequence[Tensor]  # each (*batch, 1, 1), in the order of the model's `distortion`


@runtime_checkable
class CameraModel(Protocol):
    """What `Camera` and the readers of recordings ask of a model."""

    @property
    def name(self) -> str:
        """COLMAP's, where it has the model."""
        ...

    @property
    def colmap_id(self) -> int | None:
        """COLMAP's number for it, in binary files; None = COLMAP has it not."""
        ...

    @property
    def one_focal(self) -> bool:
        """Whether the parameters begin with f; else with fx, fy."""
        ...

    @property
    def distortion(self) -> tuple[str, ...]:
        """Names of the coefficients behind the principal point, in COLMAP's order."""
        ...

    @property
    def two_focals(self) -> str:
        """The model with fx, fy that has the same coefficients, by the same names, and perhaps more."""
        ...

    def distort(self, plane: Plane, k: Coefficients) -> Plane: ...

    def undistort(self, distorted: Plane, k: Coefficients) -> Plane:
        """The inverse of `distort`; NaN where there is none."""
        ...


@dataclass(frozen=True)
class Undistorted:
    """x' = x"""

    name: str
    colmap_id: int
    one_focal: bool
    distortion = ()
    two_focals = "PINHOLE"

    def distort(self, plane: Plane, k: Coefficients) -> Plane:
        return plane

    def undistort(self, distorted: Plane, k: Coefficients) -> Plane:
        return distorted


@dataclass(frozen=True)
class Polynomial:
    """Radial, with as many coefficients k as `distortion` names, and tangential if it names p1 and p2."""

    name: str
    colmap_id: int | None
    one_focal: bool
    distortion: tuple[str, ...]
    two_focals: str = "OPENCV"

    def distort(self, plane: Plane, k: Coefficients) -> Plane:
        of, square = _Named(self.distortion, k), _square(plane)
        return plane * (1 + square * _horner(square, of.radial)) + _tangential(plane, square, of.tangential)

    def jacobian(self, plane: Plane, k: Coefficients) -> Float[Tensor, "... N 2 2"]:
        of, square = _Named(self.distortion, k), _square(plane)
        return _jacobian(
            plane, 1 + square * _horner(square, of.radial), _slope(square, of.radial), of.tangential
        )

    def undistort(self, distorted: Plane, k: Coefficients) -> Plane:
        return _newton(self.distort, self.jacobian, distorted, k)


class FullOpenCV:
    name, colmap_id, one_focal, two_focals = "FULL_OPENCV", 6, False, "FULL_OPENCV"
    distortion = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")

    def distort(self, plane: Plane, k: Coefficients) -> Plane:
        k1, k2, p1, p2, k3, k4, k5, k6 = k
        square = _square(plane)
        above, below = (1 + square * _horner(square, part) for part in ([k1, k2, k3], [k4, k5, k6]))
        return plane * (above / below) + _tangential(plane, square, (p1, p2))

    def jacobian(self, plane: Plane, k: Coefficients) -> Float[Tensor, "... N 2 2"]:
        k1, k2, p1, p2, k3, k4, k5, k6 = k
        square = _square(plane)
        above, below = (1 + square * _horner(square, part) for part in ([k1, k2, k3], [k4, k5, k6]))
        above_slope, below_slope = (_slope(square, part) for part in ([k1, k2, k3], [k4, k5, k6]))
        radial = above / below  # then the rule for quotients
        return _jacobian(plane, radial, (above_slope - radial * below_slope) / below, (p1, p2))

    def undistort(self, distorted: Plane, k: Coefficients) -> Plane:
        return _newton(self.distort, self.jacobian, distorted, k)


@dataclass(frozen=True)
class Fisheye:
    """x' = x/r · θ(1 + k1 θ² + k2 θ⁴ + ...), θ = atan r, with as many coefficients as `distortion` names."""

    name: str
    colmap_id: int
    one_focal: bool
    distortion: tuple[str, ...]
    two_focals: str = "OPENCV_FISHEYE"

    def distort(self, plane: Plane, k: Coefficients) -> Plane:
        radius = _radius(plane)
        return plane * (_fisheye_radius(torch.atan(radius), k) / radius)

    def undistort(self, distorted: Plane, k: Coefficients) -> Plane:
        radius = distorted.norm(dim=-1, keepdim=True)
        angle = radius.clamp(max=1.5)
        for _ in range(_NEWTON_STEPS):
            slope = 1 + sum((2 * i + 3) * k_i * angle ** (2 * i + 2) for i, k_i in enumerate(k))
            angle = angle - (_fisheye_radius(angle, k) - radius) / slope
        valid = (angle.abs() < _WIDEST_ANGLE) & ((_fisheye_radius(angle, k) - radius).abs() < 1e-3)
        scale = torch.where(radius > 1e-12, torch.tan(angle) / radius.clamp_min(1e-12), 1.0)
        return _where(valid, distorted * scale)


@dataclass(frozen=True)
class ThinPrismFisheye:
    """A fisheye lens whose radial part is followed by decentring and the tilt of a thin prism."""

    name: str
    colmap_id: int
    distortion: tuple[str, ...]
    radial_first: bool  # tangential part and prism are of what the radial part gives, not of what it gets
    one_focal = False

    @property
    def two_focals(self) -> str:
        return self.name

    def distort(self, plane: Plane, k: Coefficients) -> Plane:
        radius = _radius(plane)
        return self._bend(plane * (torch.atan(radius) / radius), k)

    def undistort(self, distorted: Plane, k: Coefficients) -> Plane:
        equidistant = _newton(self._bend, self._bend_jacobian, distorted, k)
        angle = _radius(equidistant)
        return _where(angle < _WIDEST_ANGLE, equidistant * (torch.tan(angle) / angle))

    def _bend(self, plane: Plane, k: Coefficients) -> Plane:
        of, square = _Named(self.distortion, k), _square(plane)
        radial = plane * (1 + square * _horner(square, of.radial))
        base = radial if self.radial_first else plane
        square = _square(base)
        prism = torch.cat([square * _horner(square, of.prism_x), square * _horner(square, of.prism_y)], dim=-1)
        return radial + _tangential(base, square, of.tangential) + prism

    def _bend_jacobian(self, plane: Plane, k: Coefficients) -> Float[Tensor, "... N 2 2"]:
        of, square = _Named(self.distortion, k), _square(plane)
        radial = 1 + square * _horner(square, of.radial)
        inner = _jacobian(plane, radial, _slope(square, of.radial))
        base = plane * radial if self.radial_first else plane
        square = _square(base)
        slopes = torch.cat([_slope(square, of.prism_x), _slope(square, of.prism_y)], dim=-1)
        zero = torch.zeros_like(square)
        outer = _jacobian(base, zero, zero, of.tangential) + slopes[..., :, None] * base[..., None, :]
        return inner + (outer @ inner if self.radial_first else outer)


class Fov:
    """Devernay and Faugeras, 2001: one angle; pixels are nearly equidistant in angle."""

    name, colmap_id, one_focal, two_focals = "FOV", 7, False, "FOV"
    distortion = ("omega",)

    def distort(self, plane: Plane, k: Coefficients) -> Plane:
        omega, radius = k[0].abs().clamp_min(1e-6), _radius(plane)  # no distortion is the limit at 0
        return plane * (torch.atan(2 * radius * torch.tan(omega / 2)) / (omega * radius))

    def undistort(self, distorted: Plane, k: Coefficients) -> Plane:
        omega, radius = k[0].abs().clamp_min(1e-6), _radius(distorted)
        scale = torch.tan(omega * radius) / (2 * radius * torch.tan(omega / 2))
        return _where(omega * radius < _WIDEST_ANGLE, distorted * scale)


@dataclass(frozen=True)
class Division:
    """Fitzgibbon, 2001: undistorting is a division."""

    name: str
    colmap_id: int
    one_focal: bool
    distortion = ("k",)
    two_focals = "DIVISION"

    def distort(self, plane: Plane, k: Coefficients) -> Plane:
        return plane * (2 / (1 + (1 - 4 * k[0] * _square(plane)).clamp_min(1e-12).sqrt()))  # finite everywhere

    def undistort(self, distorted: Plane, k: Coefficients) -> Plane:
        bent = k[0] * _square(distorted)
        return _where(bent.abs() < 1, distorted / (1 + bent))


class Eucm:
    """The enhanced unified camera model of Khomutenko, Garcia and Martinet, 2016."""

    name, colmap_id = "EUCM", 16
    one_focal, distortion, two_focals = False, ("alpha", "beta"), "EUCM"

    def distort(self, plane: Plane, k: Coefficients) -> Plane:
        alpha, beta = k
        return plane / (alpha * (beta * _square(plane) + 1).sqrt() + 1 - alpha)

    def undistort(self, distorted: Plane, k: Coefficients) -> Plane:
        alpha, beta = k
        bent = beta * _square(distorted)
        z = (1 - alpha**2 * bent) / (alpha * (1 - (2 * alpha - 1) * bent).sqrt() + 1 - alpha)
        return _where(z > 0, distorted / z)


MODELS: dict[str, CameraModel] = {
    model.name: model
    for model in (
        Undistorted("SIMPLE_PINHOLE", 0, one_focal=True),
        Undistorted("PINHOLE", 1, one_focal=False),
        Polynomial("SIMPLE_RADIAL", 2, one_focal=True, distortion=("k1",)),
        Polynomial("RADIAL", 3, one_focal=True, distortion=("k1", "k2")),
        Polynomial("OPENCV", 4, one_focal=False, distortion=("k1", "k2", "p1", "p2")),
        FullOpenCV(),
        Polynomial("BROWN_CONRADY", None, False, ("k1", "k2", "p1", "p2", "k3", "k4"), "BROWN_CONRADY"),
        Fisheye("SIMPLE_FISHEYE", 14, one_focal=True, distortion=(), two_focals="FISHEYE"),
        Fisheye("FISHEYE", 15, one_focal=False, distortion=(), two_focals="FISHEYE"),
        Fisheye("SIMPLE_RADIAL_FISHEYE", 8, one_focal=True, distortion=("k1",)),
        Fisheye("RADIAL_FISHEYE", 9, one_focal=True, distortion=("k1", "k2")),
        Fisheye("OPENCV_FISHEYE", 5, one_focal=False, distortion=("k1", "k2", "k3", "k4")),
        ThinPrismFisheye(
            "THIN_PRISM_FISHEYE", 10, ("k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1"), radial_first=False
        ),
        ThinPrismFisheye(
            "RAD_TAN_THIN_PRISM_FISHEYE",
            11,
            ("k1", "k2", "k3", "k4", "k5", "k6", "p2", "p1", "sx1", "sx2", "sy1", "sy2"),  # COLMAP's p0 is p2
            radial_first=True,
        ),
        Fov(),
        Division("SIMPLE_DIVISION", 12, one_focal=True),
        Division("DIVISION", 13, one_focal=False),
        Eucm(),
    )
}


def with_two_focals(
    model: CameraModel, distortion: Float[Tensor, "*batch k"] | None
) -> tuple[CameraModel, Float[Tensor, "*batch n"] | None]:
    """The model that can hold fx != fy, and its coefficients for the same distortion."""
    other = MODELS[model.two_focals]
    if distortion is None:
        return other, None
    column = dict(zip(model.distortion, distortion.split(1, dim=-1), strict=True))
    zero = torch.zeros_like(distortion[..., :1])
    return other, torch.cat([column.get(name, zero) for name in other.distortion], dim=-1)


def of_the_turned_image(
    model: CameraModel, distortion: Float[Tensor, "*batch k"] | None
) -> Float[Tensor, "*batch k"] | None:
    """The coefficients of the same lens when its image is turned by a quarter, clockwise: (x, y) -> (-y, x)."""
    if distortion is None:
        return None
    column = dict(zip(model.distortion, distortion.split(1, dim=-1), strict=True))
    came_from = (_TURNED.get(name, (name, 1)) for name in model.distortion)
    return torch.cat([sign * column[name] for name, sign in came_from], dim=-1)


_TURNED = {"p1": ("p2", 1), "p2": ("p1", -1), "sx1": ("sy1", -1), "sx2": ("sy2", -1), "sy1": ("sx1", 1)}
_TURNED["sy2"] = ("sx2", 1)
_NEWTON_STEPS = 12  # quadratic convergence: 5 reach 1e-12 for |k r²| < 0.3; the rest is margin
_WIDEST_ANGLE = torch.pi * 89 / 180  # of a fisheye, from the axis: the plane z = 1 ends at 90 degrees


def _square(plane: Tensor) -> Tensor:
    return (plane * plane).sum(-1, keepdim=True)


def _radius(plane: Tensor) -> Tensor:
    """Never 0, which one may divide by and has a gradient."""
    return _square(plane).clamp_min(1e-24).sqrt()


def _where(valid: Tensor, plane: Tensor) -> Tensor:
    return torch.where(valid, plane, torch.full_like(plane, torch.nan))


class _Named:
    """A model's coefficients by what they are for."""

    def __init__(self, names: Sequence[str], k: Coefficients) -> None:
        of = dict(zip(names, k, strict=True))
        self.radial = [value for name, value in of.items() if name.startswith("k")]
        self.tangential = (of["p1"], of["p2"]) if "p1" in of else None
        self.prism_x = [value for name, value in of.items() if name.startswith("sx")]
        self.prism_y = [value for name, value in of.items() if name.startswith("sy")]


def _horner(square: Tensor, k: Sequence[Tensor]) -> Tensor:
    """k1 + k2 r² + k3 r⁴ + ..."""
    value = k[-1]
    for k_i in reversed(k[:-1]):
        value = value * square + k_i
    return value


def _slope(square: Tensor, k: Sequence[Tensor]) -> Tensor:
    """The derivative of k1 r² + k2 r⁴ + ... by x, over x: 2x times the polynomial's derivative by r²."""
    return 2 * _horner(square, [(i + 1) * k_i for i, k_i in enumerate(k)])


def _tangential(plane: Tensor, square: Tensor, p: tuple[Tensor, Tensor] | None) -> Tensor:
    if p is None:
        return torch.zeros_like(plane)
    (p1, p2), x, y = p, plane[..., :1], plane[..., 1:]
    return torch.cat(
        [2 * p1 * x * y + p2 * (square + 2 * x * x), 2 * p2 * x * y + p1 * (square + 2 * y * y)], dim=-1
    )


def _jacobian(
    plane: Tensor, radial: Tensor, slope: Tensor, tangential: tuple[Tensor, Tensor] | None = None
) -> Float[Tensor, "... N 2 2"]:
    """Derivative of `radial * (x, y) + tangential` by (x, y), where d(radial)/dx = slope * x."""
    x, y = plane[..., :1], plane[..., 1:]
    xx, xy, yy = radial + slope * x * x, slope * x * y, radial + slope * y * y
    yx = xy
    if tangential is not None:
        p1, p2 = tangential
        xx, yy = xx + 2 * p1 * y + 6 * p2 * x, yy + 2 * p2 * x + 6 * p1 * y
        xy = xy + 2 * p1 * x + 2 * p2 * y
        yx = yx + 2 * p2 * y + 2 * p1 * x
    return torch.cat([xx, xy, yx, yy], -1).unflatten(-1, (2, 2))


def _newton(
    distort: Callable[[Plane, Coefficients], Plane],
    jacobian: Callable[[Plane, Coefficients], Tensor],
    distorted: Plane,
    k: Coefficients,
) -> Plane:
    """Where `distort` takes the point to `distorted`; NaN beyond the fold of a distortion that turns back."""
    plane = distorted.clone()
    for _ in range(_NEWTON_STEPS):
        plane = plane - _solve_2x2(jacobian(plane, k), distort(plane, k) - distorted)
    wrong = (distort(plane, k) - distorted).norm(dim=-1) > 1e-3
    folded = torch.linalg.det(jacobian(plane, k)) <= 0
    return torch.where((wrong | folded)[..., None], torch.full_like(plane, torch.nan), plane)


def _solve_2x2(matrix: Tensor, vector: Tensor) -> Tensor:
    """Closed-form solve; a singular matrix gives NaN, which marks the pixel as out of domain."""
    (a, b), (c, d) = matrix[..., 0, :].unbind(-1), matrix[..., 1, :].unbind(-1)
    x, y = vector.unbind(-1)
    return torch.stack([d * x - b * y, a * y - c * x], -1) / (a * d - b * c)[..., None]


def _fisheye_radius(angle: Tensor, k: Coefficients) -> Tensor:
    square = angle * angle
    return angle * (1 + sum(k_i * square ** (i + 1) for i, k_i in enumerate(k)))
