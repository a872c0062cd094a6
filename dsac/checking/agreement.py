"""How well corners that frames share agree with the frames' poses.

With the pose of one camera in another, a corner of the first must appear in the second on a line: from where
it would be infinitely far away towards the epipole, up to where it would be too near to be seen by both. The
distance to that line, in pixels, needs no depth and no triangulation, and is defined for turns without a step.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from dsac.checking.sample import SharedCorners
from dsac.datasets.conventions import Conventions
from dsac.geometry import Pose

_NEAREST = 0.3  # of the distance between the cameras: nothing nearer is seen by both
WIDTH_PX = 4.0  # of the agreement, for mistakes of conventions ...
FINE_PX = 2.0  # ... and for focal lengths


def relative_poses(shared: SharedCorners, poses: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (M, 3, 3) and translations (M, 3) of each corner's second camera from its first.

    `poses` are cam_from_world of all frames of the recording.
    """
    picked = torch.tensor([frame.index for frame in shared.frames])
    rotation, translation = poses.rotation[picked].numpy(), poses.translation[picked].numpy()
    i, j = shared.first, shared.second
    turned = rotation[j] @ rotation[i].swapaxes(-1, -2)
    return turned, translation[j] - (turned @ translation[i][..., None])[..., 0]


def agreement(
    shared: SharedCorners,
    poses: Pose,
    conventions: Conventions | None = None,
    width_px: float = WIDTH_PX,
) -> Float[np.ndarray, " M"]:
    """Between 0 and 1 for each corner, under poses that are meant so; None = as they were read."""
    conventions = conventions or Conventions()
    rotation, translation = relative_poses(shared, conventions.mended(poses))
    return agreement_of(shared, rotation, translation, conventions.focal_scale, width_px)


def agreement_of(
    shared: SharedCorners,
    rotation: Float[np.ndarray, "M 3 3"],
    translation: Float[np.ndarray, "M 3"],
    focal_scale: float = 1.0,
    width_px: float = WIDTH_PX,
) -> Float[np.ndarray, " M"]:
    first, second = shared.planes(focal_scale)
    focal = shared.focal_px * focal_scale
    back = rotation.swapaxes(-1, -2)
    there = _distance(first, second, rotation, translation) * focal
    here = _distance(second, first, back, -(back @ translation[..., None])[..., 0]) * focal
    error = np.maximum(there, here)
    return np.maximum(0.0, 1 - (error / width_px) ** 2)


def _distance(
    plane: Float[np.ndarray, "M 2"],
    seen: Float[np.ndarray, "M 2"],
    rotation: Float[np.ndarray, "M 3 3"],
    translation: Float[np.ndarray, "M 3"],
) -> Float[np.ndarray, " M"]:
    """From where a point of the first camera is seen to where it can be, on the plane z = 1 of the second."""
    rays = np.concatenate([plane, np.ones_like(plane[:, :1])], axis=1)
    far = (rotation @ rays[..., None])[..., 0]
    apart = np.linalg.norm(translation, axis=1)
    near = far + translation / np.maximum(_NEAREST * apart, 1e-12)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        start = np.where(far[:, 2:] > 1e-6, far[:, :2] / far[:, 2:], np.inf)
        # a line that leaves the half-space in front of the camera ends where it does
        share = np.where(near[:, 2] > 0.05, 1.0, (far[:, 2] - 0.05) / np.maximum(far[:, 2] - near[:, 2], 1e-12))
        last = far + share[:, None].clip(0, 1) * (near - far)
        end = last[:, :2] / np.maximum(last[:, 2:], 1e-6)
        step = end - start
        length = (step**2).sum(1)
        along = (((seen - start) * step).sum(1) / np.maximum(length, 1e-18)).clip(0, 1)
        distance = np.linalg.norm(seen - start - along[:, None] * step, axis=1)
    return np.where(np.isfinite(distance), distance, np.inf)


def depths_in_first(
    shared: SharedCorners,
    rotation: Float[np.ndarray, "M 3 3"],
    translation: Float[np.ndarray, "M 3"],
    focal_scale: float = 1.0,
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Triangulated depth of each corner in its first camera, and its standard deviation by a pixel's error.

    Least squares of R ray s + t = λ ray' over both depths; in the unit of the poses.
    """
    first, second = (np.concatenate([p, np.ones_like(p[:, :1])], axis=1) for p in shared.planes(focal_scale))
    far = (rotation @ first[..., None])[..., 0]
    a, b, c = (far * far).sum(1), -(far * second).sum(1), (second * second).sum(1)
    d, e = -(far * translation).sum(1), (second * translation).sum(1)
    determinant = a * c - b * b
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = (c * d - b * e) / determinant
        sine = np.sqrt(np.maximum(determinant, 0) / (a * c))
        sigma = np.abs(depth) / (shared.focal_px * focal_scale * np.maximum(sine, 1e-9))
    return depth, sigma
