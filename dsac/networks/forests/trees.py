"""Trees that ask how an image differs between two places near a pixel, and the leaf that they lead it to.

A node compares two channels of an image I at two offsets δ from the pixel p,

    v(p) = I(p + A δ₀, c₀) − I(p + A δ₁, c₁)          left where v < threshold, else right

(Shotton et al., CVPR 2013). A is a *frame* of the pixel: what turns and scales the offsets. With depth D it is
the inverse of D, so that the same places of the scene are compared from near and far; without, the identity.
While trees grow, frames are turned at random: one photo stands for many. Where c₁ is negative there is but one
place.

The nodes of one tree come after those of another, and children after their parent. `trees_numba.py` has the
fast `descend`, with the same arguments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int16, Int32

from dsac.kernels.arrays import check_array

OFFSET_UNIT = 1 / 16  # of a pixel
THRESHOLD = 6  # its place in a test
NOWHERE = -1  # the leaf of a pixel whose frame is not above 0


@dataclass(frozen=True, eq=False)
class Trees:
    """Trees of one forest. Raises: `ValueError` for nodes that lead in a circle or to what is not there."""

    tests: Int16[np.ndarray, "M 7"]  # of each node: x₀, y₀, x₁, y₁ in units of offsets, c₀, c₁, threshold
    child: Int32[np.ndarray, " M"]  # the node to the left, before that to the right; of a leaf ~ its number
    roots: Int32[np.ndarray, " T"]
    channels: int  # of the images that they look at

    def __post_init__(self) -> None:
        count = len(self.child)
        for name, array, dtype, shape in (
            ("tests", self.tests, np.int16, (count, THRESHOLD + 1)),
            ("child", self.child, np.int32, (count,)),
            ("roots", self.roots, np.int32, (len(self.roots),)),
        ):
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name}: expected {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}")
        beyond = (self.roots < 0) | (self.roots >= count)
        if beyond.any():
            raise ValueError(
                f"damaged trees: a root is node {self.roots[beyond][0]}, expected less than {count}"
            )
        child, (first, second) = self.child.astype(np.int64), self.tests[:, 4:6].T
        for wrong, what, target in (
            (child <= np.arange(count), "leads back to node", child),
            (child + 1 >= count, f"leads beyond the last of {count}, to node", child),
            ((first < 0) | (first >= self.channels), f"looks at none of {self.channels} channels,", first),
            (second >= self.channels, f"looks at none of {self.channels} channels,", second),
        ):
            if (wrong & (child >= 0)).any():
                node = int((wrong & (child >= 0)).argmax())
                raise ValueError(f"damaged trees: node {node} {what} {target[node]}")

    @property
    def num_leaves(self) -> int:
        """One more than the largest number of a leaf."""
        return int((~self.child).max(initial=-1)) + 1


def descend(
    trees: Trees,
    image: Int16[np.ndarray, "H W C"],
    pixels: Int32[np.ndarray, "N 2"],  # columns to its left and rows above it
    frames: Float32[np.ndarray, "N 2"],  # the first column of A
) -> Int32[np.ndarray, "T N"]:
    """The leaf of each pixel in each tree; what lies beyond the image is what its border shows.

    Raises: `ValueError` for arrays of other shapes and pixels beyond the image.
    """
    check_descent(trees, image, pixels, frames)
    leaves = np.full((len(trees.roots), len(pixels)), NOWHERE, np.int32)
    for tree, root in enumerate(trees.roots):
        rows = np.flatnonzero(frames[:, 0] > 0)
        node = np.full(len(rows), root)
        while len(rows):
            ended = trees.child[node] < 0
            leaves[tree, rows[ended]] = ~trees.child[node[ended]]
            rows, node = rows[~ended], node[~ended]
            tests = trees.tests[node]
            right = responses(image, pixels[rows], frames[rows], tests) >= tests[:, THRESHOLD]
            node = trees.child[node] + right
    return leaves


def responses(
    image: Int16[np.ndarray, "H W C"],
    pixels: Int32[np.ndarray, "N 2"],
    frames: Float32[np.ndarray, "N 2"],
    tests: Int16[np.ndarray, "N 7"],
) -> Int32[np.ndarray, " N"]:
    """v of each pixel by a test of its own."""
    height, width, _ = image.shape
    a, b = np.float32(OFFSET_UNIT) * frames.T
    values = np.zeros((2, len(pixels)), np.int32)
    for i in range(2):
        x, y = tests[:, 2 * i : 2 * i + 2].T.astype(np.float32)
        column = pixels[:, 0] + (a * x - b * y)
        row = pixels[:, 1] + (b * x + a * y)
        column, row = (np.clip(c, 0, side - 1).astype(np.int32) for c, side in ((column, width), (row, height)))
        values[i] = image[row, column, tests[:, 4 + i]]
    return values[0] - np.where(tests[:, 5] >= 0, values[1], 0)


def check_descent(
    trees: Trees,
    image: Int16[np.ndarray, "H W C"],
    pixels: Int32[np.ndarray, "N 2"],
    frames: Float32[np.ndarray, "N 2"],
) -> None:
    """Raises: `ValueError` for what a compiled descent would read beyond the end of."""
    if image.ndim != 3 or image.dtype != np.int16 or image.shape[2] != trees.channels or 0 in image.shape:
        raise ValueError(f"image: expected 16 bits (H, W, {trees.channels}), got {image.dtype} {image.shape}")
    check_array("frames", frames, (len(pixels), 2))
    if pixels.shape != (len(pixels), 2) or pixels.dtype != np.int32:
        raise ValueError(f"pixels: expected whole numbers (N, 2), got {pixels.dtype} {pixels.shape}")
    height, width, _ = image.shape
    if not ((pixels >= 0) & (pixels < (width, height))).all():
        raise ValueError(f"pixels: expected columns and rows of {width}×{height}")
    if not np.isfinite(frames).all():
        raise ValueError("frames: expected finite numbers")
