"""Camera models: how a lens moves image coordinates (x, y) = (X/Z, Y/Z) on the plane z = 1; a class each.

A model maps (x, y) to the distorted (x', y'), and `pixel = focal_px * (x', y') + center_px`. With r² = x² + y²:

    SIMPLE_PINHOLE         f, cx, cy                        x' = x
    PINHOLE                fx, fy, cx, cy                   x' = x
    SIMPLE_RADIAL          f, cx, cy, k1                    x' = x (1 + k1 r²)
    RADIAL                 f, cx, cy, k1, k2                x' = x (1 + k1 r² + k2 r⁴)
    OPENCV                 fx, fy, cx, cy, k1, k2, p1, p2   radial + tangential
    FULL_OPENCV            fx, ..., p2, k3, k4, k5, k6      the radial part divided by 1 + k4 r² + k5 r⁴ + k6 r⁶
    SIMPLE_RADIAL_FISHEYE  f, cx, cy, k1                    x' = x/r · θ(1 + k1 θ²), θ = atan r
    RADIAL_FISHEYE         f, cx, cy, k1, k2                x' = x/r · θ(1 + k1 θ² + k2 θ⁴)
    OPENCV_FISHEYE         fx, fy, cx, cy, k1, k2, k3, k4   x' = x/r · θ(1 + k1 θ² + ... + k4 θ⁸)

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
        """COLMAP's."""
        ...

    @property
    def colmap_id(self) -> int:
        """COLMAP's number for it, in binary files."""
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


class SimpleRadial:
    name, colmap_id = "SIMPLE_RADIAL", 2
    one_focal, distortion, two_focals = True, ("k1",), "OPENCV"

    def distort(self, plane: Plane, k: Coefficients) -> Plane:
        (k1,) = k
        return plane * (1 + k1 * _square(plane))

    def jacobian(self, plane: Plane, k: Coefficients) -> Float[Tensor, "... N 2 2"]:
        (k1,) = k
        return _jacobian(plane, 1 + k1 * _square(plane), 2 * k1)

    def undistort(self, distorted: Plane, k: Coefficients) -> Plane:
        return _newton(self.distort, self.jacobian, distorted, k)


class Radial:
    name, colmap_id = "RADIAL", 3
    one_focal, distortion, two_focals = True, ("k1", "k2"), "OPENCV"

    def distort(self, plane: Plane, k: Coefficients) -> Plane:
        k1, k2 = k
        square = _square(plane)
        return plane * (1 + k1 * square + k2 * square**2)

    def jacobian(self, plane: Plane, k: Coefficients) -> Float[Tensor, "... N 2 2"]:
        k1, k2 = k
        square = _square(plane)
        return _jacobian(plane, 1 + k1 * square + k2 * square**2, 2 * k1 + 4 * k2 * square)

    def undistort(self, distorted: Plane, k: Coefficients) -> Plane:
        return _newton(self.distort, self.jacobian, distorted, k)


class OpenCV:
    name, colmap_id = "OPENCV", 4
    one_focal, distortion, two_focals = False, ("k1", "k2", "p1", "p2"), "OPENCV"

    def distort(self, plane: Plane, k: Coefficients) -> Plane:
        k1, k2, p1, p2 = k
        square = _square(plane)
        return plane * (1 + k1 * square + k2 * square**2) + _tangential(plane, square, p1, p2)

    def jacobian(self, plane: Plane, k: Coefficients) -> Float[Tensor, "... N 2 2"]:
        k1, k2, p1, p2 = k
        square = _square(plane)
        radial = 1 + k1 * square + k2 * square**2
        return _jacobian(plane, radial, 2 * k1 + 4 * k2 * square, tangential=(p1, p2))

    def undistort(self, distorted: Plane, k: Coefficients) -> Plane:
        return _newton(self.distort, self.jacobian, distorted, k)


class FullOpenCV:
    name, colmap_id = "FULL_OPENCV", 6
    one_focal, two_focals = False, "FULL_OPENCV"
    distortion = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")

    def distort(self, plane: Plane, k: Coefficients) -> Plane:
        k1, k2, p1, p2, k3, k4, k5, k6 = k
        square = _square(plane)
        above, below = _cubic(square, k1, k2, k3), _cubic(square, k4, k5, k6)
        return plane * (above / below) + _tangential(plane, square, p1, p2)

    def jacobian(self, plane: Plane, k: Coefficients) -> Float[Tensor, "... N 2 2"]:
        k1, k2, p1, p2, k3, k4, k5, k6 = k
        square = _square(plane)
        above, below = _cubic(square, k1, k2, k3), _cubic(square, k4, k5, k6)
        # d/dx of a polynomial in r² is 2x times its derivative; then the rule for quotients
        above_slope = 2 * k1 + 4 * k2 * square + 6 * k3 * square**2
        below_slope = 2 * k4 + 4 * k5 * square + 6 * k6 * square**2
        radial = above / below
        return _jacobian(plane, radial, (above_slope - radial * below_slope) / below, tangential=(p1, p2))

    def undistort(self, distorted: Plane, k: Coefficients) -> Plane:
        return _newton(self.distort, self.jacobian, distorted, k)


@dataclass(frozen=True)
class Fisheye:
    """x' = x/r · θ(1 + k1 θ² + k2 θ⁴ + ...), θ = atan r, with as many coefficients as `distortion` names."""

    name: str
    colmap_id: int
    one_focal: bool
    distortion: tuple[str, ...]
    two_focals = "OPENCV_FISHEYE"

    def distort(self, plane: Plane, k: Coefficients) -> Plane:
        radius = _square(plane).clamp_min(1e-24).sqrt()
        return plane * (_fisheye_radius(torch.atan(radius), k) / radius)

    def undistort(self, distorted: Plane, k: Coefficients) -> Plane:
        radius = distorted.norm(dim=-1, keepdim=True)
        angle = radius.clamp(max=1.5)
        for _ in range(_NEWTON_STEPS):
            slope = 1 + sum((2 * i + 3) * k_i * angle ** (2 * i + 2) for i, k_i in enumerate(k))
            angle = angle - (_fisheye_radius(angle, k) - radius) / slope
        valid = (angle.abs() < _WIDEST_ANGLE) & ((_fisheye_radius(angle, k) - radius).abs() < 1e-3)
        scale = torch.where(radius > 1e-12, torch.tan(angle) / radius.clamp_min(1e-12), torch.ones_like(radius))
        return torch.where(valid, distorted * scale, torch.full_like(distorted, torch.nan))


MODELS: dict[str, CameraModel] = {
    model.name: model
    for model in (
        Undistorted("SIMPLE_PINHOLE", 0, one_focal=True),
        Undistorted("PINHOLE", 1, one_focal=False),
        SimpleRadial(),
        Radial(),
        OpenCV(),
        FullOpenCV(),
        Fisheye("SIMPLE_RADIAL_FISHEYE", 8, one_focal=True, distortion=("k1",)),
        Fisheye("RADIAL_FISHEYE", 9, one_focal=True, distortion=("k1", "k2")),
        Fisheye("OPENCV_FISHEYE", 5, one_focal=False, distortion=("k1", "k2", "k3", "k4")),
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


_NEWTON_STEPS = 12  # quadratic convergence: 5 reach 1e-12 for |k r²| < 0.3; the rest is margin
_WIDEST_ANGLE = torch.pi * 89 / 180  # of a fisheye, from the axis: the plane z = 1 ends at 90 degrees


def _square(plane: Tensor) -> Tensor:
    return (plane * plane).sum(-1, keepdim=True)


def _cubic(square: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    return 1 + first * square + second * square**2 + third * square**3


def _tangential(plane: Tensor, square: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
    x, y = plane[..., :1], plane[..., 1:]
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
