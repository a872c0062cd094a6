"""A frame's intrinsics in `transforms.json`, as nerfstudio, instant-ngp, NeRF and exporters to them write it.

nerfstudio's `camera_model` says little: it takes the coefficients that are there, and so do we.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dsac.datasets.json_values import json_number
from dsac.geometry import Camera
from dsac.geometry.camera_models import MODELS

_COEFFICIENTS = sorted({name for model in MODELS.values() for name in model.distortion})
_NUMBERS = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y", *_COEFFICIENTS)
_PERSPECTIVE = ("PINHOLE", "OPENCV", "FULL_OPENCV", "BROWN_CONRADY")  # the simplest first


@dataclass(frozen=True)
class Intrinsics:
    """What a frame has of them: equal for frames of one camera."""

    model: str
    values: tuple[float | None, ...]  # of `_NUMBERS`; None where nothing stands

    @staticmethod
    def of(entry: Mapping[str, Any]) -> Intrinsics:
        """Raises: `ValueError` for a camera model that is none, and for what should be a number and is not."""
        fisheye, model = entry.get("is_fisheye"), entry.get("camera_model")
        model = str(model or ("OPENCV_FISHEYE" if fisheye is True else "OPENCV"))
        if not isinstance(fisheye, bool | None):
            raise ValueError(f"expected `is_fisheye` as true or false, got {str(fisheye)[:80]}")
        if model not in MODELS:
            raise ValueError(f"expected `camera_model` among {', '.join(MODELS)}, got {model[:80]}")
        if fisheye and MODELS[model].two_focals in _PERSPECTIVE:
            raise ValueError(f"expected a fisheye `camera_model` where `is_fisheye` is true, got {model}")
        return Intrinsics(model, tuple(number_of(key, entry.get(key)) for key in _NUMBERS))

    def camera(self, size_of_image: Callable[[], tuple[int, int]]) -> Camera:
        """The image is asked for its size where `w` or `h` is missing.

        Raises: `ValueError` for intrinsics that are incomplete or make no sense together.
        """
        of = {key: value for key, value in zip(_NUMBERS, self.values, strict=True) if value is not None}
        sized = {"w", "h"} <= of.keys()
        width, height = (of["w"], of["h"]) if sized else map(float, size_of_image())
        for key, side in () if sized else (("cx", width), ("cy", height)):
            if not 0.1 < of.get(key, side / 2) / side < 0.9:
                raise ValueError(
                    f"`{key}` {of[key]} is no principal point of images of {width:.0f}x{height:.0f}: are the "
                    "intrinsics for larger ones? Then give `w` and `h`"
                )
        if not (width.is_integer() and height.is_integer()):
            raise ValueError(f"expected `w` and `h` in whole pixels, got {width}, {height}")
        focal_x = _focal(of, "fl_x", "camera_angle_x", width)
        if focal_x is None:
            raise ValueError("no intrinsics: expected `fl_x` or `camera_angle_x`, at the top or in the frame")
        focal_y = _focal(of, "fl_y", "camera_angle_y", height)
        pinhole = [
            focal_x, focal_x if focal_y is None else focal_y, of.get("cx", width / 2), of.get("cy", height / 2)
        ]  # fmt: skip
        given = {key for key in _COEFFICIENTS if of.get(key)}
        model = MODELS[self.model].two_focals
        if model in ("PINHOLE", "OPENCV"):  # k4 is of r⁸ there; FULL_OPENCV's divides
            covering = {"PINHOLE": set(), "FULL_OPENCV": {"k1", "k2", "p1", "p2", "k3"}}
            names = ((name, covering.get(name, set(MODELS[name].distortion))) for name in _PERSPECTIVE)
            model = next((name for name, coefficients in names if given <= coefficients), model)
        if unknown := given - set(MODELS[model].distortion):
            raise ValueError(f"{', '.join(sorted(unknown))} other than 0: no coefficients of {model}")
        distortion = [of.get(name, 0.0) for name in MODELS[model].distortion]
        return Camera.from_params(model, [*pinhole, *distortion], (int(width), int(height)))


def number_of(key: str, value: Any) -> float | None:
    """A finite number or, where there is none, None. Raises: `ValueError`."""
    if value is None:
        return None
    number = json_number(value)
    if number is None or not math.isfinite(number):
        raise ValueError(f"expected `{key}` as a finite number, got {str(value)[:80]}")
    return number


def _focal(of: Mapping[str, float], key: str, key_of_angle: str, side_px: float) -> float | None:
    """In pixels, perhaps from the angle of view."""
    if key in of or key_of_angle not in of:
        return of.get(key)
    angle = of[key_of_angle]
    if not 0 < angle / 2 < math.pi / 2:
        raise ValueError(f"expected `{key_of_angle}` between 0 and pi, got {angle}")
    return side_px / 2 / math.tan(angle / 2)
