"""The fused solvers: from correspondences to poses in one call, for a batch of images.

Points are float32 about their centre inside, so coordinates of kilometres keep their millimetres; poses are
float64. No gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from dsac.kernels.arrays import Array, numpy_array
from dsac.kernels.search import rgb, rgbd
from dsac.kernels.solution import Solution
from dsac.kernels.twins.math import median_point


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
    inputs = (pixels, scene_points, None, weights, focal_px, center_px)
    depth = float(largest_depth or 0.0)
    options = (float(threshold_px), depth, float(confidence), int(max_hypotheses), int(seed))
    return _solve(rgb.solve_rgb_batch, inputs, options, threads)


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
    inputs = (pixels, scene_points, depths, weights, focal_px, center_px)
    options = (float(threshold_m), float(depth_noise), float(confidence), int(max_hypotheses), int(seed))
    return _solve(rgbd.solve_rgbd_batch, inputs, options, threads)


def _solve(
    batch: Callable[..., None],
    inputs: tuple[Array, ...],
    options: tuple[float | int, ...],
    threads: int,
) -> Solution:
    """Call a fused kernel on the images, in threads. The first of the options is the threshold.

    Inputs: pixels, scene points, depths for a kernel that wants them, weights or None, focal_px, center_px.
    Few steps on purpose, and few kinds of them: when other work has emptied the processor's caches, they take
    as long as the kernel.
    """
    for array in inputs:  # any() would be another kind of step, a generator
        if array is not None and not isinstance(array, np.ndarray):
            arrays = tuple(None if x is None else numpy_array(x) for x in inputs)
            found = _solve(batch, arrays, options, threads)
            return found if isinstance(inputs[0], np.ndarray) else Solution(*map(torch.from_numpy, found))
    if not 0 < options[0] < math.inf:
        raise ValueError(f"threshold: expected more than 0, got {options[0]}")
    pixels, scene, depths, weights, focal, middle = inputs
    shift = None
    if scene.dtype == _FLOAT64:
        scene, shift = _centred(scene)
    size, count, _ = scene.shape
    if weights is None:
        weights = np.empty((size, 0), _FLOAT32)
    found = Solution(
        np.empty((size, 3, 3), _FLOAT64),
        np.empty((size, 3), _FLOAT64),
        np.empty((size, count), _BOOL),
        np.empty((size, 6, 6), _FLOAT64),
        np.empty(size, _INT64),
        np.empty(size, _INT64),
    )
    arrays = (
        np.ascontiguousarray(pixels, _FLOAT32),
        np.ascontiguousarray(scene, _FLOAT32),
        *(() if depths is None else (np.ascontiguousarray(depths, _FLOAT32),)),
        np.ascontiguousarray(weights, _FLOAT32),
        np.ascontiguousarray(focal, _FLOAT64),
        np.ascontiguousarray(middle, _FLOAT64),
        *found,
    )
    if threads <= 1 or size <= 1:
        batch(*arrays, *options)
    else:
        _in_parallel(lambda part: batch(*(x[part] for x in arrays), *options), size, threads)
    if shift is not None:
        known = found.information.any((1, 2))
        found.translation[known] -= (found.rotation @ shift[..., None])[known, :, 0]
    return found


def _in_parallel(solve: Callable[[slice], None], size: int, threads: int) -> None:
    """Solve slices of the batch in this thread and others, as the kernels release the interpreter."""
    solve(slice(0, 1))  # compiles, if this is the first call
    length = max(1, min(_SLICE, size // (4 * threads)))  # short ones even out hard images
    slices = iter([slice(i, min(i + length, size)) for i in range(1, size, length)])

    def work() -> None:
        for part in slices:
            solve(part)

    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(work) for _ in range(threads - 1)]
        work()
        for other in others:
            other.result()


_SLICE = 8
_BOOL, _INT64, _FLOAT32, _FLOAT64 = map(np.dtype, (np.bool_, np.int64, np.float32, np.float64))  # found once


def _centred(scene_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 points about their centre, so that float32 is enough for them, and the centre."""
    shift = np.empty((len(scene_points), 3))
    for points, center in zip(scene_points, shift, strict=True):
        median_point(points, center)
    return scene_points - shift[:, None], shift
