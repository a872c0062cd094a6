"""Descent of trees: the compiled one finds the reference's leaves, and damaged trees are never walked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dsac.networks.forests import trees as reference
from dsac.networks.forests import trees_numba
from dsac.networks.forests.trees import NOWHERE, Trees

DESCENTS = [reference.descend, trees_numba.descend]
H, W, C = 24, 36, 3


def _tests(rng: np.random.Generator, count: int) -> np.ndarray:
    offsets, first = rng.integers(-300, 300, (count, 4)), rng.integers(0, C, (count, 1))
    second, threshold = rng.integers(-1, C, (count, 1)), rng.integers(-100, 100, (count, 1))
    return np.hstack([offsets, first, second, threshold]).astype(np.int16)


def _forest(rng: np.random.Generator, num_trees: int = 3, inner: int = 40) -> Trees:
    """Trees of any shape, leaves numbered throughout."""
    child, roots, leaves = [], [], 0
    for _ in range(num_trees):
        first, open_nodes, of_tree = len(child), [0], [0]
        roots.append(first)
        for _ in range(inner):
            node = open_nodes.pop(int(rng.integers(len(open_nodes))))
            of_tree[node] = first + len(of_tree)
            open_nodes += [len(of_tree), len(of_tree) + 1]
            of_tree += [0, 0]
        # a child comes after its parent: those that were opened first were numbered first
        for node in open_nodes:
            of_tree[node] = ~leaves
            leaves += 1
        child += of_tree
    return Trees(_tests(rng, len(child)), np.array(child, np.int32), np.array(roots, np.int32), C)


def _photo(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    image = rng.integers(0, 256, (H, W, C)).astype(np.int16)
    pixels = np.stack([rng.integers(0, W, 500), rng.integers(0, H, 500)], axis=-1).astype(np.int32)
    return image, pixels


def test_the_compiled_descent_finds_the_same_leaves() -> None:
    rng = np.random.default_rng(0)
    trees, (image, pixels) = _forest(rng), _photo(rng)
    straight = np.tile(np.array([0.5, 0.0], np.float32), (len(pixels), 1))  # places are exact in float32
    straight[::7] = 0.0
    expected = reference.descend(trees, image, pixels, straight)
    np.testing.assert_array_equal(trees_numba.descend(trees, image, pixels, straight), expected)
    assert (expected[:, ::7] == NOWHERE).all() and len(np.unique(expected)) > 40
    turned = rng.uniform(0.2, 2.0, (len(pixels), 2)).astype(np.float32)
    both = [descend(trees, image, pixels, turned) for descend in DESCENTS]
    assert (both[0] == both[1]).mean() > 0.99  # but for places that rounding puts into another pixel


@pytest.mark.parametrize("descend", DESCENTS)
def test_a_test_compares_two_places_in_the_frame_of_the_pixel(descend: Callable) -> None:
    image = np.zeros((H, W, C), np.int16)
    image[4, 9, 1], image[10, 6, 2] = 90, 50
    # (+3, -4) and (0, +2) of the pixel (6, 8): 90 of channel 1 against 50 of channel 2
    for threshold, leaf in ((40, 1), (41, 0)):
        tests = np.array([[48, -64, 0, 32, 1, 2, threshold], [0] * 7, [0] * 7], np.int16)
        trees = Trees(tests, np.array([1, ~0, ~1], np.int32), np.zeros(1, np.int32), C)
        found = descend(trees, image, np.array([[6, 8]], np.int32), np.array([[1, 0]], np.float32))
        assert found.tolist() == [[leaf]]
    # the same turned by a quarter, x to y, and half as far: (+2, +1.5) and (-1, 0) of the pixel (7, 10)
    image[:] = 0
    image[11, 9, 1], image[10, 6, 2] = 90, 50
    quarter = np.array([[0.0, 0.5]], np.float32)
    quarter[0, 0] = 1e-6  # a frame's first number is above 0
    assert descend(trees, image, np.array([[7, 10]], np.int32), quarter).tolist() == [[0]]


@pytest.mark.parametrize("descend", DESCENTS)
def test_beyond_the_image_is_what_its_border_shows(descend: Callable) -> None:
    image = np.zeros((H, W, C), np.int16)
    image[0, :, 0], image[:, -1, 1] = 70, 30
    tests = np.array([[0, -32000, 32000, 0, 0, 1, 40], [0] * 7, [0] * 7], np.int16)
    trees = Trees(tests, np.array([1, ~0, ~1], np.int32), np.zeros(1, np.int32), C)
    far = np.array([[1e30, 0]], np.float32)
    for frame in (np.array([[1, 0]], np.float32), far):
        assert descend(trees, image, np.array([[5, 5]], np.int32), frame).tolist() == [[1]]  # 70 - 30


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda tests, child, roots: child.__setitem__(0, 0), "node 0 leads back to node 0"),
        (lambda tests, child, roots: child.__setitem__(4, 1), "node 4 leads back to node 1"),
        (
            lambda tests, child, roots: child.__setitem__(0, 242),
            "node 0 leads beyond the last of 243, to node 242",
        ),
        (lambda tests, child, roots: tests.__setitem__((0, 4), 3), "looks at none of 3 channels, 3"),
        (lambda tests, child, roots: tests.__setitem__((0, 4), -1), "looks at none of 3 channels, -1"),
        (lambda tests, child, roots: tests.__setitem__((0, 5), 9), "looks at none of 3 channels, 9"),
        (lambda tests, child, roots: roots.__setitem__(1, 243), "a root is node 243, expected less than 243"),
        (lambda tests, child, roots: roots.__setitem__(1, -2), "a root is node -2"),
    ],
)
def test_damaged_trees_are_refused(damage: Callable, told: str) -> None:
    trees = _forest(np.random.default_rng(0))
    trees.child[4] = 81 if trees.child[4] < 0 else trees.child[4]
    arrays = trees.tests.copy(), trees.child.copy(), trees.roots.copy()
    damage(*arrays)
    with pytest.raises(ValueError, match=f"damaged trees: .*{told}"):
        Trees(*arrays, C)


@pytest.mark.wrong_input
@pytest.mark.parametrize("descend", DESCENTS)
def test_arrays_that_do_not_go_together_are_refused(descend: Callable) -> None:
    rng = np.random.default_rng(0)
    trees, (image, pixels) = _forest(rng), _photo(rng)
    frames = np.ones((len(pixels), 2), np.float32)
    for name, arguments in (
        ("image", (image[..., :2], pixels, frames)),
        ("image", (image.astype(np.int32), pixels, frames)),
        ("image", (image[:0], pixels, frames)),
        ("pixels", (image, pixels.astype(np.int64), frames)),
        ("pixels", (image, pixels + np.array([W, 0], np.int32), frames)),
        ("pixels", (image, -pixels, frames)),
        ("frames", (image, pixels, frames[1:])),
        ("frames", (image, pixels, frames * np.nan)),
        ("frames", (image, pixels, frames * np.inf)),
    ):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            descend(trees, *arguments)


@pytest.mark.wrong_input
def test_trees_of_other_types_are_refused() -> None:
    trees = _forest(np.random.default_rng(0))
    for name, arrays in (
        ("tests", (trees.tests.astype(np.int32), trees.child, trees.roots)),
        ("tests", (trees.tests[:, :6], trees.child, trees.roots)),
        ("tests", (trees.tests[1:], trees.child, trees.roots)),
        ("child", (trees.tests, trees.child.astype(np.int64), trees.roots)),
        ("roots", (trees.tests, trees.child, trees.roots[None])),
    ):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            Trees(*arrays, C)
