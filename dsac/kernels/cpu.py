"""The CPU kernels' face: the functions of `reference.py` by the same names, and the fused solver.

Arrays are torch CPU tensors or numpy arrays; what comes out is of the kind and the floating dtype that came in.
The fused solver's points are float32 about their centre, so coordinates of kilometres keep their millimetres;
the other functions compute in the dtype that came in; poses are float64. The first call of a process loads the
compiled code from Numba's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dsac.kernels import cpu_backward, cpu_depth, cpu_poses, cpu_ransac

Array = Any  # torch.Tensor or np.ndarray; shapes in the docstrings


@dataclass(frozen=True)
class Solution:
    """Poses of a batch, `cam_from_world`. Where none was found: identity, no inliers, information 0."""

    rotation: Array  # (B, 3, 3) float64
    translation: Array  # (B, 3) float64
    inliers: Array  # (B, N) bool: reprojection error below the threshold, in front of the camera
    information: Array  # (B, 6, 6) float64, inverse covariance of the increment from the left
    num_hypotheses: Array  # (B,) int64, seeds of minimal sets drawn


def solve_rgb(
    pixels: Array,
    scene_points: Array,
    focal_px: Array,
    center_px: Array,
    weights: Array | None = None,
    *,
    threshold_px: float,
    seed: int = 0,
    confidence: float = 0.9999,
    max_hypotheses: int = 20_000,
    largest_depth: float | None = None,
    threads: int = 1,
) -> Solution:
    """Robust poses from pixels (B, N, 2), scene points (B, N, 3), focal_px, center_px (B, 2), weights (B, N).

    Draws minimal sets until, with probability `confidence`, a pose with more inliers would have been found (at
    most `max_hypotheses`), and ends with the maximum likelihood pose for isotropic noise of the scene points.
    Rows with NaN, infinity or weight 0 are ignored; weights scale inverse variances and the chance to be drawn.
    `largest_depth` in metres helps where few points are right; without it the extent of the scene serves. The
    answer for an image depends on its rows and the seed alone, not on batch or threads.
    """
    options = (
        float(threshold_px),
        float(largest_depth or 0.0),
        float(confidence),
        int(max_hypotheses),
        int(seed),
    )
    return _solve(
        cpu_ransac.solve_rgb_batch, pixels, scene_points, focal_px, center_px, weights, (), options, threads
    )


def solve_rgbd(
    pixels: Array,
    scene_points: Array,
    depths: Array,
    focal_px: Array,
    center_px: Array,
    weights: Array | None = None,
    *,
    threshold_m: float,
    depth_noise: float = 0.0015,
    seed: int = 0,
    confidence: float = 0.9999,
    max_hypotheses: int = 20_000,
    threads: int = 1,
) -> Solution:
    """Robust poses from pixels with depth, and without: `depths` (B, N) along the optical axis, NaN, 0 = none.

    Minimal sets are of points with depth; an inlier is within `threshold_m` of its camera point, one without
    depth of its ray. The sensor's standard deviation is `depth_noise` at 1 m and grows with the square of the
    depth (structured light; the default is the Kinect's). The rest is as in `solve_rgb`.
    """
    options = (float(threshold_m), float(depth_noise), float(confidence), int(max_hypotheses), int(seed))
    return _solve(
        cpu_depth.solve_rgbd_batch,
        pixels,
        scene_points,
        focal_px,
        center_px,
        weights,
        (_real(depths, np.float32),),
        options,
        threads,
    )


def p3p(bearings: Array, points: Array) -> tuple[Array, Array, Array]:
    """Rotations (M, 4, 3, 3), translations (M, 4, 3), which exist (M, 4), of bearings and points (M, 3, 3)."""
    size = len(points)
    rotations, translations = np.empty((size, 4, 3, 3)), np.empty((size, 4, 3))
    valid = np.empty((size, 4), np.bool_)
    sets = _real(bearings, np.float64), _real(points, np.float64)
    cpu_poses.p3p_sets(*sets, rotations, translations, valid)
    kind = _like(points, cast=True)
    return kind(rotations), kind(translations), _like(points)(valid)


def reprojection_error(
    rotation: Array,
    translation: Array,
    pixels: Array,
    scene_points: Array,
    focal_px: Array,
    center_px: Array,
    max_error_px: float | int,
) -> Array:
    """Errors (B, H, N) in pixels of poses (B, H, 3, 3), (B, H, 3)."""
    rows = _Rows(rotation, translation, pixels, scene_points, focal_px, center_px)
    errors = np.empty((*rows.poses.shape[:2], rows.points.shape[-1]), rows.dtype)
    for b in range(len(errors)):
        cpu_poses.reprojection_errors(
            rows.poses[b], rows.points[b], rows.focal[b], float(max_error_px), errors[b]
        )
    return _like(scene_points, cast=True)(errors)


def soft_inlier_count(
    rotation: Array,
    translation: Array,
    pixels: Array,
    scene_points: Array,
    focal_px: Array,
    center_px: Array,
    weights: Array,
    threshold_px: float | int,
    max_error_px: float | int,
) -> Array:
    """Σ_i w_i sigmoid(β (τ - e_i)) (B, H) with β = 5/τ, of poses (B, H, 3, 3), (B, H, 3)."""
    rows = _Rows(rotation, translation, pixels, scene_points, focal_px, center_px, weights)
    counts = np.empty(rows.poses.shape[:2], rows.dtype)
    for b in range(len(counts)):
        cpu_poses.soft_counts(*rows[b], float(threshold_px), float(max_error_px), counts[b])
    return _like(scene_points, cast=True)(counts)


def refine(
    rotation: Array,
    translation: Array,
    pixels: Array,
    scene_points: Array,
    focal_px: Array,
    center_px: Array,
    weights: Array,
    threshold_px: float | int,
    iterations: int,
) -> tuple[Array, Array, Array, Array]:
    """Poses of least Σ w_i ρ(e_i), ρ(e) = e²τ²/(e² + τ²); inliers (B, K, N), normal matrices (B, K, 6, 6)."""
    rows = _Rows(rotation, translation, pixels, scene_points, focal_px, center_px, weights)
    size, selected = rows.poses.shape[:2]
    inliers = np.empty((size, selected, rows.points.shape[-1]), np.bool_)
    matrices = np.empty((size, selected, 6, 6))
    for b in range(size):
        cpu_poses.refine_poses(*rows[b], float(threshold_px), int(iterations), inliers[b], matrices[b])
    kind = _like(scene_points, cast=True)
    poses = _uncentred(rows.poses, rows.shift[:, None])
    return kind(poses[..., :3]), kind(poses[..., 3]), _like(scene_points)(inliers), kind(matrices)


# ---- gradients ---------------------------------------------------------------------------------------


def soft_inlier_count_gradient(
    rotation: Array,
    translation: Array,
    pixels: Array,
    scene_points: Array,
    focal_px: Array,
    center_px: Array,
    weights: Array,
    threshold_px: float | int,
    max_error_px: float | int,
    cotangent: Array,
) -> tuple[Array, Array, Array, Array]:
    """What a cotangent (B, H) of `soft_inlier_count` gives rotation, translation, scene points and weights."""
    rows = _Rows(rotation, translation, pixels, scene_points, focal_px, center_px, weights)
    scores = _real(cotangent, rows.dtype)
    grad_poses = np.empty_like(rows.poses)
    grad_points, grad_weights = np.zeros_like(rows.points[:, :3]), np.zeros_like(rows.weights)
    for b in range(len(scores)):
        cpu_backward.soft_counts_gradient(
            *rows[b], float(threshold_px), float(max_error_px), scores[b],
            grad_poses[b], grad_points[b], grad_weights[b],
        )  # fmt: skip
    # the sums Σ f Yᵀ were about the centre of the points
    grad_poses[..., :3] += grad_poses[..., 3:] * rows.shift[:, None, None, :]
    kind = _like(scene_points, cast=True)
    return (
        kind(grad_poses[..., :3]),
        kind(grad_poses[..., 3]),
        kind(grad_points.swapaxes(1, 2)),
        kind(grad_weights),
    )


def refine_gradient(
    rotation: Array,
    translation: Array,
    pixels: Array,
    scene_points: Array,
    focal_px: Array,
    center_px: Array,
    weights: Array,
    threshold_px: float | int,
    cotangent: Array,
) -> tuple[Array, Array, Array]:
    """What a cotangent (B, K, 6) of the increments of refined poses gives scene points and weights.

    The poses are what `refine` returned. By the implicit function theorem, with the full second derivative. The
    third result (B, K) says which poses their points determine; the others pass nothing.
    """
    rows = _Rows(rotation, translation, pixels, scene_points, focal_px, center_px, weights)
    pulls = _real(cotangent, np.float64)
    grad_points, grad_weights = np.zeros_like(rows.points[:, :3]), np.zeros_like(rows.weights)
    determined = np.empty(pulls.shape[:2], np.bool_)
    for b in range(len(pulls)):
        cpu_backward.refinement_gradient(
            *rows[b], float(threshold_px), pulls[b], grad_points[b], grad_weights[b], determined[b]
        )
    kind = _like(scene_points, cast=True)
    return kind(grad_points.swapaxes(1, 2)), kind(grad_weights), _like(scene_points)(determined)


# ---- arrays ------------------------------------------------------------------------------------------


class _Rows:
    """Correspondences as the loops want them: (B, 5, N), centred points and pixels from the principal point."""

    def __init__(self, rotation, translation, pixels, scene_points, focal_px, center_px, weights=None) -> None:
        scene = _real(scene_points, np.float64)
        self.dtype = np.float64 if _numpy(scene_points).dtype == np.float64 else np.float32
        self.shift = _center(scene)
        self.focal = _real(focal_px, np.float64)
        offsets = _real(pixels, np.float64) - _real(center_px, np.float64)[:, None]
        self.points = np.empty((len(scene), 5, scene.shape[1]), self.dtype)  # rows contiguous for the loops
        self.points[:, :3] = (scene - self.shift[:, None]).swapaxes(1, 2)
        self.points[:, 3:] = offsets.swapaxes(1, 2)
        self.weights = None if weights is None else _real(weights, self.dtype)
        poses = np.concatenate([_numpy(rotation), _numpy(translation)[..., None]], axis=-1)
        self.poses = _uncentred(poses.astype(np.float64), -self.shift[:, None])

    def __getitem__(self, image: int) -> tuple[np.ndarray, ...]:
        """What the loops over the hypotheses of an image begin with."""
        return self.poses[image], self.points[image], self.weights[image], self.focal[image]


def _solve(
    batch: Callable[..., None],
    pixels: Array,
    scene_points: Array,
    focal_px: Array,
    center_px: Array,
    weights: Array | None,
    measured: tuple[np.ndarray, ...],
    options: tuple[float | int, ...],
    threads: int,
) -> Solution:
    """Call a fused kernel on the images, in threads."""
    size = len(pixels)
    scene, shift = _centred(scene_points)
    scales = np.empty((size, 0), np.float32) if weights is None else _real(weights, np.float32)
    cameras = np.concatenate([_numpy(focal_px), _numpy(center_px)], axis=-1).astype(np.float64)
    inputs = (_real(pixels, np.float32), scene, *measured, scales, cameras)
    poses, information = np.empty((size, 3, 4)), np.empty((size, 6, 6))
    inliers, num_hypotheses = np.empty(scene.shape[:2], np.bool_), np.empty(size, np.int64)
    outputs = (poses, inliers, information, num_hypotheses)

    def solve(part: slice) -> None:
        batch(*(array[part] for array in inputs), *options, *(array[part] for array in outputs))

    _in_parallel(solve, size, threads)
    poses = poses if shift is None else _uncentred(poses, shift)
    kind = _like(pixels)
    return Solution(
        kind(poses[..., :3]), kind(poses[..., 3]), kind(inliers), kind(information), kind(num_hypotheses)
    )


def _in_parallel(solve, size: int, threads: int) -> None:
    """Call `solve` on slices of the batch, in threads: the kernels release the interpreter."""
    if threads <= 1 or size <= 1:
        solve(slice(0, size))
        return
    solve(slice(0, 1))  # compiles, if this is the first call
    count = min(4 * threads, size - 1)  # slices shorter than a thread's share even out hard images
    bounds = np.linspace(1, size, count + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(solve, [slice(int(a), int(b)) for a, b in zip(bounds, bounds[1:], strict=False)]))


def _centred(scene_points: Array) -> tuple[np.ndarray, np.ndarray | None]:
    """float32 points; float64 ones are first moved to their centre, which is returned too."""
    scene = _numpy(scene_points)
    if scene.dtype != np.float64:
        return np.ascontiguousarray(scene, np.float32), None
    shift = _center(scene)
    return (scene - shift[:, None]).astype(np.float32), shift


def _uncentred(poses: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Poses (..., 3, 4) of points that were moved by -shift (..., 3), for the points themselves."""
    moved = poses.copy()
    moved[..., 3] -= (poses[..., :3] @ shift[..., None])[..., 0]
    return moved


def _center(scene: np.ndarray) -> np.ndarray:
    """Median (B, 3) of some finite rows, 0 where there are none."""
    center = np.zeros((len(scene), 3))
    for b, rows in enumerate(scene[:, :: max(1, scene.shape[1] // 63)]):
        finite = rows[np.isfinite(rows).all(-1)]
        if len(finite):
            center[b] = np.median(finite, axis=0)
    return center


def _numpy(array: Array) -> np.ndarray:
    return array.detach().numpy() if isinstance(array, torch.Tensor) else array


def _real(array: Array, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(_numpy(array), dtype)


def _like(example: Array, cast: bool = False):
    """How to hand an array back: as a tensor if `example` is one, and in its dtype if asked to `cast`."""
    if isinstance(example, torch.Tensor):
        return lambda array: torch.from_numpy(array).to(example.dtype) if cast else torch.from_numpy(array)
    return lambda array: array.astype(example.dtype) if cast else array
