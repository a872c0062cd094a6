"""From correspondences to the poses of a batch of images, in torch, for a device.

The search is that of the CPU (`search/rgb.py`, `search/rgbd.py`): seeds among the coherent points and others,
their likeliest companions, staged scoring, robust Gauss-Newton steps, the likeliest of the best different
poses. But all images take each step together, and nothing is asked of the device on the way: the numbers of
seeds, poses and steps are fixed, and what the CPU skips is computed and not chosen.

Poses (B, P, 3, 4) are float64, points float32 about their median, so that coordinates of kilometres keep their
millimetres. No gradients.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from dsac.kernels.arrays import check_array, check_positive, check_rows
from dsac.kernels.precision import full_precision
from dsac.kernels.reference_p3p import align_triangles, p3p
from dsac.kernels.search_torch.likelihood import (
    PixelGate,
    SpaceGate,
    gated_step,
    gated_variance,
    likeliest,
    mixture,
)
from dsac.kernels.search_torch.points import Points, coherence, companies, distances, listed, prepared, uniform
from dsac.kernels.solution import Solution

_IMAGES, _ROWS = 256, 4800  # images of so many rows at once take a gigabyte or two; fewer of more rows
_SUBSET = 1024  # points drawn at random: what poses are compared on
_FRONT = 256  # the most coherent points of all
_ROUNDS = 3  # minimal sets of each coherent point
_PLAIN, _POOL, _NEAR = 128, 512, 0.35  # seeds of the subset, their companions' number and distance on z = 1
_COMPANIONS = (80, 16)  # likeliest ones that two are drawn from: of a coherent, of a plain seed
_JURY = (64, 256)  # of the front and of the subset, on which poses are scored, first all and then ...
_WIDE = 3.0  # times the threshold: the pose of a minimal set is noisy
_KEPT = (256, 32)  # ... those that are kept, of which the last ones are optimised
_MODES = 4  # different ones that go to the end
_SUPPORT = 5  # inliers of an answer, at least
_SAME_ANGLE = 0.1  # radians between the rotations of different poses


def solve_rgb(
    pixels: Float[Tensor, "B N 2"],
    scene_points: Float[Tensor, "B N 3"],
    focal_px: Float[Tensor, "B 2"],
    center_px: Float[Tensor, "B 2"],
    weights: Float[Tensor, "B N"] | None = None,
    *,
    threshold_px: float,
    seed: int = 0,
    largest_depth: float | None = None,
) -> Solution:
    """Robust poses of images, as `cpu.solve_rgb` finds them; on the device of the scene points.

    Rows with NaN, infinity or weight 0 are ignored; weights scale inverse variances and the chance to be drawn.
    Without `largest_depth` in metres the extent of the scene serves. The answer for an image depends on its
    rows and the seed, not on the batch, but for rounding. Needs PyTorch's default precision of float32
    products, not "high" (`torch.set_float32_matmul_precision`).
    """
    check_positive("threshold_px", threshold_px)
    if largest_depth:
        check_positive("largest_depth", largest_depth)
    return _solve(
        _RGB(threshold_px, seed, largest_depth), pixels, scene_points, focal_px, center_px, weights, None
    )


def solve_rgbd(
    pixels: Float[Tensor, "B N 2"],
    scene_points: Float[Tensor, "B N 3"],
    depths: Float[Tensor, "B N"],
    focal_px: Float[Tensor, "B 2"],
    center_px: Float[Tensor, "B 2"],
    weights: Float[Tensor, "B N"] | None = None,
    *,
    threshold_m: float,
    depth_noise: float = 0.0015,
    seed: int = 0,
) -> Solution:
    """Robust poses from pixels with depth in metres, and without, as `cpu.solve_rgbd` finds them."""
    check_positive("threshold_m", threshold_m)
    if not 0 <= depth_noise < math.inf:
        raise ValueError(f"depth_noise: expected 0 or more, got {depth_noise}")
    return _solve(
        _RGBD(threshold_m, seed, depth_noise), pixels, scene_points, focal_px, center_px, weights, depths
    )


@torch.no_grad()
def _solve(
    kind: _RGB | _RGBD,
    pixels: Float[Tensor, "B N 2"],
    scene_points: Float[Tensor, "B N 3"],
    focal_px: Float[Tensor, "B 2"],
    center_px: Float[Tensor, "B 2"],
    weights: Float[Tensor, "B N"] | None,
    depths: Float[Tensor, "B N"] | None,
) -> Solution:
    size, count = check_rows(pixels, scene_points, focal_px, center_px, weights)
    if isinstance(kind, _RGBD):
        check_array("depths", depths, (size, count))
    required, optional = [pixels, scene_points, focal_px, center_px], [weights, depths]
    if size == 0:  # an image that cannot be used makes the steps possible
        required = [x.new_zeros(1, *x.shape[1:]) for x in required]
        optional = [None if x is None else x.new_zeros(1, *x.shape[1:]) for x in optional]
    length = max(1, min(_IMAGES, _IMAGES * _ROWS // max(count, 1)))
    parts = []
    with full_precision(scene_points.device.type):
        for some in (slice(first, first + length) for first in range(0, max(size, 1), length)):
            inputs = [x[some] for x in required], [None if x is None else x[some] for x in optional]
            parts.append(_solve_images(kind, *inputs[0], *inputs[1]))
    return Solution(*(torch.cat(x)[:size] for x in zip(*parts, strict=True)))


def _solve_images(
    kind: _RGB | _RGBD,
    pixels: Float[Tensor, "B N 2"],
    scene_points: Float[Tensor, "B N 3"],
    focal_px: Float[Tensor, "B 2"],
    center_px: Float[Tensor, "B 2"],
    weights: Float[Tensor, "B N"] | None,
    depths: Float[Tensor, "B N"] | None,
) -> Solution:
    count = scene_points.shape[1]
    if count < 4:  # rows that cannot be used make the steps below possible
        more = (0, 4 - count)
        pixels, scene_points = pad(pixels, (0, 0, *more)), pad(scene_points, (0, 0, *more), value=math.nan)
        weights, depths = (None if x is None else pad(x, more) for x in (weights, depths))
    points, center, extent = prepared(pixels, scene_points, focal_px, center_px, weights, depths)
    rows, inside = listed(points)
    order = uniform(rows.shape[1], 8 * kind.seed, rows.device)
    shuffled = torch.where(inside, order, 2.0).argsort(-1)[:, :_SUBSET]
    subset = points.take(rows.gather(-1, shuffled))
    gate, poses, variance, drawn = kind.search(_Image(points, subset, rows, order, extent, focal_px))

    poses, variance, _ = likeliest(poses, subset, variance, 0.01, kind.depth_noise, 4)
    poses, variance, _ = likeliest(poses, points, variance, 0.01, kind.depth_noise, 1)
    support = gate.inliers(poses, subset, 1.0).sum(-1)
    best = _most_likely(poses, variance, support, points, kind.depth_noise)
    poses, variance = poses.gather(1, best[..., None, None].expand(-1, -1, 3, 4)), variance.gather(1, best)
    poses, variance, normal = likeliest(poses, points, variance, 0.01, kind.depth_noise, 5)

    inliers = gate.inliers(poses, points, 1.0)[:, 0]
    sure = (variance[:, 0] > 0) & (inliers.sum(-1) >= _SUPPORT)
    information = normal[:, 0] / torch.where(sure, variance[:, 0], 1.0)[:, None, None] * sure[:, None, None]
    pose = torch.where(
        sure[:, None, None], poses[:, 0], torch.eye(3, 4, dtype=torch.float64, device=sure.device)
    )
    translation = pose[..., 3] - (pose[..., :3] @ center[..., None])[..., 0] * sure[:, None]
    usable = points.usable.sum(-1)
    inliers = (inliers & sure[:, None])[:, :count]
    hypotheses = torch.where(usable >= 4, drawn, 0)
    return Solution(pose[..., :3], translation, inliers, information, hypotheses, usable)


# ---- search ------------------------------------------------------------------------------------------


class _Image(NamedTuple):
    """What the search begins with, of a batch."""

    points: Points
    subset: Points  # at random, by weight
    rows: Int[Tensor, "B n"]  # those that are listed
    order: Float[Tensor, " n"]  # random numbers from 0 to 1
    extent: Float[Tensor, " B"]  # metres: the largest depth that is to be expected
    focal_px: Float[Tensor, "B 2"]


class _Found(NamedTuple):
    gate: PixelGate | SpaceGate
    poses: Float[Tensor, "B M 3 4"]
    variance: Float[Tensor, "B M"]  # of the noise, to begin with
    drawn: int  # minimal sets


class _RGB(NamedTuple):
    threshold: float  # pixels
    seed: int
    largest_depth: float | None  # metres; None or 0 = unknown
    depth_noise: None = None

    def search(self, image: _Image) -> _Found:
        points, subset, focal_px = image.points, image.subset, image.focal_px
        gate = PixelGate(focal_px[:, 1] / focal_px[:, 0], self.threshold / focal_px[:, 0])
        largest = torch.full_like(image.extent, self.largest_depth) if self.largest_depth else image.extent
        rank = coherence(points, image.rows, 2.0 * largest, image.order)
        front = points.take(rank.topk(min(_FRONT, rank.shape[1])).indices)
        poses = _minimal_poses(front, subset, gate, self.seed)
        drawn = poses.shape[1]
        for jurors, most in zip(_JURY, _KEPT, strict=True):
            poses = _best(poses, front.first(jurors).joined(subset.first(jurors)), gate, _WIDE, most)
        poses = gated_step(poses, front, gate, _WIDE)
        for scale in (10.0, 7.0, 5.0):
            poses = gated_step(poses, subset.first(_SUBSET // 2), gate, scale)
        poses = _best(poses, subset, gate, 2.0, _KEPT[-1] // 2)
        for scale in (3.0, 2.0):
            poses = gated_step(poses, subset, gate, scale)
        poses = _different(poses, gate.inliers(poses, subset, 1.0).sum(-1))
        poses = gated_step(poses, points, gate, 2.0)
        return _Found(gate, poses, gated_variance(poses, subset, gate, 2.0), drawn)


class _RGBD(NamedTuple):
    threshold: float  # metres
    seed: int
    depth_noise: float

    def search(self, image: _Image) -> _Found:
        gate, subset = SpaceGate(self.threshold), image.subset
        poses = _aligned_poses(subset.first(_POOL), self.threshold, self.seed)
        drawn = poses.shape[1]
        for jurors, most in zip(_JURY, _KEPT, strict=True):
            poses = _best(poses, subset.first(2 * jurors), gate, 1.0, most)
        variance = poses.new_full(poses.shape[:2], (self.threshold / 2.0) ** 2)
        poses, _, _ = likeliest(poses, subset, variance, 0.05, self.depth_noise, 3)
        poses = _different(poses, gate.inliers(poses, subset, 1.0).sum(-1))
        return _Found(gate, poses, poses.new_full(poses.shape[:2], (self.threshold / 3.0) ** 2), drawn)


def _minimal_poses(front: Points, subset: Points, gate: PixelGate, seed: int) -> Float[Tensor, "B H 3 4"]:
    """P3P of coherent seeds with companions of the front, and of others with companions of the subset.

    Of the up to four poses the one that more of the likeliest companions agree with.
    """
    pool = subset.first(_POOL)
    of_front = companies(front, _FRONT, _COMPANIONS[0], None, _ROUNDS, 8 * seed + 1)
    of_all = companies(pool, _PLAIN, _COMPANIONS[1], _NEAR, 1, 8 * seed + 2)
    least = min(of_front.shape[-1], of_all.shape[-1])
    rows = torch.cat([of_front[..., :least], front.weight.shape[1] + of_all[..., :least]], 1)
    groups = front.joined(pool).groups(rows)
    rotation, translation, valid = p3p(groups.ray[..., :3].mT.double(), groups.scene[:, :3, :3].mT.double())
    poses = torch.cat([rotation, translation[..., None]], -1)
    poses = torch.where(valid[..., None, None], poses, 0.0)  # then nothing is in front of the camera
    of_groups = PixelGate(*(x.repeat_interleave(rows.shape[1]) for x in gate))
    return _best(poses, groups, of_groups, _WIDE, 1).reshape(*rows.shape[:2], 3, 4)


def _aligned_poses(pool: Points, threshold: float, seed: int) -> Float[Tensor, "B H 3 4"]:
    """Poses that move seeds and two companions each, as far from them in the scene as measured, onto these."""
    assert pool.depth is not None
    scene, camera = pool.scene[:, :3], pool.ray * pool.depth[:, None]
    measured = pool.depth > 0
    fits = (distances(scene, scene) - distances(camera, camera)).abs() < threshold
    fits = fits & measured[:, None] & measured[:, :, None]
    number = fits.shape[1]
    first = torch.arange(number, device=fits.device)
    fits = fits & (first[:, None] != first)
    parts = []
    for k in range(_ROUNDS):
        # a random one that fits the first, and a random one that fits both
        numbers = uniform(2 * number * number, 8 * seed + 3 + k, fits.device).float()
        numbers = numbers.reshape(2, number, number)
        second = torch.where(fits, numbers[0], -1.0).argmax(-1)
        both = fits & fits.gather(1, second[..., None].expand_as(fits))
        exists, third = torch.where(both, numbers[1], -1.0).max(-1)
        groups = pool.groups(torch.stack([first.expand_as(second), second, third], -1))
        assert groups.depth is not None
        corners = (groups.ray * groups.depth[:, None]).mT.double(), groups.scene[:, :3].mT.double()
        rotation, translation, area = align_triangles(*corners)
        pose = torch.cat([rotation, translation[..., None]], -1)
        sound = (exists.flatten() > 0) & (area > 0)
        parts.append(torch.where(sound[:, None, None], pose, 0.0).unflatten(0, second.shape))
    return torch.cat(parts, 1)


def _best(poses: Tensor, jury: Points, gate: PixelGate | SpaceGate, scale: float, most: int) -> Tensor:
    """The poses that most of the jury agree with; of equals the first, whatever else is in the batch."""
    count = gate.inliers(poses, jury, scale).sum(-1)
    number = count.shape[1]
    place = torch.arange(number, device=count.device)
    chosen = (count * number - place).topk(min(most, number)).indices
    return poses.gather(1, chosen[..., None, None].expand(-1, -1, 3, 4))


def _most_likely(
    poses: Float[Tensor, "B M 3 4"],
    variance: Float[Tensor, "B M"],
    support: Int[Tensor, "B M"],
    points: Points,
    depth_noise: float | None,
) -> Int[Tensor, "B 1"]:
    """Which of the poses, compared at one noise scale, the smallest: each at its own, one with slack would win.

    Only those that have half as many inliers as the best one take part.
    """
    known = (variance > 0) & (2 * support >= support.amax(-1, keepdim=True))
    common = torch.where(known, variance, torch.inf).amin(-1, keepdim=True).expand_as(variance)
    likelihood = mixture(poses, points, common, 1.0, depth_noise).probability
    return torch.where(known, likelihood, -1.0).argmax(-1, keepdim=True)


def _different(poses: Float[Tensor, "B P 3 4"], scores: Int[Tensor, "B P"]) -> Float[Tensor, "B M 3 4"]:
    """The best, the best of those that are turned otherwise than that one, and so on."""
    images = torch.arange(len(poses), device=poses.device)
    scores = scores.clone()
    chosen = []
    for _ in range(min(_MODES, poses.shape[1])):
        best = poses[images, scores.argmax(-1)]
        chosen.append(best)
        trace = (poses[..., :3] * best[:, None, :, :3]).sum((-1, -2))
        scores = torch.where(trace > 1.0 + 2.0 * math.cos(_SAME_ANGLE), -1, scores)
    return torch.stack(chosen, 1)
