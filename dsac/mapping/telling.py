"""Finding what tells places apart that look alike: spots of one that have another colour at the other.

The colours of a view's blocks are compared with those of the views that see the place, and with those of the
views that see the other place, where it would be if that were the same. What looks the same here and different
there, with what is around it, tells them apart. Light and white balance of a view do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int

from dsac.datasets import Frame
from dsac.datasets.registered_depth import depth_at
from dsac.geometry import Camera, Pose
from dsac.landmarks import GreyView, LookAlikes, Telling
from dsac.landmarks.telling import Tones, colors_of, log_levels, project
from dsac.ransac import are_same

_OFTEN = 4  # times that a motion, or its inverse, must have been noticed ...
_MOST_MOTIONS = 24  # ... and the most of them
_NEAREST = 4  # views that are asked
_TURN, _FARTHEST = 0.7, 1.4  # radians that count as a step by the depth, and how far off views are asked
_STEP = 2  # blocks from spot to spot
_SURFACE = 0.03  # of the depth: a view that sees something else there does not see the spot
_FEW, _ALIKE = 50, 0.4  # spots that a view must show, and share of them that must be alike at a look-alike
_SAME, _OTHER = 0.08, 0.12  # of the logarithm of the levels
_MOSTLY = 0.75  # of the views
_BLOB = 4  # of a spot and its eight neighbours that must differ
_APART = 0.015  # of the depth: nearer spots are one
_TILE, _IN_TILE = 10, 4  # blocks, and spots of a view in such a square


@dataclass(frozen=True, eq=False)
class Surface:
    """The colours of a view's blocks, and the depths (metres) of their middles; NaN where it is not known."""

    tones: Tones
    camera: Camera
    cam_from_world: Pose  # batch (), float64
    depths: Float32[np.ndarray, "h w"]

    @staticmethod
    def of(frame: Frame, view: GreyView) -> Surface:
        """Of a frame with pose and depth, and its view with colours."""
        assert frame.depth is not None and frame.cam_from_world is not None and view.blocks is not None
        height, width = view.blocks.shape[:2]
        camera = view.camera.rescale((width, height))
        rays = torch.from_numpy(_rays(camera))
        in_photo = frame.camera.project(rays).numpy()
        shown = (in_photo >= 0).all(1) & (in_photo < np.array(frame.camera.size)).all(1)
        depths = (
            depth_at(frame.depth.numpy(), in_photo, np.asarray(shown)).reshape(height, width).astype(np.float32)
        )
        return Surface(Tones(view.blocks), camera, frame.cam_from_world.to(torch.float64), depths)

    @property
    def depth(self) -> float:
        """Of what it shows."""
        return float(np.nanmedian(self.depths)) if np.isfinite(self.depths).any() else 1.0

    def spots(self) -> tuple[Int[np.ndarray, "N 2"], Float[np.ndarray, "N 3"]]:
        """Blocks (row, column) at even steps that have a depth, and their points in the world."""
        row, column = np.mgrid[1 : self.depths.shape[0] - 1 : _STEP, 1 : self.depths.shape[1] - 1 : _STEP]
        at = np.stack([row.ravel(), column.ravel()], 1)
        at = at[np.isfinite(self.depths[tuple(at.T)])]
        rays = _rays(self.camera).reshape(*self.depths.shape, 3)[tuple(at.T)]
        points = torch.from_numpy(rays * self.depths[tuple(at.T)][:, None])
        return at, (self.cam_from_world.inverse() @ points).numpy()

    def colors_of(
        self, points: Float[np.ndarray, "N 3"], levels: Float32[np.ndarray, "N 3"]
    ) -> tuple[Int[np.ndarray, " M"], Float[np.ndarray, "M 3"], Float[np.ndarray, " M"]]:
        """Which points it shows, their logarithms in the light of those given, and how far off they are."""
        places, depth = project(self.camera, self.cam_from_world, points)
        inside, at = self.tones.of(places)
        rows = np.flatnonzero(inside & (np.abs(self.depths[tuple(at.T)] - depth) < _SURFACE * depth))
        if len(rows) < _FEW:
            return rows[:0], np.zeros((0, 3)), np.zeros(0)
        at = at[rows]
        found = log_levels(self.tones.blocks[tuple(at.T)])
        light = np.median(found - levels[rows], axis=0)
        return rows, found - light, self.tones.off(levels[rows] + light, at)


def find_telling(look_alikes: LookAlikes, surfaces: Sequence[Surface]) -> Telling:
    """The spots of all views, counted as the landmarks' are, that have another colour after a motion."""
    poses = Pose.stack([surface.cam_from_world for surface in surfaces])
    motions = _distinct(look_alikes.there_from_here, float(np.median([surface.depth for surface in surfaces])))
    chosen, told, there, taken, count = [], [], [], set(), 0
    for number, surface in enumerate(surfaces):
        at, points = surface.spots()
        levels = log_levels(surface.tones.blocks[tuple(at.T)])
        near = _nearest(poses, surface.cam_from_world, surface.depth, number)
        here = _compared([surfaces[k] for k in near], points, levels)
        steady = (here.asked > 0) & (here.changed <= (1 - _MOSTLY) * here.asked)
        telling, known = np.zeros(len(points), bool), []
        for m in range(len(motions.translation)):
            motion = motions[m]
            near = _nearest(poses, surface.cam_from_world @ motion.inverse(), surface.depth)
            moved = (motion @ torch.from_numpy(points)).numpy()
            other = _compared([surfaces[k] for k in near], moved, levels)
            if other.asked.sum() - other.changed.sum() <= _ALIKE * other.asked.sum():
                continue
            differs = steady & (other.asked > 1) & (other.differs >= _MOSTLY * other.asked)
            telling |= _in_blobs(differs, at, surface.depths.shape)
            known.append((m, other))
        rows = _spread(np.flatnonzero(telling), at, np.floor(points / (_APART * surface.depth)), taken)
        for m, other in known:
            of_rows = np.flatnonzero(other.asked[rows])
            told.append(np.stack([count + of_rows, np.full(len(of_rows), m)], axis=1))
            there.append(other.levels[rows[of_rows]])
        chosen.append((points[rows], surface.tones.blocks[tuple(at[rows].T)], np.full(len(rows), number)))
        count += len(rows)
    points, colors, view = (torch.from_numpy(np.concatenate(column)) for column in zip(*chosen, strict=True))
    return Telling(
        points.float(),
        colors,
        view.to(torch.int32),
        motions,
        torch.from_numpy(np.concatenate([np.zeros((0, 2), int), *told])).to(torch.int32),
        torch.from_numpy(colors_of(np.concatenate([np.zeros((0, 3)), *there]))),
    )


class _Compared(NamedTuple):
    """Of N spots, in some views."""

    asked: Float[np.ndarray, " N"]  # views that show the spot
    changed: Float[np.ndarray, " N"]  # of them, those in which it looks otherwise ...
    differs: Float[np.ndarray, " N"]  # ... and clearly so
    levels: Float[np.ndarray, "N 3"]  # logarithms of its colour, mean of those views


def _compared(
    surfaces: Sequence[Surface], points: Float[np.ndarray, "N 3"], levels: Float32[np.ndarray, "N 3"]
) -> _Compared:
    asked, changed, differs = np.zeros((3, len(points)))
    total = np.zeros((len(points), 3))
    for surface in surfaces:
        rows, found, off = surface.colors_of(points, levels)
        asked[rows] += 1
        changed[rows] += off > _SAME
        differs[rows] += off > _OTHER
        total[rows] += found
    return _Compared(asked, changed, differs, total / np.maximum(asked, 1)[:, None])


def _distinct(motions: Pose, depth: float) -> Pose:
    """Of motions (batch (M,)) and their inverses those that were noticed often, the most often ones first."""
    motions = motions.to(torch.float64)
    inverse = motions.inverse()
    both = Pose(
        torch.cat([motions.rotation, inverse.rotation]), torch.cat([motions.translation, inverse.translation])
    )
    left, found = torch.ones(len(both.translation), dtype=torch.bool), []
    while left.any():
        first = int(left.int().argmax())
        same = left & are_same(both[first], both, depth)
        same[first] = True
        left &= ~same
        found.append((int(same.sum()), first))
    found.sort(key=lambda group: -group[0])
    return both[[first for count, first in found[:_MOST_MOTIONS] if count >= _OFTEN]]


def _nearest(poses: Pose, pose: Pose, depth: float, but: int | None = None) -> list[int]:
    """Of poses (batch (V,)) those that see most alike what one (batch ()) sees at that depth, metres."""
    turned = torch.deg2rad(poses.rotation_error_deg(pose))
    off = poses.center_distance(pose) / depth + turned / _TURN
    if but is not None:
        off[but] = torch.inf
    nearest = off.argsort(stable=True)[:_NEAREST]
    return nearest[off[nearest] < _FARTHEST].tolist()


def _in_blobs(
    spots: Bool[np.ndarray, " N"], at: Int[np.ndarray, "N 2"], size: tuple[int, ...]
) -> Bool[np.ndarray, " N"]:
    """Of the spots on these blocks (row, column) those with others beside them: edges differ by chance."""
    grid = np.zeros((size[0] // _STEP + 1, size[1] // _STEP + 1), np.float32)
    place = tuple(at.T // _STEP)
    grid[place] = spots
    return spots & (cv2.boxFilter(grid, -1, (3, 3), normalize=False)[place] >= _BLOB - 0.5)


def _spread(
    rows: Int[np.ndarray, " M"],
    at: Int[np.ndarray, "N 2"],
    cells: Float[np.ndarray, "N 3"],
    taken: set[tuple[float, ...]],
) -> Int[np.ndarray, " _"]:
    """Of some spots one for a cell of the world that is not taken, which they take, and few for a tile."""
    kept, number = [], Counter()
    for row in rows:
        cell, tile = tuple(cells[row]), tuple(at[row] // _TILE)
        if cell not in taken and number[tile] < _IN_TILE:
            taken.add(cell)
            number[tile] += 1
            kept.append(row)
    return np.array(kept, int)


def _rays(camera: Camera) -> Float[np.ndarray, "N 3"]:
    """Through the middles of a pinhole camera's pixels, row by row, with z = 1."""
    row, column = np.mgrid[0 : camera.size[1], 0 : camera.size[0]] + 0.5
    plane = (np.stack([column, row], -1) - camera.center_px.numpy()) / camera.focal_px.numpy()
    return np.concatenate([plane, np.ones((*row.shape, 1))], axis=-1).reshape(-1, 3)
