"""Sparse depth for recordings that have poses only: keypoints matched between frames and triangulated.

With the poses known, a keypoint's match must lie on its epipolar line, which leaves few candidates and makes
plain nearest-neighbour matching of SIFT descriptors (Lowe 2004) reliable. A depth is kept where two or more
partner frames agree on it. The result is frames with (sparse) depth, so that mapping goes on as with a depth
camera; cells without a keypoint still learn from their reprojection error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8

from dsac.datasets import FrameReader, Frames
from dsac.datasets.rigid import some
from dsac.errors import DatasetError
from dsac.geometry import Camera
from dsac.geometry.two_rays import closest_depths
from dsac.mapping.keypoints import Matches, SiftKeypoints, detect, match
from dsac.mapping.tracks import track_depths

_log = logging.getLogger(__name__)

FEW = 30  # frames, at most, that are far apart: each counts, and all pairs can be looked at
_KEYPOINTS = 120_000  # in all frames together, spread evenly within these bounds:
_LEAST_KEYPOINTS, _MOST_KEYPOINTS = 1200, 3000  # in one frame
_KEYPOINTS_OF_FEW = 60_000  # likewise, in all of few frames together
_LEAST_OF_FEW, _MOST_OF_FEW = 4000, 8000
_FINE_PX = 480  # short side at which frames are looked at that are few enough to have more than the least
_FINEST_PX = 720  # that of few
_PARTNERS = (1, 2, 3, 4, 7, 11, 16, 24, 40, 64)  # ranks by distance among the frames that look the same way
_MAX_VIEW_ANGLE_DEG = 45.0
_MIN_ANGLE_DEG = 1.0  # between the two rays: below, depth is a guess
_ENOUGH_POINTS = 25  # triangulated in a frame; where poses are wrong, chance finds up to twenty
_AGREEMENT = 0.06  # relative spread of the depths that two partners give
_MOST_INFORMATION = 1e5  # of a vote: 0.3 % of the depth, since it can be of something else


def with_triangulated_depth(
    frames: Frames, *, short_side_px: int, on_progress: Callable[[float], None] = lambda fraction: None
) -> Frames:
    """The same frames, with depth (metres, 0 where unknown) around the keypoints that could be triangulated.

    Few frames are far apart, so that each must contribute more: of fewer than a hundred, more keypoints are
    taken, from images of 480 pixels' short side where the photos have as many; of thirty or fewer, of 720.
    Of those, frames that hardly share a point with another are left out.

    Raises: `DatasetError` when fewer than two frames share points, or less than half of few.
    """
    assert frames.cam_from_world is not None
    matrices = frames.cam_from_world.matrix.numpy()
    short_side_px, num_keypoints = _looked_at(frames, short_side_px)
    pairs = overlapping_pairs(frames) if len(frames) <= FEW else view_pairs(matrices)
    frames = frames.without_depth()
    with ThreadPoolExecutor(2) as pool:
        keypoints: list[SiftKeypoints] = []
        for found in pool.map(lambda i: detect(frames, i, short_side_px, num_keypoints), range(len(frames))):
            keypoints.append(found)
            on_progress(0.5 * len(keypoints) / len(frames))
        matches: dict[tuple[int, int], Matches] = {}
        for pair, of_pair in zip(
            pairs, pool.map(lambda p: _matched(keypoints, matrices, *p), pairs), strict=True
        ):
            matches[pair] = of_pair
            on_progress(0.5 + 0.5 * len(matches) / len(pairs))
    depths = (track_depths if len(frames) <= FEW else _voted_depths)(keypoints, matrices, matches)
    counts = np.array([int((d > 0).sum()) for d in depths])
    _log.info("triangulated %d keypoints in %d frames from %d pairs", counts.sum(), len(frames), len(pairs))
    sparse = {
        name: (k.plane[d > 0], d[d > 0]) for name, k, d in zip(frames.names, keypoints, depths, strict=True)
    }
    return replace(frames, reader=_SparseDepthReader(frames.reader, sparse))[_overlapping(frames, counts)]


def _overlapping(frames: Frames, counts: Int[np.ndarray, " N"]) -> Int[np.ndarray, " M"]:
    """Which frames a map can be made of; of many all, since each has others at its side.

    A frame alone would be learned at any distance, and photos taken near it be localized there.
    """
    overlap = np.flatnonzero(counts >= _ENOUGH_POINTS)
    few = len(frames) <= FEW
    if len(overlap) < max(2, len(frames) / 2 if few else 0):
        images = "1 image" if len(frames) == 1 else f"{len(frames)} images"
        raise DatasetError(
            f"of {images} {len(overlap)} share enough points with another, too few for a map without depth: "
            "expected photos of the same things from different places, with correct poses"
        )
    if not few:
        return np.arange(len(frames))
    alone = [name for i, name in enumerate(frames.names) if i not in overlap]
    if alone:
        _log.warning(
            "of %d images %d share too few points with the others and are left out: %s",
            len(frames), len(alone), some(alone),
        )  # fmt: skip
    return overlap


def _looked_at(frames: Frames, short_side_px: int) -> tuple[int, int]:
    """The size of the images in which keypoints are looked for, and how many in each."""
    if len(frames) <= FEW:
        fine, num_keypoints = _FINEST_PX, _share(_KEYPOINTS_OF_FEW, len(frames), _LEAST_OF_FEW, _MOST_OF_FEW)
    else:
        fine, num_keypoints = _FINE_PX, _share(_KEYPOINTS, len(frames), _LEAST_KEYPOINTS, _MOST_KEYPOINTS)
    if num_keypoints > _LEAST_KEYPOINTS:
        short_side_px = max(short_side_px, min(fine, *(min(camera.size) for camera in frames.cameras)))
    return short_side_px, num_keypoints


def _share(total: int, count: int, least: int, most: int) -> int:
    return min(max(total // max(1, count), least), most)


def _matched(keypoints: list[SiftKeypoints], matrices: Float[np.ndarray, "N 4 4"], i: int, j: int) -> Matches:
    return match(keypoints[i], keypoints[j], matrices[j] @ np.linalg.inv(matrices[i]))


@dataclass(frozen=True)
class _SparseDepthReader:
    """The images of another reader, with depth painted around triangulated keypoints."""

    images: FrameReader
    points: dict[str, tuple[np.ndarray, np.ndarray]]  # frame -> keypoints on the plane z = 1, depths
    has_depth: bool = True

    def read_image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        return self.images.read_image(name)

    def read_depth(self, name: str, camera: Camera) -> Float32[np.ndarray, "H W"]:
        width, height = camera.size
        depth = np.zeros((height, width), np.float32)
        plane, depths = self.points[name]
        rays = torch.from_numpy(np.concatenate([plane, np.ones_like(plane[:, :1])], axis=-1))
        pixels = camera.project(rays).numpy()
        radius = max(1, round(0.008 * min(camera.size)))  # half a cell of the working size
        shown = ((pixels >= 0) & (pixels < camera.size)).all(-1)  # a slice from a negative pixel wraps around
        for (x, y), z in zip(pixels[shown].astype(int), depths[shown], strict=True):
            depth[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = z
        return depth


def overlapping_pairs(frames: Frames) -> list[tuple[int, int]]:
    """All pairs of frames of which one can see what the other sees, if that is neither too near nor too far."""
    assert frames.cam_from_world is not None
    poses = frames.cam_from_world
    pairs = []
    for i, j in combinations(range(len(frames)), 2):
        j_from_i = poses[j] @ poses[i].inverse()
        baseline = float(j_from_i.translation.norm())
        if baseline == 0:
            continue
        camera_i, camera_j = frames.camera(i), frames.camera(j)
        grid = torch.cartesian_prod(
            *(torch.linspace(0.05, 0.95, 7, dtype=torch.float64) * n for n in camera_i.size)
        )
        points = camera_i.unproject(grid)[:, None] * (baseline * _DISTANCES)[:, None]
        points_j = j_from_i @ points.reshape(-1, 3)
        pixels = camera_j.project(points_j)
        size = torch.tensor(camera_j.size)
        if bool(((points_j[:, 2] > 0) & ((pixels > 0) & (pixels < size)).all(-1)).any()):
            pairs.append((i, j))
    return pairs


_DISTANCES = torch.tensor([1.0, 1.4, 2.0, 3.0, 5.0, 10.0, 25.0, 60.0], dtype=torch.float64)  # in baselines


def view_pairs(matrices: Float[np.ndarray, "N 4 4"]) -> list[tuple[int, int]]:
    """For each frame partners at several distances among those that look the same way; each pair once."""
    rotations, translations = matrices[:, :3, :3], matrices[:, :3, 3]
    centers = -np.einsum("nji,nj->ni", rotations, translations)
    axes = rotations[:, 2]
    pairs = set()
    for i in range(len(matrices)):
        distance = np.linalg.norm(centers - centers[i], axis=1)
        alike = (axes @ axes[i] > np.cos(np.deg2rad(_MAX_VIEW_ANGLE_DEG))) & (distance > 0)
        ranked = np.flatnonzero(alike)[np.argsort(distance[alike], kind="stable")]
        for rank in _PARTNERS:
            if rank <= len(ranked):
                j = int(ranked[rank - 1])
                pairs.add((min(i, j), max(i, j)))
    return sorted(pairs)


def _voted_depths(
    keypoints: list[SiftKeypoints],
    matrices: Float[np.ndarray, "N 4 4"],
    matches: dict[tuple[int, int], Matches],
) -> list[Float[np.ndarray, " K"]]:
    """Depth of each keypoint of each frame on which two or more partner frames agree, 0 for the others."""
    votes: list[list[np.ndarray]] = [[] for _ in keypoints]  # rows: keypoint, inverse depth, its sigma
    for (i, j), found in matches.items():
        a, b = keypoints[i].take(found.first), keypoints[j].take(found.second)
        b_from_a = matrices[j] @ np.linalg.inv(matrices[i])
        s, t, sine = closest_depths(a.rays @ b_from_a[:3, :3].T, b.rays, b_from_a[:3, 3])
        good = (s > 0) & (t > 0) & (sine > np.sin(np.deg2rad(_MIN_ANGLE_DEG)))
        # a pixel moves the inverse depth by about 1 / (focal × distance of the other camera from the ray)
        sigma_a = 1 / (a.focal_px * t * np.linalg.norm(b.rays, axis=1) * sine)
        sigma_b = 1 / (b.focal_px * s * np.linalg.norm(a.rays, axis=1) * sine)
        votes[i].append(np.stack([found.first, 1 / s, sigma_a], axis=1)[good])
        votes[j].append(np.stack([found.second, 1 / t, sigma_b], axis=1)[good])
    return [agreed_depths(len(k), rows, _AGREEMENT)[0] for k, rows in zip(keypoints, votes, strict=True)]


def agreed_depths(
    count: int, votes: list[np.ndarray], agreement: float, least: int = 2
) -> tuple[Float[np.ndarray, " K"], Int[np.ndarray, " K"]]:
    """Depth of each of `count` keypoints, and how many votes agree on it; 0 where fewer than `least` do.

    Votes are rows (keypoint, inverse depth, its standard deviation). Those within the relative `agreement` of
    the vote that has the most information about it win: many that hardly know do not outvote one that does. The
    depth is the mean of their inverse depths.
    """
    depths, supports = np.zeros(count), np.zeros(count, int)
    rows = np.concatenate([np.zeros((0, 3)), *votes])
    if len(rows) == 0:
        return depths, supports
    order = np.argsort(rows[:, 0], kind="stable")
    rows = rows[order]
    starts = np.flatnonzero(np.diff(rows[:, 0], prepend=-1))
    for start, stop in zip(starts, np.append(starts[1:], len(rows)), strict=True):
        inverse, sigma = rows[start:stop, 1], rows[start:stop, 2]
        close = np.abs(inverse[:, None] - inverse) < agreement * inverse
        information = np.minimum((inverse / sigma) ** 2, _MOST_INFORMATION)
        chosen = close[(close * information).sum(1).argmax()]
        support = int(chosen.sum())
        if support >= least:
            weight = sigma[chosen] ** -2
            keypoint = int(rows[start, 0])
            depths[keypoint] = weight.sum() / (weight * inverse[chosen]).sum()
            supports[keypoint] = support
    return depths, supports
