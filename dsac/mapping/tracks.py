"""Scene points of few frames: the same point in several views, refined together with the poses fixed.

Each match of two frames proposes a point. It gathers the keypoints that its own two are matched to and that lie
where it projects, and is refined by Gauss-Newton on their reprojection errors: the points' half of bundle
adjustment. Each keypoint then takes the point that most frames agree on.

A point of two frames has nobody who contradicts it. It counts when its match was clear, and when half of the
points around it in the image are about as far away: wrong ones lie anywhere on the epipolar line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from dsac.geometry.two_rays import closest_depths
from dsac.mapping.keypoints import Matches, SiftKeypoints

_REPROJECTION_PX = 2.0
_SIGMA_PX = 0.3  # of a keypoint
_DEPTH_SIGMA = 0.03  # relative, the largest in the frame of the keypoint
_UNLIKE = 0.5  # between keypoints' logarithms of size and radians of orientation, when one is seen as the other
_RATIO_OF_TWO = 0.8  # of a match that no third frame confirms
_NEIGHBOURS, _LIKE_NEIGHBOURS = 8, 0.1  # half of so many must have its depth, to that relative difference
_STEPS = 5


@dataclass(frozen=True)
class _Observations:
    """The keypoints of all frames in one list."""

    frame: Int[np.ndarray, " N"]
    plane: Float[np.ndarray, "N 2"]
    cam_from_world: Float[np.ndarray, "F 4 4"]  # of the frames
    focal_px: Float[np.ndarray, " F"]

    def residuals(
        self, rows: Int[np.ndarray, " M"], points: Float[np.ndarray, "M 3"]
    ) -> tuple[Float[np.ndarray, "M 2"], Float[np.ndarray, "M 2 3"], Float[np.ndarray, " M"]]:
        """Pixels from each keypoint to where its point projects, their derivatives by the point, its depth."""
        pose, focal = self.cam_from_world[self.frame[rows]], self.focal_px[self.frame[rows]]
        points_cam = np.einsum("mij,mj->mi", pose[:, :3, :3], points) + pose[:, :3, 3]
        depth = points_cam[:, 2]
        divisor = np.where(np.abs(depth) > 1e-12, depth, 1e-12)
        plane = points_cam[:, :2] / divisor[:, None]
        slope = pose[:, :2, :3] - plane[..., None] * pose[:, 2:3, :3]
        return (plane - self.plane[rows]) * focal[:, None], slope * (focal / divisor)[:, None, None], depth


@dataclass(frozen=True)
class _Proposals:
    """Scene points of single matches."""

    points: Float[np.ndarray, "T 3"]
    ends: Int[np.ndarray, "T 2"]  # the two keypoints
    ratio: Float[np.ndarray, " T"]  # of the match


@dataclass(frozen=True)
class _Sightings:
    """Which keypoints show which points, a row for each such pair."""

    point: Int[np.ndarray, " M"]
    keypoint: Int[np.ndarray, " M"]

    def only(self, rows: Bool[np.ndarray, " M"]) -> _Sightings:
        return _Sightings(self.point[rows], self.keypoint[rows])


def track_depths(
    keypoints: list[SiftKeypoints],
    cam_from_world: Float[np.ndarray, "F 4 4"],
    matches: dict[tuple[int, int], Matches],  # by two frames
) -> list[Float[np.ndarray, " K"]]:
    """Depth of each keypoint of each frame, 0 where unknown."""
    counts = [len(k) for k in keypoints]
    observed = _Observations(
        np.repeat(np.arange(len(keypoints)), counts),
        np.concatenate([k.plane for k in keypoints]),
        cam_from_world,
        np.array([k.focal_px for k in keypoints]),
    )
    proposed = _propose(keypoints, cam_from_world, matches)
    if len(proposed.points) == 0:
        return [np.zeros(count) for count in counts]
    seen = _gather(proposed, len(observed.frame))
    seen = seen.only(_agree(observed, seen, proposed.points))
    points, information = _refine(observed, seen, proposed.points)
    seen = seen.only(_agree(observed, seen, points) & _sure(observed, seen, points, information))
    views = _count_frames(observed, seen, len(points))
    trusted = (views >= 3) | ((views == 2) & (proposed.ratio < _RATIO_OF_TWO))
    seen = seen.only(trusted[seen.point])
    # of the points that a keypoint shows the one that most frames agree on
    seen = seen.only(_first_of_each(seen.keypoint, order=np.lexsort((-views[seen.point], seen.keypoint))))
    depths, views_of = np.zeros(len(observed.frame)), np.zeros(len(observed.frame), int)
    depths[seen.keypoint] = observed.residuals(seen.keypoint, points[seen.point])[2]
    views_of[seen.keypoint] = views[seen.point]
    of_frames = zip(keypoints, *(np.split(x, np.cumsum(counts)[:-1]) for x in (depths, views_of)), strict=True)
    return [np.where((n >= 3) | _in_company(k.plane, z), z, 0.0) for k, z, n in of_frames]


def _propose(
    keypoints: list[SiftKeypoints],
    cam_from_world: Float[np.ndarray, "F 4 4"],
    matches: dict[tuple[int, int], Matches],
) -> _Proposals:
    """Midpoints of the matches whose keypoints have the sizes and orientations that they should."""
    first_row = np.cumsum([0, *(len(k) for k in keypoints)])
    world_from_cam = np.linalg.inv(cam_from_world)
    points, ends, ratio = [np.zeros((0, 3))], [np.zeros((0, 2), int)], [np.zeros(0)]
    for (i, j), found in matches.items():
        a, b = keypoints[i].take(found.first), keypoints[j].take(found.second)
        b_from_a = cam_from_world[j] @ world_from_cam[i]
        s, t, _ = closest_depths(a.rays @ b_from_a[:3, :3].T, b.rays, b_from_a[:3, 3])
        good = (s > 0) & (t > 0)
        good[good] = _alike(a.take(good), b.take(good), b_from_a, s[good] / t[good])
        in_a = _moved(world_from_cam[i], a.rays[good] * s[good, None])
        in_b = _moved(world_from_cam[j], b.rays[good] * t[good, None])
        points.append((in_a + in_b) / 2)
        ends.append(np.stack([found.first[good] + first_row[i], found.second[good] + first_row[j]], axis=1))
        ratio.append(found.ratio[good])
    return _Proposals(np.concatenate(points), np.concatenate(ends), np.concatenate(ratio))


def _moved(pose: Float[np.ndarray, "4 4"], points: Float[np.ndarray, "M 3"]) -> Float[np.ndarray, "M 3"]:
    return points @ pose[:3, :3].T + pose[:3, 3]


def _alike(
    a: SiftKeypoints, b: SiftKeypoints, b_from_a: Float[np.ndarray, "4 4"], depth_ratio: Float[np.ndarray, " M"]
) -> Bool[np.ndarray, " M"]:
    """Whether the arrow of a, on a surface that faces its camera, looks from b much as the arrow there."""
    in_b = a.arrows @ b_from_a[:3, :2].T
    expected = (in_b[:, :2] - b.plane * in_b[:, 2:]) * depth_ratio[:, None]
    x, y = expected.T, b.arrows.T
    turned = np.arctan2(x[0] * y[1] - x[1] * y[0], (x * y).sum(0))
    larger = np.log(np.linalg.norm(b.arrows, axis=1) / np.maximum(np.linalg.norm(expected, axis=1), 1e-12))
    return turned**2 + larger**2 < _UNLIKE**2


def _gather(proposed: _Proposals, num_keypoints: int) -> _Sightings:
    """For each point its two keypoints and all that those are matched to."""
    source = np.concatenate([proposed.ends[:, 0], proposed.ends[:, 1]])
    target = np.concatenate([proposed.ends[:, 1], proposed.ends[:, 0]])
    target = target[np.argsort(source, kind="stable")]
    degree = np.bincount(source, minlength=num_keypoints)
    start = np.cumsum(degree) - degree
    point = np.tile(np.arange(len(proposed.points)), 2)
    count = degree[source]
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    # the other end is among the neighbours of each end
    pairs = np.repeat(point, count) * num_keypoints + target[np.repeat(start[source], count) + within]
    pairs = np.unique(pairs)
    return _Sightings(pairs // num_keypoints, pairs % num_keypoints)


def _agree(
    observed: _Observations, seen: _Sightings, points: Float[np.ndarray, "T 3"]
) -> Bool[np.ndarray, " M"]:
    offset, _, depth = observed.residuals(seen.keypoint, points[seen.point])
    return (depth > 0) & ((offset**2).sum(1) < _REPROJECTION_PX**2)


def _refine(
    observed: _Observations, seen: _Sightings, points: Float[np.ndarray, "T 3"]
) -> tuple[Float[np.ndarray, "T 3"], Float[np.ndarray, "T 3 3"]]:
    """Points of least squared reprojection error, and their information (per squared pixel)."""
    information = np.zeros((len(points), 3, 3))
    for _ in range(_STEPS):
        offset, slope, _ = observed.residuals(seen.keypoint, points[seen.point])
        information = _summed(np.einsum("mki,mkj->mij", slope, slope), seen.point, len(points))
        gradient = _summed(np.einsum("mki,mk->mi", slope, offset), seen.point, len(points))
        # a point that two parallel rays show stays where it is
        damping = 1e-9 * np.trace(information, axis1=1, axis2=2) + 1e-30
        damped = information + damping[:, None, None] * np.eye(3)
        points = points - np.linalg.solve(damped, gradient[..., None])[..., 0]
    return points, information


def _summed(values: Float[np.ndarray, "M ..."], group: Int[np.ndarray, " M"], count: int) -> np.ndarray:
    """Sums over the rows of each group; rows of a group stand together."""
    sums = np.zeros((count, *values.shape[1:]))
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    if len(starts):
        sums[group[starts]] = np.add.reduceat(values, starts, axis=0)
    return sums


def _sure(
    observed: _Observations,
    seen: _Sightings,
    points: Float[np.ndarray, "T 3"],
    information: Float[np.ndarray, "T 3 3"],
) -> Bool[np.ndarray, " M"]:
    """Whether the depth in the keypoint's frame is known well: the rays meet at a wide enough angle."""
    damping = 1e-9 * np.trace(information, axis1=1, axis2=2) + 1e-30
    covariance = np.linalg.inv(information + damping[:, None, None] * np.eye(3))[seen.point]
    axis = observed.cam_from_world[observed.frame[seen.keypoint], 2, :3]
    sigma = _SIGMA_PX * np.sqrt(np.einsum("mi,mij,mj->m", axis, covariance, axis).clip(0))
    depth = observed.residuals(seen.keypoint, points[seen.point])[2]
    return sigma < _DEPTH_SIGMA * depth


def _count_frames(observed: _Observations, seen: _Sightings, count: int) -> Int[np.ndarray, " T"]:
    """Frames that show each point."""
    num_frames = len(observed.cam_from_world)
    pairs = np.unique(seen.point * num_frames + observed.frame[seen.keypoint])
    return np.bincount(pairs // num_frames, minlength=count)


def _first_of_each(group: Int[np.ndarray, " M"], order: Int[np.ndarray, " M"]) -> Bool[np.ndarray, " M"]:
    """The first row of each group, in an order that sorts the groups."""
    first = np.zeros(len(group), bool)
    first[order[np.diff(group[order], prepend=-1) > 0]] = True
    return first


def _in_company(plane: Float[np.ndarray, "K 2"], depths: Float[np.ndarray, " K"]) -> Bool[np.ndarray, " K"]:
    """Whether half of the nearest keypoints with a depth have a similar one."""
    rows = np.flatnonzero(depths > 0)
    alike = np.zeros(len(depths), bool)
    if len(rows) > 1:
        away = ((plane[rows, None] - plane[rows]) ** 2).sum(-1)
        away[away < 1e-10] = np.inf  # itself, also with another orientation
        nearest = np.argsort(away, axis=1)[:, :_NEIGHBOURS]
        close = np.abs(depths[rows][nearest] - depths[rows, None]) < _LIKE_NEIGHBOURS * depths[rows, None]
        close &= np.isfinite(np.take_along_axis(away, nearest, axis=1))
        alike[rows] = close.sum(1) >= _NEIGHBOURS / 2
    return alike
