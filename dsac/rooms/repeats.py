"""Places that repeat themselves: how often, how far apart, and what only one of the repeats has.

Repeats are built by `RoomBuilder.repeats`: all are alike in shape, texture and light. A dial, `difference`,
says in what share of them some materials (a picture, a number, a curtain) are their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.random import Generator
from torch import Tensor

from dsac.geometry import Camera, Pose
from dsac.rooms.builder import Material, RoomBuilder
from dsac.rooms.render import develop, render_light
from dsac.rooms.scene import view_of
from dsac.rooms.surfaces import Room


@dataclass(frozen=True)
class Repeats:
    """The equal parts of a place: `counts[i]` of them `periods[i]` apart, the first at the world's origin.

    A camera moved by whole periods sees the same, but for what is a part's own and what is at the ends.
    """

    periods: tuple[tuple[float, float, float], ...]  # P of them, metres, at right angles
    counts: tuple[int, ...]

    def part_of(self, points: Float64[Tensor, "*B 3"]) -> Int64[Tensor, "*B P"]:
        """Which part world points lie in: where a camera stands, or what a pixel shows.

        Counted along each period from 0; beyond the ends it is the part at that end.
        """
        parts = self._in_periods(points).floor().long()
        return parts.clamp(
            min=torch.zeros(len(self.counts), dtype=torch.long), max=torch.tensor(self.counts) - 1
        )

    def steps_off(self, estimate: Pose, truth: Pose) -> Int64[Tensor, "*B P"]:
        """By how many whole periods an estimated `cam_from_world` is off; all 0: it is in the right part."""
        return self._in_periods(estimate.center - truth.center).round().long()

    def moved(self, cam_from_world: Pose, steps: Int64[Tensor, "*N P"]) -> Pose:
        """The same view, `steps` periods on; one pose may be moved by many."""
        shift = steps.double() @ torch.tensor(self.periods, dtype=torch.float64)
        translation = cam_from_world.translation - (cam_from_world.rotation @ shift[..., None])[..., 0]
        return Pose(cam_from_world.rotation.expand(*translation.shape[:-1], 3, 3), translation)

    def _in_periods(self, vectors: Float64[Tensor, "*B 3"]) -> Float64[Tensor, "*B P"]:
        periods = torch.tensor(self.periods, dtype=torch.float64)
        return vectors.double() @ (periods / periods.square().sum(1, keepdim=True)).mT


def lookalikes(room: Room, repeats: Repeats, camera: Camera, cam_from_world: Pose) -> list[tuple[int, ...]]:
    """The parts from where a photo would look the same, as steps away; (0, ...), where it is taken, among them.

    Alone, that one says that the photo shows what tells its part from the others. Looked for in a small
    picture: what covers less than a five-hundredth of it tells nothing.
    """
    small = camera.rescale((_SMALL, round(_SMALL * camera.size[1] / camera.size[0])))
    here = repeats.part_of(cam_from_world.center).tolist()
    still = np.zeros((small.size[1], small.size[0], 3), np.float32)

    def photo(steps: tuple[int, ...]) -> np.ndarray:
        view = view_of(small, repeats.moved(cam_from_world, torch.tensor(steps)))
        return develop(render_light(room, [view]), 1.0, still).astype(int)

    taken = photo((0,) * len(here))
    ways = [range(-part, count - part) for part, count in zip(here, repeats.counts, strict=True)]
    return [steps for steps in product(*ways) if (np.abs(photo(steps) - taken).max(2) > _GREY).mean() < 1 / 500]


_SMALL, _GREY = 160, 12  # pixels wide, levels


def told_apart(rng: Generator, count: int, difference: float) -> np.ndarray:
    """Which (count,) repeats have something of their own: a share `difference` of them.

    Those of a smaller share are among those of a larger one.
    Raises: `ValueError` for a share outside [0, 1].
    """
    if not 0 <= difference <= 1:
        raise ValueError(f"difference: expected a share in [0, 1], got {difference}")
    return rng.permutation(count) < round(difference * count)


def own_materials(
    b: RoomBuilder,
    rng: Generator,
    own: np.ndarray,
    common: np.ndarray,
    paint: Callable[[Generator, int], np.ndarray],
) -> list[Material]:
    """A material for each repeat: `paint(rng, k)` where it has its `own` (count,), else the common texture.

    What is painted for a repeat does not depend on which others have their own.
    """
    shared = b.material(common)
    children = rng.spawn(len(own))
    return [b.material(paint(children[k], k)) if own[k] else shared for k in range(len(own))]
