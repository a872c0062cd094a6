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
from operator import index
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import types

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
    depth = float(largest_depth or 0.0)
    options = (float(threshold_px), depth, effort.confidence, effort.max_hypotheses, index(seed))
    return _solve(_rgb_kernel, (pixels, scene_points, None, weights, focal_px, center_px), options, effort)


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
    noise = float(depth_noise)
    options = (float(threshold_m), noise, effort.confidence, effort.max_hypotheses, index(seed))
    return _solve(_rgbd_kernel, (pixels, scene_points, depths, weights, focal_px, center_px), options, effort)


def _solve(kernel: Callable[[], Kernel], inputs: tuple[Any, ...], options: tuple, effort: Effort) -> Solution:
    """Call a kernel in threads; inputs and options are the fields of its `Images` and `Options`.

    Few steps on purpose, and few kinds of them: when other work has emptied the processor's caches, they take
    as long as the kernel. So tuples have no names, and what is checked is asked at once before it is named.
    """
    pixels, scene, depths, weights, focal, middle = inputs
    for array in inputs:  # any() would be another kind of step, a generator
        if array is not None and not isinstance(array, np.ndarray):
            found = _solve(kernel, _numpy(inputs), options, effort)
            return found if isinstance(pixels, np.ndarray) else Solution(*map(torch.from_numpy, found))
    size, count, axes = scene.shape if scene.ndim == 3 else (0, 0, 0)
    if not (
        axes == 3
        and pixels.shape == (size, count, 2)
        and focal.shape == middle.shape == (size, 2)
        and pixels.dtype.kind == scene.dtype.kind == focal.dtype.kind == middle.dtype.kind == "f"
    ):
        check_rows(pixels, scene, focal, middle, weights)
    if weights is None:
        weights = np.empty((size, 0), _FLOAT32)
    else:
        check_array("weights", weights, (size, count))
    if kernel is _rgbd_kernel:
        check_array("depths", depths, (size, count))
        depths = np.ascontiguousarray(depths, _FLOAT32)
    if effort is not _USUAL:
        effort.check()
    shift = None
    if scene.dtype.char == "d":
        scene, shift = _centred(np.ascontiguousarray(scene, _FLOAT64))
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
        depths,
        np.ascontiguousarray(weights, _FLOAT32),
        np.ascontiguousarray(focal, _FLOAT64),
        np.ascontiguousarray(middle, _FLOAT64),
    )
    solve = kernel()
    if effort.threads <= 1 or size <= 1:
        solve(arrays, found, options)
    else:

        def solve_part(part: slice) -> None:
            some = tuple(None if x is None else x[part] for x in arrays)
            solve(some, tuple(x[part] for x in found), options)

        _in_parallel(solve_part, size, effort.threads)
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


def _numpy(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    try:
        return tuple(map(numpy_array, inputs))
    except AttributeError:  # neither array nor tensor
        pixels, scene, depths, weights, focal, middle = inputs
        check_array("depths", depths, check_rows(pixels, scene, focal, middle, weights))
        raise


def _centred(scene_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 points about their centre, so that float32 is enough for them, and the centre."""
    shift = np.empty((len(scene_points), 3))
    for points, center in zip(scene_points, shift, strict=True):
        median_point(points, center)
    return scene_points - shift[:, None], shift


# ---- the kernels as compiled -------------------------------------------------------------------------

Kernel = Callable[[tuple, tuple, tuple], None]  # `Images`, `Solution`, `Options`


@functools.cache
def _rgb_kernel() -> Kernel:
    return entry(rgb.solve_images, *_types(types.none, rgb.Options))


@functools.cache
def _rgbd_kernel() -> Kernel:
    return entry(rgbd.solve_images, *_types(_array(types.float32, 2), rgbd.Options))


def _types(depths: types.Type, options: type) -> tuple[types.Type, ...]:
    single, double, whole = types.float32, types.float64, types.int64
    inputs = [_array(single, 3), _array(single, 3), depths, *(_array(t, 2) for t in (single, double, double))]
    found = [(double, 3), (double, 2), (types.boolean, 2), (double, 3), (whole, 1), (whole, 1)]
    return (
        types.NamedTuple(inputs, Images),
        types.NamedTuple([types.Array(dtype, axes, "C") for dtype, axes in found], Solution),
        types.NamedTuple([double, double, double, whole, whole], options),
    )


def _array(dtype: types.Type, axes: int) -> types.Array:
    """Of a caller, who may hand us a view of bytes that begins anywhere."""
    return types.Array(dtype, axes, "C", aligned=False)
