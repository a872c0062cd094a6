"""Descent of trees, compiled: same names and arguments as in `trees.py`, which says what is computed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int16, Int32

from dsac.kernels.jit import inlined, kernel
from dsac.networks.forests.trees import NOWHERE, OFFSET_UNIT, THRESHOLD, Trees, check_descent


def descend(
    trees: Trees,
    image: Int16[np.ndarray, "H W C"],
    pixels: Int32[np.ndarray, "N 2"],
    frames: Float32[np.ndarray, "N 2"],
) -> Int32[np.ndarray, "T N"]:
    """As in `trees.py`. Raises: `ValueError` likewise."""
    check_descent(trees, image, pixels, frames)
    leaves = np.empty((len(trees.roots), len(pixels)), np.int32)
    of_pixels = image[None], pixels, np.asarray(frames, np.float32)
    _descend(*map(np.ascontiguousarray, (*of_pixels, trees.tests, trees.child, trees.roots)), leaves)
    return leaves


@kernel
def _descend(images, pixels, frames, tests, child, roots, leaves):
    for tree in range(len(roots)):
        for i in range(len(pixels)):
            if not frames[i, 0] > np.float32(0.0):
                leaves[tree, i] = NOWHERE
                continue
            node = np.int64(roots[tree])
            while child[node] >= 0:
                value = response(images, 0, pixels[i, 0], pixels[i, 1], frames[i, 0], frames[i, 1], tests, node)
                node = np.int64(child[node]) + np.int64(value >= tests[node, THRESHOLD])
            leaves[tree, i] = ~child[node]


@inlined
def response(images, image, column, row, a, b, tests, test):
    """v of one pixel of one of some images (B, H, W, C) by one of some tests."""
    zero = np.float32(0.0)
    bottom, right = np.float32(images.shape[1] - 1), np.float32(images.shape[2] - 1)
    x, y = np.float32(column), np.float32(row)
    a, b = a * np.float32(OFFSET_UNIT), b * np.float32(OFFSET_UNIT)
    u, v = np.float32(tests[test, 0]), np.float32(tests[test, 1])
    i, j = int(min(max(y + (b * u + a * v), zero), bottom)), int(min(max(x + (a * u - b * v), zero), right))
    value = np.int32(images[image, i, j, tests[test, 4]])
    if tests[test, 5] >= 0:
        u, v = np.float32(tests[test, 2]), np.float32(tests[test, 3])
        i, j = int(min(max(y + (b * u + a * v), zero), bottom)), int(min(max(x + (a * u - b * v), zero), right))
        value -= np.int32(images[image, i, j, tests[test, 5]])
    return value
