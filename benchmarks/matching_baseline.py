"""The peer in accuracy: keypoints of the mapping frames lifted by depth, matched to those of a query, then PnP.

    python benchmarks/matching_baseline.py SCENE [--every 5] [--keypoints 2000]

SIFT with square-rooted descriptors (Arandjelović & Zisserman 2012), the ratio test against all of the map, and
OpenCV's robust PnP with a final least squares. The map is scene points, and descriptors as bytes. Needs depth.
Writes results/matching_baseline.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from scripts import run, table_parser, write_table

from dsac import Pose, load_scene
from dsac.datasets import Frame
from dsac.errors import DatasetError

RATIO = 0.85


def keypoints(frame: Frame, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and unit descriptors."""
    grey = cv2.cvtColor((frame.image.permute(1, 2, 0).numpy() * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    points, descriptors = cv2.SIFT.create(count, contrastThreshold=0.01).detectAndCompute(grey, None)
    if descriptors is None:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    rooted = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-6))
    return np.array([p.pt for p in points]) + 0.5, rooted.astype(np.float32)


def lifted(frame: Frame, pixels: np.ndarray) -> np.ndarray:
    """World points of pixels; NaN without depth."""
    assert frame.depth is not None and frame.cam_from_world is not None
    column, row = pixels.astype(int).T
    depth = frame.depth.numpy()[row, column]
    rays = frame.camera.unproject(torch.from_numpy(pixels))
    points = frame.cam_from_world.inverse() @ (rays / rays[:, 2:] * torch.from_numpy(depth)[:, None])
    return np.where((depth > 0)[:, None], points.numpy(), np.nan)


def best_two(descriptors: np.ndarray, database: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and similarity of the most similar, and that of the second; in blocks that fit the cache."""
    first = np.full(len(descriptors), -1.0, np.float32)
    second, row = first.copy(), np.zeros(len(descriptors), np.int64)
    for start in range(0, len(database), 20_000):
        similarity = descriptors @ database[start : start + 20_000].T
        best = similarity.argmax(1)
        top = similarity[np.arange(len(best)), best]
        similarity[np.arange(len(best)), best] = -1.0
        runner_up = similarity.max(1)
        second = np.maximum(np.minimum(first, top), np.maximum(second, runner_up))
        row = np.where(top > first, start + best, row)
        first = np.maximum(first, top)
    return row, first, second


def pose(pixels: np.ndarray, points: np.ndarray, frame: Frame) -> Pose | None:
    """By USAC_ACCURATE, then least squares on its inliers."""
    if len(pixels) < 6:
        return None
    (fx, fy), (cx, cy) = frame.camera.focal_px.tolist(), frame.camera.center_px.tolist()
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    parameters = cv2.UsacParams()
    parameters.threshold, parameters.maxIterations, parameters.confidence = 4.0, 5000, 0.9999
    found, _, vector, translation, inliers = cv2.solvePnPRansac(points, pixels, matrix, None, params=parameters)
    if not found or inliers is None or len(inliers) < 6:
        return None
    rows = inliers[:, 0]
    vector, translation = cv2.solvePnPRefineLM(points[rows], pixels[rows], matrix, None, vector, translation)
    rotation = torch.from_numpy(cv2.Rodrigues(vector)[0])
    return Pose(rotation, torch.from_numpy(translation[:, 0]))


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("scene")
    parser.add_argument("--every", type=int, default=5, help="localize every so-manieth query image")
    parser.add_argument("--keypoints", type=int, default=2000, help="of an image, at most")
    run(parser, measure)


def measure(arguments: argparse.Namespace) -> None:
    """Raises: `DsacError` for a scene that cannot be used."""
    scene = load_scene(arguments.scene)
    if not scene.mapping.has_depth:
        raise DatasetError(f"{arguments.scene}: expected a recording with depth")
    started = time.monotonic()
    points, descriptors = [], []
    for frame in scene.mapping:
        pixels, found = keypoints(frame, arguments.keypoints)
        world = lifted(frame, pixels)
        known = np.isfinite(world[:, 0])
        points.append(world[known])
        descriptors.append(found[known])
    database, world = np.concatenate(descriptors), np.concatenate(points)
    mapping_s, megabytes = time.monotonic() - started, len(world) * (128 + 12) / 1e6
    errors, milliseconds = [], []
    for i in range(0, len(scene.query), arguments.every):
        frame = scene.query.without_depth()[i]
        tick = time.perf_counter()
        pixels, found = keypoints(frame, arguments.keypoints)
        row, first, second = best_two(found, database)
        good = (1 - first) < RATIO**2 * (1 - second)
        answer = pose(pixels[good], world[row[good]], frame)
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
    line += [f"{megabytes:.0f}", f"{mapping_s:.0f}", f"{statistics.median(milliseconds):.0f}"]
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
