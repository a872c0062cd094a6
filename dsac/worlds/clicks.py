"""By places that were clicked in photos: rays from where the map finds the photos meet in each.

Of the rays o + t d of one place the point nearest to all is  (Σ I - d dᵀ)⁻¹ Σ (I - d dᵀ) o.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.atlas import photos_for
from dsac.datasets.control_points import Click, ClickedPoints, ControlPoints, read_clicks
from dsac.errors import DatasetError
from dsac.geometry import Camera, GeoPoint, Pose
from dsac.localizer import Localizer
from dsac.ransac import refocused
from dsac.worlds.alignment import Alignment
from dsac.worlds.control_points import fit_control_points

_LEAST_DEG = 2.0  # between two of the rays: nearer to parallel they leave open how far off the place is
_MOST_OFF = 0.02  # of the photo's longer side, that a click may be from where the others see the place


class Seen(NamedTuple):
    """A photo where the map finds it."""

    camera: Camera  # for its pixels
    cam_from_world: Pose


def by_clicks(
    localizer: Localizer,
    path: str,
    *,
    tolerance: float | None = None,
    rigid: bool = False,
    origin: GeoPoint | None = None,
) -> Alignment:
    """By a file of clicks, see `read_clicks`, on photos that lie where their names say from the file's folder.

    Each place takes clicks in two photos or more that the map localizes. The rest is as of `by_control_points`.
    Raises: `DatasetError` for photos that cannot be read, for places that too few photos show, from about the
    same side, or not where the others do, and as `by_control_points`.
    """
    clicked = read_clicks(path)
    names = list(dict.fromkeys(click.photo for clicks in clicked.clicks for click in clicks))
    points = where_rays_meet(path, clicked, _found(localizer, Path(path).parent, names))
    return fit_control_points(points, path, tolerance=tolerance, rigid=rigid, origin=origin)


def where_rays_meet(path: str, clicked: ClickedPoints, photos: Mapping[str, Seen]) -> ControlPoints:
    """The clicked places, in the world of the photos, by name. Raises: `DatasetError`, as `by_clicks`."""
    names = [f"({', '.join(f'{value:.10g}' for value in values)})" for values in clicked.there.tolist()]
    here = [
        _met(f"{path}: {name}", [click for click in clicks if click.photo in photos], photos, len(clicks))
        for name, clicks in zip(names, clicked.clicks, strict=True)
    ]
    return ControlPoints(names, torch.stack(here), clicked.there, clicked.on_earth)


def _found(localizer: Localizer, folder: Path, names: list[str]) -> dict[str, Seen]:
    """Those of the photos that the map localizes."""
    found = {}
    frames = photos_for(localizer.scene_map, [str(folder / name) for name in names])
    for i, name in enumerate(names):
        (answer,) = localizer.localize_frames(frames[i : i + 1])
        if answer.success:
            camera = frames.camera(i)
            if answer.focal_sigma_px > 0:  # it was solved
                camera = refocused(camera, answer.focal_px / camera.focal_px.mean().item())
            found[name] = Seen(camera, answer.cam_from_world.to("cpu"))
    return found


def _met(what: str, clicks: list[Click], photos: Mapping[str, Seen], asked: int) -> Float[Tensor, "3"]:
    """Where the rays of clicks on one place meet, in the map's world. Raises: `DatasetError`."""
    if len(clicks) < 2:
        raise DatasetError(
            f"{what}: expected clicks in two photos or more that the map localizes, got {len(clicks)} of "
            f"{asked}"
        )
    seen = [photos[click.photo] for click in clicks]
    pixels = [torch.tensor([click.pixel], dtype=torch.float64) for click in clicks]
    centers = torch.stack([each.cam_from_world.center for each in seen])
    rays = torch.stack(
        [
            (each.cam_from_world.rotation.T @ each.camera.unproject(pixel)[0])
            for each, pixel in zip(seen, pixels, strict=True)
        ]
    )
    rays = torch.nn.functional.normalize(rays, dim=-1)
    if not rays.isfinite().all():
        raise DatasetError(f"{what}: expected clicks in the photos, got {clicks[0].pixel} in {clicks[0].photo}")
    angle = math.degrees(math.acos((rays @ rays.T).min().clamp(-1, 1).item()))
    if angle < _LEAST_DEG:
        raise DatasetError(
            f"{what}: expected photos that see it from different sides, these do from {angle:.1f}° apart: "
            "click it in one from elsewhere"
        )
    across = torch.eye(3).double() - rays[:, :, None] * rays[:, None, :]
    point = torch.linalg.solve(across.sum(0), (across @ centers[:, :, None]).sum(0)[:, 0])
    off = []
    for each, pixel in zip(seen, pixels, strict=True):
        in_camera = each.cam_from_world @ point[None]
        away = (each.camera.project(in_camera) - pixel).norm().item() / max(each.camera.size)
        off.append(away if in_camera[0, 2] > 0 else math.inf)
    worst = max(range(len(off)), key=off.__getitem__)
    if off[worst] > _MOST_OFF:
        raise DatasetError(
            f"{what}: the clicks contradict each other, the worst is in {clicks[worst].photo}, "
            f"{off[worst] * max(seen[worst].camera.size):.0f} pixels from where all of them see it"
        )
    return point
