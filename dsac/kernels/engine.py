"""What each backend computes of a residual, as typed functions; None stands for a kernel that it lacks.

A backend's module is loaded when it is first chosen: Numba costs a second and importing `dsac` must not pay it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from dsac.kernels import reference
from dsac.kernels.arrays import PosedRows
from dsac.kernels.dispatch import Backend, Name, choose
from dsac.kernels.solution import Solution


class ImageRows(NamedTuple):
    """Correspondences of B images, of which a search knows no pose yet."""

    pixels: Tensor  # (B, N, 2)
    scene_points: Tensor  # (B, N, 3)
    depths: Tensor | None  # (B, N) metres along the optical axis; NaN, 0 = not measured
    focal_px: Tensor  # (B, 2)
    center_px: Tensor  # (B, 2)
    weights: Tensor | None  # (B, N)


Pair = tuple[Tensor, Tensor]  # rotations (..., 3, 3) and translations (..., 3)
Trust = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]  # see `cpu.pose_trust`


@dataclass(frozen=True)
class Engine:
    """The functions of one backend for one residual.

    `PosedRows` have poses (B, H) and, in the place of the pixels, the residual's targets: pixels, or
    homogeneous camera points and rays (B, N, 4). Thresholds and errors are in the residual's unit.
    """

    errors: Callable[[PosedRows, float], Tensor]  # (rows, maximum) -> (B, H, N)
    soft_count: Callable[[PosedRows, float, float], Tensor]  # (rows, threshold, maximum) -> (B, H)
    refine: Callable[[PosedRows, float, int], Pair]  # (rows, threshold, iterations): optima of the robust cost
    # (rows at their optimum, threshold) -> zero increments (B, K, 6) with their derivative
    optimum_increment: Callable[[PosedRows, float], Tensor] | None = None
    # (rows, threshold, iterations, chance of an inlier, rules): refined poses and how far to trust them
    trust: Callable[[PosedRows, float, int, float, tuple], Trust] | None = None
    search: Callable[[ImageRows, float, int], Solution] | None = None  # (rows, threshold, seed): robust poses


def reprojection_engine(backend: Backend, *inputs: Tensor, differentiable: tuple[Tensor, ...] = ()) -> Engine:
    """For distances in pixels. Arguments and errors are those of `choose`."""
    return _reprojection(choose(backend, *inputs, differentiable=differentiable))


def point_engine(backend: Backend, *inputs: Tensor, differentiable: tuple[Tensor, ...] = ()) -> Engine:
    """For distances in metres from camera points and rays. All but the search is torch: it has any gradient."""
    return _points(choose(backend, differentiable=(*inputs, *differentiable)))


def p3p(backend: Backend, bearings: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`reference.p3p` by the backend for these inputs."""
    if choose(backend, bearings, points) == "cpu":
        from dsac.kernels import cpu

        return cpu.p3p(bearings, points)
    return reference.p3p(bearings, points)


# ---- distances in pixels -----------------------------------------------------------------------------


@functools.cache
def _reprojection(name: Name) -> Engine:
    if name == "cpu":
        from dsac.kernels import cpu

        return Engine(
            errors=cpu.reprojection_error,
            soft_count=cpu.soft_inlier_count,
            refine=lambda rows, *bounds: cpu.refine(rows, *bounds)[:2],
            optimum_increment=cpu.optimum_increment,
            trust=cpu.pose_trust,
            search=_pixel_search(cpu.solve_rgb),
        )
    in_torch = Engine(
        errors=reference.reprojection_error,
        soft_count=reference.soft_inlier_count,
        refine=lambda rows, *bounds: reference.refine(rows, *bounds)[:2],
    )
    if name == "reference":
        return in_torch
    from dsac.kernels import gpu

    return replace(in_torch, search=_pixel_search(gpu.solve_rgb))


def _pixel_search(solve: Callable[..., Solution]) -> Callable[[ImageRows, float, int], Solution]:
    def search(rows: ImageRows, threshold: float, seed: int) -> Solution:
        camera = rows.focal_px, rows.center_px
        return solve(
            rows.pixels, rows.scene_points, *camera, rows.weights, threshold_px=float(threshold), seed=seed
        )

    return search


# ---- distances in metres -----------------------------------------------------------------------------


@functools.cache
def _points(name: Name) -> Engine:
    in_torch = Engine(_point_distance, _soft_point_count, _refine_points)
    if name == "reference":
        return in_torch
    if name == "cpu":
        from dsac.kernels import cpu

        return replace(in_torch, search=_depth_search(cpu.solve_rgbd))
    from dsac.kernels import gpu

    return replace(in_torch, search=_depth_search(gpu.solve_rgbd))


def _point_distance(rows: PosedRows, maximum: float) -> Tensor:
    return reference.point_distance(rows.rotation, rows.translation, rows.pixels, rows.scene_points, maximum)


def _soft_point_count(rows: PosedRows, threshold: float, maximum: float) -> Tensor:
    return reference.soft_count(_point_distance(rows, maximum), _weights(rows), threshold)


def _refine_points(rows: PosedRows, threshold: float, iterations: int) -> Pair:
    pose, targets = (rows.rotation, rows.translation), rows.pixels
    bounds = threshold, iterations
    return reference.refine_points(*pose, targets, rows.scene_points, _weights(rows), *bounds)[:2]


def _weights(rows: PosedRows) -> Tensor:
    return torch.ones_like(rows.scene_points[..., 0]) if rows.weights is None else rows.weights


def _depth_search(solve: Callable[..., Solution]) -> Callable[[ImageRows, float, int], Solution]:
    def search(rows: ImageRows, threshold: float, seed: int) -> Solution:
        return solve(*rows, threshold_m=float(threshold), seed=seed)

    return search
