"""Choosing what a map remembers of its images: spots whose places in space several images agree on.

They are of two kinds: corners, whose patches are found exactly (`Landmarks`), and keypoints, whose descriptors
are known anywhere (`DescribedPoints`). A spot with a depth (of the sensor, or triangulated) is searched for in
partner frames, like in a query. Where it is found there, its displacement along the epipolar line tells its depth
anew; the votes that agree are averaged, and spots that no other frame confirms are left out. Few frames are far
apart, where patches no longer correlate: of theirs the confirmed come first, and then those whose depth is only
known.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from dsac.datasets import Frames
from dsac.geometry import Pose
from dsac.landmarks import PATCH_RADIUS, DescribedPoints, GreyView, Landmarks, sightings
from dsac.landmarks.patches import PinholeView
from dsac.mapping.buffer import evenly_spread
from dsac.mapping.triangulation import FEW, agreed_depths, overlapping_pairs, view_pairs
from dsac.mapping.view_cover import spread_over_views
from dsac.mapping.views import sample_depth
from dsac.networks.local_features import load_local_features

_MOST_FRAMES = 500
_CANDIDATES = 160  # corners in a frame of many; in one of few at least so many
_CORNERS, _KEYPOINTS = 600, 1000  # for so many candidates, before those without a depth are dropped
_RADIUS = 6  # pixels around the place that the first depth predicts
_LEAST_CORRELATION = 0.8
_EPIPOLAR_PX = 1.5
_SIGMA_PX = 0.5  # of a place found
_DEPTH_SIGMA = 0.02  # relative, of the depth that comes with the frame
_AGREEMENT = 0.04  # relative spread of the depths that are averaged


class Remembered(NamedTuple):
    """What a map remembers of its images."""

    landmarks: Landmarks
    described: DescribedPoints


@dataclass(frozen=True)
class _Spots:
    """Corners of one frame, the first of the rows, and keypoints, the others."""

    view: GreyView
    cam_from_world: Pose
    pixels: Int[np.ndarray, "K 2"]  # column and row
    depths: Float[np.ndarray, " K"]
    descriptors: Float32[np.ndarray, "D 64"]  # of the keypoints

    @property
    def num_corners(self) -> int:
        return len(self.pixels) - len(self.descriptors)

    @property
    def rays(self) -> Float[np.ndarray, "K 3"]:
        """With z = 1, in the camera's frame."""
        camera = self.view.camera
        plane = (self.pixels + 0.5 - camera.center_px.numpy()) / camera.focal_px.numpy()
        return np.concatenate([plane, np.ones((len(plane), 1))], axis=1)

    def points(self, rows: Int[np.ndarray, " M"]) -> Float[Tensor, "M 3"]:
        """In the world's frame."""
        return self.cam_from_world.inverse() @ torch.from_numpy(self.rays[rows] * self.depths[rows, None])


def remember(
    frames: Frames,  # with depth
    count: int,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Remembered:
    """At most `count` landmarks, about as many from each of an even selection of the frames.

    Described points are up to twice as many, and different ones.
    """
    frames = evenly_spread(frames, min(count, _MOST_FRAMES))
    assert frames.cam_from_world is not None and frames.has_depth
    few = len(frames) <= FEW
    quota = count // len(frames)
    most, least = (max(_CANDIDATES, quota), 1) if few else (_CANDIDATES, 2)
    with ThreadPoolExecutor(2) as pool:
        spots = []
        for found in pool.map(lambda i: _detect(frames, i, most), range(len(frames))):
            spots.append(found)
            on_progress(0.7 * len(spots) / len(frames))
    single = [_as_landmarks([s], [np.arange(len(s.depths))]) for s in spots]
    # the depth that came with the frame is a vote like the others
    votes = [
        [np.stack([np.arange(len(s.depths)), 1 / s.depths, _DEPTH_SIGMA / s.depths], axis=1)] for s in spots
    ]
    pairs = overlapping_pairs(frames) if few else view_pairs(frames.cam_from_world.matrix.numpy())
    for done, (i, j) in enumerate(pairs):
        votes[i].append(_votes(single[i], spots[i], spots[j]))
        votes[j].append(_votes(single[j], spots[j], spots[i]))
        on_progress(0.7 + 0.25 * (done + 1) / len(pairs))
    corners, keypoints, final = [], [], []
    for s, rows in zip(spots, votes, strict=True):
        depths, support = agreed_depths(len(s.depths), rows, _AGREEMENT, least)
        confirmed = np.flatnonzero(support >= least)
        best = confirmed[np.argsort(-support[confirmed], kind="stable")]
        corners.append(best[best < s.num_corners][:quota])
        keypoints.append(best[best >= s.num_corners])
        final.append(replace(s, depths=depths))
    return Remembered(_as_landmarks(final, corners), _as_described(final, keypoints, 2 * count))


def _detect(frames: Frames, index: int, most: int) -> _Spots:
    """`most` of the corners, and the keypoints, of one frame that have a depth."""
    frame = frames[index]
    assert frame.depth is not None
    assert frame.cam_from_world is not None
    view = GreyView.of(frame.image, frame.camera)
    found = cv2.goodFeaturesToTrack(view.pixels, _CORNERS * most // _CANDIDATES, 0.005, 6)
    corners = np.zeros((0, 2), int) if found is None else found[:, 0].round().astype(int)
    keypoints = load_local_features().detect(view.pixels, _KEYPOINTS)
    pixels = np.concatenate([corners, keypoints.pixels.astype(int)])
    everything = _Spots(view, frame.cam_from_world, pixels, np.zeros(len(pixels)), keypoints.descriptors)
    in_photo = frame.camera.project(torch.from_numpy(everything.rays)).numpy()
    shown = (in_photo >= 0).all(1) & (in_photo < np.array(frame.camera.size)).all(1)
    border = PATCH_RADIUS
    shown &= ((pixels >= border) & (pixels < np.array(view.camera.size) - border)).all(1)
    depths = sample_depth(frame.depth.numpy(), in_photo, np.asarray(shown))
    known = np.flatnonzero(np.isfinite(depths))
    of_corners, of_keypoints = known[known < len(corners)][:most], known[known >= len(corners)]
    rows = np.concatenate([of_corners, of_keypoints])
    descriptors = keypoints.descriptors[of_keypoints - len(corners)]
    return replace(everything, pixels=pixels[rows], depths=depths[rows], descriptors=descriptors)


def _votes(landmarks: Landmarks, source: _Spots, partner: _Spots) -> Float[np.ndarray, "M 3"]:
    """Votes of a partner frame for the depths of another's spots: rows (spot, inverse depth, its sigma)."""
    found = sightings(
        landmarks, partner.view, partner.cam_from_world,
        count=len(landmarks), radius=_RADIUS, least_correlation=_LEAST_CORRELATION,
    )  # fmt: skip
    rows, offset = found.rows, found.pixels - found.expected
    partner_from_source = partner.cam_from_world @ source.cam_from_world.inverse()
    translation = partner_from_source.translation.numpy()
    # with s = 1/z the point is R ray + s T up to scale, and by s its pixel moves along the epipolar line
    inverse = 1 / source.depths[rows]
    moved = source.rays[rows] @ partner_from_source.rotation.numpy().T + inverse[:, None] * translation
    plane = moved[:, :2] / moved[:, 2:]
    slope = partner.view.camera.focal_px.numpy() * (translation[:2] - plane * translation[2]) / moved[:, 2:]
    length = np.maximum(np.linalg.norm(slope, axis=1), 1e-9)
    along = (offset * slope).sum(1) / length
    across = np.abs(offset[:, 0] * slope[:, 1] - offset[:, 1] * slope[:, 0]) / length
    better = inverse + along / length
    kept = (across < _EPIPOLAR_PX) & (better > 0)
    return np.stack([rows[kept], better[kept], _SIGMA_PX / length[kept]], axis=1)


def _as_landmarks(spots: list[_Spots], kept: list[Int[np.ndarray, " _"]]) -> Landmarks:
    points, patches, view = [], [], []
    reach = np.arange(-PATCH_RADIUS, PATCH_RADIUS + 1)
    for number, (s, rows) in enumerate(zip(spots, kept, strict=True)):
        points.append(s.points(rows))
        column, row = s.pixels[rows].T
        patches.append(
            torch.from_numpy(s.view.pixels[row[:, None, None] + reach[:, None], column[:, None, None] + reach])
        )
        view.append(torch.full((len(rows),), number, dtype=torch.int32))
    return Landmarks(
        torch.cat(points).float(),
        torch.cat(patches),
        torch.cat(view),
        Pose.stack([s.cam_from_world for s in spots]).to(torch.float32),
        torch.stack([s.view.camera.focal_px for s in spots]).float(),
    )


def _as_described(spots: list[_Spots], kept: list[Int[np.ndarray, " _"]], most: int) -> DescribedPoints:
    points = np.concatenate([s.points(rows).numpy() for s, rows in zip(spots, kept, strict=True)])
    descriptors = np.concatenate(
        [s.descriptors[rows - s.num_corners] for s, rows in zip(spots, kept, strict=True)]
    )
    owner = np.repeat(np.arange(len(spots)), [len(rows) for rows in kept])
    views = [PinholeView.of(s.view.camera, s.cam_from_world) for s in spots]
    chosen = spread_over_views(points, owner, views, most)
    return DescribedPoints.of(points[chosen], descriptors[chosen])
