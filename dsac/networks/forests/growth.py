"""How a tree grows: each node takes the test that leaves the scene points of its two children least scattered.

    gain = Σ_children n_child |mean of the child's points − mean of all|²

which is largest where the variances within the children are least (Shotton et al., CVPR 2013). A node draws its
tests at random: two offsets within a radius, a pair of channels, and as thresholds what a few of its samples
answer. It judges them by a part of its samples; all of them then go left or right. Nodes are numbered level by
level.

Of each test the sums of the points between its thresholds are kept: all thresholds cost as much as one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int16, Int32, Int64

from dsac.kernels.arrays import check_array, check_count, check_positive
from dsac.kernels.jit import kernel
from dsac.kernels.search.points import below, mixed
from dsac.networks.forests.trees import OFFSET_UNIT, THRESHOLD
from dsac.networks.forests.trees_numba import response


class Samples(NamedTuple):
    """Pixels of some images whose scene points are known."""

    images: Int16[np.ndarray, "B H W C"]
    image: Int32[np.ndarray, " N"]  # in which each pixel lies
    pixels: Int32[np.ndarray, "N 2"]  # column and row
    frames: Float32[np.ndarray, "N 2"]  # see `trees.py`
    points: Float32[np.ndarray, "N 3"]  # metres

    def check(self) -> None:
        """Raises: `ValueError` for what a compiled loop would read beyond the end of."""
        count = len(self.points)
        if self.images.ndim != 4 or self.images.dtype != np.int16 or 0 in self.images.shape:
            raise ValueError(
                f"images: expected 16 bits (B, H, W, C), got {self.images.dtype} {self.images.shape}"
            )
        images, height, width, _ = self.images.shape
        for name, array, shape, limit in (
            ("image", self.image[..., None], (count, 1), (images,)),
            ("pixels", self.pixels, (count, 2), (width, height)),
        ):
            if array.shape != shape or array.dtype != np.int32:
                raise ValueError(f"{name}: expected whole numbers {shape}, got {array.dtype} {array.shape}")
            if not ((array >= 0) & (array < limit)).all():
                raise ValueError(f"{name}: expected less than {limit}, got {array.max(0)}")
        for name, array, width in (("frames", self.frames, 2), ("points", self.points, 3)):
            check_array(name, array, (count, width))
            if not np.isfinite(array).all():
                raise ValueError(f"{name}: expected finite numbers")


class Growth(NamedTuple):
    """When a node splits, and how hard it looks for a test."""

    pairs: Int8[np.ndarray, "P 2"]  # of channels, as likely as they stand here; a second one below 0 is none
    radius_px: float  # of the offsets in a frame of length one
    smallest: float  # standard deviation of points that are one place, metres
    least: int = 10  # samples of a child
    num_tests: int = 128
    num_judged: int = 400  # samples


class Grown(NamedTuple):
    """A tree, as in `Trees`, and which samples its leaves have."""

    tests: Int16[np.ndarray, "M 7"]
    child: Int32[np.ndarray, " M"]
    order: Int64[np.ndarray, " N"]  # samples, those of leaf 0 first
    starts: Int64[np.ndarray, " S"]  # where in `order` each leaf's begin, and the end


def grow(samples: Samples, growth: Growth, seed: int, stop: Bool[np.ndarray, "1"] | None = None) -> Grown:
    """One tree; who waits for it in another thread may set `stop`, and its nodes split no more.

    Raises: `ValueError` for arrays that do not go together.
    """
    samples.check()
    for name in ("least", "num_tests", "num_judged"):
        check_count(name, getattr(growth, name), 1)
    pairs, channels = growth.pairs, samples.images.shape[3]
    fits = pairs.ndim == 2 and pairs.shape[1] == 2 and len(pairs) and pairs[:, 0].min() >= 0
    if not (fits and pairs.max() < channels):
        raise ValueError(f"pairs: expected some of {channels} channels, got {pairs.tolist()}")
    check_positive("radius_px", growth.radius_px)
    if growth.radius_px / OFFSET_UNIT >= 2**15:
        raise ValueError(f"radius_px: expected less than {2**15 * OFFSET_UNIT}, got {growth.radius_px}")
    order = np.random.default_rng(seed).permutation(len(samples.points))
    most = 2 * (len(order) // growth.least) + 1
    tests, child = np.zeros((most, THRESHOLD + 1), np.int16), np.zeros(most, np.int32)
    bounds = np.zeros((most, 2), np.int64)
    count = _grow(
        tuple(np.ascontiguousarray(array) for array in samples),
        np.ascontiguousarray(pairs, np.int8),
        tuple(map(float, growth[1:])),
        seed,
        np.zeros(1, bool) if stop is None else stop,
        order,
        (tests, child, bounds),
    )
    leaves = np.flatnonzero(child[:count] < 0)
    leaves = leaves[np.argsort(bounds[leaves, 0])]
    child[leaves] = ~np.arange(len(leaves), dtype=np.int32)
    return Grown(tests[:count].copy(), child[:count].copy(), order, np.append(bounds[leaves, 0], len(order)))


_BINS = 16  # between and beside the thresholds of a test
_IN_PLACE = 0.2  # of the tests have their second place at the pixel itself
_LEVELS = 2**24  # of a random number


@kernel
def _grow(samples, pairs, limits, seed, stop, order, tree):
    """Fill the `tree`: tests, children and what part of `order` each node has; returns the number of nodes."""
    tests, child, bounds = tree
    radius, smallest, least, num_tests, judged = limits
    state = np.empty(1, np.uint64)
    state[0] = mixed(np.uint64(seed))
    drawn = np.empty((int(num_tests), THRESHOLD + 1), np.int16)
    thresholds, sums = np.empty((len(drawn), _BINS - 1), np.int16), np.empty((len(drawn), _BINS, 4), np.float32)
    mean = np.empty(3, np.float32)
    bounds[0, 1] = len(order)
    count, node = 1, 0
    while node < count:
        begin, end = bounds[node]
        child[node] = -1
        part = order[begin : min(end, begin + int(judged))]  # by chance: nothing sorts the samples of a node
        if not stop[0] and end - begin >= 2 * least and _scatter(samples[4], part, mean) > smallest**2:
            _draw_tests(pairs, radius, state, drawn)
            _draw_thresholds(samples, part, drawn, state, thresholds)
            _sum_up(samples, part, mean, drawn, thresholds, sums)
            best, place = _best(sums, len(part), least * len(part) / (end - begin))
            if best >= 0:
                tests[node] = drawn[best]
                tests[node, THRESHOLD] = thresholds[best, place]
                middle = _parted(samples, order, begin, end, tests, node)
                if middle - begin >= least and end - middle >= least:
                    child[node] = count
                    bounds[count, 0], bounds[count, 1] = begin, middle
                    bounds[count + 1, 0], bounds[count + 1, 1] = middle, end
                    count += 2
        node += 1
    return count


@kernel
def _scatter(points, part, mean):
    """Variance of some points, summed over the axes, and their mean."""
    mean[:] = 0.0
    for i in part:
        for k in range(3):
            mean[k] += points[i, k] / np.float32(len(part))
    total = 0.0
    for i in part:
        for k in range(3):
            total += (points[i, k] - mean[k]) ** 2
    return total / len(part)


@kernel
def _draw_tests(pairs, radius, state, drawn):
    for test in range(len(drawn)):
        pair = below(state, len(pairs))
        drawn[test, 4], drawn[test, 5] = pairs[pair, 0], pairs[pair, 1]
        for k in range(0, 4, 2):
            length = radius / OFFSET_UNIT * below(state, _LEVELS) / _LEVELS
            angle = 2.0 * math.pi * below(state, _LEVELS) / _LEVELS
            drawn[test, k], drawn[test, k + 1] = int(length * math.cos(angle)), int(length * math.sin(angle))
        if pairs[pair, 0] == pairs[pair, 1] and below(state, _LEVELS) < _IN_PLACE * _LEVELS:
            drawn[test, 2] = drawn[test, 3] = 0


@kernel
def _draw_thresholds(samples, part, drawn, state, thresholds):
    """What a few samples answer to each test, in order: about as many samples lie between any two."""
    images, image, pixels, frames, _ = samples
    for test in range(len(drawn)):
        for k in range(_BINS - 1):
            i = part[below(state, len(part))]
            value = response(
                images, image[i], pixels[i, 0], pixels[i, 1], frames[i, 0], frames[i, 1], drawn, test
            )
            place = k
            while place > 0 and thresholds[test, place - 1] > value:
                thresholds[test, place] = thresholds[test, place - 1]
                place -= 1
            thresholds[test, place] = value


@kernel
def _sum_up(samples, part, mean, drawn, thresholds, sums):
    """Number and sum of the points about their mean between the thresholds of each test."""
    images, image, pixels, frames, points = samples
    sums[:] = 0.0
    for i in part:
        which, column, row, a, b = image[i], pixels[i, 0], pixels[i, 1], frames[i, 0], frames[i, 1]
        x, y, z = points[i, 0] - mean[0], points[i, 1] - mean[1], points[i, 2] - mean[2]
        for test in range(len(drawn)):
            value = response(images, which, column, row, a, b, drawn, test)
            k = np.int64(value >= thresholds[test, 7]) * 8  # by halves, without branches
            k += np.int64(value >= thresholds[test, k + 3]) * 4
            k += np.int64(value >= thresholds[test, k + 1]) * 2
            k += np.int64(value >= thresholds[test, k])
            sums[test, k, 0] += np.float32(1.0)
            sums[test, k, 1] += x
            sums[test, k, 2] += y
            sums[test, k, 3] += z


@kernel
def _best(sums, total, least):
    """The test and its threshold of the largest gain that leave each child so many; -1 if there is none.

    The points are about their mean: where those to the left sum up to s, the others do to −s.
    """
    largest, best, place = 0.0, -1, 0
    for test in range(len(sums)):
        n = x = y = z = 0.0
        for k in range(_BINS - 1):
            n += sums[test, k, 0]
            x += sums[test, k, 1]
            y += sums[test, k, 2]
            z += sums[test, k, 3]
            if n < least or total - n < least:
                continue
            gain = (x * x + y * y + z * z) * (1.0 / n + 1.0 / (total - n))
            if gain > largest:
                largest, best, place = gain, test, k
    return best, place


@kernel
def _parted(samples, order, begin, end, tests, node):
    """Put the samples that go left first; returns where the others begin."""
    images, image, pixels, frames, _ = samples
    left, right = begin, end
    while left < right:
        i = order[left]
        value = response(images, image[i], pixels[i, 0], pixels[i, 1], frames[i, 0], frames[i, 1], tests, node)
        if value < tests[node, THRESHOLD]:
            left += 1
        else:
            right -= 1
            order[left], order[right] = order[right], i
    return left
