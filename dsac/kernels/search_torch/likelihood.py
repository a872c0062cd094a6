"""Least squares on many poses of a batch of images: the formulas of `search/likelihood.py`, for all at once.

Points are a `Points` of `points.py`; poses (B, P, 3, 4) are float64, sums over points float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dsac.kernels.reference import cross_matrix, rotation_matrix
from dsac.kernels.search_torch.points import Points

_SINGULAR = 1e-7  # smallest pivot of H scaled to unit diagonal: float32 sums do not resolve less


def _moved(poses: Float[Tensor, "B P 3 4"], points: Points) -> Float[Tensor, "B P 3 n"]:
    """In the camera frames. Products of full float32 are needed: PyTorch's default, not "high" precision."""
    return (poses.flatten(1, 2).float() @ points.scene).unflatten(1, (-1, 3))


class PixelGate(NamedTuple):
    """Reprojection within a threshold, in units of the horizontal focal length."""

    aspect: Float[Tensor, " B"]  # ratio of focal lengths, vertical to horizontal
    threshold: Float[Tensor, " B"]

    def inliers(self, poses: Tensor, points: Points, scale: float) -> Bool[Tensor, "B P n"]:
        x, y, z = _moved(poses, points).unbind(2)
        square, limit = self._squares(x, y, z, points, scale)
        return (square < limit) & (z > 0)

    def weights(self, moved: Tensor, points: Points, scale: float) -> Float[Tensor, "B P n"]:
        """Tukey's (1 - e²/τ²)² of the reprojection error e."""
        x, y, z = moved.unbind(2)
        square, limit = self._squares(x, y, z, points, scale)
        kept = (1 - square / limit.clamp_min(1e-30)).clamp_min(0)
        return torch.where(z > 0, kept * kept, 0.0)

    def _squares(self, x: Tensor, y: Tensor, z: Tensor, points: Points, scale: float) -> tuple[Tensor, Tensor]:
        """Of the distance at the point's depth, and of the threshold there."""
        across = x - points.ray[:, None, 0] * z
        down = (y - points.ray[:, None, 1] * z) * self.aspect[:, None, None].float()
        reach = z * (scale * self.threshold[:, None, None]).float()
        return across * across + down * down, reach * reach


class SpaceGate(NamedTuple):
    """Within a threshold in metres of the camera point or, without depth, of the ray."""

    threshold: float

    def inliers(self, poses: Tensor, points: Points, scale: float) -> Bool[Tensor, "B P n"]:
        assert points.depth is not None
        moved = _moved(poses, points)
        along = (moved * points.ray[:, None]).sum(2) * points.inverse[:, None]
        along = torch.where(points.depth[:, None] > 0, points.depth[:, None], along)
        square = (moved - along[:, :, None] * points.ray[:, None]).square().sum(2)
        return (square < (scale * self.threshold) ** 2) & (along > 0)


def gated_step(
    poses: Float[Tensor, "B P 3 4"], points: Points, gate: PixelGate, scale: float
) -> Float[Tensor, "B P 3 4"]:
    """A Gauss-Newton step on the points that reproject within `scale` thresholds."""
    moved = _moved(poses, points)
    p = gate.weights(moved, points, scale)
    residual = _across(moved, points)[0]
    normal, gradient = _normal_equations(moved, residual, p, p * points.inverse[:, None], points)
    return _stepped(poses, normal, gradient)[0]


def gated_variance(
    poses: Float[Tensor, "B P 3 4"], points: Points, gate: PixelGate, scale: float
) -> Float[Tensor, "B P"]:
    """Of the points about their rays, an axis."""
    moved = _moved(poses, points)
    p = gate.weights(moved, points, scale)
    square = _across(moved, points)[0].square().sum(2)
    return (0.5 * (p * square).sum(-1) / p.sum(-1).clamp_min(1e-9)).clamp_min(1e-18).double()


class _Mixture(NamedTuple):
    """Sums over points that are right by Gaussian noise, or wrong by uniform clutter."""

    normal: Float[Tensor, "B P 6 6"]
    gradient: Float[Tensor, "B P 6"]
    probability: Float[Tensor, "B P"]
    square: Float[Tensor, "B P"]
    ring: Float[Tensor, "B P"]
    freedom: Float[Tensor, "B P"]


def mixture(
    poses: Float[Tensor, "B P 3 4"],
    points: Points,
    variance: Float[Tensor, "B P"],  # m², an axis, of points of weight 1
    clutter: Float[Tensor, "B P"] | float,  # its density, against the peak of the Gaussian
    depth_noise: float | None,  # metres at 1 m
) -> _Mixture:
    """Sums weighted by the probability that a point is right; see `search.likelihood.mixture_sums`."""
    spread = variance.float()[..., None]
    moved = _moved(poses, points)
    residual, along = _across(moved, points)
    square = residual.square().sum(2)
    bearing = points.inverse[:, None]
    freedom: Tensor | float = 2.0
    if points.depth is not None and depth_noise is not None:
        z = points.depth[:, None]
        measured = z > 0
        pull = spread / (spread + points.weight[:, None] * depth_noise**2 * z**4 / bearing)
        pull = torch.where(measured, pull, 0.0)
        deviation = torch.where(measured, along - z, 0.0)
        square = square + pull * deviation * deviation / bearing
        residual = residual + (pull * deviation)[:, :, None] * points.ray[:, None]
        bearing = bearing * (1 - pull)
        freedom = 2.0 + measured.to(square.dtype)
    square = square * points.weight[:, None]
    relative = square / spread
    p = torch.where(along > 0, torch.exp(-0.5 * relative), 0.0)
    clutter = clutter.float()[..., None] if isinstance(clutter, Tensor) else clutter
    p = p / (p + clutter)
    ring = ((relative > 16.0) & (relative < 36.0) & (along > 0)).sum(-1)
    sums = (p.sum(-1), (p * square).sum(-1), ring, (p * freedom).sum(-1))
    p = p * points.weight[:, None]
    normal, gradient = _normal_equations(moved, residual, p, p * bearing, points)
    return _Mixture(normal, gradient, *(x.double() for x in sums))


def likeliest(
    poses: Float[Tensor, "B P 3 4"],
    points: Points,
    variance: Float[Tensor, "B P"],
    clutter: float,
    depth_noise: float | None,
    iterations: int,
) -> tuple[Float[Tensor, "B P 3 4"], Float[Tensor, "B P"], Float[Tensor, "B P 6 6"]]:
    """Poses, variances and normal matrices after steps that estimate noise and clutter along the way.

    The variance is 0 where the points do not determine a pose.
    """
    share: Tensor | float = clutter
    determined = torch.ones_like(variance, dtype=torch.bool)
    normal = poses.new_zeros(*poses.shape[:2], 6, 6)
    for _ in range(iterations):
        sums = mixture(poses, points, variance.clamp_min(1e-18), share, depth_noise)
        moved, solvable = _stepped(poses, sums.normal, sums.gradient)
        determined = determined & solvable & (sums.freedom > 6.0)
        poses = torch.where(determined[..., None, None], moved, poses)
        normal = sums.normal
        variance = torch.where(
            determined, (sums.square / sums.freedom.clamp_min(1e-9)).clamp_min(1e-18), variance
        )
        share = sums.ring / (10.0 * sums.probability.clamp_min(1e-9)) + 1e-4
    return poses, torch.where(determined, variance, 0.0), normal


def _across(moved: Tensor, points: Points) -> tuple[Float[Tensor, "B P 3 n"], Float[Tensor, "B P n"]]:
    """The residual of each point across its ray, and the depth of the point of the ray that is nearest."""
    along = (moved * points.ray[:, None]).sum(2) * points.inverse[:, None]
    return moved - along[:, :, None] * points.ray[:, None], along


def _normal_equations(
    moved: Float[Tensor, "B P 3 n"],
    residual: Float[Tensor, "B P 3 n"],
    p: Float[Tensor, "B P n"],
    q: Float[Tensor, "B P n"],
    points: Points,
) -> tuple[Float[Tensor, "B P 6 6"], Float[Tensor, "B P 6"]]:
    """H and g of increments (rotation, translation) by the formulas of `search/likelihood.py`; q = p k."""
    weighted = p[:, :, None] * moved
    second = (weighted @ moved.mT).double()
    torque = (weighted @ residual.mT).double()
    first = weighted.sum(-1).double()
    force = (p[:, :, None] * residual).sum(-1).double()
    squares = (points.ray[:, :, None] * points.ray[:, None]).flatten(1, 2)  # b bᵀ, (B, 9, n)
    rays = (q @ squares.mT).unflatten(-1, (3, 3)).double()
    eye = torch.eye(3, dtype=torch.float64, device=p.device)
    turn = second.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None] * eye - second
    skew = cross_matrix(first)
    shift = p.sum(-1).double()[..., None, None] * eye - rays
    normal = torch.cat([torch.cat([turn, skew], -1), torch.cat([skew.mT, shift], -1)], -2)
    antisymmetric = torque - torque.mT
    spin = torch.stack([antisymmetric[..., 1, 2], antisymmetric[..., 2, 0], antisymmetric[..., 0, 1]], -1)
    return normal, torch.cat([spin, force], -1)


def _stepped(
    poses: Float[Tensor, "B P 3 4"], normal: Tensor, gradient: Tensor
) -> tuple[Float[Tensor, "B P 3 4"], Bool[Tensor, "B P"]]:
    """Poses moved by -H⁻¹g, and where that is determined; elsewhere they stay."""
    diagonal = normal.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
    factor, failed = torch.linalg.cholesky_ex(normal * scale[..., None] * scale[..., None, :])
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    determined = (failed == 0) & (diagonal > 0).all(-1) & (pivots > _SINGULAR).all(-1)
    factor = torch.where(
        determined[..., None, None], factor, torch.eye(6, dtype=factor.dtype, device=factor.device)
    )
    step = -scale * torch.cholesky_solve((gradient * scale)[..., None], factor)[..., 0]
    turned = rotation_matrix(step[..., :3]) @ poses
    moved = torch.cat([turned[..., :3], turned[..., 3:] + step[..., 3:, None]], -1)
    return torch.where(determined[..., None, None], moved, poses), determined
