"""Cameras: camera coordinates to pixels and back, in COLMAP's models and parameter order.

Camera axes are x right, y down, z forward; pixel (0.5, 0.5) is the centre of the top-left pixel. A point
(X, Y, Z) has image coordinates (x, y) = (X/Z, Y/Z) on the plane z = 1; a model distorts them to (x', y') and
`pixel = focal_px * (x', y') + center_px`:

    SIMPLE_PINHOLE  f, cx, cy                               x' = x
    PINHOLE         fx, fy, cx, cy                          x' = x
    SIMPLE_RADIAL   f, cx, cy, k                            x' = x (1 + k r²)
    RADIAL          f, cx, cy, k1, k2                       x' = x (1 + k1 r² + k2 r⁴)
    OPENCV          fx, fy, cx, cy, k1, k2, p1, p2          radial + tangential
    OPENCV_FISHEYE  fx, fy, cx, cy, k1, k2, k3, k4          x' = x/r · θ(1 + k1 θ² + ... + k4 θ⁸), θ = atan r
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Model = Literal["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"]
MODELS: tuple[Model, ...] = get_args(Model)

# model -> (has one focal length for both axes, number of distortion parameters)
_LAYOUT: dict[Model, tuple[bool, int]] = {
    "SIMPLE_PINHOLE": (True, 0),
    "PINHOLE": (False, 0),
    "SIMPLE_RADIAL": (True, 1),
    "RADIAL": (True, 2),
    "OPENCV": (False, 4),
    "OPENCV_FISHEYE": (False, 4),
}


@dataclass(frozen=True)
class Camera:
    """A camera model with its parameters and image size, or a batch that shares model and size."""

    focal_px: Float[Tensor, "*batch 2"]
    center_px: Float[Tensor, "*batch 2"]
    size: tuple[int, int]  # (width, height) in pixels
    model: Model = "PINHOLE"
    distortion: Float[Tensor, "*batch k"] | None = None  # the model's, in COLMAP's order; None = none

    @staticmethod
    def from_params(model: str, params: Sequence[float | int] | Tensor, size: tuple[int, int]) -> Camera:
        """From COLMAP's parameter list, in float64.

        Raises: `ValueError` for an unknown model, a wrong number of parameters, a focal length <= 0 or no size.
        """
        if model not in _LAYOUT:
            raise ValueError(f"camera model: expected one of {', '.join(MODELS)}, got {model}")
        single_focal, num_distortion = _LAYOUT[model]
        values = torch.as_tensor(params, dtype=torch.float64)
        expected = (3 if single_focal else 4) + num_distortion
        if values.shape != (expected,):
            raise ValueError(f"camera {model}: expected {expected} parameters, got {values.numel()}")
        focal = values[:1].expand(2) if single_focal else values[:2]
        if not (torch.isfinite(values).all() and (focal > 0).all()):
            raise ValueError(
                f"camera {model}: expected finite values and a positive focal, got {values.tolist()}"
            )
        if min(size) < 1:
            raise ValueError(f"camera {model}: expected a width and height in pixels, got {size[0]}, {size[1]}")
        rest = values[1:] if single_focal else values[2:]
        return Camera(
            focal, rest[:2], (int(size[0]), int(size[1])), model, rest[2:] if num_distortion else None
        )

    @staticmethod
    def simple(focal_px: float | int, size: tuple[int, int]) -> Camera:
        """A pinhole camera with one focal length and the principal point in the image's middle."""
        return Camera.from_params("SIMPLE_PINHOLE", [focal_px, size[0] / 2, size[1] / 2], size)

    @staticmethod
    def from_text(text: str) -> Camera:
        """From `MODEL,WIDTH,HEIGHT,PARAMS...`, as `to_text` writes it.

        Raises: `ValueError` like `from_params`.
        """
        model, *numbers = text.split(",")
        if len(numbers) < 2:
            raise ValueError(f"camera {model}: no width and height")
        width, height, *params = map(float, numbers)
        return Camera.from_params(model.strip().upper(), params, (int(width), int(height)))

    def to_text(self) -> str:
        """One camera as `MODEL,WIDTH,HEIGHT,PARAMS...`, with COLMAP's order of parameters."""
        numbers = [*self.size, *self.params.tolist()]
        return ",".join([self.model, *(f"{number:.9g}" for number in numbers)])

    @property
    def relative_focal(self) -> float:
        """Focal length of one camera in short sides of its image: how large it shows things, at any size."""
        return float(self.focal_px.mean()) / min(self.size)

    @property
    def params(self) -> Float[Tensor, "*batch n"]:
        """COLMAP's parameter list."""
        focal = self.focal_px[..., :1] if _LAYOUT[self.model][0] else self.focal_px
        parts = [focal, self.center_px] + ([] if self.distortion is None else [self.distortion])
        return torch.cat(parts, dim=-1)

    @property
    def pinhole(self) -> Camera:
        """The ideal camera that is left when the distortion is taken away: same focal, centre and size."""
        return Camera(self.focal_px, self.center_px, self.size)

    # ---- camera coordinates and pixels -----------------------------------------------------------

    def project(self, points_cam: Float[Tensor, "... N 3"]) -> Float[Tensor, "... N 2"]:
        """Pixels of points in camera coordinates.

        The camera's batch broadcasts with the dimensions before N of `(..., N, 3)`. Meaningful for
        points in front of the camera (z > 0); callers mask the others.
        """
        return self._to_pixels(self._distort(points_cam[..., :2] / points_cam[..., 2:]))

    def unproject(self, pixels: Float[Tensor, "... N 2"]) -> Float[Tensor, "... N 3"]:
        """The point (x, y, 1) at depth 1 m that projects to each pixel; multiply by depth for camera points.

        Distortion is undone by Newton's method. Domain: the pixels of images whose distortion is
        monotonic there (any calibrated camera); fisheye images up to 89° from the axis. Outside that
        domain the answer is NaN. No gradient with respect to the distortion.
        """
        plane = (pixels - self.center_px[..., None, :]) / self.focal_px[..., None, :]
        if self.distortion is not None:
            plane = self._undistort(plane)
        return torch.cat([plane, torch.ones_like(plane[..., :1])], dim=-1)

    def undistort(self, pixels: Float[Tensor, "... N 2"]) -> Float[Tensor, "... N 2"]:
        """Where the ideal camera `self.pinhole` sees what this one sees at each pixel."""
        return pixels if self.distortion is None else self._to_pixels(self.unproject(pixels)[..., :2])

    # ---- other images of the same camera ---------------------------------------------------------

    def rescale(self, size: tuple[int, int]) -> Camera:
        """The camera of the image resized to `size` (width, height)."""
        scale = self.focal_px.new_tensor([size[0] / self.size[0], size[1] / self.size[1]])
        # two focal lengths may come out of one when the aspect ratio changes by rounding
        model, distortion = self.model, self.distortion
        if _LAYOUT[model][0] and scale[0] != scale[1]:
            model, distortion = _with_two_focals(model, distortion)
        return Camera(self.focal_px * scale, self.center_px * scale, size, model, distortion)

    def crop(self, left: int, top: int, size: tuple[int, int]) -> Camera:
        """The camera of the `size` (width, height) window whose top-left pixel is (left, top)."""
        corner = self.center_px.new_tensor([left, top])
        return replace(self, center_px=self.center_px - corner, size=size)

    def to(self, *args, **kwargs) -> Camera:
        return replace(
            self,
            focal_px=self.focal_px.to(*args, **kwargs),
            center_px=self.center_px.to(*args, **kwargs),
            distortion=None if self.distortion is None else self.distortion.to(*args, **kwargs),
        )

    def __getitem__(self, index) -> Camera:
        """Index the batch dimensions."""
        if not isinstance(index, tuple):
            index = (index,)
        return replace(
            self,
            focal_px=self.focal_px[(*index, Ellipsis, slice(None))],
            center_px=self.center_px[(*index, Ellipsis, slice(None))],
            distortion=None if self.distortion is None else self.distortion[(*index, Ellipsis, slice(None))],
        )

    # ---- the models ------------------------------------------------------------------------------

    def _to_pixels(self, plane: Tensor) -> Tensor:
        return plane * self.focal_px[..., None, :] + self.center_px[..., None, :]

    def _distort(self, plane: Tensor) -> Tensor:
        if self.distortion is None:
            return plane
        k = self.distortion[..., None, :]
        square = (plane * plane).sum(-1, keepdim=True)
        if self.model == "OPENCV_FISHEYE":
            radius = square.clamp_min(1e-24).sqrt()
            angle = torch.atan(radius)
            return plane * (_fisheye_radius(angle, k) / radius)
        if self.model == "SIMPLE_RADIAL":
            return plane * (1 + k * square)
        scaled = plane * (1 + k[..., :1] * square + k[..., 1:2] * square**2)
        if self.model == "RADIAL":
            return scaled
        p1, p2 = k[..., 2:3], k[..., 3:4]
        x, y = plane[..., :1], plane[..., 1:]
        tangential = torch.cat(
            [2 * p1 * x * y + p2 * (square + 2 * x * x), 2 * p2 * x * y + p1 * (square + 2 * y * y)],
            dim=-1,
        )
        return scaled + tangential

    def _undistort(self, distorted: Tensor) -> Tensor:
        if self.model == "OPENCV_FISHEYE":
            return self._undistort_fisheye(distorted)
        plane = distorted.clone()
        for _ in range(_NEWTON_STEPS):
            plane = plane - _solve_2x2(self._distortion_jacobian(plane), self._distort(plane) - distorted)
        wrong = (self._distort(plane) - distorted).norm(dim=-1) > 1e-3
        folded = torch.linalg.det(self._distortion_jacobian(plane)) <= 0
        return torch.where((wrong | folded)[..., None], torch.full_like(plane, torch.nan), plane)

    def _undistort_fisheye(self, distorted: Tensor) -> Tensor:
        assert self.distortion is not None
        k = self.distortion[..., None, :]
        radius = distorted.norm(dim=-1, keepdim=True)
        angle = radius.clamp(max=1.5)
        for _ in range(_NEWTON_STEPS):
            slope = 1 + sum((2 * i + 3) * k[..., i : i + 1] * angle ** (2 * i + 2) for i in range(4))
            angle = angle - (_fisheye_radius(angle, k) - radius) / slope
        limit = torch.pi * 89 / 180
        valid = (angle.abs() < limit) & ((_fisheye_radius(angle, k) - radius).abs() < 1e-3)
        scale = torch.where(radius > 1e-12, torch.tan(angle) / radius.clamp_min(1e-12), torch.ones_like(radius))
        return torch.where(valid, distorted * scale, torch.full_like(distorted, torch.nan))

    def _distortion_jacobian(self, plane: Tensor) -> Tensor:
        """Derivative of the distorted by the undistorted coordinates, `(..., 2, 2)`, for polynomial models."""
        assert self.distortion is not None
        k = self.distortion[..., None, :]
        x, y = plane.unbind(-1)
        square = x * x + y * y
        k1 = k[..., 0]
        k2 = k[..., 1] if self.model != "SIMPLE_RADIAL" else torch.zeros_like(k1)
        radial = 1 + k1 * square + k2 * square**2
        slope = 2 * k1 + 4 * k2 * square  # d(radial)/d(x) = slope * x
        xx, xy, yy = radial + slope * x * x, slope * x * y, radial + slope * y * y
        yx = xy
        if self.model == "OPENCV":
            p1, p2 = k[..., 2], k[..., 3]
            xx, yy = xx + 2 * p1 * y + 6 * p2 * x, yy + 2 * p2 * x + 6 * p1 * y
            xy = xy + 2 * p1 * x + 2 * p2 * y
            yx = yx + 2 * p2 * y + 2 * p1 * x
        return torch.stack([torch.stack([xx, xy], -1), torch.stack([yx, yy], -1)], -2)


_NEWTON_STEPS = 12  # quadratic convergence: 5 reach 1e-12 for |k r²| < 0.3; the rest is margin


def _fisheye_radius(angle: Tensor, k: Tensor) -> Tensor:
    square = angle * angle
    return angle * (1 + sum(k[..., i : i + 1] * square ** (i + 1) for i in range(4)))


def _solve_2x2(matrix: Tensor, vector: Tensor) -> Tensor:
    """Closed-form solve; a singular matrix gives NaN, which marks the pixel as out of domain."""
    (a, b), (c, d) = matrix[..., 0, :].unbind(-1), matrix[..., 1, :].unbind(-1)
    x, y = vector.unbind(-1)
    return torch.stack([d * x - b * y, a * y - c * x], -1) / (a * d - b * c)[..., None]


def _with_two_focals(model: Model, distortion: Tensor | None) -> tuple[Model, Tensor | None]:
    """The model that can hold fx != fy and the same distortion."""
    if distortion is None:
        return "PINHOLE", None
    zeros = torch.zeros_like(distortion[..., :1]).expand(*distortion.shape[:-1], 4 - distortion.shape[-1])
    return "OPENCV", torch.cat([distortion, zeros], dim=-1)
