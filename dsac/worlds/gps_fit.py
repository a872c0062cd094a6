"""The transform that brings photos to where GPS says that they were taken, east, north, up.

Over rotation R, scale s and translation t it minimises, robustly (Cauchy),

    Σ |level part of (s R b + t) - a|² / σ²  +  (up of the same)² / (3 σ)²  +  (up of R x)² / (5°)²

of camera centres b, places a, and the cameras' axes x to the right. Whoever takes photos holds them level, more
or less: that tells what is up far better than heights do, and of photos along a street nothing else does.
σ is what the receiver says, until what is left of enough photos says better.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dsac.geometry import Pose, Similarity, skew
from dsac.geometry.rotation import rotation_from_vector

_HEIGHT_FACTOR = 3.0  # how much less exact heights are
_LEVEL_SIGMA = math.radians(5)
_MOST_PAIRS = 2000
_CAUCHY = 2.385
_ENOUGH_TO_TELL = 8  # photos, to say how exact their fixes are
_LEAST_FACTOR = 1e-3  # of the standard deviation expected
_MEDIAN_2D, _MEDIAN_1D = 1.1774, 0.6745  # of the lengths of normal vectors
_UPSIDE_DOWN = 3.0  # that a photo is, or looks straight up: costs as much as a fix that is off by 10 sigma
_HELD = 1e12  # information of what is known


class Fixes(NamedTuple):
    places: Float[Tensor, "N 3"]  # metres east, north, up, float64
    sigma: Float[Tensor, " N"]  # of east and of north
    has_height: Bool[Tensor, " N"]


@dataclass(frozen=True, eq=False)
class GpsFit:
    """The transform, and standard deviations of it."""

    there_from_here: Similarity
    turn_deg: float  # about the axis that is known worst
    log_scale: float
    level: float  # metres, of the photos' middle on the ground


def fit_level_photos(cam_from_here: Pose, fixes: Fixes, *, rigid: bool = False) -> GpsFit:
    """Of N >= 3 photos; `rigid`: of scale 1. It is for the caller to judge what it is worth."""
    photos = _Photos(cam_from_here, fixes, rigid)
    # up is that of a photo, or behind it where a drone looks down; as it is stored, it may lie on its side
    ups = [sign * photos.axes[:, axis].mean(0) for axis in range(3) for sign in (-1, 1)]
    end = min((photos.refined(photos.start(up)) for up in ups), key=lambda end: end.cost)
    for _ in range(8):
        photos.weigh_by(end.errors)
        end = photos.refined(end.state)
    rotation, log_scale, translation = end.state
    motion = Pose(torch.from_numpy(rotation), torch.from_numpy(translation))
    covariance = np.linalg.inv(end.information)
    return GpsFit(
        Similarity(motion, math.exp(log_scale)),
        math.degrees(math.sqrt(np.linalg.eigvalsh(covariance[:3, :3])[-1])),
        0.0 if rigid else math.sqrt(covariance[3, 3]),
        math.sqrt(np.trace(covariance[4:6, 4:6])),
    )


_State = tuple[np.ndarray, float, np.ndarray]  # R, log s, t


class _End(NamedTuple):
    """Where a search ended."""

    state: _State
    cost: float
    information: Float[np.ndarray, "7 7"]  # of (rotation vector, log s, t of the photos' middle)
    errors: Float[np.ndarray, "N 4"]  # metres east, north, up; sine of what a photo is off its level


class _Photos:
    """Photos in both worlds, and how much each counts."""

    def __init__(self, cam_from_here: Pose, fixes: Fixes, rigid: bool) -> None:
        self.here, self.there = cam_from_here.center.double().numpy(), fixes.places.numpy()
        self.axes = cam_from_here.rotation.double().numpy()  # rows: where x, y and z of each camera point
        self.rigid = rigid
        level, has_height = 1 / fixes.sigma.numpy(), fixes.has_height.numpy()
        upward = np.where(has_height, level / _HEIGHT_FACTOR, 0.0)
        held_level = np.full(len(level), 1 / _LEVEL_SIGMA)
        self.weights = np.stack([level, level, upward, held_level], -1)  # of errors

    @property
    def with_height(self) -> np.ndarray:
        return np.flatnonzero(self.weights[:, 2])

    def start(self, up: Float[np.ndarray, " 3"]) -> _State:
        """With this as up: turn, scale and place of the pair of photos whose transform fits the median best."""
        upright = _turning_up(up)
        here = self.here @ upright.T
        b, a = (points[:, 0] + 1j * points[:, 1] for points in (here, self.there))
        pairs = np.array(list(itertools.combinations(range(len(b)), 2)))
        if len(pairs) > _MOST_PAIRS:
            pairs = np.random.default_rng(0).permutation(pairs)[:_MOST_PAIRS]
        apart_b, apart_a = (np.diff(z[pairs])[:, 0] for z in (b, a))
        apart = (apart_b != 0) & (apart_a != 0)
        factors = apart_a[apart] / apart_b[apart] if apart.any() else np.ones(1, complex)
        factors = factors / np.abs(factors) if self.rigid else factors
        left = a - factors[:, None] * b
        shifts = np.median(left.real, 1) + 1j * np.median(left.imag, 1)
        best = np.median(np.abs(left - shifts[:, None]), 1).argmin()
        scale = 1.0 if self.rigid else abs(factors[best])
        turn, shift, rows = factors[best] / abs(factors[best]), shifts[best], self.with_height
        about_up = np.array([[turn.real, -turn.imag, 0], [turn.imag, turn.real, 0], [0, 0, 1]])
        height = np.median(self.there[rows, 2] - scale * here[rows, 2]) if len(rows) else 0.0
        return about_up @ upright, math.log(scale), np.array([shift.real, shift.imag, height])

    def refined(self, state: _State) -> _End:
        """Gauss-Newton with Cauchy's weights."""
        rotation, log_scale, translation = state
        held = np.full(7, 1e-9)
        held[3] += _HELD * self.rigid
        held[6] += _HELD * (len(self.with_height) == 0)
        middle = self.here.mean(0)  # whose place is known best
        place = math.exp(log_scale) * rotation @ middle + translation
        cost, information, errors = math.inf, np.diag(held), np.zeros((len(self.here), 4))
        for _ in range(30):
            moved = math.exp(log_scale) * (self.here - middle) @ rotation.T
            right = self.axes[:, 0] @ rotation.T
            errors = np.concatenate([moved + place - self.there, right[:, 2:]], 1)
            scaled = errors * self.weights
            rows = _jacobian(moved, right) * self.weights[..., None]
            # a fix is wrong as a whole: east and north are one
            square = np.square(scaled) + np.square(scaled[:, [1, 0, 2, 3]]) * [1, 1, 0, 0]
            cost = float(np.log1p(square[:, 1:] / _CAUCHY**2).sum())
            trust = 1 / (1 + square / _CAUCHY**2)
            information = np.einsum("nra,nr,nrb->ab", rows, trust, rows) + np.diag(held)
            step = -np.linalg.solve(information, np.einsum("nra,nr,nr->a", rows, trust, scaled))
            rotation = rotation_from_vector(torch.from_numpy(step[:3])).numpy() @ rotation
            place = place + step[4:]
            log_scale += 0.0 if self.rigid else float(np.clip(step[3], -1, 1))
            if np.abs(step).max() < 1e-10:
                break
        # of places in a line without heights, what is upside down fits as well
        down, ahead = (self.axes[:, axis] @ rotation[2] for axis in (1, 2))
        cost += _UPSIDE_DOWN * int(((down > 0.2) | (ahead > 0.9)).sum())
        state = rotation, log_scale, place - math.exp(log_scale) * rotation @ middle
        return _End(state, cost, information, errors)

    def weigh_by(self, errors: Float[np.ndarray, "N 4"]) -> None:
        """Fixes and heights count as what is left of them says, where they are enough for that."""
        if len(errors) < _ENOUGH_TO_TELL:
            return
        freedom = math.sqrt(len(errors) / (len(errors) - 2))
        left = np.abs(errors * self.weights)
        self.weights[:, :2] /= max(_LEAST_FACTOR, freedom * np.median(np.hypot(*left[:, :2].T)) / _MEDIAN_2D)
        if len(rows := self.with_height):
            self.weights[:, 2] /= max(_LEAST_FACTOR, freedom * np.median(left[rows, 2]) / _MEDIAN_1D)


def _jacobian(moved: Float[np.ndarray, "N 3"], right: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 4 7"]:
    """Of the errors by (rotation vector from the left, log s, t)."""
    rows = np.zeros((len(moved), 4, 7))
    rows[:, :3, :3], rows[:, :3, 3], rows[:, :3, 4:] = -_cross(moved), moved, np.eye(3)
    rows[:, 3, :3] = -_cross(right)[:, 2]
    return rows


def _cross(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3 3"]:
    return skew(torch.from_numpy(vectors)).numpy()


def _turning_up(up: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """A rotation that brings this direction to z; of no direction, none."""
    if not (length := float(np.linalg.norm(up))) > 1e-6:
        return np.eye(3)
    up = up / length
    east = np.cross(up, np.eye(3)[np.abs(up).argmin()])
    east = east / np.linalg.norm(east)
    return np.stack([np.cross(east, up), east, up])
