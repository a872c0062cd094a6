"""Cameras: camera coordinates to pixels and back, in COLMAP's models and parameter order.

Camera axes are x right, y down, z forward; pixel (0.5, 0.5) is the centre of the top-left pixel. A point
(X, Y, Z) has image coordinates (x, y) = (X/Z, Y/Z) on the plane z = 1; a model (`camera_models`) distorts
them to (x', y') and `pixel = focal_px * (x', y') + center_px`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from dsac.geometry.camera_models import (
    MODELS,
    CameraModel,
    Coefficients,
    Undistorted,
    of_the_turned_image,
    with_two_focals,
)

_LARGEST_SIDE = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera model with its parameters and image size, or a batch that shares model and size.

    Raises: `ValueError` for shapes that do not fit together, an unknown model, or an impossible size.
    """

    focal_px: Float[Tensor, "*batch 2"]
    center_px: Float[Tensor, "*batch 2"]
    size: tuple[int, int]  # (width, height) in pixels
    model: str = "PINHOLE"  # a name in `camera_models.MODELS`
    distortion: Float[Tensor, "*batch k"] | None = None  # the model's, in COLMAP's order; None = it has none

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"camera model: expected one of {', '.join(MODELS)}, got {self.model}")
        object.__setattr__(self, "size", _checked_size(self.size, self.model))
        shape, names = tuple(self.focal_px.shape), MODELS[self.model].distortion
        if shape[-1:] != (2,):
            raise ValueError(f"focal_px: expected (..., 2), got {shape}")
        if self.center_px.shape != shape:
            raise ValueError(f"center_px: expected {shape} as focal_px, got {tuple(self.center_px.shape)}")
        expected = (*shape[:-1], len(names)) if names else None
        given = None if self.distortion is None else tuple(self.distortion.shape)
        if given != expected:
            raise ValueError(
                f"distortion: expected {expected} of {self.model} beside focal_px {shape}, got {given}"
            )

    @staticmethod
    def from_params(model: str, params: Sequence[float | int] | Tensor, size: tuple[int, int]) -> Camera:
        """From COLMAP's parameter list, in float64.

        Raises: `ValueError` for an unknown model, a wrong number of parameters, values that are not finite, a
        focal length <= 0 or no size.
        """
        if model not in MODELS:
            raise ValueError(f"camera model: expected one of {', '.join(MODELS)}, got {model}")
        one_focal, names = MODELS[model].one_focal, MODELS[model].distortion
        values = _finite(params, f"camera {model}")
        expected = (3 if one_focal else 4) + len(names)
        if values.shape != (expected,):
            raise ValueError(f"camera {model}: expected {expected} parameters, got {values.numel()}")
        focal = values[:1].expand(2) if one_focal else values[:2]
        if not (focal > 0).all():
            raise ValueError(f"camera {model}: expected a positive focal, got {values.tolist()}")
        rest = values[1:] if one_focal else values[2:]
        return Camera(focal, rest[:2], size, model, rest[2:] if names else None)

    @staticmethod
    def simple(focal_px: float | int, size: tuple[int, int]) -> Camera:
        """A pinhole camera with one focal length and the principal point in the image's middle."""
        width, height = _checked_size(size, "SIMPLE_PINHOLE")
        return Camera.from_params("SIMPLE_PINHOLE", [focal_px, width / 2, height / 2], (width, height))

    @staticmethod
    def from_text(text: str) -> Camera:
        """From `MODEL,WIDTH,HEIGHT,PARAMS...`, as `to_text` writes it.

        Raises: `ValueError` like `from_params`.
        """
        model, *numbers = text.split(",")
        if len(numbers) < 2:
            raise ValueError(f"camera {model}: no width and height")
        width, height, *params = map(float, numbers)
        if not (width.is_integer() and height.is_integer()):
            raise ValueError(f"camera {model}: expected a width and height in pixels, got {width}, {height}")
        return Camera.from_params(model.strip().upper(), params, (int(width), int(height)))

    def to_text(self) -> str:
        """One camera as `MODEL,WIDTH,HEIGHT,PARAMS...`, in COLMAP's order and with every digit there is."""
        params = (repr(value).removesuffix(".0") for value in self.params.tolist())
        return ",".join([self.model, *map(str, self.size), *params])

    @staticmethod
    def from_opencv(
        K: Real[Tensor, "3 3"] | Real[np.ndarray, "3 3"] | Sequence[Sequence[float | int]],
        distortion: Sequence[float | int] | Tensor | np.ndarray | None,
        size: tuple[int, int],
    ) -> Camera:
        """From what `cv2.calibrateCamera` returns: the camera matrix and k1 k2 p1 p2 [k3 [k4 k5 k6 ...]].

        OpenCV counts pixels from the centre of the top-left one, we from its corner: half a pixel is added to
        the principal point. The model is the simplest that holds the coefficients.
        Raises: `ValueError` for a skewed camera matrix, and for a thin prism or a tilted sensor (coefficients
        behind the eighth).
        """
        pinhole = _opencv_pinhole(K)
        k = [] if distortion is None else _finite(distortion, "distortion").flatten().tolist()
        if len(k) not in (0, 4, 5, 8, 12, 14):
            raise ValueError(f"distortion: expected 4, 5, 8, 12 or 14 coefficients of OpenCV, got {len(k)}")
        if any(k[8:]):
            raise ValueError(f"distortion: no model here has a thin prism or a tilted sensor, got {k[8:]}")
        k = [*k[:8], *[0.0] * (8 - len(k))]
        if any(k[4:]):
            return Camera.from_params("FULL_OPENCV", [*pinhole, *k], size)
        if any(k):
            return Camera.from_params("OPENCV", [*pinhole, *k[:4]], size)
        return Camera.from_params("PINHOLE", pinhole, size)

    @staticmethod
    def from_opencv_fisheye(
        K: Real[Tensor, "3 3"] | Real[np.ndarray, "3 3"] | Sequence[Sequence[float | int]],
        distortion: Sequence[float | int] | Tensor | np.ndarray,
        size: tuple[int, int],
    ) -> Camera:
        """Like `from_opencv`, from what `cv2.fisheye.calibrate` returns: the camera matrix and k1 k2 k3 k4."""
        k = _finite(distortion, "distortion").flatten().tolist()
        return Camera.from_params("OPENCV_FISHEYE", [*_opencv_pinhole(K), *k], size)

    @property
    def relative_focal(self) -> float:
        """Focal length of one camera in short sides of its image: the zoom, whatever the resolution."""
        return float(self.focal_px.mean()) / min(self.size)

    @property
    def params(self) -> Float[Tensor, "*batch n"]:
        """COLMAP's parameter list."""
        focal = self.focal_px[..., :1] if self._model.one_focal else self.focal_px
        parts = [focal, self.center_px] + ([] if self.distortion is None else [self.distortion])
        return torch.cat(parts, dim=-1)

    @property
    def is_pinhole(self) -> bool:
        """Whether straight lines are straight in the image."""
        return isinstance(self._model, Undistorted)

    @property
    def pinhole(self) -> Camera:
        """The ideal camera without the distortion: same focal length, centre and size."""
        return Camera(self.focal_px, self.center_px, self.size)

    def pinhole_of(self, short_side_px: int) -> Camera:
        """The ideal camera for images with that short side."""
        scale = short_side_px / min(self.size)
        return self.rescale((round(self.size[0] * scale), round(self.size[1] * scale))).pinhole

    # ---- camera coordinates and pixels -----------------------------------------------------------

    def project(self, points_cam: Float[Tensor, "... N 3"]) -> Float[Tensor, "... N 2"]:
        """Pixels of points in camera coordinates.

        The camera's batch broadcasts with the dimensions before N of `(..., N, 3)`. Meaningful for
        points in front of the camera (z > 0); callers mask the others.
        """
        plane = points_cam[..., :2] / points_cam[..., 2:]
        return self._to_pixels(self._model.distort(plane, self._coefficients))

    def unproject(self, pixels: Float[Tensor, "... N 2"]) -> Float[Tensor, "... N 3"]:
        """The point (x, y, 1) at depth 1 m that projects to each pixel; multiply by depth for camera points.

        Distortion is undone by Newton's method. Domain: the pixels of images whose distortion is
        monotonic there (any calibrated camera); fisheye images up to 89° from the axis. Outside that
        domain the answer is NaN. No gradient with respect to the distortion.
        """
        plane = (pixels - self.center_px[..., None, :]) / self.focal_px[..., None, :]
        plane = self._model.undistort(plane, self._coefficients)
        return torch.cat([plane, torch.ones_like(plane[..., :1])], dim=-1)

    def undistort(self, pixels: Float[Tensor, "... N 2"]) -> Float[Tensor, "... N 2"]:
        """Where the ideal camera `self.pinhole` sees what this one sees at each pixel."""
        return pixels if self.is_pinhole else self._to_pixels(self.unproject(pixels)[..., :2])

    # ---- other images of the same camera ---------------------------------------------------------

    def rescale(self, size: tuple[int, int]) -> Camera:
        """The camera of the image resized to `size` (width, height)."""
        scale = self.focal_px.new_tensor([size[0] / self.size[0], size[1] / self.size[1]])
        # two focal lengths may come out of one when the aspect ratio changes by rounding
        model, distortion = self._model, self.distortion
        if model.one_focal and scale[0] != scale[1]:
            model, distortion = with_two_focals(model, distortion)
        return Camera(self.focal_px * scale, self.center_px * scale, size, model.name, distortion)

    def crop(self, left: int, top: int, size: tuple[int, int]) -> Camera:
        """The camera of the `size` (width, height) window whose top-left pixel is (left, top)."""
        corner = self.center_px.new_tensor([left, top])
        return replace(self, center_px=self.center_px - corner, size=size)

    def turn(self) -> Camera:
        """The camera of the image turned clockwise by a quarter; three times, of one turned the other way."""
        width, height = self.size
        center_px = torch.stack([height - self.center_px[..., 1], self.center_px[..., 0]], dim=-1)
        distortion = of_the_turned_image(self._model, self.distortion)
        return Camera(self.focal_px.flip(-1), center_px, (height, width), self.model, distortion)

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

    @property
    def _model(self) -> CameraModel:
        return MODELS[self.model]

    @property
    def _coefficients(self) -> Coefficients:
        return () if self.distortion is None else self.distortion[..., None, :].split(1, dim=-1)

    def _to_pixels(self, plane: Tensor) -> Tensor:
        return plane * self.focal_px[..., None, :] + self.center_px[..., None, :]


def _checked_size(size: tuple[int, int], model: str) -> tuple[int, int]:
    try:
        width, height = map(operator.index, size)
    except (TypeError, ValueError):
        raise ValueError(f"camera {model}: expected a width and height in pixels, got {size}") from None
    if not (1 <= width <= _LARGEST_SIDE and 1 <= height <= _LARGEST_SIDE):
        raise ValueError(f"camera {model}: expected a width and height in pixels, got {width}, {height}")
    return width, height


def _finite(values: Sequence | Tensor | np.ndarray, what: str) -> Tensor:
    """In float64. Raises: `ValueError` for anything but finite numbers."""
    try:
        tensor = torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(f"{what}: expected finite values, got {values}") from None
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{what}: expected finite values, got {tensor.tolist()}")
    return tensor


def _opencv_pinhole(K: Tensor | np.ndarray | Sequence[Sequence[float | int]]) -> list[float]:
    """fx, fy, cx, cy of OpenCV's camera matrix, with our half pixel."""
    matrix = _finite(K, "K")
    if matrix.shape != (3, 3):
        raise ValueError(f"K: expected (3, 3), got {tuple(matrix.shape)}")
    (focal_x, skew, center_x), (zero, focal_y, center_y), last = matrix.tolist()
    if skew or zero or last != [0, 0, 1]:
        raise ValueError(f"K: expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {matrix.tolist()}")
    return [focal_x, focal_y, center_x + 0.5, center_y + 0.5]
