"""Where a scene is and how large, measured on the known scene points of its cells."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.errors import DatasetError
from dsac.mapping.buffer import FeatureBuffer


def map_origin(centers: Float[Tensor, "N 3"]) -> tuple[float, float, float]:
    """Where in the world a map's own frame stands: the world's origin, unless the cameras are far from it.

    Far is a thousand times as far as they are from each other, where float32 no longer tells a ten-thousandth
    of that: recordings in coordinates of the Earth (UTM, ECEF). The place is in whole units near their middle.
    """
    middle = centers.median(0).values
    extent = (centers - middle).norm(dim=-1).median().clamp_min(1.0)
    if not torch.isfinite(middle).all() or middle.norm() <= 1000 * extent:
        return 0.0, 0.0, 0.0
    x, y, z = middle.round().tolist()
    return x, y, z


@dataclass(frozen=True)
class SceneShape:
    """What networks need to know of a scene before they learn it, and the map file says about it."""

    center: Tensor  # (3,)
    scale: float  # metres: a typical distance from the centre
    bounds_min: tuple[float, float, float]
    bounds_max: tuple[float, float, float]
    depth_range: tuple[float, float]

    @staticmethod
    def of(buffer: FeatureBuffer) -> SceneShape:
        """Raises: `DatasetError` when hardly any cell's scene point is known."""
        rows = torch.isfinite(buffer.cells.scene_points[:, 0]).nonzero()[:, 0]
        if len(rows) < 100:
            raise DatasetError(
                f"too little is known of the scene, the points of {len(rows)} cells: expected depth and a "
                "larger buffer, or overlapping views from different places with some texture and correct poses"
            )
        sample = rows[torch.linspace(0, len(rows) - 1, min(len(rows), 100_000), dtype=torch.float64).long()]
        points, view = buffer.cells.scene_points[sample], buffer.cells.view[sample].long()
        pose = buffer.cam_from_world[view]
        depth = (pose[:, 2, :3] * points).sum(-1) + pose[:, 2, 3]
        center = points.median(0).values
        low, high = points.quantile(0.001, dim=0), points.quantile(0.999, dim=0)
        return SceneShape(
            center=center,
            scale=(points - center).norm(dim=-1).median().item() / 1.5,
            bounds_min=tuple(low.tolist()),
            bounds_max=tuple(high.tolist()),
            # the nearest and farthest known depths, with a margin for what nobody measured
            depth_range=(depth.quantile(0.001).item() / 2, depth.quantile(0.999).item() * 3),
        )
