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

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8

from dsac.datasets import FrameReader, Frames
from dsac.geometry import Camera
from dsac.mapping.views import plain_view
from dsac.networks.encoder import working_size

_log = logging.getLogger(__name__)

_KEYPOINTS = 120_000  # in all frames together, spread evenly, but ...
_LEAST_KEYPOINTS, _MOST_KEYPOINTS = 1200, 3000  # ... so many in a frame
_FINE_PX = 480  # short side at which frames are looked at that are few enough to have more than the least
_PARTNERS = (1, 2, 3, 4, 7, 11, 16, 24, 40, 64)  # ranks by distance among the frames that look the same way
_MAX_VIEW_ANGLE_DEG = 45.0
_EPIPOLAR_PX = 2.0
_MIN_ANGLE_DEG = 1.0  # between the two rays: below, depth is a guess
_RATIO = 0.9  # best to second best descriptor distance, among the candidates on the line
_AGREEMENT = 0.06  # relative spread of the depths that two partners give


@dataclass(frozen=True)
class _Keypoints:
    """Keypoints of one frame, on the plane z = 1 of its undistorted camera."""

    plane: Float[np.ndarray, "K 2"]
    descriptors: Float32[np.ndarray, "K 128"]  # unit length
    focal_px: float


def with_triangulated_depth(
    frames: Frames, *, short_side_px: int, on_progress: Callable[[float], None] = lambda fraction: None
) -> Frames:
    """The same frames, with depth (metres, 0 where unknown) around the keypoints that could be triangulated.

    Few frames are far apart and have to tell more each: less than a hundred are searched for more keypoints, at
    a short side of 480 pixels where they have it.
    """
    assert frames.cam_from_world is not None
    num_keypoints = min(max(_KEYPOINTS // max(1, len(frames)), _LEAST_KEYPOINTS), _MOST_KEYPOINTS)
    if num_keypoints > _LEAST_KEYPOINTS:
        short_side_px = max(short_side_px, min(_FINE_PX, *(min(camera.size) for camera in frames.cameras)))
    matrices = frames.cam_from_world.matrix.numpy()
    frames = frames.without_depth()
    with ThreadPoolExecutor(2) as pool:
        keypoints = []
        for found in pool.map(lambda i: _detect(frames, i, short_side_px, num_keypoints), range(len(frames))):
            keypoints.append(found)
            on_progress(0.5 * len(keypoints) / len(frames))
        pairs = view_pairs(matrices)
        votes: list[list[np.ndarray]] = [[] for _ in frames.names]  # rows: keypoint, inverse depth, its sigma
        for done, ((i, j), (of_i, of_j)) in enumerate(
            zip(pairs, pool.map(lambda p: _triangulate(keypoints, matrices, *p), pairs), strict=True)
        ):
            votes[i].append(of_i)
            votes[j].append(of_j)
            on_progress(0.5 + 0.5 * (done + 1) / len(pairs))
    depths = [
        agreed_depths(len(k.plane), rows, _AGREEMENT)[0] for k, rows in zip(keypoints, votes, strict=True)
    ]
    found = sum(int((d > 0).sum()) for d in depths)
    _log.info("triangulated %d keypoints in %d frames from %d pairs", found, len(frames), len(pairs))
    sparse = {
        name: (k.plane[d > 0], d[d > 0]) for name, k, d in zip(frames.names, keypoints, depths, strict=True)
    }
    return replace(frames, reader=_SparseDepthReader(frames.reader, sparse))


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


def _detect(frames: Frames, index: int, short_side_px: int, num_keypoints: int) -> _Keypoints:
    frame = frames[index]
    size = working_size(frame.camera.size, short_side_px, 8)
    view = plain_view(frame, size, 8)
    grey = cv2.cvtColor((view.image.permute(1, 2, 0).numpy() * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    points, descriptors = cv2.SIFT.create(num_keypoints, contrastThreshold=0.01).detectAndCompute(grey, None)
    if descriptors is None:
        return _Keypoints(np.zeros((0, 2)), np.zeros((0, 128), np.float32), 1.0)
    focal, center = view.camera.focal_px.numpy(), view.camera.center_px.numpy()
    # OpenCV looks in an image of twice the size: what it finds is a quarter pixel too far right and down
    pixels = np.array([p.pt for p in points]) + 0.5 - 0.25
    column, row = (pixels // 8).astype(int).clip(0, np.array(view.inside.shape[::-1]) - 1).T
    # beside the photo, an undistorted view shows reflections of it
    shown = view.inside.numpy()[row, column] > 0
    pixels, descriptors = pixels[shown], descriptors[shown]
    rooted = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-6))
    return _Keypoints((pixels - center) / focal, rooted.astype(np.float32), float(focal.mean()))


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


def _triangulate(
    keypoints: list[_Keypoints], matrices: Float[np.ndarray, "N 4 4"], i: int, j: int
) -> tuple[np.ndarray, np.ndarray]:
    """Votes for keypoints of frame i and of frame j: rows (keypoint, inverse depth, its standard deviation)."""
    a, b = keypoints[i], keypoints[j]
    empty = np.zeros((0, 3))
    if min(len(a.plane), len(b.plane)) < 2:
        return empty, empty
    b_from_a = matrices[j] @ np.linalg.inv(matrices[i])
    rotation, translation = b_from_a[:3, :3], b_from_a[:3, 3]
    rays_a = np.concatenate([a.plane, np.ones((len(a.plane), 1))], axis=1)
    rays_b = np.concatenate([b.plane, np.ones((len(b.plane), 1))], axis=1)

    # candidates: near the epipolar line of a's ray in image b
    normals = np.cross(translation, rays_a @ rotation.T)  # of the epipolar planes, in frame b
    lengths = np.maximum(np.linalg.norm(normals[:, :2], axis=1), 1e-12)
    off_line = np.abs((normals / lengths[:, None]).astype(np.float32) @ rays_b.T.astype(np.float32))
    similarity = a.descriptors @ b.descriptors.T
    similarity[off_line > _EPIPOLAR_PX / b.focal_px] = -1.0

    best = similarity.argmax(1)
    rows = np.arange(len(best))
    top = similarity[rows, best]
    mutual = similarity.argmax(0)[best] == rows
    similarity[rows, best] = -1.0
    second = similarity.max(1)
    distinct = (1 - top) < _RATIO**2 * (1 - second)  # squared descriptor distances are 2 - 2 similarity
    matched = np.flatnonzero(mutual & distinct & (top > 0.7))
    if len(matched) == 0:
        return empty, empty

    # depths (s, t) that bring the rays closest: s R ra + T = t rb
    ra, rb = rays_a[matched] @ rotation.T, rays_b[best[matched]]
    aa, ab, bb = (ra * ra).sum(1), (ra * rb).sum(1), (rb * rb).sum(1)
    at, bt = ra @ translation, rb @ translation
    determinant = np.maximum(aa * bb - ab * ab, 1e-12)
    s, t = (ab * bt - bb * at) / determinant, (aa * bt - ab * at) / determinant
    sine = np.sqrt(determinant / (aa * bb))
    good = (s > 0) & (t > 0) & (sine > np.sin(np.deg2rad(_MIN_ANGLE_DEG)))
    matched, s, t, sine = matched[good], s[good], t[good], sine[good]
    # a pixel moves the inverse depth by about 1 / (focal × distance of the other camera from the ray)
    sigma_a = 1 / (a.focal_px * t * np.sqrt(bb[good]) * sine)
    sigma_b = 1 / (b.focal_px * s * np.sqrt(aa[good]) * sine)
    return np.stack([matched, 1 / s, sigma_a], axis=1), np.stack([best[matched], 1 / t, sigma_b], axis=1)


def agreed_depths(
    count: int, votes: list[np.ndarray], agreement: float
) -> tuple[Float[np.ndarray, " K"], Int[np.ndarray, " K"]]:
    """Depth of each of `count` keypoints, and how many votes agree on it; 0 where fewer than two do.

    Votes are rows (keypoint, inverse depth, its standard deviation). The vote with the most others within the
    relative `agreement` wins, and the depth is the mean of their inverse depths.
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
        support = close.sum(1)
        winner = support.argmax()
        if support[winner] >= 2:
            chosen = close[winner]
            weight = sigma[chosen] ** -2
            keypoint = int(rows[start, 0])
            depths[keypoint] = weight.sum() / (weight * inverse[chosen]).sum()
            supports[keypoint] = support[winner]
    return depths, supports
