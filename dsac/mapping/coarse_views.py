"""Frames as coarse images of points, and what they share.

A frame is held for an image of 8 x 6 cells, each a point and the way it faces. What a frame shares with a view
is the part of its points that the view sees as well: in its image, from the same side, not much nearer or
farther, and where it knows the same surface, hence not through a wall. Depth of some frames, measured or
triangulated, says where points are in those beside them; until that is known, all are supposed as far off as
things mostly are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from dsac.datasets import Frames
from dsac.errors import DatasetError
from dsac.geometry import Camera
from dsac.geometry.two_rays import closest_depths
from dsac.mapping.keypoints import detect, match

_COLUMNS, _ROWS = 8, 6  # of the coarse image
_FINE = 2  # times as many of depth that is read, for the frames beside
_WIDEST = 1.5  # on the plane z = 1: what a fisheye lens sees beside that is left out
_MEASURED, _TRIANGULATED, _SUPPOSED = (
    0.1,
    0.3,
    0.6,
)  # per depth: how far what two frames see may be from the plane of either
_MOST_ZOOM = 2.0  # the factor between distances, up to which something looks much the same
_HALF, _LINKED = 0.5, 0.3  # of what a frame sees: so much of it shows a key view; less than that is chance
_LEAST_CELLS = 6  # of a frame, to tell what it sees
_READ_FIRST, _READ_LEAST = 8, 60  # frames looked into: for how far off things are, and where
_READ_PER_KEY = 1.5  # the same, per key view
_CLOSE, _BESIDE = 2.0, 6  # weight of positions beside directions, and frames whose depth is seen from another
_ANCHORS, _RANKS = 5, (1, 6, 20, 60)  # frames, and which of those beside, by distance
_ALIKE = np.cos(np.deg2rad(30.0))
_BASELINE = 0.15  # per depth, between frames that are triangulated
_SHORT_SIDE_PX, _KEYPOINTS = 160, 300
_LEAST_SINE = np.sin(np.deg2rad(2.0))
_ENOUGH = 15  # keypoints


class CoarseViews(NamedTuple):
    """N frames as coarse images, of C cells, of where what they show is and which way it faces."""

    rotations: Float[np.ndarray, "N 3 3"]  # cam_from_world
    centers: Float[np.ndarray, "N 3"]  # from their middle, as points are
    edges: Float[np.ndarray, "N 4"]  # left, top, right, bottom on the plane z = 1
    points: Float[np.ndarray, "N C 3"]  # NaN: unknown
    normals: Float[np.ndarray, "N C 3"]
    tolerance: float  # from the plane of a point, per depth, up to which something is the same

    @staticmethod
    def at(frames: Frames, depth: float) -> CoarseViews:
        """Frames that see everything at one depth, facing them."""
        assert frames.cam_from_world is not None
        center = frames.cam_from_world.center.numpy()
        centers = center - np.median(center, axis=0)
        rotations = frames.cam_from_world.rotation.numpy()
        edges = np.stack([_edges(camera) for camera in frames.cameras])
        rays = np.stack([_rays(of_one, 1) for of_one in edges])[frames.camera_index] @ rotations
        points = centers[:, None] + depth * rays
        normals = -rays / np.linalg.norm(rays, axis=-1, keepdims=True)
        return CoarseViews(rotations, centers, edges[frames.camera_index], points, normals, _SUPPOSED)


def _edges(camera: Camera) -> Float[np.ndarray, " 4"]:
    """Left, top, right, bottom on the plane z = 1."""
    width, height = camera.size
    sides = torch.tensor([[0, height / 2], [width / 2, 0], [width, height / 2], [width / 2, height]]).double()
    plane = camera.unproject(sides)[:, :2].numpy()
    edges = np.array([plane[0, 0], plane[1, 1], plane[2, 0], plane[3, 1]])
    widest = _WIDEST * np.array([-1, -1, 1, 1])
    return np.where(np.isfinite(edges), np.clip(edges, -_WIDEST, _WIDEST), widest)


def _rays(edges: Float[np.ndarray, " 4"], fine: int) -> Float[np.ndarray, "C 3"]:
    """Through the middles of cells, (x, y, 1), row by row."""
    x, y = (
        edges[side] + (edges[side + 2] - edges[side]) * (np.arange(count * fine) + 0.5) / (count * fine)
        for side, count in ((0, _COLUMNS), (1, _ROWS))
    )
    y, x = np.meshgrid(y, x, indexing="ij")
    return np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)


def near_depth(frames: Frames) -> float | None:
    """How far off most things are, or farther, in some frames; None where nothing tells.

    Nearer than most, for what is supposed beyond them would be shared through walls.
    """
    if frames.has_depth:
        found, part = [_read(frames, i) for i in _evenly(len(frames), _READ_FIRST)], 0.25
    else:  # neighbours share what is near more often
        found, part = [_triangulated(frames, i) for i in _evenly(len(frames), _ANCHORS)], 0.5
    depths = np.concatenate([np.zeros(0), *(of_one[:, 2] for of_one in found)])
    depths = depths[depths > 0]
    return float(np.quantile(depths, part)) if len(depths) else None


def _evenly(frames: int, count: int) -> list[int]:
    """Which of the frames, so many of them at most."""
    return sorted({round(row) for row in np.linspace(0, frames - 1, count).tolist()})


def _read(frames: Frames, index: int) -> Float[np.ndarray, "C 6"]:
    """Points (camera frame) where the rays of finer cells end, and normals; NaN where unknown, or damaged."""
    camera = frames.camera(index)
    rays = _rays(_edges(camera), _FINE)
    try:
        depth = frames.reader.read_depth(frames.names[index], camera)
    except DatasetError:  # said when it is mapped
        depth = np.zeros(camera.size[::-1])
    middle = camera.project(torch.from_numpy(rays)).numpy()
    step = 0.25 * np.array(camera.size) / (_FINE * _COLUMNS, _FINE * _ROWS)
    points = []
    for side in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)):
        pixels = middle + side * step
        inside = np.all((pixels >= 0) & (pixels < camera.size), axis=1)
        column, row = np.where(inside[:, None], pixels, 0).astype(int).T
        far = np.where(inside & (depth[row, column] > 0), depth[row, column], np.nan)
        points.append(far[:, None] * camera.unproject(torch.from_numpy(np.floor(pixels) + 0.5)).numpy())
    point, left, right, up, down = points
    normal = np.cross(down - up, right - left)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    normal = np.where(np.isfinite(normal), normal, -point / np.linalg.norm(point, axis=1, keepdims=True))
    return np.concatenate([point, normal], axis=1)


def _triangulated(frames: Frames, index: int, depth: float | None = None) -> Float[np.ndarray, "M 6"]:
    """Keypoints (camera frame) that a frame shares with one beside that looks the same way, and the way to it.

    Where things are about so far off, that is one from which they are seen under an angle.
    """
    assert frames.cam_from_world is not None
    frames, poses = frames.without_depth(), frames.cam_from_world
    forward, centers = poses.rotation[:, 2].numpy(), poses.center.numpy()
    distance = np.linalg.norm(centers - centers[index], axis=1)
    others = np.flatnonzero((forward @ forward[index] > _ALIKE) & (distance > 0))
    if depth is None:
        others = others[np.argsort(distance[others], kind="stable")]
        others = others[[rank for rank in _RANKS if rank < len(others)]]
    else:
        others = others[np.argsort(np.abs(np.log(distance[others] / (_BASELINE * depth))), kind="stable")][:2]
    here = None
    for other in others.tolist():
        try:
            here = here or detect(frames, index, _SHORT_SIDE_PX, _KEYPOINTS)
            there = detect(frames, other, _SHORT_SIDE_PX, _KEYPOINTS)
        except DatasetError:  # said when it is mapped
            continue
        other_from_here = (poses[other] @ poses[index].inverse()).matrix.numpy()
        pairs = match(here, there, other_from_here)
        rays = here.rays[pairs.first]
        s, t, sine = closest_depths(
            rays @ other_from_here[:3, :3].T, there.rays[pairs.second], other_from_here[:3, 3]
        )
        good = (s > 0) & (t > 0) & (sine > _LEAST_SINE)
        if good.sum() >= _ENOUGH:
            rays = rays[good]
            return np.concatenate(
                [s[good, None] * rays, -rays / np.linalg.norm(rays, axis=1, keepdims=True)], axis=1
            )
    return np.zeros((0, 6))


def measured(views: CoarseViews, frames: Frames, depth: float, num_keys: int) -> CoarseViews:
    """The same where depth or triangulation says that things are, in some frames and seen from those beside.

    In a fourth of them at most: more where it takes more key views to show what all see.
    """
    most = max(_READ_LEAST, round(_READ_PER_KEY * num_keys))
    read = np.array(_evenly(len(frames), min(most, -(-len(frames) // 4))))
    found = []
    for i in read.tolist():
        seen = _read(frames, i) if frames.has_depth else _triangulated(frames, i, depth)
        point = seen[:, :3] @ views.rotations[i] + views.centers[i]
        found.append(np.concatenate([point, seen[:, 3:] @ views.rotations[i]], axis=1))
    positions = _CLOSE * views.centers / depth
    points, normals = views.points.copy(), views.normals.copy()
    for i in range(len(frames)):
        apart = ((positions[read] - positions[i]) ** 2).sum(1)
        apart += ((views.rotations[read, 2] - views.rotations[i, 2]) ** 2).sum(1)
        beside = np.argsort(apart, kind="stable")[:_BESIDE]
        point, normal = np.split(np.concatenate([found[k] for k in beside]), 2, axis=1)
        facing = ((views.centers[i] - point) * normal).sum(1) > 0
        point, normal = point[facing], normal[facing]
        shown, cell, z = _shown(views, i, point)
        far_first = np.argsort(-z, kind="stable")  # the nearest come last, and stay
        shown, cell = shown[far_first], cell[far_first]
        if len(np.unique(cell)) >= _LEAST_CELLS:
            if frames.has_depth:
                points[i], normals[i] = np.nan, 0
            else:
                points[i] = views.centers[i] + np.median(z) / depth * (points[i] - views.centers[i])
            points[i, cell], normals[i, cell] = point[shown], normal[shown]
    return views._replace(
        points=points, normals=normals, tolerance=_MEASURED if frames.has_depth else _TRIANGULATED
    )


def _shown(
    views: CoarseViews, view: int, points: Float[np.ndarray, "M 3"]
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Which points a view shows, the cell of each, and its depth."""
    x, y, z = views.rotations[view] @ (points - views.centers[view]).T
    left, top, right, bottom = views.edges[view]
    inside = np.flatnonzero((z > 0) & (left * z <= x) & (x < right * z) & (top * z <= y) & (y < bottom * z))
    x, y, z = x[inside], y[inside], z[inside]
    column = ((x / z - left) * (_COLUMNS / (right - left))).astype(int).clip(0, _COLUMNS - 1)
    row = ((y / z - top) * (_ROWS / (bottom - top))).astype(int).clip(0, _ROWS - 1)
    return inside, row * _COLUMNS + column, z


class Shares(NamedTuple):
    """How much of what frames see key views see as well, where that is more than chance: M pairs."""

    keys: Int[np.ndarray, " K"]  # which frames are key views
    frame: Int[np.ndarray, " M"]
    key: Int[np.ndarray, " M"]  # place in `keys`
    share: Float[np.ndarray, " M"]


def key_views(views: CoarseViews) -> Shares:
    """Key views such that each frame shares half of what it sees with one."""
    known = np.isfinite(views.points[..., 0]).sum(1)
    apart = ((views.points - views.centers[:, None]) ** 2).sum(-1)  # squared
    enough = known - np.ceil(_LINKED * known).astype(int)
    reach = (1 + _MOST_ZOOM) * np.sqrt(np.sort(apart, axis=1)[np.arange(len(known)), enough])
    covered = np.zeros(len(known), bool)
    keys, rows, shares = [], [], []
    for i in range(len(known)):
        if covered[i]:
            continue
        row = np.flatnonzero(((views.centers - views.centers[i]) ** 2).sum(1) <= reach**2)
        share = _seen_by(i, views, views.points[row], views.normals[row], apart[row]).sum(1) / known[row]
        share[row == i] = 1.0  # to rounding
        covered[row[share >= _HALF]] = True
        keys.append(i)
        rows.append(row[share >= _LINKED])
        shares.append(share[share >= _LINKED])
    key = np.repeat(np.arange(len(keys)), [len(row) for row in rows])
    return Shares(np.array(keys), np.concatenate(rows), key, np.concatenate(shares))


def _seen_by(
    view: int,
    views: CoarseViews,
    points: Float[np.ndarray, "n C 3"],
    normals: Float[np.ndarray, "n C 3"],
    apart: Float[np.ndarray, "n C"],
) -> Bool[np.ndarray, "n C"]:
    """Which points, of frames that are (squared) so far from them, a view sees as well."""
    shown, cell, z = _shown(views, view, points.reshape(-1, 3))
    point, normal = points.reshape(-1, 3)[shown], normals.reshape(-1, 3)[shown]
    there, facing = views.points[view, cell], views.normals[view, cell]
    from_view = point - views.centers[view]
    zoom = (from_view**2).sum(1) / apart.ravel()[shown]
    same = (zoom <= _MOST_ZOOM**2) & (zoom * _MOST_ZOOM**2 >= 1)
    same &= ((normal * from_view).sum(1) < 0) & ((normal * facing).sum(1) > 0)
    for plane in (facing, normal):
        same &= np.abs((plane * (point - there)).sum(1)) <= views.tolerance * z
    seen = np.zeros(apart.size, bool)
    seen[shown] = same
    return seen.reshape(apart.shape)
