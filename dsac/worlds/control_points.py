"""By control points: all have to agree, and one that contradicts the others is named."""

from __future__ import annotations

import torch
from torch import Tensor

from dsac.datasets.control_points import ControlPoints, read_control_points
from dsac.errors import DatasetError
from dsac.geometry import GeoPoint, east_north_up, fit_most_points, fit_points
from dsac.worlds.alignment import Alignment

_TOLERANCE = 0.01  # of the points' extent


def by_control_points(
    path: str, *, tolerance: float | None = None, rigid: bool = False, origin: GeoPoint | None = None
) -> Alignment:
    """By a file of places known in the map's world and in another, see `read_control_points`.

    They may be off by the `tolerance`, in the other world's unit (None: 1 % of their extent); `rigid` keeps the
    map's unit. `origin` is where the other world's is on Earth: of points on Earth the first where it is None.
    Raises: `DatasetError` for fewer than three points, points in a line, and points that contradict each other.
    """
    return fit_control_points(read_control_points(path), path, tolerance=tolerance, rigid=rigid, origin=origin)


def fit_control_points(
    points: ControlPoints, path: str, *, tolerance: float | None, rigid: bool, origin: GeoPoint | None
) -> Alignment:
    """By points of a file with this path, see `by_control_points`."""
    there = points.there
    if points.on_earth:
        origin = origin or _as_geo(there[0])
        there = east_north_up(there, origin)
    if tolerance is None:
        tolerance = _TOLERANCE * torch.pdist(there).max().item() if len(there) > 1 else 0.0
    try:
        fit = fit_points(points.here, there, rigid=rigid)
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from None
    residuals = (fit @ points.here - there).norm(dim=-1)
    if not (residuals <= tolerance).all():
        raise DatasetError(f"{path}: {_contradiction(points, there, residuals, tolerance, rigid)}")
    return Alignment(fit, True, origin, points.names, residuals, residuals <= tolerance)


def _contradiction(
    points: ControlPoints, there: Tensor, residuals: Tensor, tolerance: float, rigid: bool
) -> str:
    """Which point is to blame, and what the others say without it."""
    count, way_out = len(there), f"--tolerance allows more than {tolerance:.3g}"
    mirrored = points.here * points.here.new_tensor([-1, 1, 1])
    fit = fit_points(mirrored, there, rigid=rigid)
    if (fit @ mirrored - there).norm(dim=-1).max() <= tolerance:
        return "the points fit as in a mirror: in one of the worlds an axis is negated, or two are exchanged"
    if count == 3:
        worst = residuals.max().item()
        return f"the three points contradict each other by {worst:.3g}; a fourth would tell which, {way_out}"
    off, others, row = min(_without_each(points.here, there, rigid), key=lambda one: one[1])
    if others <= tolerance:
        return (
            f"{points.names[row]} contradicts the others: it is off by {off:.3g}, and without it they agree to "
            f"{others:.3g}; mend it or leave it out, {way_out}"
        )
    try:
        most = fit_most_points(points.here, there, tolerance, rigid=rigid)
    except ValueError:
        return f"the points contradict each other, no three of them agree; {way_out}"
    row = int(most.residuals.argmax())
    return (
        f"the points contradict each other, {int(most.agree.sum())} of {count} agree: the worst is "
        f"{points.names[row]}, off by {most.residuals[row]:.3g}; {way_out}"
    )


def _without_each(here: Tensor, there: Tensor, rigid: bool) -> list[tuple[float, float, int]]:
    """For each point that can be spared: how far it is off the fit of the others, their worst, its row."""
    told = []
    for row in range(len(here)):
        weights = torch.ones(len(here))
        weights[row] = 0.0
        try:
            fit = fit_points(here, there, weights, rigid=rigid)
        except ValueError:  # without it the others are in a line
            continue
        residuals = (fit @ here - there).norm(dim=-1)
        told.append((residuals[row].item(), residuals[weights > 0].max().item(), row))
    return told


def _as_geo(values: Tensor) -> GeoPoint:
    latitude, longitude, height = values.tolist()
    return latitude, longitude, height
