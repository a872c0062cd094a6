"""How well corners that frames share agree with the frames' poses.

With the pose of one camera in another, a corner of the first must appear in the second on a line: from where
it would be infinitely far away towards the epipole, up to where it would be too near to be seen by both. The
distance to that line, in pixels, needs no depth and no triangulation, and is defined for turns without a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from dsac.checking.sample import SharedCorners
from dsac.datasets.conventions import Conventions
from dsac.geometry import Pose
from dsac.geometry.two_rays import closest_depths

_NEAREST = 0.3  # of the distance between the cameras: nothing nearer is seen by both
WIDTH_PX = 4.0  # of the agreement, for mistakes of conventions ...
FINE_PX = 2.0  # ... and for focal lengths
AGREES = 0.5  # of a corner, to be triangulated, and of those that a frame shares with another one


@dataclass(frozen=True, eq=False)
class Motions:
    """The pose of each shared corner's second camera from its first, and how long their focal lengths are."""

    rotation: Float[np.ndarray, "M 3 3"]
    translation: Float[np.ndarray, "M 3"]  # in the unit of the poses
    focal_scale: float  # times as long as was read

    @staticmethod
    def of(shared: SharedCorners, poses: Pose, meant: Conventions) -> Motions:
        """Under poses that are meant so; `poses` are `cam_from_world` of `shared.frames` as they were read."""
        mended = meant.mended(poses)
        rotation, translation = mended.rotation.numpy(), mended.translation.numpy()
        i, j = shared.first, shared.second
        turned = rotation[j] @ rotation[i].swapaxes(-1, -2)
        moved = translation[j] - _times(turned, translation[i])
        return Motions(turned, moved, meant.focal_scale)

    @property
    def inverse(self) -> Motions:
        back = self.rotation.swapaxes(-1, -2)
        return Motions(back, -_times(back, self.translation), self.focal_scale)


def agreement(shared: SharedCorners, motions: Motions, width_px: float = WIDTH_PX) -> Float[np.ndarray, " M"]:
    """Between 0 and 1 for each corner: 1 where it lies on its line in both frames, 0 from `width_px` off."""
    first, second = shared.rays(motions.focal_scale)
    off = np.maximum(_distance(first, second, motions), _distance(second, first, motions.inverse))
    return np.maximum(0.0, 1 - (off * shared.focal_px * motions.focal_scale / width_px) ** 2)


def mean_agreement(shared: SharedCorners, poses: Pose, meant: Conventions) -> float:
    """Of all corners."""
    return float(agreement(shared, Motions.of(shared, poses, meant)).mean())


def agreement_of_pairs(
    shared: SharedCorners, agreed: Float[np.ndarray, " M"]
) -> tuple[Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """The mean of the corners that each of `shared.pairs` shares, and how many there are."""
    count = len(shared.frames)
    of_corner = shared.first * count + shared.second
    of_pair = shared.pairs[:, 0] * count + shared.pairs[:, 1]
    sums, corners = (np.bincount(of_corner, w, count**2)[of_pair] for w in (agreed, None))
    return sums / corners, corners


def agreement_of_frames(shared: SharedCorners, agreed: Float[np.ndarray, " M"]) -> Float[np.ndarray, " F"]:
    """Of each frame with the one that it agrees with best; 0 where it shares nothing."""
    best = np.zeros(len(shared.frames))
    means, _ = agreement_of_pairs(shared, agreed)
    np.maximum.at(best, shared.pairs.ravel(), means.repeat(2))
    return best


def clearly_more(explained: float, than: float, by: tuple[float, float]) -> bool:
    """By so many times as much, and by so much more."""
    times, more = by
    return explained >= times * than and explained >= than + more


def _distance(
    rays: Float[np.ndarray, "M 3"], seen: Float[np.ndarray, "M 3"], motions: Motions
) -> Float[np.ndarray, " M"]:
    """From where a point of the first camera is seen to where it can be, on the plane z = 1 of the second."""
    far = _times(motions.rotation, rays)
    apart = np.linalg.norm(motions.translation, axis=1)
    near = far + motions.translation / np.maximum(_NEAREST * apart, 1e-12)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        start = np.where(far[:, 2:] > 1e-6, far[:, :2] / far[:, 2:], np.inf)
        # a line that leaves the half-space in front of the camera ends where it does
        share = np.where(near[:, 2] > 0.05, 1.0, (far[:, 2] - 0.05) / np.maximum(far[:, 2] - near[:, 2], 1e-12))
        last = far + share[:, None].clip(0, 1) * (near - far)
        end = last[:, :2] / np.maximum(last[:, 2:], 1e-6)
        step, ahead = end - start, seen[:, :2] - start
        along = ((ahead * step).sum(1) / np.maximum((step**2).sum(1), 1e-18)).clip(0, 1)
        distance = np.linalg.norm(ahead - along[:, None] * step, axis=1)
    return np.where(np.isfinite(distance), distance, np.inf)


def depths(
    shared: SharedCorners, motions: Motions
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Triangulated depth of each corner in both its cameras, and by which part of it a pixel's error matters.

    In the unit of the poses.
    """
    first, second = shared.rays(motions.focal_scale)
    here, there, sine = closest_depths(_times(motions.rotation, first), second, motions.translation)
    return here, there, 1 / (shared.focal_px * motions.focal_scale * sine)


def _times(rotation: Float[np.ndarray, "M 3 3"], vectors: Float[np.ndarray, "M 3"]) -> Float[np.ndarray, "M 3"]:
    return (rotation @ vectors[..., None])[..., 0]
