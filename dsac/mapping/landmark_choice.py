"""Choosing a map's landmarks: corners of the mapping images whose places in space several images agree on.

A corner with a depth (of the sensor, or triangulated) is searched for in partner frames, like in a query. Where
it is found there, its displacement along the epipolar line tells its depth anew; the votes that agree are
averaged, and corners that no other frame confirms are left out. Few frames are far apart, where patches no
longer correlate: of theirs the confirmed come first, and then those whose depth is only known.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int

from dsac.datasets import Frames
from dsac.geometry import Pose
from dsac.landmarks import PATCH_RADIUS, GreyView, Landmarks, sightings
from dsac.mapping.buffer import evenly_spread
from dsac.mapping.triangulation import FEW, agreed_depths, overlapping_pairs, view_pairs
from dsac.mapping.views import sample_depth

_MOST_FRAMES = 500
_CANDIDATES = 160  # in a frame of many; in one of few at least so many
_CORNERS = 600  # for so many candidates, before those without a depth are dropped
_RADIUS = 6  # pixels around the place that the first depth predicts
_LEAST_CORRELATION = 0.8
_EPIPOLAR_PX = 1.5
_SIGMA_PX = 0.5  # of a place found
_DEPTH_SIGMA = 0.02  # relative, of the depth that comes with the frame
_AGREEMENT = 0.04  # relative spread of the depths that are averaged


@dataclass(frozen=True)
class _Candidates:
    """Corners of one frame."""

    view: GreyView
    cam_from_world: Pose
    pixels: Int[np.ndarray, "K 2"]  # column and row
    depths: Float[np.ndarray, " K"]

    @property
    def rays(self) -> Float[np.ndarray, "K 3"]:
        """With z = 1, in the camera's frame."""
        camera = self.view.camera
        plane = (self.pixels + 0.5 - camera.center_px.numpy()) / camera.focal_px.numpy()
        return np.concatenate([plane, np.ones((len(plane), 1))], axis=1)


def collect_landmarks(
    frames: Frames,  # with depth
    count: int,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Landmarks:
    """At most `count` landmarks, about as many from each of an even selection of the frames."""
    frames = evenly_spread(frames, min(count, _MOST_FRAMES))
    assert frames.cam_from_world is not None and frames.has_depth
    few = len(frames) <= FEW
    quota = count // len(frames)
    most, least = (max(_CANDIDATES, quota), 1) if few else (_CANDIDATES, 2)
    with ThreadPoolExecutor(2) as pool:
        candidates = []
        for found in pool.map(lambda i: _detect(frames, i, most), range(len(frames))):
            candidates.append(found)
            on_progress(0.7 * len(candidates) / len(frames))
    single = [_as_landmarks([c], [np.arange(len(c.depths))]) for c in candidates]
    # the depth that came with the frame is a vote like the others
    votes = [
        [np.stack([np.arange(len(c.depths)), 1 / c.depths, _DEPTH_SIGMA / c.depths], axis=1)]
        for c in candidates
    ]
    pairs = overlapping_pairs(frames) if few else view_pairs(frames.cam_from_world.matrix.numpy())
    for done, (i, j) in enumerate(pairs):
        votes[i].append(_votes(single[i], candidates[i], candidates[j]))
        votes[j].append(_votes(single[j], candidates[j], candidates[i]))
        on_progress(0.7 + 0.3 * (done + 1) / len(pairs))
    kept, final = [], []
    for c, rows in zip(candidates, votes, strict=True):
        depths, support = agreed_depths(len(c.depths), rows, _AGREEMENT, least)
        confirmed = np.flatnonzero(support >= least)
        kept.append(confirmed[np.argsort(-support[confirmed], kind="stable")][:quota])
        final.append(replace(c, depths=depths))
    return _as_landmarks(final, kept)


def _detect(frames: Frames, index: int, most: int) -> _Candidates:
    frame = frames[index]
    assert frame.depth is not None
    assert frame.cam_from_world is not None
    view = GreyView.of(frame.image, frame.camera)
    corners = cv2.goodFeaturesToTrack(view.pixels, _CORNERS * most // _CANDIDATES, 0.005, 6)
    pixels = np.zeros((0, 2), int) if corners is None else corners[:, 0].round().astype(int)
    border = PATCH_RADIUS
    inside = ((pixels >= border) & (pixels < np.array(view.camera.size) - border)).all(1)
    found = _Candidates(view, frame.cam_from_world, pixels[inside], np.zeros(inside.sum()))
    in_photo = frame.camera.project(torch.from_numpy(found.rays)).numpy()
    shown = (in_photo >= 0).all(1) & (in_photo < np.array(frame.camera.size)).all(1)
    depths = sample_depth(frame.depth.numpy(), in_photo, np.asarray(shown))
    known = np.flatnonzero(np.isfinite(depths))[:most]
    return replace(found, pixels=found.pixels[known], depths=depths[known])


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
    points, patches, view = [], [], []
    reach = np.arange(-PATCH_RADIUS, PATCH_RADIUS + 1)
    for number, (c, rows) in enumerate(zip(candidates, kept, strict=True)):
        points_cam = torch.from_numpy(c.rays[rows] * c.depths[rows, None])
        points.append(c.cam_from_world.inverse() @ points_cam)
        column, row = c.pixels[rows].T
        patches.append(
            torch.from_numpy(c.view.pixels[row[:, None, None] + reach[:, None], column[:, None, None] + reach])
        )
        view.append(torch.full((len(rows),), number, dtype=torch.int32))
    return Landmarks(
        torch.cat(points).float(),
        torch.cat(patches),
        torch.cat(view),
        Pose.stack([c.cam_from_world for c in candidates]).to(torch.float32),
        torch.stack([c.view.camera.focal_px for c in candidates]).float(),
    )
