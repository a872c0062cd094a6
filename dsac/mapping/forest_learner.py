"""Forests that learn a scene: each update is a tree, while others grow beside it in threads.

    [context trees ─▶ what they guess ─▶] colour trees          depth trees, where the recording has depth

With auto-context, trees that guess come first, in two halves, each of which knows every other stretch of the
recording. What the colour trees see guessed of a frame comes from the half that does not know it: it is as
wrong as of new photos.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsac.datasets import Frames
from dsac.mapping.forest_photos import ForestPhotos, KnownPixels
from dsac.mapping.losses import BatchLoss
from dsac.mapping.settings import ForestSettings
from dsac.mapping.training import Parts
from dsac.networks.forests.forest import (
    CHANNELS,
    COLORS,
    CONTEXT,
    DEPTH,
    KINDS,
    ForestArchitecture,
    ForestEncoder,
    LeafHead,
    TreeRows,
    bandwidth,
)
from dsac.networks.forests.modes import NUM_MODES, Modes
from dsac.networks.forests.trees import THRESHOLD, Trees

_RADIUS_PX = 65.0  # of offsets, at the typical depth (Shotton et al. 2013: 130 px in images twice as large)
_FEWER = 1 / 3  # samples of trees that guess or see depth
_EVALUATED = 6, 500  # frames, pixels of each
_GOOD_PX = 10.0
_PARTS = "tests", "child", "points", "covariance", "probability"  # of a tree


class ForestLearner:
    """Forests in training (a `Learner`)."""

    def __init__(self, photos: ForestPhotos, settings: ForestSettings, seed: int) -> None:
        self._photos, self._settings, self._seed = photos, settings, seed
        self.shape = photos.shape()
        wanted = {"context": settings.auto_context, "color": True, "depth": photos.with_depth}
        kinds = [kind for kind in KINDS if wanted[kind]]
        self._jobs = [(kind, number) for kind in kinds for number in range(settings.num_trees)]
        self._grove = _Grove(self.shape.center)
        self._threads = min(os.cpu_count() or 1, settings.num_trees)
        self._pool = ThreadPoolExecutor(self._threads)
        self._growing: dict[int, Future[dict[str, Tensor]]] = {}  # by step
        self._stop = np.zeros(1, bool)
        self._guessed = False

    @property
    def steps(self) -> int:
        """Trees in all."""
        return len(self._jobs)

    @property
    def parts(self) -> Parts:
        return {"forest": self._grove}

    @property
    def encoder(self) -> ForestEncoder:
        return self._network()[0]

    @property
    def head(self) -> LeafHead:
        return self._network()[1]

    def update(self, step: int, progress: float) -> BatchLoss:
        kind = self._jobs[step][0]
        if kind == "color" and self._settings.auto_context and not self._guessed:
            self._guess()
        for ahead in range(step, min(step + self._threads, self.steps)):
            if ahead not in self._growing and self._jobs[ahead][0] == kind:
                self._growing[ahead] = self._pool.submit(self._grown, *self._jobs[ahead])
        self._grove.trees.append(self._growing.pop(step).result())
        return self._loss(kind)

    def evaluate(self) -> BatchLoss:
        """How far off the likeliest modes of some pixels are without depth, at the end of all growth.

        Raises: `KeyboardInterrupt` where one came before there was a tree.
        """
        self._stop[0] = True  # what has been begun when an interrupt came need not grow to its end
        if not self._grove.trees:
            raise KeyboardInterrupt
        return self._loss("color" if self._of_kind("color") else "context")

    def _network(self) -> tuple[ForestEncoder, LeafHead]:
        """What has grown so far."""
        typical, scene = self._photos.typical_depth, (self._grove.center, self.shape.scale)
        # a forest that guesses answers, too, as long as there is no other
        groves = [
            self._of_kind(k) for k in ("context", "color" if self._of_kind("color") else "context", "depth")
        ]
        (context, guesses), (color, of_color), (depth, of_depth) = map(_joined, groves)
        depth = _renumbered(depth, len(of_color.points))
        known = zip((context, color, depth), (guesses, of_color, of_depth), strict=True)
        sizes = [(len(trees.roots), len(trees.child), len(modes.points)) for trees, modes in known]
        encoder = ForestEncoder(ForestArchitecture(*sizes, typical_depth=typical))
        encoder.context, encoder.color, encoder.depth = map(TreeRows.of, (context, color, depth))
        encoder.context_head = LeafHead.of(guesses, *scene, typical)
        modes = Modes(*(np.concatenate(both) for both in zip(of_color, of_depth, strict=True)))
        return encoder, LeafHead.of(modes, *scene, typical)

    # ---- trees -----------------------------------------------------------------------------------

    def _grown(self, kind: str, number: int) -> dict[str, Tensor]:
        from dsac.networks.forests.growth import Growth, Samples, grow
        from dsac.networks.forests.modes_numba import leaf_modes

        photos, smallest = self._photos, bandwidth(self.shape.scale)
        rng = np.random.default_rng([self._seed, KINDS.index(kind), number])
        share = 1.0 if kind == "color" else _FEWER
        count = max(1, round(share * self._settings.samples_per_frame))
        drawn = photos.draw(photos.half(number) if kind == "context" else np.arange(len(photos)), count, rng)
        frames = self._frames(drawn, kind, rng)
        samples = Samples(photos.channels, drawn.image, drawn.place, frames, drawn.points)
        pairs = _GUESSED if kind == "color" and self._settings.auto_context else _PAIRS[kind]
        grown = grow(samples, Growth(pairs, _RADIUS_PX, smallest), int(rng.integers(2**31)), self._stop)
        modes = leaf_modes(drawn.points[grown.order], grown.starts, smallest)
        arrays = grown.tests, grown.child, *modes
        return {name: torch.from_numpy(array) for name, array in zip(_PARTS, arrays, strict=True)}

    def _frames(self, drawn: KnownPixels, kind: str, rng: np.random.Generator | None) -> np.ndarray:
        """The frames of pixels, turned and scaled at random if there is a generator."""
        scale, angle = np.ones(len(drawn.depth)), np.zeros(len(drawn.depth))
        if rng is not None:
            angle = np.deg2rad(rng.uniform(-1, 1, len(angle)) * self._settings.max_roll_deg)
        if kind == "depth":
            scale = self._photos.typical_depth / drawn.depth
        elif rng is not None:
            scale = self._settings.max_scale ** rng.uniform(-1, 1, len(scale))
        return np.stack([scale * np.cos(angle), scale * np.sin(angle)], axis=-1).astype(np.float32)

    def _guess(self) -> None:
        """Fill in what is guessed of each frame."""
        encoder = self.encoder
        for number in (0, 1):
            for i in self._photos.half(number):
                others = slice(1 - number, None, 2) if self._settings.num_trees > 1 else slice(None)
                encoder.add_context(self._photos.channels[i], others)
        self._guessed = True

    def _loss(self, kind: str) -> BatchLoss:
        from dsac.networks.forests.trees_numba import descend

        photos, (frames, count) = self._photos, _EVALUATED
        some = np.unique(np.linspace(0, len(photos) - 1, frames).round().astype(int))
        drawn = photos.draw(some, count, np.random.default_rng(self._seed))
        trees, modes = _joined(self._of_kind(kind))
        ways = self._frames(drawn, kind, None)
        leaves = [
            descend(trees, photos.channels[i], drawn.place[drawn.image == i], ways[drawn.image == i])
            for i in some
        ]
        head = LeafHead.of(modes, self.shape.center, self.shape.scale, photos.typical_depth)
        points = head.merged(np.concatenate(leaves, axis=1)).points[:, 0]
        error_px = photos.errors_px(drawn, points)
        off = np.linalg.norm(points - drawn.points, axis=-1).mean()
        return BatchLoss(*map(torch.tensor, (float(off), (error_px < _GOOD_PX).mean(), np.median(error_px))))

    def _of_kind(self, kind: str) -> list[dict[str, Tensor]]:
        grown = zip(self._jobs, self._grove.trees, strict=False)
        return [tree for (of, _), tree in grown if of == kind]


def forest_learner(
    frames: Frames,
    settings: ForestSettings,
    *,
    exact_depth: bool,
    seed: int,
    on_progress: Callable[[float], None],
) -> ForestLearner:
    """Set up forests to learn the frames (with depth); `exact_depth`: it was measured, not triangulated.

    Raises: `DatasetError` when hardly any pixel's scene point is known.
    """
    photos = ForestPhotos.of(
        frames, settings.short_side_px, with_depth=exact_depth, seed=seed, on_progress=on_progress
    )
    return ForestLearner(photos, settings, seed)


class _Grove:
    """The trees so far, as a checkpoint keeps them."""

    def __init__(self, center: Tensor) -> None:
        self.center = center  # of the scene
        self.trees: list[dict[str, Tensor]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"center": self.center, "trees": self.trees}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.center, trees = state_dict["center"], list(state_dict["trees"])
        if any(set(tree) != set(_PARTS) for tree in trees):
            raise ValueError(f"trees: expected each with {', '.join(_PARTS)}")
        self.trees = trees


def _joined(grove: list[dict[str, Tensor]]) -> tuple[Trees, Modes]:
    """Trees one after another, and what is in their leaves."""
    tests, child, points, covariance, probability = ([tree[name].numpy() for tree in grove] for name in _PARTS)
    nodes = np.cumsum([0, *map(len, child)])
    leaves = np.cumsum([0, *map(len, points)])
    moved = [
        np.where(below >= 0, below + node, below - leaf).astype(np.int32)
        for below, node, leaf in zip(child, nodes, leaves, strict=False)
    ]
    none = Modes.none(0, NUM_MODES)
    trees = Trees(
        np.concatenate([np.zeros((0, THRESHOLD + 1), np.int16), *tests]),
        np.concatenate([np.zeros(0, np.int32), *moved]),
        nodes[:-1].astype(np.int32),
        CHANNELS,
    )
    modes = (
        np.concatenate([empty, *parts])
        for empty, parts in zip(none, (points, covariance, probability), strict=True)
    )
    return trees, Modes(*modes)


def _renumbered(trees: Trees, first: int) -> Trees:
    """With leaves whose numbers begin at another than 0."""
    child = np.where(trees.child < 0, trees.child - np.int32(first), trees.child)
    return Trees(trees.tests, child.astype(np.int32), trees.roots, trees.channels)


def _pairs(*groups: list[tuple[int, int]]) -> np.ndarray:
    """Pairs of channels of some groups, each group as likely as another."""
    longest = max(map(len, groups))
    return np.array([pair for group in groups for pair in group * (longest // len(group))], np.int8)


_OF_COLORS = [
    (first, second)
    for blur in range(COLORS.start, COLORS.stop, 3)
    for first in range(blur, blur + 3)
    for second in range(blur, blur + 3)
]
_OF_CONTEXT = [(k, k) for k in range(CONTEXT.start, CONTEXT.stop)] * 2 + [
    (k, -1) for k in range(CONTEXT.start, CONTEXT.stop)
]
_PAIRS = {
    "context": _pairs(_OF_COLORS),
    "color": _pairs(_OF_COLORS),
    "depth": _pairs(_OF_COLORS, [(DEPTH, DEPTH)]),
}
_GUESSED = _pairs(_OF_COLORS, _OF_CONTEXT)
