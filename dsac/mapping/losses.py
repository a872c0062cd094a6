"""What a predicted scene point should satisfy, cell by cell.

Every cell:   the reprojection error through a bounded robust function whose width shrinks over the training,
              tanh(e/t), t = 50 sqrt(1 - p²) + 1 px over the progress p (Brachmann et al., ACE, CVPR 2023);
              and the Laplace likelihood of the sideways error in metres, s/b + log b, which teaches the
              predicted scale b alone: errors along the ray hardly matter for the pose.
Known point:  beside that, the distance d to it: 2 log(1 + d/m), m a twentieth of the scene's scale, so that the
              few with wrong depth pull little.
No point, and a prediction that cannot be right yet (outside the plausible depths or far off in the image): the
              distance to the point at the scene's typical depth on the pixel's ray, instead of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dsac.mapping.buffer import Cells, FeatureBuffer
from dsac.networks.heads import SceneCoordinates

_FAR_OFF_PX = 1000.0
_NEAR = 0.05  # of the scene's scale: a prediction this far off is pulled with half the force of a perfect one
_GOOD_PX = 10.0  # the solver's inlier threshold


@dataclass(frozen=True)
class BatchLoss:
    """The loss to minimise and, for people, how far the predictions are."""

    total: Tensor  # scalar
    fraction_good: Tensor  # scalar: cells that reproject within 10 px
    median_error_px: Tensor  # scalar


def mapping_loss(
    predicted: SceneCoordinates,
    cells: Cells,
    buffer: FeatureBuffer,
    *,
    progress: float,
    depth_range: tuple[float, float],  # metres: nearest, farthest plausible depth of a cell
    scene_scale: Tensor,  # metres: makes losses comparable between scenes of any size
    reprojection_weight: float,
) -> BatchLoss:
    """Mean loss over the rows of a batch."""
    view = cells.view.long()
    pose = buffer.cam_from_world[view]
    points_cam = (pose[:, :, :3] @ predicted.points[..., None])[..., 0] + pose[:, :, 3]
    depth = points_cam[:, 2]
    error_px = _reprojection_error_px(
        points_cam, cells.pixels, buffer.focal_px[view], buffer.center_px[view], depth_range[0]
    )
    width_px = 50 * (1 - progress**2) ** 0.5 + 1
    reprojection = torch.tanh(error_px / width_px)

    known = torch.isfinite(cells.scene_points[:, 0])
    target = torch.where(known[:, None], cells.scene_points, _typical_points(cells, buffer, pose, depth_range))
    distance = (predicted.points - target).norm(dim=-1)
    to_known = 2 * torch.log1p(distance / (_NEAR * scene_scale))

    plausible = (depth > depth_range[0]) & (depth < depth_range[1]) & (error_px < _FAR_OFF_PX)
    sideways = (error_px * depth / buffer.focal_px[view, 0]).detach()
    likelihood = sideways / predicted.scale + torch.log(predicted.scale / scene_scale)
    loss = torch.where(
        known,
        to_known + reprojection_weight * reprojection * plausible,
        reprojection_weight * torch.where(plausible, reprojection, 1 + distance / scene_scale),
    ) + torch.where(plausible, likelihood, 0.0)
    errors = error_px.detach()
    return BatchLoss(loss.mean(), (errors < _GOOD_PX).float().mean(), errors.median())


def _reprojection_error_px(
    points_cam: Tensor, pixels: Tensor, focal_px: Tensor, center_px: Tensor, nearest: float
) -> Tensor:
    """Pixel distance, at most twice `_FAR_OFF_PX`: what points nearer than `nearest` or behind get."""
    depth = points_cam[:, 2:]
    projected = points_cam[:, :2] / depth.clamp_min(nearest) * focal_px + center_px
    error_px = (projected - pixels).norm(dim=-1).clamp(max=2 * _FAR_OFF_PX)
    return torch.where(depth[:, 0] < nearest, 2 * _FAR_OFF_PX, error_px)


def _typical_points(
    cells: Cells, buffer: FeatureBuffer, pose: Tensor, depth_range: tuple[float, float]
) -> Float[Tensor, "M 3"]:
    """The point at the geometric mean of the plausible depths on each pixel's ray, in the world frame."""
    view = cells.view.long()
    plane = (cells.pixels - buffer.center_px[view]) / buffer.focal_px[view]
    depth = (depth_range[0] * depth_range[1]) ** 0.5
    points_cam = torch.cat([plane, torch.ones_like(plane[:, :1])], dim=-1) * depth
    return ((points_cam - pose[:, :, 3])[:, None, :] @ pose[:, :, :3])[:, 0]
