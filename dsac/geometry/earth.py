"""Places on Earth: latitude and longitude in degrees, height in metres above WGS 84's ellipsoid (or whatever
heights are told above), and the axes east, north, up about one of them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

GeoPoint = tuple[float, float, float]  # latitude, longitude, height


def check_geo(point: GeoPoint) -> None:
    """Raises: `ValueError` for what is no place on Earth."""
    latitude, longitude, height = point
    good = abs(latitude) <= 90 and abs(longitude) <= 180 and math.isfinite(height)
    if not good:
        raise ValueError(
            "expected a latitude up to 90°, a longitude up to 180° and a height in metres, "
            f"got {latitude:g}, {longitude:g}, {height:g}"
        )


def geo_of(points: Float[Tensor, "*batch 3"], origin: GeoPoint) -> Float[Tensor, "*batch 3"]:
    """Latitude, longitude, height of points in metres east, north, up of the origin, float64."""
    import pymap3d

    east, north, up = points.detach().to("cpu", torch.float64).numpy().reshape(-1, 3).T
    found = np.stack(pymap3d.enu2geodetic(east, north, up, *origin), -1)
    return torch.from_numpy(found).reshape(points.shape)


def east_north_up(geo: Float[Tensor, "*batch 3"], origin: GeoPoint) -> Float[Tensor, "*batch 3"]:
    """The inverse of `geo_of`: metres east, north, up of the origin, float64."""
    import pymap3d

    latitude, longitude, height = geo.detach().to("cpu", torch.float64).numpy().reshape(-1, 3).T
    found = np.stack(pymap3d.geodetic2enu(latitude, longitude, height, *origin), -1)
    return torch.from_numpy(found).reshape(geo.shape)
