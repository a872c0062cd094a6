"""Correspondences of a batch of images as the solver of a device wants them, and which of them go together.

A row that cannot be used (NaN, infinity, weight 0) is (0, 0, 0, 0): no pose moves it in front of the camera.
What is drawn at random is the same for all images and on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_LARGEST = 1e9  # coordinates beyond it (in whatever unit) are not usable: their squares would overflow
_WIDEST = 1e3  # nor are rays with a larger tangent
_BESIDE, _MOST_BESIDE = 16, 4  # points of a square of the image, on average; what counts of those in a cell
_WITNESSES = 16  # likeliest companions, which choose among the four poses of a minimal set


class Points(NamedTuple):
    scene: Float[Tensor, "B 4 n"]  # homogeneous; 0 where not usable
    ray: Float[Tensor, "B 3 n"]  # on the plane z = 1
    inverse: Float[Tensor, "B n"]  # of the ray's squared length
    weight: Float[Tensor, "B n"]
    depth: Float[Tensor, "B n"] | None  # 0 where not measured

    @property
    def usable(self) -> Bool[Tensor, "B n"]:
        return self.scene[:, 3] > 0

    def first(self, count: int) -> Points:
        return self._each(lambda x: x[..., :count])

    def take(self, rows: Int[Tensor, "B m"]) -> Points:
        """Some of them, others for each image."""
        return self._each(
            lambda x: x.gather(-1, rows if x.ndim == 2 else rows[:, None].expand(-1, x.shape[1], -1))
        )

    def groups(self, rows: Int[Tensor, "B H m"]) -> Points:
        """Groups of m of them, as if each were an image: batch B·H."""
        return self.take(rows.flatten(1))._each(
            lambda x: x.unflatten(-1, rows.shape[1:]).movedim(-2, 1).flatten(0, 1)
        )

    def joined(self, other: Points) -> Points:
        scene, ray, inverse, weight = (torch.cat(x, -1) for x in zip(self[:4], other[:4], strict=True))
        depth = None if self.depth is None or other.depth is None else torch.cat([self.depth, other.depth], -1)
        return Points(scene, ray, inverse, weight, depth)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Points:
        scene, ray, inverse, weight = map(change, self[:4])
        return Points(scene, ray, inverse, weight, None if self.depth is None else change(self.depth))


def prepared(
    pixels: Float[Tensor, "B N 2"],
    scene_points: Float[Tensor, "B N 3"],
    focal_px: Float[Tensor, "B 2"],
    center_px: Float[Tensor, "B 2"],
    weights: Float[Tensor, "B N"] | None,
    depths: Float[Tensor, "B N"] | None,
) -> tuple[Points, Float[Tensor, "B 3"], Float[Tensor, " B"]]:
    """Points about their median, that in float64, and the largest depth in metres that is to be expected.

    Depths are taken to be at most the extent of the scene, or as much more as the camera must stand back to see
    all of it in its image.
    """
    sample = scene_points[:, :: max(1, scene_points.shape[1] // 64)].double()
    sample = torch.where(sample.abs() < _LARGEST, sample, torch.nan)
    low, center, high = (torch.nanquantile(sample, q, dim=1).nan_to_num(0.0) for q in (0.1, 0.5, 0.9))
    center = center.to(scene_points.dtype)
    scene = (scene_points - center[:, None]).float().mT
    ray = ((pixels - center_px[:, None]) / focal_px[:, None]).float().mT
    usable = (scene.abs().sum(1) < _LARGEST) & (ray.abs().sum(1) < _WIDEST)
    weight = torch.ones_like(scene[:, 0]) if weights is None else weights.float()
    usable = usable & (weight > 0) & (weight < _LARGEST)
    scene = torch.cat([scene, torch.ones_like(scene[:, :1])], 1)
    ray = torch.cat([ray, torch.ones_like(ray[:, :1])], 1)
    scene = torch.where(usable[:, None], scene, 0.0)
    ray = torch.where(usable[:, None], ray, 0.0)
    inverse = 1.0 / (ray * ray).sum(1).clamp_min(1.0)
    weight = torch.where(usable, weight, 0.0)
    weight = weight * usable.sum(-1, keepdim=True) / weight.sum(-1, keepdim=True).clamp_min(1e-30)  # mean 1
    if depths is not None:
        depths = depths.float()
        depths = torch.where(usable & (depths > 0) & (depths < _LARGEST), depths, 0.0)
    points = Points(scene, ray, inverse, weight, depths)
    left, right = _bounds(points)
    view = (right - left).norm(dim=-1)
    return points, center.double(), (high - low).norm(dim=-1).float() / view.clamp(1e-6, 1.0)


def _bounds(points: Points) -> tuple[Tensor, Tensor]:
    """Least and largest coordinates (B, 2) of the rays of usable points; 0 where there are none."""
    usable = points.usable[:, None]
    low = torch.where(usable, points.ray[:, :2], torch.inf).amin(-1)
    high = torch.where(usable, points.ray[:, :2], -torch.inf).amax(-1)
    some = torch.isfinite(low)
    return torch.where(some, low, 0.0), torch.where(some, high, 0.0)


def uniform(count: int, seed: int, device: torch.device) -> Float[Tensor, " count"]:
    """Numbers in (0, 1) that depend on the seed alone, the same on every device: a hash of 0, 1, 2, …"""
    x = torch.arange(count, dtype=torch.int64, device=device) + (seed * 0x9E3779B1) % 2**32
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return (x.double() + 0.5) / 2.0**32


def listed(points: Points) -> tuple[Int[Tensor, "B n"], Bool[Tensor, "B n"]]:
    """As many rows as are usable, in order, each as often as its weight says: heavy ones often, light never.

    And which places of the list hold one; behind these is a row that is not usable.
    """
    total = points.weight.double().cumsum(-1)
    count = total.shape[1]
    usable = points.usable.sum(-1, keepdim=True)
    place = torch.arange(count, device=total.device)
    inside = place < usable
    share = (place.float() + 0.5) / usable.clamp_min(1)
    rows = torch.searchsorted(total, share * total[:, -1:]).clamp(max=count - 1)
    nobody = (~points.usable).long().argmax(-1, keepdim=True)
    return torch.where(inside, rows, nobody), inside


def coherence(
    points: Points, rows: Int[Tensor, "B n"], farthest: Float[Tensor, " B"], order: Float[Tensor, " n"]
) -> Float[Tensor, "B n"]:
    """How many others a point has beside it in image and scene, in two grids.

    See `search.points.coherent_points`. Of those that are listed; -1 for others. `order`, from 0 to 1, chooses
    among equals.
    """
    usable = points.usable & torch.zeros_like(points.usable).scatter(1, rows, True)
    low, high = _bounds(points)
    number = usable.sum(-1).clamp_min(1)
    square = ((high - low).prod(-1) * _BESIDE / number).sqrt().clamp_min(1e-6)
    cube = (0.25 * farthest * square).clamp_min(1e-9)
    place = torch.cat([points.ray[:, :2] / square[:, None, None], points.scene[:, :3] / cube[:, None, None]], 1)
    alone = -1 - torch.arange(usable.shape[1], device=usable.device)
    beside = torch.zeros_like(points.weight)
    for shift in (0.0, 0.5):
        cells = torch.floor(place + shift).clamp(-(2.0**31), 2.0**31).long()
        key = cells[:, 0]
        for i, factor in enumerate((0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F), 1):
            key = ((key * factor) ^ cells[:, i]) & 0xFFFFFFFFFFFF
        key = torch.where(usable, key, alone)
        ordered = key.sort(-1).values
        inside = torch.searchsorted(ordered, key, right=True) - torch.searchsorted(ordered, key)
        beside = beside + inside.clamp(max=_MOST_BESIDE)
    return torch.where(usable, beside + order, -1.0)


def companies(
    pool: Points, seeds: int, most: int, near: float | None, rounds: int, seed: int
) -> Int[Tensor, "B H c"]:
    """Which points go together: one of the first `seeds`, two random ones of its companions, and the likeliest.

    Points at depth z that are d apart in the scene are seen d / z apart, if the line between them is parallel
    to the image. So the likeliest companions have the least apparent depth; `most` of them are drawn from.
    """
    most = min(most, pool.weight.shape[1])
    likely = _apparent_depths(pool.first(seeds), pool, near).topk(most, largest=False).indices
    likely = likely.repeat(1, rounds, 1)
    size, number, _ = likely.shape
    numbers = uniform(2 * number, seed, likely.device).reshape(2, number, 1)
    one = (numbers[0] * most).long()
    other = (one + 1 + (numbers[1] * (most - 1)).long()) % most
    two = likely.gather(-1, torch.cat([one, other], -1).expand(size, -1, -1))
    first = torch.arange(number, device=likely.device) % (number // rounds)
    return torch.cat([first[:, None].expand(size, -1, 1), two, likely[..., :_WITNESSES]], -1)


def distances(a: Float[Tensor, "B d i"], b: Float[Tensor, "B d j"]) -> Float[Tensor, "B i j"]:
    """Between all points of two sets; by differences, which keep what products of coordinates would lose."""
    axes = zip(a.unbind(1), b.unbind(1), strict=True)
    square = torch.zeros((), device=a.device)
    for x, y in axes:
        square = square + (x[:, :, None] - y[:, None]).square()
    return square.sqrt()


def _apparent_depths(seeds: Points, pool: Points, near: float | None) -> Float[Tensor, "B i j"]:
    """Of each point of the pool, from each seed; infinite where it is not seen within `near`."""
    apart = distances(seeds.scene[:, :3], pool.scene[:, :3])
    seen = distances(seeds.ray, pool.ray)
    inside = (seen > 0) & pool.usable[:, None] & seeds.usable[..., None]
    if near is not None:
        inside = inside & (seen < near)
    return torch.where(inside, apart / seen, torch.inf)
