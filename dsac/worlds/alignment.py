"""How a map is to lie in another world. Nothing of the map is touched but what it says of its place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dsac.atlas import Atlas
from dsac.datasets.tables import read_numbers
from dsac.errors import DatasetError
from dsac.geometry import GeoPoint, Pose, Similarity, nearest_rotation
from dsac.map_info import MapInfo

_ROUNDED = 1e-3  # by which a rotation written with few digits may be off


@dataclass(frozen=True, eq=False)
class Alignment:
    """The transform to another world, and how well it is known: by points or photos, each with what is left."""

    world_from_this: Similarity
    metric: bool | None  # whether the other world's unit is the metre
    geo: GeoPoint | None = None  # where its origin is on Earth, its axes being east, north, up
    names: list[str] = field(default_factory=list)
    residuals: Float[Tensor, " N"] = field(default_factory=lambda: torch.zeros(0))  # of places, its unit
    agree: Bool[Tensor, " N"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    accuracy: str = ""  # of the transform, for people


def aligned(atlas: Atlas, alignment: Alignment) -> Atlas:
    """The same maps in the other world."""

    def told(info: MapInfo) -> MapInfo:
        moved = info.in_world_of(alignment.world_from_this, alignment.geo)
        return replace(moved, metric=alignment.metric)

    return atlas.saying(told)


def by_transform(path: str | Path, info: MapInfo) -> Alignment:
    """By a file of a 4×4 (or 3×4) matrix, world from this world, as numbers in a text or in JSON.

    One that also scales is taken to end in metres. Raises: `DatasetError` for what is no similarity transform.
    """
    values = torch.tensor(read_numbers(str(path)), dtype=torch.float64)
    if len(values) not in (12, 16) or not values.isfinite().all():
        raise DatasetError(f"{path}: expected a 4×4 matrix as 16 numbers, got {len(values)}")
    if len(values) == 16 and values[12:].tolist() != [0, 0, 0, 1]:
        raise DatasetError(f"{path}: expected a matrix with the last row 0 0 0 1, got {values[12:].tolist()}")
    matrix = values[:12].reshape(3, 4)
    volume = torch.linalg.det(matrix[:, :3]).item()
    if not volume > 0:
        kind = "it mirrors: an axis is negated, or two are exchanged" if volume < 0 else "it flattens"
        raise DatasetError(f"{path}: expected a rotation times a scale above 0, {kind}")
    scale = volume ** (1 / 3)
    rotation = nearest_rotation(matrix[:, :3])
    if (matrix[:, :3] / scale - rotation).abs().max() > _ROUNDED:
        raise DatasetError(f"{path}: expected a rotation times a scale, this matrix shears or stretches")
    if abs(scale - 1) < _ROUNDED:
        scale = 1.0
    similarity = Similarity(Pose(rotation, matrix[:, 3]), scale)
    return Alignment(similarity, info.metric if scale == 1.0 else True)
