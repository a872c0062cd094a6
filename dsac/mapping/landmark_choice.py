"""Choosing what a map remembers of its images: corners whose places in space several images agree on.

A corner with a depth (of the sensor, or triangulated) is searched for in partner frames, like in a query. Where
it is found there, its displacement along the epipolar line tells its depth anew; the votes that agree are
averaged, and corners that no other frame confirms are left out. Few frames are far apart, where patches no
longer correlate: of theirs the confirmed come first, and then those whose depth is only known.

The clearest corners of each frame become landmarks, many of them of the same point: a patch is found the better
the more alike the view is. Of all, one for each point and side becomes a described point.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from dsac.datasets import Frames
from dsac.datasets.registered_depth import depth_at
from dsac.geometry import Pose
from dsac.landmarks import (
    PATCH_RADIUS,
    DescribedPoints,
    GreyView,
    Keypoints,
    Landmarks,
    Remembered,
    sightings,
)
from dsac.landmarks.look_alikes import REPEATED
from dsac.landmarks.matcher import NUM_KEYPOINTS
from dsac.landmarks.patches import PinholeView
from dsac.mapping.buffer import evenly_spread
from dsac.mapping.depth_correction import DepthCorrection
from dsac.mapping.look_alikes import Look, find_look_alikes
from dsac.mapping.telling import Surface, find_telling
from dsac.mapping.triangulation import FEW, agreed_depths, overlapping_pairs, view_pairs
from dsac.mapping.view_cover import spread_over_views

_MOST_FRAMES = 500
_CORNERS_OF_FEW = 2500  # in a frame of few, before those without a depth are dropped
_CLEAREST = 160  # corners in a frame of many that can be landmarks; in one of few at least so many
_RADIUS = 6  # pixels around the place that the first depth predicts
_LEAST_CORRELATION = 0.8
_EPIPOLAR_PX = 1.5
_SIGMA_PX = 0.5  # of a place found
_DEPTH_SIGMA = 0.01  # relative, of the depth that comes with the frame, once it is corrected
_AGREEMENT = 0.04  # relative spread of the depths that are averaged


@dataclass(frozen=True)
class _Candidates:
    """Corners of one frame, the clearest first."""

    view: GreyView
    cam_from_world: Pose
    pixels: Int[np.ndarray, "K 2"]  # column and row
    depths: Float[np.ndarray, " K"]
    descriptors: Float32[np.ndarray, "K 64"]

    @property
    def rays(self) -> Float[np.ndarray, "K 3"]:
        """With z = 1, in the camera's frame."""
        camera = self.view.camera
        plane = (self.pixels + 0.5 - camera.center_px.numpy()) / camera.focal_px.numpy()
        return np.concatenate([plane, np.ones((len(plane), 1))], axis=1)

    @property
    def places(self) -> Float[np.ndarray, "K 2"]:
        """In the image, from -0.5 to 0.5."""
        return (self.pixels + 0.5) / np.array(self.view.camera.size) - 0.5

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
    most, least = (max(_CLEAREST, quota), 1) if few else (_CLEAREST, 2)
    corners = _CORNERS_OF_FEW if few else NUM_KEYPOINTS
    with ThreadPoolExecutor(2) as pool:
        candidates = []
        for found in pool.map(lambda i: _detect(frames, i, corners), range(len(frames))):
            candidates.append(found)
            on_progress(0.7 * len(candidates) / len(frames))
    single = [_as_landmarks([c], [np.arange(len(c.depths))]) for c in candidates]
    votes: list[list[np.ndarray]] = [[] for _ in candidates]
    pairs = overlapping_pairs(frames) if few else view_pairs(frames.cam_from_world.matrix.numpy())
    for done, (i, j) in enumerate(pairs):
        votes[i].append(_votes(single[i], candidates[i], candidates[j]))
        votes[j].append(_votes(single[j], candidates[j], candidates[i]))
        on_progress(0.7 + 0.3 * (done + 1) / len(pairs))
    # the depth that came with the frame is a vote like the others
    for of_frame, own in zip(votes, _corrected_depths(candidates, votes), strict=True):
        of_frame.insert(0, own)
    with_patch, described, final = [], [], []
    for c, rows in zip(candidates, votes, strict=True):
        depths, support = agreed_depths(len(c.depths), rows, _AGREEMENT, least)
        confirmed = np.flatnonzero(support >= least)
        best = confirmed[np.argsort(-support[confirmed], kind="stable")]
        with_patch.append(best[best < most][:quota])
        described.append(best)
        final.append(replace(c, depths=depths))
    points = _as_described(final, described, 2 * count)
    looks = [
        Look(i, c.view, c.cam_from_world, Keypoints(c.pixels + 0.5, c.descriptors), float(np.median(c.depths)))
        for i, c in enumerate(candidates)
        if len(c.depths)
    ]
    landmarks = _as_landmarks(final, with_patch)
    look_alikes = find_look_alikes(landmarks, points, looks)
    if len(look_alikes.views) >= REPEATED * len(landmarks.focal_px):
        surfaces = [Surface.of(frames[i], c.view) for i, c in enumerate(candidates)]
        look_alikes = replace(look_alikes, telling=find_telling(look_alikes, surfaces))
    return Remembered(landmarks, points, look_alikes)


def _corrected_depths(
    candidates: list[_Candidates], votes: list[list[np.ndarray]]
) -> list[Float[np.ndarray, "K 3"]]:
    """Votes of each frame's own depths, corrected by what all other votes say of them together."""
    rows = [np.concatenate([np.zeros((0, 3)), *of_frame]) for of_frame in votes]
    corner = [of_frame[:, 0].astype(int) for of_frame in rows]
    depths = np.concatenate([c.depths[k] for c, k in zip(candidates, corner, strict=True)])
    places = np.concatenate([c.places[k] for c, k in zip(candidates, corner, strict=True)])
    _, inverse, sigma = np.concatenate(rows).T
    correction = DepthCorrection.fit(depths, places, inverse, sigma)
    own = [correction.inverse_depths(c.depths, c.places) for c in candidates]
    return [np.stack([np.arange(len(x)), x, _DEPTH_SIGMA * x], axis=1) for x in own]


def _detect(frames: Frames, index: int, most: int) -> _Candidates:
    """Corners of one frame that have a depth."""
    frame = frames[index]
    assert frame.depth is not None
    assert frame.cam_from_world is not None
    view = GreyView.of(frame.image, frame.camera, colored=True)
    keypoints = Keypoints.of(view.pixels, most)
    pixels = keypoints.pixels.astype(int)
    found = _Candidates(view, frame.cam_from_world, pixels, np.zeros(len(pixels)), keypoints.descriptors)
    in_photo = frame.camera.project(torch.from_numpy(found.rays)).numpy()
    shown = (in_photo >= 0).all(1) & (in_photo < np.array(frame.camera.size)).all(1)
    border = PATCH_RADIUS
    shown &= ((pixels >= border) & (pixels < np.array(view.camera.size) - border)).all(1)
    depths = depth_at(frame.depth.numpy(), in_photo, np.asarray(shown))
    known = np.isfinite(depths)
    return replace(found, pixels=pixels[known], depths=depths[known], descriptors=keypoints.descriptors[known])


def _votes(landmarks: Landmarks, source: _Candidates, partner: _Candidates) -> Float[np.ndarray, "M 3"]:
    """Votes of a partner frame for the depths of another's corners: rows (corner, inverse depth, its sigma)."""
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


def _as_landmarks(candidates: list[_Candidates], kept: list[Int[np.ndarray, " _"]]) -> Landmarks:
    points, patches, view, colors = [], [], [], []
    reach = np.arange(-PATCH_RADIUS, PATCH_RADIUS + 1)
    for number, (c, rows) in enumerate(zip(candidates, kept, strict=True)):
        points.append(c.points(rows))
        column, row = c.pixels[rows].T
        patches.append(
            torch.from_numpy(c.view.pixels[row[:, None, None] + reach[:, None], column[:, None, None] + reach])
        )
        colors.append(torch.from_numpy(c.view.colors(c.pixels[rows] + 0.5)))
        view.append(torch.full((len(rows),), number, dtype=torch.int32))
    return Landmarks(
        torch.cat(points).float(),
        torch.cat(patches),
        torch.cat(view),
        Pose.stack([c.cam_from_world for c in candidates]).to(torch.float32),
        torch.stack([c.view.camera.focal_px for c in candidates]).float(),
        torch.cat(colors),
    )


def _as_described(
    candidates: list[_Candidates], kept: list[Int[np.ndarray, " _"]], most: int
) -> DescribedPoints:
    points = np.concatenate([c.points(rows).numpy() for c, rows in zip(candidates, kept, strict=True)])
    descriptors = np.concatenate([c.descriptors[rows] for c, rows in zip(candidates, kept, strict=True)])
    owner = np.repeat(np.arange(len(candidates)), [len(rows) for rows in kept])
    views = [PinholeView.of(c.view.camera, c.cam_from_world) for c in candidates]
    chosen = spread_over_views(points, owner, views, most)
    return DescribedPoints.of(points[chosen], descriptors[chosen])
