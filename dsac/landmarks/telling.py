"""What tells places apart that look alike: landmarks of one that the other lacks, or has in another colour.

Mapping looks for them (`dsac.mapping.telling`). A photo that may have been taken from several places is held
against those of all of them: under each place it is known which should be there.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from dsac.geometry import Pose
from dsac.landmarks.alignment import LEAST_CORRELATION, search, visible
from dsac.landmarks.landmarks import Landmarks
from dsac.landmarks.look_alikes import LookAlikes
from dsac.landmarks.view import GreyView
from dsac.ransac import are_same

_MOST = 400  # landmarks searched for from a pose
_OFF_COLOR = 0.25  # of the logarithm of the levels, mean of the channels: what is farther off is something else
_BLACK = 10  # levels, added: dark ones are noise
_FEW = 5  # landmarks found, by which the light of a photo is not known
_THERE, _ELSEWHERE = 0.8, 0.2  # how often a landmark is seen where it is, and where it is not
_ENOUGH = 30.0  # as many landmarks of one place say half of what they would if each erred for itself


def seen(
    landmarks: Landmarks, view: GreyView, cam_from_world: Pose, *, most: int, radius: int
) -> tuple[Int[np.ndarray, " A"], Bool[np.ndarray, " A"], Float[np.ndarray, "A 2"]]:
    """What a pose (batch ()) should show, whether it is there in its colour, and at which pixels it should be.

    Colours are compared as they are relative to those of most: light and white balance do not count.
    """
    rows = visible(landmarks, view.camera, cam_from_world, most)
    expected, pixels, correlation = search(landmarks, rows, view, cam_from_world, radius)
    there = correlation > LEAST_CORRELATION
    if landmarks.colors is not None and view.blocks is not None and there.sum() >= _FEW:
        now, then = (
            np.log(levels.astype(float) + _BLACK)
            for levels in (view.colors(pixels[there]), landmarks.colors[torch.from_numpy(rows[there])].numpy())
        )
        off = now - then
        there[there] = np.abs(off - np.median(off, axis=0)).mean(1) < _OFF_COLOR
    return rows, there, expected


def evidence(look_alikes: LookAlikes, view: GreyView, poses: list[Pose]) -> Float[np.ndarray, " K"]:
    """Log-likelihoods of K poses (batch ()) of a photo, by what it shows and lacks of each of them.

    What is not known of a place counts as what is known of the others, and many landmarks of one place, which
    are right or wrong together, as a few.
    """
    total = np.zeros(len(poses))
    telling, told = look_alikes.telling, look_alikes.told.numpy()
    if telling is None:
        return total
    for k, pose in enumerate(poses):
        rows, there, _ = seen(telling, view, pose, most=_MOST, radius=_RADIUS)
        if len(rows) == 0:
            continue
        likely = np.full((len(rows), len(poses)), np.nan)
        known = told[np.isin(told[:, 0], rows)]
        places = _places(look_alikes, known[:, 1], pose, poses, telling.depth_from(pose, rows))
        row = np.searchsorted(rows, known[:, 0], sorter=(order := np.argsort(rows)))
        for j in range(len(poses)):
            at = places[:, j]
            likely[order[row[at]], j] = np.where(known[at, 2] > 0, _THERE, _ELSEWHERE)
        likely[:, k] = _THERE
        log = np.log(np.where(there[:, None], likely, 1 - likely))
        log -= np.nanmean(log, axis=1, keepdims=True)
        total += np.nan_to_num(log).sum(0) * _ENOUGH / (_ENOUGH + len(rows))
    return total


_RADIUS = 5  # pixels around the predicted place


def _places(
    look_alikes: LookAlikes, numbers: Int[np.ndarray, " Q"], pose: Pose, poses: list[Pose], depth: float
) -> Bool[np.ndarray, "Q K"]:
    """Which of the poses each of these look-alikes leads to from a pose."""
    distinct, inverse = np.unique(numbers, return_inverse=True)
    there = look_alikes.there_from_here[torch.from_numpy(distinct).long()].to(torch.float64)
    others = pose.to(torch.float64) @ there.inverse()
    return torch.stack([are_same(others, known, depth) for known in poses], dim=1).numpy()[inverse]
