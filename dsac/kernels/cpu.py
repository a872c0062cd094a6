"""The CPU kernels' face: the functions of `reference.py` by the same names, and the fused solver.

Arrays are torch CPU tensors or numpy arrays; what comes out is of the kind and the floating dtype that came in.
Inside, points are float32 about their centre, so coordinates of kilometres keep their millimetres; poses are
float64. No gradients. The first call of a process loads the compiled code from Numba's cache.
"""

from __future__ import annotations

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
    size = len(pixels)
    scene, shift = _centred(scene_points)
    image_points = _float32(pixels)
    scales = np.empty((size, 0), np.float32) if weights is None else _float32(weights)
    cameras = np.concatenate([_numpy(focal_px), _numpy(center_px)], axis=-1).astype(np.float64)
    poses = np.empty((size, 3, 4))
    inliers = np.empty(scene.shape[:2], np.bool_)
    information = np.empty((size, 6, 6))
    num_hypotheses = np.empty(size, np.int64)

    farthest = float(largest_depth or 0.0)

    def solve(part: slice) -> None:
        cpu_ransac.solve_rgb_batch(
            image_points[part], scene[part], scales[part], cameras[part], float(threshold_px), farthest,
            float(confidence), int(max_hypotheses), int(seed),
            poses[part], inliers[part], information[part], num_hypotheses[part],
        )  # fmt: skip

    _in_parallel(solve, size, threads)
    if shift is not None:
        poses[..., 3] -= (poses[..., :3] @ shift[:, :, None])[..., 0]
    kind = _like(pixels)
    return Solution(
        kind(poses[..., :3]), kind(poses[..., 3]), kind(inliers), kind(information), kind(num_hypotheses)
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
    size = len(pixels)
    scene, shift = _centred(scene_points)
    image_points, measured = _float32(pixels), _float32(depths)
    scales = np.empty((size, 0), np.float32) if weights is None else _float32(weights)
    cameras = np.concatenate([_numpy(focal_px), _numpy(center_px)], axis=-1).astype(np.float64)
    poses = np.empty((size, 3, 4))
    inliers = np.empty(scene.shape[:2], np.bool_)
    information = np.empty((size, 6, 6))
    num_hypotheses = np.empty(size, np.int64)

    def solve(part: slice) -> None:
        cpu_depth.solve_rgbd_batch(
            image_points[part], scene[part], measured[part], scales[part], cameras[part], float(threshold_m),
            float(depth_noise), float(confidence), int(max_hypotheses), int(seed),
            poses[part], inliers[part], information[part], num_hypotheses[part],
        )  # fmt: skip

    _in_parallel(solve, size, threads)
    if shift is not None:
        poses[..., 3] -= (poses[..., :3] @ shift[:, :, None])[..., 0]
    kind = _like(pixels)
    return Solution(
        kind(poses[..., :3]), kind(poses[..., 3]), kind(inliers), kind(information), kind(num_hypotheses)
    )


def p3p(bearings: Array, points: Array) -> tuple[Array, Array, Array]:
    """Rotations (M, 4, 3, 3), translations (M, 4, 3), which exist (M, 4), of bearings and points (M, 3, 3)."""
    size = len(points)
    rotations, translations = np.empty((size, 4, 3, 3)), np.empty((size, 4, 3))
    valid = np.empty((size, 4), np.bool_)
    cpu_poses.p3p_sets(_float64(bearings), _float64(points), rotations, translations, valid)
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
    errors = np.empty((*rows.rotation.shape[:2], rows.points.shape[-1]), np.float32)
    maximum = np.float32(max_error_px)
    for b in range(len(errors)):
        cpu_poses.reprojection_errors(
            rows.rotation[b], rows.translation[b], rows.points[b], rows.focal[b], maximum, errors[b]
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
    rows = _Rows(rotation, translation, pixels, scene_points, focal_px, center_px)
    scales = _float32(weights)
    counts = np.empty(rows.rotation.shape[:2], np.float32)
    threshold, maximum = np.float32(threshold_px), np.float32(max_error_px)
    for b in range(len(counts)):
        cpu_poses.soft_counts(
            rows.rotation[b], rows.translation[b], rows.points[b], scales[b], rows.focal[b], threshold, maximum,
            counts[b],
        )  # fmt: skip
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
    rows = _Rows(rotation, translation, pixels, scene_points, focal_px, center_px)
    scales = _float32(weights)
    size, selected = rows.rotation.shape[:2]
    inliers = np.empty((size, selected, rows.points.shape[-1]), np.bool_)
    matrices = np.empty((size, selected, 6, 6))
    poses = rows.poses
    for b in range(size):
        cpu_poses.refine_poses(
            poses[b], rows.points[b], scales[b], rows.focal[b], np.float32(threshold_px), int(iterations),
            inliers[b], matrices[b],
        )  # fmt: skip
    translations = poses[..., 3] - (poses[..., :3] @ rows.shift[:, None, :, None])[..., 0]
    kind = _like(scene_points, cast=True)
    return kind(poses[..., :3]), kind(translations), _like(scene_points)(inliers), kind(matrices)


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
    rows = _Rows(rotation, translation, pixels, scene_points, focal_px, center_px)
    scales, scores = _float32(weights), _float32(cotangent)
    grad_rotation, grad_translation = np.empty_like(rows.rotation), np.empty_like(rows.translation)
    grad_points, grad_weights = np.zeros_like(rows.points[:, :3]), np.zeros_like(scales)
    threshold, maximum = np.float32(threshold_px), np.float32(max_error_px)
    for b in range(len(scores)):
        cpu_backward.soft_counts_gradient(
            rows.rotation[b], rows.translation[b], rows.points[b], scales[b], rows.focal[b], threshold, maximum,
            scores[b], grad_rotation[b], grad_translation[b], grad_points[b], grad_weights[b],
        )  # fmt: skip
    # the sums Σ f Yᵀ were about the centre of the points
    grad_rotation += grad_translation[..., :, None] * rows.shift[:, None, None, :].astype(np.float32)
    kind = _like(scene_points, cast=True)
    return kind(grad_rotation), kind(grad_translation), kind(grad_points.swapaxes(1, 2)), kind(grad_weights)


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
    rows = _Rows(rotation, translation, pixels, scene_points, focal_px, center_px)
    scales, pulls = _float32(weights), _float64(cotangent)
    grad_points, grad_weights = np.zeros_like(rows.points[:, :3]), np.zeros_like(scales)
    determined = np.empty(pulls.shape[:2], np.bool_)
    for b in range(len(pulls)):
        cpu_backward.refinement_gradient(
            rows.poses[b], rows.points[b], scales[b], rows.focal[b], np.float32(threshold_px), pulls[b],
            grad_points[b], grad_weights[b], determined[b],
        )  # fmt: skip
    kind = _like(scene_points, cast=True)
    return kind(grad_points.swapaxes(1, 2)), kind(grad_weights), _like(scene_points)(determined)


# ---- arrays ------------------------------------------------------------------------------------------


class _Rows:
    """Correspondences as the loops want them: (B, 5, N), centred points and pixels from the principal point."""

    def __init__(self, rotation, translation, pixels, scene_points, focal_px, center_px) -> None:
        scene = _float64(scene_points)
        self.shift = _center(scene)
        self.focal = _float32(focal_px)
        offsets = _float64(pixels) - _float64(center_px)[:, None]
        self.points = np.empty(
            (len(scene), 5, scene.shape[1]), np.float32
        )  # rows contiguous: the loops need it
        self.points[:, :3] = (scene - self.shift[:, None]).swapaxes(1, 2)
        self.points[:, 3:] = offsets.swapaxes(1, 2)
        turns = _float64(rotation)
        moved = _float64(translation) + (turns @ self.shift[:, None, :, None])[..., 0]
        self.poses = np.concatenate([turns, moved[..., None]], axis=-1)
        self.rotation, self.translation = turns.astype(np.float32), moved.astype(np.float32)


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


def _float32(array: Array) -> np.ndarray:
    return np.ascontiguousarray(_numpy(array), np.float32)


def _float64(array: Array) -> np.ndarray:
    return np.ascontiguousarray(_numpy(array), np.float64)


def _like(example: Array, cast: bool = False):
    """How to hand an array back: as a tensor if `example` is one, and in its dtype if asked to `cast`."""
    if isinstance(example, torch.Tensor):
        return lambda array: torch.from_numpy(array).to(example.dtype) if cast else torch.from_numpy(array)
    return lambda array: array.astype(example.dtype) if cast else array
