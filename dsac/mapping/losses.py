"""What a predicted scene point should satisfy, cell by cell.

Networks of the papers have the papers' losses, `coordinate_loss` and `dsac_star_loss`; the head behind the
shared encoder has `mapping_loss`:

Every cell:   the reprojection error through a bounded robust function whose width shrinks over the training,
              tanh(e/t), t = 50 sqrt(1 - p²) + 1 px over the progress p (Brachmann et al., ACE, CVPR 2023);
              and the Laplace likelihood of the error's angle, s/b + log b, which teaches the predicted scale b
              alone: half a metre is much at 3 m and nothing at 50 m, and the solver weighs pixels.
Known point:  beside that, the distance d to it: 2 log(1 + d/m), m a twentieth of the scene's scale, so that the
              few with wrong depth pull little.
Several modes: the likelihood of their mixture, a mode's being exp of minus what is said here; so each learns
              what it already explains best.
No point, and a prediction that cannot be right yet (outside the plausible depths or far off in the image): the
              distance to the point at the scene's typical depth on the pixel's ray, instead of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

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
    """Mean loss over the rows of a batch, for the head behind the shared encoder."""
    odds = predicted.log_probability
    if odds is not None:  # each mode as if it were a row
        num_modes = odds.shape[-1]
        cells = cells.repeated(num_modes)
        predicted = SceneCoordinates(predicted.points.flatten(0, 1), predicted.scale.flatten())
    off = _offsets(predicted, cells, buffer, depth_range)
    width_px = 50 * (1 - progress**2) ** 0.5 + 1
    reprojection = torch.tanh(off.error_px / width_px)
    to_known = 2 * torch.log1p(off.distance / (_NEAR * scene_scale))
    angle = (off.error_px / off.focal_px).detach()
    likelihood = angle / predicted.scale + torch.log(predicted.scale)
    loss = torch.where(
        off.known,
        to_known + reprojection_weight * reprojection * off.plausible,
        reprojection_weight * torch.where(off.plausible, reprojection, 1 + off.distance / scene_scale),
    ) + torch.where(off.plausible, likelihood, 0.0)
    if odds is None:
        return off.batch_loss(loss.mean())
    mixture = -(odds - loss.unflatten(0, odds.shape)).logsumexp(-1)
    return off.of_likeliest(odds).batch_loss(mixture.mean())


def coordinate_loss(
    predicted: SceneCoordinates,
    cells: Cells,
    buffer: FeatureBuffer,
    *,
    depth_range: tuple[float, float],
    scene_scale: Tensor,
) -> BatchLoss:
    """Mean distance to the known scene coordinates in units of the scene's scale (DSAC); 0 if none is known."""
    off = _offsets(predicted, cells, buffer, depth_range)
    distance = torch.where(off.known, off.distance, 0.0).sum() / off.known.sum().clamp_min(1)
    return off.batch_loss(distance / scene_scale)


def dsac_star_loss(
    predicted: SceneCoordinates,
    cells: Cells,
    buffer: FeatureBuffer,
    *,
    depth_range: tuple[float, float],
    scene_scale: Tensor,
) -> BatchLoss:
    """DSAC*'s rule: the reprojection error where a prediction can be right, else the distance to another point.

    That is the known one, or the one at the scene's typical depth (published: 10 m) on the pixel's ray. The
    published sum of pixels and metres depends on the scene; here a distance counts as pixels at that depth.
    """
    off = _offsets(predicted, cells, buffer, depth_range)
    pixels_per_metre = off.focal_px / _typical_depth(depth_range)
    loss = torch.where(off.plausible, off.error_px, off.distance * pixels_per_metre)
    return off.batch_loss(loss.mean())


@dataclass(frozen=True)
class _Offsets:
    """How far predictions are from what is known of their cells; rows of a batch."""

    depth: Tensor
    error_px: Tensor  # of reprojection
    known: Tensor  # whether the scene point is
    distance: Tensor  # to the scene point, or to the typical one where it is unknown
    plausible: Tensor  # in the depth range and not far off in the image
    focal_px: Tensor

    def of_likeliest(self, odds: Float[Tensor, "M modes"]) -> _Offsets:
        """Those of each cell's likeliest mode, where they are of all modes."""
        rows = odds.argmax(-1) + odds.shape[-1] * torch.arange(len(odds), device=odds.device)
        return _Offsets(*(getattr(self, f.name)[rows] for f in fields(self)))

    def batch_loss(self, total: Tensor) -> BatchLoss:
        errors = self.error_px.detach()
        return BatchLoss(total, (errors < _GOOD_PX).float().mean(), errors.median())


def _offsets(
    predicted: SceneCoordinates, cells: Cells, buffer: FeatureBuffer, depth_range: tuple[float, float]
) -> _Offsets:
    view = cells.view.long()
    pose = buffer.cam_from_world[view]
    points_cam = (pose[:, :, :3] @ predicted.points[..., None])[..., 0] + pose[:, :, 3]
    depth = points_cam[:, 2]
    error_px = _reprojection_error_px(
        points_cam, cells.pixels, buffer.focal_px[view], buffer.center_px[view], depth_range[0]
    )
    known = torch.isfinite(cells.scene_points[:, 0])
    target = torch.where(known[:, None], cells.scene_points, _typical_points(cells, buffer, pose, depth_range))
    distance = (predicted.points - target).norm(dim=-1)
    plausible = (depth > depth_range[0]) & (depth < depth_range[1]) & (error_px < _FAR_OFF_PX)
    return _Offsets(depth, error_px, known, distance, plausible, buffer.focal_px[view, 0])


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
    points_cam = torch.cat([plane, torch.ones_like(plane[:, :1])], dim=-1) * _typical_depth(depth_range)
    return ((points_cam - pose[:, :, 3])[:, None, :] @ pose[:, :, :3])[:, 0]


def _typical_depth(depth_range: tuple[float, float]) -> float:
    return (depth_range[0] * depth_range[1]) ** 0.5
