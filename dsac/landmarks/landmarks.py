"""Landmarks: well-localised scene points, each with the small patch of a mapping image around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dsac.geometry import Pose
from dsac.landmarks.patches import SIZE, SeenPoints

PATCH_RADIUS = 7  # pixels; more than the 9×9 that are compared, for views from farther off and turned ones


@dataclass(frozen=True, eq=False)
class Landmarks:
    """L scene points with the image patches that show them, cut from V views. On the CPU.

    Raises: `ValueError` when shapes, types or values do not fit together: kernels read these arrays unchecked.
    """

    points: Float[Tensor, "L 3"]  # metres, the map's frame
    patches: UInt8[Tensor, "L P P"]  # grey; the point projects to the middle of the centre pixel
    view: Int[Tensor, " L"]  # which view the patch was cut from
    cam_from_world: Pose  # batch (V,), of the views
    focal_px: Float[Tensor, "V 2"]
    colors: UInt8[Tensor, "L 3"] | None = None  # RGB around the point, as the view shows it; None: not known

    def __post_init__(self) -> None:
        count, views = len(self.points), self.cam_from_world.translation.shape[0]
        side = self.patches.shape[-1] if self.patches.ndim == 3 else 0
        for name, shape in (
            ("points", (count, 3)),
            ("patches", (count, side, side)),
            ("view", (count,)),
            ("focal_px", (views, 2)),
            ("colors", (count, 3)),
        ):
            value = getattr(self, name)
            if name == "colors" and value is None:
                continue
            if tuple(value.shape) != shape:
                raise ValueError(f"landmarks' {name}: expected {shape}, got {tuple(value.shape)}")
            if value.device.type != "cpu":
                raise ValueError(f"landmarks' {name}: expected on the CPU, got {value.device}")
        if self.cam_from_world.shape != (views,):
            raise ValueError(
                f"landmarks' cam_from_world: expected batch (V,), got {tuple(self.cam_from_world.shape)}"
            )
        if side < SIZE or side % 2 == 0:
            raise ValueError(f"landmarks' patches: expected an odd side of {SIZE} or more, got {side}")
        for name in ("patches", "colors"):
            value = getattr(self, name)
            if value is not None and value.dtype != torch.uint8:
                raise ValueError(f"landmarks' {name}: expected 8-bit levels, got {value.dtype}")
        if self.view.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"landmarks' view: expected integers, got {self.view.dtype}")
        if count and not 0 <= self.view.min() <= self.view.max() < views:
            low, high = self.view.min(), self.view.max()
            raise ValueError(f"landmarks' view: expected numbers below {views}, got {low} to {high}")
        poses = self.cam_from_world
        for name, value in (
            ("points", self.points),
            ("focal_px", self.focal_px),
            ("rotation", poses.rotation),
            ("translation", poses.translation),
        ):
            if not value.is_floating_point() or not torch.isfinite(value).all():
                raise ValueError(f"landmarks' {name}: expected finite numbers")
        if not (self.focal_px > 0).all():
            raise ValueError("landmarks' focal_px: expected more than 0")

    def __len__(self) -> int:
        return len(self.points)

    def tensors(self) -> dict[str, Tensor]:
        """What a map file holds of them; `from_tensors` reads it."""
        tensors = {
            "points": self.points,
            "patches": self.patches,
            "view": self.view,
            "cam_from_world": self.cam_from_world.matrix[:, :3].contiguous(),
            "focal_px": self.focal_px,
        }
        return tensors if self.colors is None else {**tensors, "colors": self.colors}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> Landmarks:
        """Raises: `KeyError` when one is missing, `ValueError` when they do not fit together."""
        matrix = tensors["cam_from_world"]
        if matrix.ndim != 3 or matrix.shape[1:] != (3, 4):
            raise ValueError(f"landmarks' cam_from_world: expected (V, 3, 4), got {tuple(matrix.shape)}")
        poses = Pose.from_matrix(matrix)
        return Landmarks(
            tensors["points"], tensors["patches"], tensors["view"], poses, tensors["focal_px"],
            tensors.get("colors"),
        )  # fmt: skip

    def depth_from(self, cam_from_world: Pose, rows: Int[np.ndarray, " M"]) -> float:
        """Median depth (metres) of some of them, seen from a pose (batch ()); NaN of none."""
        points = self.points[torch.from_numpy(rows)].to(torch.float64)
        return (cam_from_world.to("cpu", torch.float64) @ points)[:, 2].median().item()

    @cached_property
    def seen(self) -> SeenPoints:
        """How each point was seen, in float64."""
        rotation = self.cam_from_world.rotation.double().numpy()
        view = self.view.long().numpy()
        points = self.points.double().numpy()
        centers = self.cam_from_world.center.double().numpy()[view]
        depth = ((points - centers) * rotation[view, 2]).sum(-1)
        # the surface is taken to face the view: a step of a pixel there moves the point along the image axes
        axes = rotation[view, :2] * (depth[:, None] / self.focal_px.double().numpy()[view])[..., None]
        return SeenPoints(points, points - centers, axes, np.linalg.norm(axes[:, 0], axis=1))
