"""How far a pose can be trusted: its covariance, and a confidence in [0, 1].

At the optimum the gradients g_i of the points' costs by the pose add up to zero; G is the derivative of their
sum. With independent errors of the points the pose then has the covariance of M-estimation (the sandwich)

    Σ = n/(n - 3) · G⁻¹ (Σ_i g_i g_iᵀ) G⁻¹

with n inliers, three of which the pose itself uses up. It is right whatever the spread of the errors and their
dependence on depth. But a network's errors go together among neighbours. So the gradients are also summed over
tiles of the image first, and their sandwich Σ_t taken (cluster-robust; Liang & Zeger 1986): right for errors
that go together within a tile, though noisy, for tiles are few. Of it only the size is taken, the design effect

    Σ · max(1, tr(Σ⁻¹ Σ_t) / 6)

On real rooms 76 to 88 % of the errors then lie within two standard deviations, against 12 to 25 % without.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dsac.geometry import Pose
from dsac.ransac.implicit import force_balance, guarded_inverse
from dsac.ransac.refinement import optimum
from dsac.ransac.residual import PoseResidual, exclusive, inlier_mask, posed_rows, weights_of
from dsac.ransac.types import Correspondences, PoseEstimate, TrustRules


def pose_estimate(
    cam_from_world: Pose,  # batch (B,)
    residual: PoseResidual,
    correspondences: Correspondences,
    iterations: int = 0,
    rules: TrustRules = TrustRules(),  # noqa: B008 -- immutable
) -> PoseEstimate:
    """The answer about a pose, after at most so many iterations of refinement (0: the pose as it is).

    By a kernel where there is one, else as written here. Of several modes of a pixel the one counts that suits
    the pose best, chosen again after the refinement.
    """
    if correspondences.modes > 1 and iterations > 0:
        rows = exclusive(residual, cam_from_world, correspondences)
        cam_from_world = optimum(residual, cam_from_world[:, None], rows, iterations)[:, 0]
    correspondences = exclusive(residual, cam_from_world, correspondences)
    found = _by_kernel(cam_from_world[:, None], residual, correspondences, iterations, rules)
    if found is not None:
        return found
    if iterations > 0:
        cam_from_world = optimum(residual, cam_from_world[:, None], correspondences, iterations)[:, 0]
    scatter = _scatter(cam_from_world, residual, correspondences, rules.tiles)
    covariance = _covariance(scatter)
    expected = _chance_inliers(residual, correspondences)
    enough = scatter.inliers.sum(-1) > rules.least_factor * expected
    success = enough & torch.isfinite(covariance).flatten(1).all(-1)
    trust = _confidence(scatter, covariance, expected, rules)
    like = cam_from_world.translation
    return PoseEstimate(cam_from_world, covariance.to(like), scatter.inliers, trust.to(like), success)


def _by_kernel(
    cam_from_world: Pose,  # batch (B, 1)
    residual: PoseResidual,
    c: Correspondences,
    iterations: int,
    rules: TrustRules,
) -> PoseEstimate | None:
    pose = cam_from_world.rotation, cam_from_world.translation
    camera = c.camera.focal_px, c.camera.center_px
    engine = residual.engine(*pose, c.pixels, c.scene_points, *camera, weights_of(c))
    chance = residual.chance(c) if engine.trust is not None else None
    if engine.trust is None or not isinstance(chance, float):  # kernels know one chance for all images
        return None
    rows = posed_rows(residual, cam_from_world, c)
    rotation, translation, *trust = engine.trust(rows, residual.threshold, iterations, chance, rules)
    return PoseEstimate(Pose(rotation, translation), *trust)


@dataclass(frozen=True, eq=False)
class _Scatter:
    """How the points of each image pull at a pose: what its uncertainty is made of, in float64."""

    second: Float[Tensor, "B 6 6"]  # G, second derivative of the cost by the increment of the pose
    apart: Float[Tensor, "B 6 6"]  # Σ g gᵀ of the points' gradients of the cost
    together: Float[Tensor, "B 6 6"]  # the same of the gradients' sums over tiles of the image
    num_tiles: Int[Tensor, " B"]  # that hold inliers
    inliers: Bool[Tensor, "B N"]
    depth: Float[Tensor, " B"]  # median of the inliers, metres; 1 where there are none


def _scatter(
    cam_from_world: Pose, residual: PoseResidual, correspondences: Correspondences, tiles: int
) -> _Scatter:
    pose, weights = cam_from_world[:, None], weights_of(correspondences)
    balance = force_balance(
        pose.to(torch.float64),
        residual,
        correspondences.scene_points[:, None],
        residual.targets(correspondences)[:, None],
        weights[:, None],
        correspondences,
    )
    inliers = inlier_mask(residual, pose, correspondences)[:, 0]
    pulls = balance.gradients[:, 0]
    sums, num_tiles = _tile_sums(pulls, inliers, weights > 0, correspondences.pixels, tiles)
    depth = (cam_from_world @ correspondences.scene_points)[..., 2]
    depth = torch.where(inliers, depth, torch.nan).nanmedian(-1).values.nan_to_num(1.0)
    return _Scatter(balance.matrix[:, 0], pulls.mT @ pulls, sums.mT @ sums, num_tiles, inliers, depth)


def _tile_sums(
    pulls: Float[Tensor, "B N 6"],
    inliers: Bool[Tensor, "B N"],
    used: Bool[Tensor, "B N"],
    pixels: Float[Tensor, "B N 2"],
    tiles: int,
) -> tuple[Float[Tensor, "B T 6"], Int[Tensor, " B"]]:
    """The pulls summed over square tiles of the image, and how many of them hold inliers."""
    low = torch.where(used[..., None], pixels, torch.inf).amin(1, keepdim=True)
    high = torch.where(used[..., None], pixels, -torch.inf).amax(1, keepdim=True)
    place = tiles * (pixels - low) / (high - low).amax(-1, keepdim=True).clamp_min(1e-6)
    column, row = place.nan_to_num(0.0).long().clamp(0, tiles - 1).unbind(-1)
    tile = tiles * row + column
    sums = pulls.new_zeros(len(pulls), tiles**2, 6).scatter_add_(1, tile[..., None].expand_as(pulls), pulls)
    held = torch.zeros(len(pulls), tiles**2, dtype=torch.int64, device=pulls.device)
    held.scatter_add_(1, tile, inliers.long())
    return sums, (held > 0).sum(-1)


def _covariance(scatter: _Scatter) -> Float[Tensor, "B 6 6"]:
    """Covariance of the increment; infinite on the diagonal where the points do not determine the pose."""
    matrices = torch.stack([scatter.second, scatter.apart])
    (inverse, whitening), (determined, _) = guarded_inverse(matrices)
    num_inliers = scatter.inliers.sum(-1)
    apart, together = _freed(num_inliers), _freed(scatter.num_tiles)
    effect = together / apart * (whitening * scatter.together).sum((-2, -1)) / 6
    size = apart * effect.clamp_min(1)
    covariance = size[:, None, None] * (inverse @ scatter.apart @ inverse)
    unknown = torch.diag_embed(torch.full_like(covariance[..., 0], torch.inf))
    return torch.where(determined[:, None, None], covariance, unknown)


def _freed(count: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """What the sum over so many parts misses, three of which the pose itself uses up."""
    return count.float() / (count - 3).clamp_min(1).float()


def _chance_inliers(residual: PoseResidual, correspondences: Correspondences) -> Float[Tensor, " B"]:
    """Inliers that a wrong pose can expect: its minimal set of four, and of the others by chance."""
    count, chance = (weights_of(correspondences) > 0).sum(-1), residual.chance(correspondences)
    if isinstance(chance, float):
        chance = correspondences.pixels.new_full(count.shape, chance)
    return 4 + count * chance


def _confidence(
    scatter: _Scatter, covariance: Float[Tensor, "B 6 6"], expected: Float[Tensor, " B"], rules: TrustRules
) -> Float[Tensor, " B"]:
    """In [0, 1]: rises with the inliers in excess of chance, falls with the pose's standard deviation.

    With n inliers, n0 by chance and x = max(n - n0, 0) / (5 n0), and with standard deviations σ_r of the
    rotation and σ_t of the translation against the median depth z of the inliers:

        x²/(1 + x²) · 1/(1 + (σ_r / 5°)² + (σ_t / 0.05 z)²)
    """
    excess = (scatter.inliers.sum(-1) - expected).clamp_min(0) / (rules.chance_factor * expected)
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    spread = variance[..., :3].sum(-1) / rules.angle**2
    tolerance = (rules.distance * scatter.depth).square().clamp_min(1e-30)
    spread = spread + variance[..., 3:].sum(-1) / tolerance
    return excess.square() / (1 + excess.square()) / (1 + spread)
