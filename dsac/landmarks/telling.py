"""What tells places apart that look alike: spots of one that have another colour at the other.

Mapping looks for them (`dsac.mapping.telling`). A photo that may have been taken from several places is held
against the spots of all of them: each has the colour that it has here, or the one that it would have there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor

from dsac.geometry import Camera, Pose
from dsac.landmarks.alignment import Sightings
from dsac.landmarks.landmarks import Landmarks
from dsac.landmarks.patches import TILES, tiles_of
from dsac.landmarks.view import GreyView
from dsac.ransac import are_same

_BLACK = 10.0  # levels, added: dark ones are noise
_FEW = 5  # landmarks found, by which the light of a photo is not known
_SIGMA, _CHANCE = 0.1, 0.1  # of a colour's logarithm, and how likely anything else is beside the right one
_ENOUGH = 3.0  # as many spots of a tile say half of what they would if each erred for itself
_ANGLE, _ZOOM = 0.7, 2.0  # radians from, and times as far as where a spot was seen from, that it is asked at


@dataclass(frozen=True, eq=False)
class Telling:
    """T spots that are known to have another colour, where a motion leads to what looks like them. On the CPU.

    Raises: `ValueError` when shapes or values do not fit together.
    """

    points: Float[Tensor, "T 3"]  # metres, the map's frame
    colors: UInt8[Tensor, "T 3"]  # RGB
    view: Int[Tensor, " T"]  # of the landmarks' views, from which it was seen
    motions: Pose  # batch (G,), of the world: after each much of it looks the same
    told: Int[Tensor, "Q 2"]  # one of the T, one of the G that leads to a place ...
    there: UInt8[Tensor, "Q 3"]  # ... and its colour there, in the light of `colors`

    def __post_init__(self) -> None:
        count, known = len(self.points), len(self.told)
        for name, shape in (
            ("points", (count, 3)),
            ("colors", (count, 3)),
            ("view", (count,)),
            ("told", (known, 2)),
            ("there", (known, 3)),
        ):
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"telling {name}: expected {shape}, got {tuple(getattr(self, name).shape)}")
        most = torch.tensor([count, *self.motions.shape])
        if len(most) != 2 or ((self.told < 0) | (self.told >= most)).any() or (self.view < 0).any():
            raise ValueError(f"telling told: expected rows from 0 and below {tuple(most.tolist())}")
        if not torch.isfinite(self.motions.matrix).all() or not torch.isfinite(self.points).all():
            raise ValueError("telling points and motions: expected finite numbers")

    def __len__(self) -> int:
        return len(self.points)

    def of_views(self, views: Int[np.ndarray, " V"]) -> Telling:
        """The spots seen from these views (rising numbers), which are counted anew."""
        kept = np.flatnonzero(np.isin(self.view.numpy(), views))
        rows, motions = self.told.numpy().T
        known = np.isin(rows, kept)
        told = np.stack([np.searchsorted(kept, rows[known]), motions[known]], axis=1)
        taken = torch.from_numpy(kept)
        return Telling(
            self.points[taken],
            self.colors[taken],
            torch.from_numpy(np.searchsorted(views, self.view.numpy()[kept])).to(self.view.dtype),
            self.motions,
            torch.from_numpy(told).to(self.told.dtype),
            self.there[torch.from_numpy(known)],
        )

    def joined(self, other: Telling, num_views: int) -> Telling:
        """Both together; the other's views are counted after so many."""
        begin = torch.tensor([len(self), len(self.motions)], dtype=self.told.dtype)
        return Telling(
            torch.cat([self.points, other.points]),
            torch.cat([self.colors, other.colors]),
            torch.cat([self.view, other.view + num_views]).to(self.view.dtype),
            Pose.cat([self.motions, other.motions]),
            torch.cat([self.told, other.told + begin]).to(self.told.dtype),
            torch.cat([self.there, other.there]),
        )

    def tensors(self) -> dict[str, Tensor]:
        """What a map file holds of them; `from_tensors` reads it."""
        names = ("points", "colors", "view", "told", "there")
        motions = {"motions": self.motions.matrix[:, :3].float().contiguous()}
        return {name: getattr(self, name) for name in names} | motions

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> Telling:
        """Raises: `KeyError` when one is missing, `ValueError` when they do not fit together."""
        matrix = tensors["motions"]
        if matrix.ndim != 3 or matrix.shape[1:] != (3, 4):
            raise ValueError(f"telling motions: expected (G, 3, 4), got {tuple(matrix.shape)}")
        return Telling(
            tensors["points"], tensors["colors"], tensors["view"], Pose.from_matrix(matrix).to(torch.float64),
            tensors["told"], tensors["there"],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tones:
    """The colours of an image's blocks, and the lowest and highest levels of each with its neighbours."""

    blocks: UInt8[np.ndarray, "h w 3"]

    @cached_property
    def lowest(self) -> UInt8[np.ndarray, "h w 3"]:
        return cv2.erode(self.blocks, np.ones((3, 3)))

    @cached_property
    def highest(self) -> UInt8[np.ndarray, "h w 3"]:
        return cv2.dilate(self.blocks, np.ones((3, 3)))

    def of(self, places: Float[np.ndarray, "N 2"]) -> tuple[Bool[np.ndarray, " N"], Int[np.ndarray, "N 2"]]:
        """Which places (0 to 1 in the image) are a block and neighbours, and which block (row, column)."""
        height, width = self.blocks.shape[:2]
        column, row = np.floor(places * (width, height)).T
        inside = (row >= 1) & (row < height - 1) & (column >= 1) & (column < width - 1)
        return inside, np.where(inside, (row, column), 0).astype(int).T

    def off(self, levels: Float[np.ndarray, "N 3"], at: Int[np.ndarray, "N 2"]) -> Float[np.ndarray, " N"]:
        """How far logarithms are from what is found on blocks (row, column) or beside; mean of the channels."""
        lowest, highest = (log_levels(levels[tuple(at.T)]) for levels in (self.lowest, self.highest))
        return np.maximum(lowest - levels, levels - highest).clip(0).mean(1)


def log_levels(colors: UInt8[np.ndarray, "*N 3"]) -> Float32[np.ndarray, "*N 3"]:
    """In which light and white balance are added."""
    return np.log(colors.astype(np.float32) + _BLACK)


def colors_of(levels: Float[np.ndarray, "*N 3"]) -> UInt8[np.ndarray, "*N 3"]:
    """The inverse of `log_levels`."""
    return (np.exp(levels) - _BLACK).round().clip(0, 255).astype(np.uint8)


def project(
    camera: Camera, cam_from_world: Pose, points: Float[np.ndarray, "N 3"]
) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, " N"]]:
    """Places in a pinhole camera's image, from 0 to 1, and depths, metres; places behind it are -1."""
    points = points @ cam_from_world.rotation.double().numpy().T + cam_from_world.translation.double().numpy()
    depth = points[:, 2]
    plane = points[:, :2] / np.maximum(depth, 1e-6)[:, None]
    places = (plane * camera.focal_px.double().numpy() + camera.center_px.double().numpy()) / camera.size
    return np.where(depth[:, None] > 0, places, -1.0), depth


def evidence(
    telling: Telling | None,
    landmarks: Landmarks,
    view: GreyView,  # with colours
    poses: Sequence[Pose],  # batch ()
    found: Sequence[Sightings],  # of the landmarks, from each of the poses
) -> Float[np.ndarray, "K K"]:
    """What a photo's colours say for K poses against each other: [a, b] the log of how much likelier a is.

    Of the spots of both. One whose colours both are not in the photo, because something stands before it, says
    nothing, and many spots of a tile of the image, which are right or wrong together, say as much as a few.
    """
    total = np.zeros((len(poses), len(poses)))
    if telling is None or landmarks.colors is None or view.blocks is None or len(telling) == 0:
        return total
    tones, colors = Tones(view.blocks), landmarks.colors.numpy()
    points, own = telling.points.double().numpy(), log_levels(telling.colors.numpy())
    from_view = points - landmarks.cam_from_world.center.double().numpy()[telling.view.long().numpy()]
    told, there = telling.told.numpy(), log_levels(telling.there.numpy())
    for k, (pose, seen) in enumerate(zip(poses, found, strict=True)):
        if len(seen.rows) < _FEW:
            continue
        light = np.median(log_levels(view.colors(seen.pixels)) - log_levels(colors[seen.rows]), axis=0)
        places, depth = project(view.camera, pose, points)
        inside, at = tones.of(places)
        inside &= _is_like(from_view, points - pose.center.double().numpy())
        known = np.flatnonzero(inside[told[:, 0]])
        row, motion = told[known].T
        here = _log_likelihood(tones.off(own[row] + light, at[row]))
        gain = here - _log_likelihood(tones.off(there[known] + light, at[row]))
        tile = tiles_of(places[row] * view.camera.size, view.camera.size)
        reached = _reached(
            telling.motions, pose, poses, float(np.median(depth[inside])) if inside.any() else 1.0
        )
        for j in range(len(poses)):
            of_pair = reached[motion, j] & (j != k)
            number, said = (
                np.bincount(tile[of_pair], weights, TILES[0] * TILES[1]) for weights in (None, gain[of_pair])
            )
            total[k, j] = (said / (_ENOUGH + number)).sum()
    return total - total.T


def _is_like(before: Float[np.ndarray, "T 3"], now: Float[np.ndarray, "T 3"]) -> Bool[np.ndarray, " T"]:
    """Whether a line of sight is much like another."""
    far, near = (np.linalg.norm(line, axis=1) for line in (before, now))
    zoom = near / np.maximum(far, 1e-9)
    alike = (before * now).sum(1) > np.cos(_ANGLE) * far * near
    return alike & (zoom < _ZOOM) & (zoom > 1 / _ZOOM)


def _log_likelihood(off: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    return np.log(np.exp(-0.5 * (off / _SIGMA) ** 2) + _CHANCE)


def _reached(motions: Pose, pose: Pose, poses: Sequence[Pose], depth: float) -> Bool[np.ndarray, "G K"]:
    """Which of the poses each of the motions leads to from a pose."""
    others = pose.to(torch.float64) @ motions.inverse()
    return torch.stack([are_same(others, known, depth) for known in poses], dim=1).numpy()
