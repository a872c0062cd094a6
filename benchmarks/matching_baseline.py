"""The peer in accuracy: SIFT keypoints with scene points, matched to those of a query, then PnP.

    python benchmarks/matching_baseline.py SCENE [--every 5] [--keypoints 2000]

SIFT with square-rooted descriptors (Arandjelović & Zisserman 2012). Keypoints of the mapping frames get their
scene points by depth, and without depth by triangulation with the known poses (`peer_geometry`). A query's are
matched against all of the map by the ratio test, whose second best is the best of another place. The map is
scene points, and descriptors as bytes. Writes results/matching_baseline.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from peer_geometry import (
    Keypoints,
    epipolar_tolerance_px,
    lifted,
    off_epipolar_line,
    solve,
    triangulated,
    view_pairs,
)
from scripts import run, table_parser, write_table

from dsac import Pose, load_scene
from dsac.datasets import Frame, Frames

RATIO = 0.85
_RATIO_ON_LINE = 0.9  # between mapping frames, among the keypoints on the epipolar line
_SAME_PLACE = 0.02  # scene points this near to each other, in distances from the camera, are one place
_RIVALS = 8  # most similar descriptors among which one of another place is looked for
_CHUNK = 100
_BLOCK = 20_000  # rows of the map at a time, so that they fit the cache


@dataclass(frozen=True)
class SiftMap:
    """Scene points with what they look like."""

    descriptors: np.ndarray  # (M, 128)
    points: np.ndarray  # (M, 3)
    reach: np.ndarray  # (M,) how near another point is the same place
    num_keypoints: int  # of a query

    @staticmethod
    def build(frames: Frames, num_keypoints: int = 2000) -> SiftMap:
        """From frames with poses and, where they have it, depth."""
        poses = frames.cam_from_world
        assert poses is not None
        keypoints, world = [], []
        for frame in frames:
            keypoints.append(sift(frame, num_keypoints))
            if frames.has_depth:
                world.append(lifted(frame, keypoints[-1]))
        if not frames.has_depth:
            pairs = view_pairs(poses)
            matches = {
                (i, j): on_line(keypoints[i], keypoints[j], poses[j] @ poses[i].inverse()) for i, j in pairs
            }
            world = triangulated(keypoints, poses, matches)
        known = [np.isfinite(points[:, 0]) for points in world]
        descriptors = [k.descriptors[there] for k, there in zip(keypoints, known, strict=True)]
        points = [w[there] for w, there in zip(world, known, strict=True)]
        reach = [
            _SAME_PLACE * np.linalg.norm(w - center, axis=1)
            for w, center in zip(points, poses.center.numpy(), strict=True)
        ]
        return SiftMap(
            np.concatenate(descriptors), np.concatenate(points), np.concatenate(reach), num_keypoints
        )

    @property
    def megabytes(self) -> float:
        return len(self.points) * (128 + 12) / 1e6

    def localize(self, frame: Frame) -> Pose | None:
        found = sift(frame, self.num_keypoints)
        row, good = self.match(found.descriptors)
        return solve(found.ideal_px[good], self.points[row[good]], found.camera)

    def match(self, descriptors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row of the most similar scene point for each descriptor, and whether the ratio test takes it."""
        row, similarity = most_similar(descriptors, self.descriptors, _RIVALS)
        if row.shape[1] == 0:
            return np.zeros(len(row), int), np.zeros(len(row), bool)
        apart = np.linalg.norm(self.points[row] - self.points[row[:, :1]], axis=2) > self.reach[row[:, :1]]
        apart[:, -1] = True  # whatever else there is, is less similar than this
        second = similarity[np.arange(len(row)), apart.argmax(1)]
        return row[:, 0], (1 - similarity[:, 0]) < RATIO**2 * (1 - second)


def sift(frame: Frame, count: int) -> Keypoints:
    """The strongest."""
    grey = cv2.cvtColor((frame.image.permute(1, 2, 0).numpy() * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    points, descriptors = cv2.SIFT.create(count, contrastThreshold=0.01).detectAndCompute(grey, None)
    if descriptors is None:
        return Keypoints.of(np.zeros((0, 2)), np.zeros((0, 128), np.float32), frame.camera)
    rooted = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-6))
    # OpenCV looks in an image of twice the size: what it finds is a quarter pixel too far right and down
    pixels = np.array([p.pt for p in points]) + 0.5 - 0.25
    return Keypoints.of(pixels, rooted.astype(np.float32), frame.camera)


def on_line(a: Keypoints, b: Keypoints, b_from_a: Pose) -> np.ndarray:
    """Rows (keypoint of a, of b): each other's most similar on the epipolar line, by the ratio test."""
    if min(len(a), len(b)) < 2:
        return np.zeros((0, 2), int)
    similarity = a.descriptors @ b.descriptors.T
    similarity[off_epipolar_line(a, b, b_from_a) > epipolar_tolerance_px(b.camera)] = -1
    best, rows = similarity.argmax(1), np.arange(len(similarity))
    top = similarity[rows, best]
    mutual = similarity.argmax(0)[best] == rows
    similarity[rows, best] = -1
    distinct = (1 - top) < _RATIO_ON_LINE**2 * (1 - similarity.max(1))
    matched = np.flatnonzero(mutual & distinct & (top > 0.7))
    return np.stack([matched, best[matched]], axis=1)


def most_similar(descriptors: np.ndarray, database: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, count) rows of the database and their similarities, the most similar first."""
    asked = torch.from_numpy(descriptors)
    similarity, row = torch.zeros(len(asked), 0), torch.zeros(len(asked), 0, dtype=torch.long)
    for start in range(0, len(database), _BLOCK):
        top, place = _largest(asked @ torch.from_numpy(database[start : start + _BLOCK]).T, count)
        similarity, row = torch.cat([similarity, top], 1), torch.cat([row, place + start], 1)
        similarity, order = similarity.topk(min(count, similarity.shape[1]), dim=1)
        row = row.gather(1, order)
    return row.numpy(), similarity.numpy()


def _largest(block: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Like `topk`, in a fifth of the time: the largest are in the chunks with the largest maxima."""
    whole = block.shape[1] // _CHUNK * _CHUNK
    chunks = block[:, :whole].unflatten(1, (-1, _CHUNK))
    best = chunks.amax(2).topk(min(count, chunks.shape[1]), dim=1).indices
    values = chunks.gather(1, best[..., None].expand(-1, -1, _CHUNK)).flatten(1)
    places = (best[..., None] * _CHUNK + torch.arange(_CHUNK)).flatten(1)
    rest = torch.arange(whole, block.shape[1]).expand(len(block), -1)
    values, places = torch.cat([values, block[:, whole:]], 1), torch.cat([places, rest], 1)
    top, order = values.topk(min(count, values.shape[1]), dim=1)
    return top, places.gather(1, order)


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("scene")
    parser.add_argument("--every", type=int, default=5, help="localize every so-manieth query image")
    parser.add_argument("--keypoints", type=int, default=2000, help="of an image, at most")
    run(parser, measure)


def measure(arguments: argparse.Namespace) -> None:
    """Raises: `DsacError` for a scene that cannot be used."""
    scene = load_scene(arguments.scene)
    started = time.monotonic()
    sift_map = SiftMap.build(scene.mapping, arguments.keypoints)
    mapping_s = time.monotonic() - started
    errors, milliseconds = [], []
    for i in range(0, len(scene.query), arguments.every):
        frame = scene.query.without_depth()[i]
        tick = time.perf_counter()
        answer = sift_map.localize(frame)
        milliseconds.append(1e3 * (time.perf_counter() - tick))
        assert frame.cam_from_world is not None
        errors.append(
            (np.inf, np.inf)
            if answer is None
            else (
                100 * answer.center_distance(frame.cam_from_world).item(),
                answer.rotation_error_deg(frame.cam_from_world).item(),
            )
        )
    error = np.array(errors)
    shares = [f"{100 * (error < limit).all(1).mean():.1f}" for limit in (5, 2, 1)]
    line = [f"{len(error)}", *shares, *(f"{np.median(error[:, k]):.2f}" for k in (0, 1))]
    line += [f"{sift_map.megabytes:.0f}", f"{mapping_s:.0f}", f"{statistics.median(milliseconds):.0f}"]
    command = f"python benchmarks/matching_baseline.py SCENE --every {arguments.every}"
    lines = [
        "# Matching keypoints, the peer",
        "",
        f"`{command}` on {Path(arguments.scene).name}.",
        "",
        "| queries | % 5 cm 5° | % 2 cm 2° | % 1 cm 1° | median cm | median ° "
        "| map MB | mapping s | query ms |",
        "|---" * 9 + "|",
        "| " + " | ".join(line) + " |",
    ]
    write_table(arguments.output, "matching_baseline.md", lines)


if __name__ == "__main__":
    main()
