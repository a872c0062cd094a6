"""From correspondences to poses in one call, for a batch of images.

Points are float32 about their centre inside, so coordinates of kilometres keep their millimetres; poses are
float64. No gradients.

Raises: `ValueError` for arrays whose shapes or types do not go together, and for options without meaning.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from dsac.kernels.arrays import Array, check_array, check_count, check_positive, check_rows, numpy_array
from dsac.kernels.jit import entry
from dsac.kernels.search import rgb, rgbd
from dsac.kernels.search.points import Images
from dsac.kernels.solution import Solution
from dsac.kernels.twins.math import median_point


class Effort(NamedTuple):
    """How long to look for a better pose, and on how many threads."""

    confidence: float = 0.9999  # probability with which a pose with more inliers would have been found
    max_hypotheses: int = 20_000  # minimal sets of an image, at most
    threads: int = 1  # which take images of the batch

    def check(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence: expected more than 0 and less than 1, got {self.confidence}")
        check_count("max_hypotheses", self.max_hypotheses)
        check_count("threads", self.threads, least=1)


_USUAL = Effort()


def solve_rgb(
    pixels: Array,
    scene_points: Array,
    focal_px: Array,
    center_px: Array,
    weights: Array | None = None,
    *,
    threshold_px: float,
    seed: int = 0,
    largest_depth: float | None = None,
    effort: Effort = _USUAL,
) -> Solution:
    """Robust poses from pixels (B, N, 2), scene points (B, N, 3), focal_px, center_px (B, 2), weights (B, N).

    Draws minimal sets until, with the effort's confidence, a pose with more inliers would have been found, and
    ends with the maximum likelihood pose for isotropic noise of the scene points. Rows with NaN, infinity or
    weight 0 are ignored; weights scale inverse variances and the chance to be drawn. `largest_depth` in metres
    helps where few points are right; without it the extent of the scene serves. The answer for an image depends
    on its rows and the seed alone, not on batch or threads.
    """
    check_positive("threshold_px", threshold_px)
    if largest_depth:
        check_positive("largest_depth", largest_depth)
    images = Images(pixels, scene_points, None, weights, focal_px, center_px)
    options = rgb.Options(
        float(threshold_px), float(largest_depth or 0.0), float(effort[0]), int(effort[1]), _checked_seed(seed)
    )
    return _solve(_rgb_kernel, images, options, effort)


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
    effort: Effort = _USUAL,
) -> Solution:
    """Robust poses from pixels with depth, and without: `depths` (B, N) along the optical axis, NaN, 0 = none.

    Minimal sets are of points with depth; an inlier is within `threshold_m` of its camera point, one without
    depth of its ray. The sensor's standard deviation is `depth_noise` at 1 m and grows with the square of the
    depth (structured light; the default is the Kinect's). The rest is as in `solve_rgb`.
    """
    check_positive("threshold_m", threshold_m)
    if not 0 <= depth_noise < math.inf:
        raise ValueError(f"depth_noise: expected 0 or more, got {depth_noise}")
    images = Images(pixels, scene_points, depths, weights, focal_px, center_px)
    options = rgbd.Options(
        float(threshold_m), float(depth_noise), float(effort[0]), int(effort[1]), _checked_seed(seed)
    )
    return _solve(_rgbd_kernel, images, options, effort)


def _solve(kernel: Callable[[], Kernel], images: Images, options: tuple, effort: Effort) -> Solution:
    """Of arrays and tensors as they came."""
    pixels, scene_points, depths, weights, focal_px, center_px = images
    size_and_count = check_rows(pixels, scene_points, focal_px, center_px, weights)
    if kernel is _rgbd_kernel:
        check_array("depths", depths, size_and_count)
    if effort is not _USUAL:
        effort.check()
    for array in images:  # any() would be another kind of step, a generator
        if array is not None and not isinstance(array, np.ndarray):
            arrays = Images(*(None if x is None else numpy_array(x) for x in images))
            found = _solve_arrays(kernel(), arrays, options, effort.threads)
            return found if isinstance(pixels, np.ndarray) else Solution(*map(torch.from_numpy, found))
    return _solve_arrays(kernel(), images, options, effort.threads)


def _solve_arrays(solve: Kernel, images: Images, options: tuple, threads: int) -> Solution:
    """Call a kernel on the images, in threads.

    Few steps on purpose, and few kinds of them: when other work has emptied the processor's caches, they take
    as long as the kernel.
    """
    pixels, scene, depths, weights, focal, middle = images
    shift = None
    if scene.dtype == _FLOAT64:
        scene, shift = _centred(np.ascontiguousarray(scene))
    size, count, _ = scene.shape
    if weights is None:
        weights = np.empty((size, 0), _FLOAT32)
    found = _empty_solution(size, count)
    arrays = Images(
        _loop_array(pixels, _FLOAT32),
        _loop_array(scene, _FLOAT32),
        None if depths is None else _loop_array(depths, _FLOAT32),
        _loop_array(weights, _FLOAT32),
        _loop_array(focal, _FLOAT64),
        _loop_array(middle, _FLOAT64),
    )
    if threads <= 1 or size <= 1:
        solve(arrays, found, options)
    else:

        def solve_part(part: slice) -> None:
            some = Images(*(None if x is None else x[part] for x in arrays))
            solve(some, Solution(*(x[part] for x in found)), options)

        _in_parallel(solve_part, size, threads)
    if shift is not None:
        known = found.information.any((1, 2))
        found.translation[known] -= (found.rotation @ shift[..., None])[known, :, 0]
    return found


def _in_parallel(solve: Callable[[slice], None], size: int, threads: int) -> None:
    """Solve slices of the batch in this thread and others, as the kernels release the interpreter."""
    length = max(1, min(_SLICE, size // (4 * threads)))  # short ones even out hard images
    slices = iter([slice(i, min(i + length, size)) for i in range(0, size, length)])

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


def _checked_seed(seed: int) -> int:
    if not (isinstance(seed, (int, np.integer)) and -(2**63) <= seed < 2**63):
        raise ValueError(f"seed: expected a whole number of 64 bits, got {seed}")
    return int(seed)


def _loop_array(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """As the kernels are compiled for: they are called without a look at types."""
    array = np.ascontiguousarray(array, dtype)
    return array if array.flags.aligned else array.copy()


def _centred(scene_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 points about their centre, so that float32 is enough for them, and the centre."""
    shift = np.empty((len(scene_points), 3))
    for points, center in zip(scene_points, shift, strict=True):
        median_point(points, center)
    return scene_points - shift[:, None], shift


# ---- the kernels as compiled -------------------------------------------------------------------------

Kernel = Callable[[Images, Solution, tuple], None]


def _empty_solution(size: int, count: int) -> Solution:
    return Solution(
        np.empty((size, 3, 3), _FLOAT64),
        np.empty((size, 3), _FLOAT64),
        np.empty((size, count), _BOOL),
        np.empty((size, 6, 6), _FLOAT64),
        np.empty(size, _INT64),
        np.empty(size, _INT64),
    )


def _example(depths: np.ndarray | None) -> Images:
    values, pairs = np.empty((0, 0), _FLOAT32), np.empty((0, 2))
    return Images(np.empty((0, 0, 2), _FLOAT32), np.empty((0, 0, 3), _FLOAT32), depths, values, pairs, pairs)


@functools.cache
def _rgb_kernel() -> Kernel:
    options = rgb.Options(1.0, 0.0, 0.5, 1, 0)
    return entry(rgb.solve_images, _example(None), _empty_solution(0, 0), options)


@functools.cache
def _rgbd_kernel() -> Kernel:
    options = rgbd.Options(1.0, 0.0, 0.5, 1, 0)
    return entry(rgbd.solve_images, _example(np.empty((0, 0), _FLOAT32)), _empty_solution(0, 0), options)
