"""Places of a map that look alike, and which of them a photo shows.

Mapping notices what its own views could be taken for (`dsac.mapping.look_alikes`): what this view shows here is
seen as well there. A photo that is localized among such views is held against every one of these places, by
the landmarks that should appear in it and do not:

    seen = sightings(landmarks, view, pose)
    look_alikes.others(landmarks, seen.rows, pose)             # where else it may have been taken
    probabilities(evidence(...) of all the places, their supports, shares of the scene coordinates)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dsac.geometry import Pose
from dsac.landmarks.alignment import Sightings
from dsac.landmarks.landmarks import Landmarks
from dsac.landmarks.patches import TILES, tiles_of
from dsac.landmarks.telling import Telling
from dsac.ransac import are_same

# Of a map's views, that look like others of another place: from there on the place repeats itself, and every
# photo is asked which of its places it shows. Where a few corners look alike that would cost three times the
# time, and find nothing more.
REPEATED = 0.1
_LEAST_SHARE = 0.05  # of the landmarks seen, which come from views with that look-alike
_MOST = 7  # other places
_NUM_TILES, _LEAST_IN_TILE = math.prod(TILES), 2
# What a probability is told by: with these the places of photos of a rendered corridor, of a staircase and of
# rooms with some equal furniture have about the highest likelihood.
_OF_EVIDENCE, _OF_SUPPORT, _OF_SHARE, _LEAST_OF_SHARE = 0.7, 0.5, 0.25, 0.02
_OF_SUPPORT_ALONE = 3.0  # of two places that nothing else tells apart
# What support (at four times that weight) and shares (at twice) make so much less likely, as a logarithm, is no
# look-alike at all, however many such places there are.
_UNLIKE = 3.0
_CERTAIN = 100.0  # as a logarithm
_TELLING = "telling."  # in a map file


@dataclass(frozen=True, eq=False)
class LookAlikes:
    """M times: a view of the landmarks, and a motion of the world after which it looks the same. On the CPU.

    Raises: `ValueError` when shapes or values do not fit together.
    """

    view: Int[Tensor, " M"]
    there_from_here: Pose  # batch (M,): where in the map there is what looks like what the view shows
    telling: Telling | None = None  # what tells places from their look-alikes; None: it was not looked for

    def __post_init__(self) -> None:
        count = len(self.view)
        if self.view.ndim != 1 or self.view.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"look-alikes' view: expected whole numbers (M,), got {self.view.dtype}")
        if self.there_from_here.shape != (count,):
            raise ValueError(
                f"look-alikes' there_from_here: expected batch ({count},), "
                f"got {tuple(self.there_from_here.shape)}"
            )
        if count and (self.view.min() < 0 or not torch.isfinite(self.there_from_here.matrix).all()):
            raise ValueError("look-alikes: expected finite motions of views counted from 0")

    def __len__(self) -> int:
        return len(self.view)

    @property
    def views(self) -> Int[Tensor, " V"]:
        """The views that have any."""
        return self.view.unique()

    def tensors(self) -> dict[str, Tensor]:
        """What a map file holds of them; `from_tensors` reads it."""
        tensors = {
            "view": self.view,
            "there_from_here": self.there_from_here.matrix[:, :3].float().contiguous(),
        }
        telling = {} if self.telling is None else self.telling.tensors()
        return tensors | {_TELLING + name: value for name, value in telling.items()}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> LookAlikes:
        """Raises: `KeyError` when one is missing, `ValueError` when they do not fit together."""
        matrix = tensors["there_from_here"]
        if matrix.ndim != 3 or matrix.shape[1:] != (3, 4):
            raise ValueError(f"look-alikes' there_from_here: expected (M, 3, 4), got {tuple(matrix.shape)}")
        motions = Pose.from_matrix(matrix)
        telling = {name.removeprefix(_TELLING): v for name, v in tensors.items() if name.startswith(_TELLING)}
        if "motions" not in telling:  # a map from before
            return LookAlikes(tensors["view"], motions)
        return LookAlikes(tensors["view"], motions, Telling.from_tensors(telling))

    def others(self, landmarks: Landmarks, rows: Int[np.ndarray, " S"], cam_from_world: Pose) -> list[Pose]:
        """Poses (batch ()) from which the photo could show the same, the likeliest first.

        `rows` are the landmarks that were found from the pose (batch ()): their views say what looks like it.
        """
        found = self._shown(landmarks, rows, cam_from_world)
        if self.telling is None:
            return found
        # a motion that some views showed may lead to a look-alike that no view of this place did
        moved = cam_from_world.to(torch.float64) @ self.telling.motions.inverse()
        return found + [moved[i] for i in range(len(moved.translation))]

    def _shown(self, landmarks: Landmarks, rows: Int[np.ndarray, " S"], cam_from_world: Pose) -> list[Pose]:
        """Those that the landmarks' views know."""
        num_views = landmarks.cam_from_world.shape[0]
        count = np.bincount(landmarks.view[torch.from_numpy(rows)].numpy(), minlength=num_views)
        told = count[self.views.numpy()].sum()
        if told < _LEAST_SHARE * len(rows) or told == 0:
            return []
        share = torch.from_numpy(count[self.view.numpy()] / told)
        order = share.argsort(descending=True, stable=True)
        order = order[share[order] > 0]
        pose, share = cam_from_world.to(torch.float64), share[order]
        depth = landmarks.depth_from(pose, rows)
        others = pose @ self.there_from_here[order].to(torch.float64).inverse()
        here, left = are_same(pose, others, depth), torch.ones_like(share, dtype=torch.bool)
        found: list[tuple[float, Pose]] = []
        while left.any():  # the likeliest that is left, and what is the same as it
            first = int(left.int().argmax())
            same = left & are_same(others[first], others, depth)
            left[first] = False
            if not here[first]:
                left &= ~same
                found.append((share[same].sum().item(), others[first]))
        found.sort(key=lambda place: -place[0])
        return [other for likelihood, other in found[:_MOST] if likelihood >= _LEAST_SHARE]


def support(found: Sightings, size: tuple[int, int]) -> float:
    """How well a photo of (width, height) shows what it should from the pose of these sightings: at most 0.

    The mean over the tiles of the image of the logarithm of the share of landmarks found there: what is missing
    on one spot speaks against a place as loudly as what is found on many speaks for it.
    """
    if len(found.searched) == 0:
        return -np.inf
    number, there = (
        np.bincount(tiles_of(p, size), minlength=_NUM_TILES) for p in (found.searched, found.expected)
    )
    enough = number >= min(_LEAST_IN_TILE, number.max())
    return float(np.log((there[enough] + 0.5) / (number[enough] + 1)).mean())


def probabilities(
    evidence: Float[np.ndarray, "K K"], supports: Sequence[float], shares: Sequence[float]
) -> Float[np.ndarray, " K"]:
    """Of the places, one of which is right, for which that much speaks, each against each (`telling.evidence`).

    With such support, and such shares of the photo's scene coordinates; 0 for a place that it hardly shows.
    """
    seen = np.array(supports).clip(-_CERTAIN)  # of nothing it is -inf
    log_shares = np.log(np.array(shares) + _LEAST_OF_SHARE)
    shown = 4 * _OF_SUPPORT * seen + 2 * _OF_SHARE * log_shares
    alike = shown >= shown.max() - _UNLIKE
    of_support = np.where(evidence == 0, _OF_SUPPORT_ALONE, _OF_SUPPORT)
    against = _OF_EVIDENCE * evidence + of_support * (seen[:, None] - seen)
    against = (against + _OF_SHARE * (log_shares[:, None] - log_shares)).clip(-_CERTAIN)[np.ix_(alike, alike)]
    weights = np.zeros(len(alike))
    weights[alike] = 1 / np.exp(-against).sum(1)
    return weights / weights.sum()
