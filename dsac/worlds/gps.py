"""By photos that know where they were taken: GPS, off by metres each, and heights by more."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from dsac.datasets import Frames
from dsac.datasets.image_gps import GpsFix
from dsac.datasets.photos import gps_of_photos
from dsac.errors import DatasetError
from dsac.geometry import GeoPoint, Pose, east_north_up
from dsac.localizer import Localizer
from dsac.worlds.alignment import Alignment
from dsac.worlds.gps_fit import Fixes, fit_level_photos
from dsac.worlds.photos import localized

_SIGMA = 5.0  # metres, of a fix that does not say
_LEAST_EXTENT = 3.0  # times what is left, below which places say nothing of directions
_MOST_TURN_DEG = 5.0


def by_gps(
    localizer: Localizer, photos: Frames, *, rigid: bool = False, origin: GeoPoint | None = None
) -> Alignment:
    """By photos of `load_photos` whose EXIF data say where they were taken: the world is east, north, up.

    `origin`: where its origin is on Earth (None: the middle of the photos). Heights are what the photos say,
    above the sea mostly. `rigid` keeps the map's unit, which is then the metre.
    Raises: `DatasetError` for fewer than three photos that know their place and are found by the map, for
    photos too near each other for what GPS knows, and where they leave a turn open.
    """
    fixes = gps_of_photos(photos)
    if len(fixes) < 3:
        raise DatasetError(
            f"expected three photos or more whose EXIF data say where they were taken, got {len(fixes)} "
            f"of {len(photos)}; apps that send photos often remove it"
        )
    poses = localized(localizer, photos[[photos.names.index(name) for name in fixes]])
    if len(poses) < 3:
        raise DatasetError(
            f"expected three photos or more that the map localizes, got {len(poses)} of {len(fixes)}"
        )
    return fit_gps(poses, [fixes[name] for name in poses], rigid=rigid, origin=origin)


def fit_gps(
    cam_from_world: dict[str, Pose],
    fixes: Sequence[GpsFix],
    *,
    rigid: bool = False,
    origin: GeoPoint | None = None,
) -> Alignment:
    """By poses of photos by name, in the map's world, and a fix for each.

    Raises: `DatasetError`, as `by_gps` does.
    """
    poses = Pose.stack(list(cam_from_world.values()))
    heights = [math.nan if fix.height is None else fix.height for fix in fixes]
    places = [(fix.latitude, fix.longitude, height) for fix, height in zip(fixes, heights, strict=True)]
    told = torch.tensor(places, dtype=torch.float64)
    has_height = ~told[:, 2].isnan()
    if origin is None:
        latitude, longitude, height = told.nanmedian(0).values.tolist()
        origin = latitude, longitude, height if has_height.any() else 0.0
    there = east_north_up(torch.cat([told[:, :2], told[:, 2:].nan_to_num(origin[2])], 1), origin)
    sigma = torch.tensor([fix.sigma or _SIGMA for fix in fixes], dtype=torch.float64)
    fit = fit_level_photos(poses, Fixes(there, sigma, has_height), rigid=rigid)
    moved = fit.there_from_here @ poses.center
    residuals = (moved - there)[:, :2].norm(dim=-1)
    left = residuals.median().item()
    extent = torch.pdist(moved[:, :2]).max().item()
    if extent < _LEAST_EXTENT * left:
        raise DatasetError(
            f"expected photos at least {_LEAST_EXTENT:.0f} times as far apart as their GPS is off, got some "
            f"{extent:.1f} m apart and off by {left:.1f} m: take some from farther apart"
        )
    if not fit.turn_deg < _MOST_TURN_DEG:
        raise DatasetError(
            f"expected photos that tell to {_MOST_TURN_DEG:.0f}° how the map is turned, these do to "
            f"{min(fit.turn_deg, 180):.0f}°: take more, from farther apart, and in different directions"
        )
    accuracy = f"± {fit.turn_deg:.2g}°, {100 * fit.log_scale:.2g} % of lengths, {fit.level:.2g} m on the ground"
    agree = residuals < 4 * max(left, 1e-6)
    return Alignment(fit.there_from_here, True, origin, list(cam_from_world), residuals, agree, accuracy)
