"""Places of a map that look alike, and which of them a photo shows.

Mapping notices what its own views could be taken for (`dsac.mapping.look_alikes`): what this view shows here is
seen as well there. A photo that is localized among such views is held against every one of these places, by
the landmarks that should appear in it and do not:

    poses = look_alikes.others(landmarks, rows, pose)          # where else it may have been taken
    probabilities([support(landmarks, view, p) for p in (pose, *poses)], shares of the scene coordinates)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dsac.geometry import Pose
from dsac.landmarks.alignment import LEAST_CORRELATION, NEAR_RADIUS, predict, sightings, visible
from dsac.landmarks.landmarks import Landmarks
from dsac.landmarks.patches import TILES
from dsac.landmarks.view import GreyView

_COUNT = 400  # landmarks that are asked
_LEAST_SHARE = 0.05  # of the landmarks seen, which come from views with that look-alike
_MOST = 7  # other places
_SAME_ANGLE, _SAME_PLACE = 0.1, 0.1  # radians; of the distance of what is seen
_LEAST_IN_TILE = 2
# What a probability is told by: with these the places of photos of a rendered corridor and staircase get the
# highest likelihood (benchmarks/repeats.py).
_OF_SUPPORT, _OF_SHARE, _LEAST_OF_SHARE = 5.0, 0.5, 0.02


@dataclass(frozen=True, eq=False)
class LookAlikes:
    """M times: a view of the landmarks, and a motion of the world after which it looks the same. On the CPU.

    Raises: `ValueError` when shapes or values do not fit together.
    """

    view: Int[Tensor, " M"]
    there_from_here: Pose  # batch (M,): where in the map there is what looks like what the view shows

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
        return {"view": self.view, "there_from_here": self.there_from_here.matrix[:, :3].float().contiguous()}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> LookAlikes:
        """Raises: `KeyError` when one is missing, `ValueError` when they do not fit together."""
        matrix = tensors["there_from_here"]
        if matrix.ndim != 3 or matrix.shape[1:] != (3, 4):
            raise ValueError(f"look-alikes' there_from_here: expected (M, 3, 4), got {tuple(matrix.shape)}")
        return LookAlikes(tensors["view"], Pose.from_matrix(matrix))

    def others(self, landmarks: Landmarks, rows: Int[np.ndarray, " S"], cam_from_world: Pose) -> list[Pose]:
        """Poses (batch ()) from which the photo could show the same, the likeliest first.

        `rows` are the landmarks that were found from the pose (batch ()): their views say what looks like it.
        """
        num_views = landmarks.cam_from_world.shape[0]
        count = np.bincount(landmarks.view[torch.from_numpy(rows)].numpy(), minlength=num_views)
        told = count[self.views.numpy()].sum()
        if told < _LEAST_SHARE * len(rows) or told == 0:
            return []
        share = count[self.view.numpy()] / told
        pose = cam_from_world.to(torch.float64)
        depth = landmarks.depth_from(pose, rows)
        found: list[Pose] = []
        shares: list[float] = []
        for edge in np.argsort(-share, kind="stable"):
            if share[edge] <= 0:
                break
            other = pose @ self.there_from_here[int(edge)].to(torch.float64).inverse()
            same = [i for i, known in enumerate(found) if are_same(known, other, depth)]
            if same:
                shares[same[0]] += share[edge]
            elif not are_same(pose, other, depth):
                found.append(other)
                shares.append(share[edge])
        order = [i for i in np.argsort(-np.array(shares), kind="stable") if shares[i] >= _LEAST_SHARE]
        return [found[i] for i in order[:_MOST]]


def are_same(a: Pose, b: Pose, depth: float) -> bool:
    """Whether two poses (batch ()) are one answer to a photo of what is so far away, metres."""
    turned = torch.deg2rad(a.rotation_error_deg(b)).item()
    return a.center_distance(b).item() < _SAME_PLACE * depth and turned < _SAME_ANGLE


def support(landmarks: Landmarks, view: GreyView, cam_from_world: Pose) -> float:
    """How well a photo shows what it should from a pose (batch ()): at most 0.

    The mean over the tiles of the image of the logarithm of the share of landmarks found there: what is missing
    on one spot speaks against a place as loudly as what is found on many speaks for it.
    """
    asked = visible(landmarks, view.camera, cam_from_world, _COUNT)
    if len(asked) == 0:
        return -np.inf
    places, _ = predict(landmarks, asked, view.camera, cam_from_world)
    found = sightings(
        landmarks, view, cam_from_world,
        count=_COUNT, radius=NEAR_RADIUS, least_correlation=LEAST_CORRELATION,
    ).rows  # fmt: skip
    column, row = (places / np.array(view.camera.size) * TILES).astype(int).clip(0, np.array(TILES) - 1).T
    tile = column * TILES[1] + row
    number = np.bincount(tile)
    enough = number >= min(_LEAST_IN_TILE, number.max())
    share = (np.bincount(tile, weights=np.isin(asked, found)) + 0.5) / (number + 1)
    return float(np.log(share[enough]).mean())


def probabilities(supports: Sequence[float], shares: Sequence[float]) -> Float[np.ndarray, " K"]:
    """Of the places that have such support, and such shares of the photo's scene coordinates; one is right."""
    values = _OF_SUPPORT * np.array(supports) + _OF_SHARE * np.log(np.array(shares) + _LEAST_OF_SHARE)
    weights = np.exp(values - values.max())
    return weights / weights.sum()
