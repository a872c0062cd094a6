"""Depth that comes with a photo: where a camera measures it, a pose needs no triangle of pixels.

    rows = with_camera_points(rows, camera, depth)
    estimate, rows = solve_with_depth(rows, depth_solver, solver)

Each cell has its scene point from RGB, and from depth its point in the camera's frame: the two sets are brought
together (Kabsch), cells without depth count by their rays. Depth that does not tell a pose is left out.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.datasets.registered_depth import camera_points
from dsac.geometry import Camera
from dsac.landmarks.answering import trusted
from dsac.ransac import Correspondences, PoseEstimate, Solver

logger = logging.getLogger(__name__)

_SAME_UNIT = 0.8, 1.25  # measured over expected depth


def with_camera_points(
    rows: Correspondences,
    camera: Camera,  # of the photos
    depth: Float[Tensor, "B H W"],  # metres along the optical axis at the photos' pixels, 0 where unknown
) -> Correspondences:
    """With what is measured at each row's pixel, unless who made the rows has done that."""
    if rows.camera_points is not None:
        return rows
    return replace(rows, camera_points=camera_points(depth, camera, rows.pixels, rows.camera))


def solve_with_depth(
    rows: Correspondences,
    depth_solver: Solver,
    solver: Solver,  # without depth
) -> tuple[PoseEstimate, Correspondences]:
    """Poses, and the rows that they rest on: without camera points where depth did not tell the pose."""
    assert rows.camera_points is not None
    found = trusted(depth_solver(rows))
    lost = (~found.success).nonzero()[:, 0]
    if not len(lost):
        return found, rows
    others = trusted(solver(replace(rows[lost], camera_points=None)))
    _warn_of_unit(others, rows[lost])
    points = rows.camera_points.index_fill(0, lost, torch.nan)
    return found.with_images(lost, others), replace(rows, camera_points=points)


def _warn_of_unit(estimate: PoseEstimate, rows: Correspondences) -> None:
    """Where measured depth is far from what the map and a pose without it say of the same points."""
    assert rows.camera_points is not None
    measured, expected = rows.camera_points[..., 2], (estimate.cam_from_world @ rows.scene_points)[..., 2]
    compared = estimate.inliers & estimate.success[:, None] & torch.isfinite(measured)
    if compared.sum() < _ENOUGH:
        return
    ratio = (measured / expected)[compared].median().item()
    if not _SAME_UNIT[0] < ratio < _SAME_UNIT[1]:
        logger.warning(
            "depth is %.3g times what the map says of the same points, localized without it; it becomes metres "
            "with %.3g times the depth_scale (--depth-scale)", ratio, 1 / ratio,
        )  # fmt: skip


_ENOUGH = 30  # rows
