"""Modes: the few places where points gather, of a leaf's samples by mean shift, and of several trees' leaves.

A mode is a point with a covariance and the share of the evidence that gathers there. Mean shift (Comaniciu &
Meer, PAMI 2002) climbs the density of the points under a Gaussian of the *bandwidth*; what lies within two
bandwidths of the top belongs to the mode, and the next is sought among the rest (Shotton et al., CVPR 2013;
modes with covariances: Brachmann et al., CVPR 2016). `modes_numba.py` has both fast, with the same arguments.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int32, Int64

NUM_MODES = 3  # of a leaf
STARTS = 32  # points of a leaf from which a climb may start
CLIMBS = 10  # steps of it
LEAST_SHARE = 0.1  # of a leaf's points that are a mode
SMALLEST = 0.2  # standard deviation of a mode, bandwidths: what few points agree on is not exact
DIAGONAL = [0, 3, 5]  # of the six numbers of a covariance
_UPPER = np.triu_indices(3)


class Modes(NamedTuple):
    """Of L leaves, or of L pixels; probability 0 fills up."""

    points: Float32[np.ndarray, "L K 3"]  # metres
    covariance: Float32[np.ndarray, "L K 6"]  # metres²: xx, xy, xz, yy, yz, zz
    probability: Float32[np.ndarray, "L K"]

    @staticmethod
    def none(count: int, modes: int) -> Modes:
        shape = count, modes
        return Modes(np.zeros((*shape, 3), np.float32), isotropic(np.ones(shape)), np.zeros(shape, np.float32))

    @property
    def scale(self) -> Float32[np.ndarray, "L K"]:
        """Standard deviation along an axis in the mean, metres."""
        return np.sqrt(self.covariance[..., DIAGONAL].mean(-1))

    def check(self) -> None:
        """Raises: `ValueError` for arrays that do not go together."""
        shape = self.probability.shape
        for name, array, expected in zip(self._fields, self, ((*shape, 3), (*shape, 6), shape), strict=True):
            if array.shape != expected or array.dtype != np.float32 or len(shape) != 2:
                raise ValueError(f"{name}: expected 32 bits {expected}, got {array.dtype} {array.shape}")


def leaf_modes(
    points: Float32[np.ndarray, "N 3"],  # those of a leaf one after another
    starts: Int64[np.ndarray, " S"],  # where each leaf's begin, and the end
    bandwidth: float,
) -> Modes:
    """The modes of each leaf. Raises: `ValueError` for starts that are not in order."""
    check_leaves(points, starts)
    found = Modes.none(len(starts) - 1, NUM_MODES)
    for leaf in range(len(starts) - 1):
        free = points[starts[leaf] : starts[leaf + 1]].astype(np.float64)
        total = len(free)
        for mode in range(NUM_MODES):
            if len(free) == 0 or len(free) < LEAST_SHARE * total:
                break
            candidates = free[:: max(1, len(free) // STARTS)]
            top = candidates[_gaussian(candidates, free, bandwidth).sum(1).argmax()]
            for _ in range(CLIMBS):
                near = _gaussian(top[None], free, bandwidth)[0]
                top = near @ free / near.sum()
            squares = ((free - top) ** 2).sum(1)
            own = squares <= (2 * bandwidth) ** 2
            if not own.any():
                break
            found.points[leaf, mode] = top
            off = free[own] - top
            found.covariance[leaf, mode] = isotropic((SMALLEST * bandwidth) ** 2) + _six(
                off.T @ off / own.sum()
            )
            found.probability[leaf, mode] = own.sum() / total
            free = free[~own]
    return found


def merged(leaves: Int32[np.ndarray, "T N"], modes: Modes, count: int, bandwidth: float) -> Modes:
    """At most `count` modes of each pixel, of those of its leaves in all trees.

    Modes of several trees that agree become one, at their mean weighted by inverse variances; those on which
    most evidence gathers come first. Probabilities are shares of all trees.
    Raises: `ValueError` for leaves that are not there.
    """
    check_merge(leaves, modes)
    trees, pixels = leaves.shape
    found = Modes.none(pixels, count)
    for pixel in range(pixels):
        known = leaves[leaves[:, pixel] >= 0, pixel]
        points = modes.points[known].reshape(-1, 3).astype(np.float64)
        covariance = modes.covariance[known].reshape(-1, 6).astype(np.float64)
        weight = modes.probability[known].reshape(-1).astype(np.float64)
        for mode in range(count):
            points, covariance, weight = (x[weight > 0] for x in (points, covariance, weight))
            if len(points) == 0:
                break
            wide = covariance[:, DIAGONAL].mean(-1) + bandwidth**2
            squares = ((points[:, None] - points) ** 2).sum(-1)
            top = (weight * np.exp(-0.5 * squares / wide)).sum(1).argmax()
            own = squares[top] <= 4 * wide
            share = weight[own] * np.exp(-0.5 * squares[top][own] / wide[own]) / wide[own]
            share /= share.sum()
            off = points[own] - points[top]
            found.points[pixel, mode] = share @ points[own]
            found.covariance[pixel, mode] = share @ covariance[own] + _six((share * off.T) @ off)
            found.probability[pixel, mode] = weight[own].sum() / trees
            weight[own] = 0.0
    return found


def isotropic(variance: Float[np.ndarray, "*batch"] | float) -> Float32[np.ndarray, "*batch 6"]:
    """The covariance with this variance along every axis."""
    return np.multiply.outer(variance, np.array([1, 0, 0, 1, 0, 1])).astype(np.float32)


def _six(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 6"]:
    return matrix[_UPPER]


def check_leaves(points: np.ndarray, starts: np.ndarray) -> None:
    """Raises: `ValueError` for what a compiled loop would read beyond the end of."""
    if points.shape != (len(points), 3) or points.dtype != np.float32:
        raise ValueError(f"points: expected 32 bits (N, 3), got {points.dtype} {points.shape}")
    good = starts.ndim == 1 and starts.dtype == np.int64 and len(starts) and starts[0] >= 0
    if not (good and (np.diff(starts) >= 0).all() and starts[-1] <= len(points)):
        raise ValueError(f"starts: expected growing numbers up to {len(points)}, got {starts}")


def check_merge(leaves: np.ndarray, modes: Modes) -> None:
    """Raises: `ValueError` for what a compiled loop would read beyond the end of."""
    modes.check()
    if leaves.ndim != 2 or leaves.dtype != np.int32:
        raise ValueError(f"leaves: expected whole numbers (T, N), got {leaves.dtype} {leaves.shape}")
    if leaves.size and leaves.max() >= len(modes.points):
        raise ValueError(f"leaves: expected numbers below {len(modes.points)}, got {leaves.max()}")


def _gaussian(
    centers: Float[np.ndarray, "M 3"], points: Float[np.ndarray, "N 3"], bandwidth: float
) -> Float[np.ndarray, "M N"]:
    return np.exp(-0.5 * ((centers[:, None] - points) ** 2).sum(-1) / bandwidth**2)
