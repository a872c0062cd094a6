"""A pose together with the focal length, of a photo whose own is not known exactly.

The robust cost of `kernels.reference.refine` by seven unknowns: the increment of the pose (from the left) and
the logarithm s of the factor that both focal lengths are multiplied by. Gauss-Newton with the damping of
Levenberg and Marquardt; the covariance is that of `uncertainty.py` (sandwich, with the design effect of tiles),
of all seven. What else is known of s comes in afterwards, as for a Gaussian (`FocalFit.given`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from dsac.geometry import Camera, Pose
from dsac.ransac.types import Correspondences, TrustRules

_ITERATIONS = 30
_LEAST_INLIERS = 12


@dataclass(frozen=True, eq=False)
class FocalFit:
    """Pose and focal length of one photo."""

    cam_from_world: Pose  # batch (), float64
    log_factor: float  # of the focal length, on that of the camera that was given
    covariance: Float[np.ndarray, "7 7"]  # of the increment Pose.exp(d) @ cam_from_world, and of s
    inliers: Bool[np.ndarray, " N"]
    success: bool  # the points determine all seven

    @staticmethod
    def none(cam_from_world: Pose) -> FocalFit:
        """What is there before anything is fitted."""
        return FocalFit(cam_from_world, 0.0, np.full((7, 7), np.inf), np.zeros(0, bool), False)

    @property
    def factor(self) -> float:
        return float(np.exp(self.log_factor))

    @property
    def log_sigma(self) -> float:
        """Standard deviation of s."""
        return float(np.sqrt(self.covariance[6, 6]))

    def given(self, log_factor: float, log_sigma: float, slack: float = 1.0) -> FocalFit:
        """With what was known before: an s, with its standard deviation.

        `slack` times larger than its points say is the uncertainty of s: what a map has wrong everywhere in
        the same way is not in their spread.
        """
        spread = (slack * self.log_sigma) ** 2
        share = 1.0 if np.isinf(log_sigma) else log_sigma**2 / (log_sigma**2 + spread)
        along = self.covariance[:, 6] / self.covariance[6, 6]  # how all goes with s
        step = along * (share - 1.0) * (self.log_factor - log_factor)
        pose = Pose.exp(torch.from_numpy(step[:6])) @ self.cam_from_world
        covariance = self.covariance + np.outer(along, along) * (share * spread - self.covariance[6, 6])
        return replace(
            self, cam_from_world=pose, log_factor=self.log_factor + float(step[6]), covariance=covariance
        )


def refocused(camera: Camera, factor: float) -> Camera:
    """The camera, or each of a batch, with other focal lengths."""
    return replace(camera, focal_px=camera.focal_px * factor)


def fit_focal(
    rows: Correspondences,  # of one photo, B = 1, through a pinhole camera
    cam_from_world: Pose,  # batch (), from where to begin
    *,
    threshold_px: float | int,
    log_factor: float = 0.0,
    rules: TrustRules = TrustRules(),  # noqa: B008 -- immutable
) -> FocalFit:
    """The optimum near a pose and a factor; inliers reproject within `threshold_px`."""
    rows = rows.sanitised()
    data = _Data(
        rows.scene_points[0].double().cpu().numpy(),
        rows.pixels[0].double().cpu().numpy(),
        rows.camera.focal_px[0].double().cpu().numpy(),
        rows.camera.center_px[0].double().cpu().numpy(),
        np.ones(rows.pixels.shape[1]) if rows.weights is None else rows.weights[0].double().cpu().numpy(),
        float(threshold_px),
    )
    pose = cam_from_world.to("cpu", torch.float64)
    damping, linear = 1e-3, data.linearised(pose, log_factor)
    for _ in range(_ITERATIONS):
        matrix = linear.matrix + damping * np.diag(np.maximum(np.diag(linear.matrix), 1e-12))
        step = -np.linalg.solve(matrix, linear.gradient)
        trial = Pose.exp(torch.from_numpy(step[:6])) @ pose, log_factor + step[6]
        found = data.linearised(*trial)
        if found.cost < linear.cost:
            settled = linear.cost - found.cost < 1e-9 * linear.cost
            (pose, log_factor), linear, damping = trial, found, 0.2 * damping
            if settled:
                break
        else:
            damping *= 8.0
            if damping > 1e6:
                break
    covariance = linear.covariance(data, rules.tiles)
    success = bool(linear.inliers.sum() >= _LEAST_INLIERS and np.isfinite(covariance).all())
    return FocalFit(pose, float(log_factor), covariance, linear.inliers, success)


@dataclass(frozen=True, eq=False)
class _Linear:
    """The cost at a pose and a focal length, and how it changes."""

    cost: float
    gradient: Float[np.ndarray, "7"]
    matrix: Float[np.ndarray, "7 7"]  # Σ ρ' JᵀJ
    pulls: Float[np.ndarray, "N 7"]  # ρ' Jᵀr of each point
    second: Float[np.ndarray, "7 7"]  # with the bend of ρ
    inliers: Bool[np.ndarray, " N"]

    def covariance(self, data: _Data, tiles: int) -> Float[np.ndarray, "7 7"]:
        """Infinite where the points do not determine all."""
        eigenvalues = np.linalg.eigvalsh(self.second)
        if not eigenvalues[0] > 1e-12 * eigenvalues[-1] or self.inliers.sum() < _LEAST_INLIERS:
            return np.full((7, 7), np.inf)
        low, high = data.pixels.min(0), data.pixels.max(0)
        place = tiles * (data.pixels - low) / max((high - low).max(), 1e-6)
        column, row = place.astype(int).clip(0, tiles - 1).T
        tile = tiles * row + column
        sums = np.zeros((tiles**2, 7))
        np.add.at(sums, tile, self.pulls)
        held = len(np.unique(tile[self.inliers]))
        apart, together = self.pulls.T @ self.pulls, sums.T @ sums
        freed, freed_tiles = _freed(int(self.inliers.sum())), _freed(held)
        effect = freed_tiles / freed * np.trace(np.linalg.solve(apart, together)) / 7
        inverse = np.linalg.inv(self.second)
        return freed * max(effect, 1.0) * inverse @ apart @ inverse


def _freed(count: int) -> float:
    """What the sum over so many parts misses, 3.5 of which pose and focal length use up."""
    return count / max(count - 3.5, 1.0)


@dataclass(frozen=True, eq=False)
class _Data:
    points: Float[np.ndarray, "N 3"]
    pixels: Float[np.ndarray, "N 2"]
    focal_px: Float[np.ndarray, "2"]
    center_px: Float[np.ndarray, "2"]
    weights: Float[np.ndarray, " N"]
    threshold: float

    def linearised(self, pose: Pose, log_factor: float) -> _Linear:
        points_cam = self.points @ pose.rotation.numpy().T + pose.translation.numpy()
        z = points_cam[:, 2]
        usable = (z > 0) & (self.weights > 0)
        inverse = 1.0 / np.where(usable, z, 1.0)
        a, b = points_cam[:, 0] * inverse, points_cam[:, 1] * inverse
        fx, fy = self.focal_px * np.exp(log_factor)
        du, dv = fx * a + self.center_px[0] - self.pixels[:, 0], fy * b + self.center_px[1] - self.pixels[:, 1]
        zero = np.zeros_like(a)
        jacobian = np.stack(
            [
                np.stack(
                    [-fx * a * b, fx * (1 + a * a), -fx * b, fx * inverse, zero, -fx * inverse * a, fx * a], -1
                ),
                np.stack(
                    [-fy * (1 + b * b), fy * a * b, fy * a, zero, fy * inverse, -fy * inverse * b, fy * b], -1
                ),
            ],
            axis=1,
        )
        square, limit = du * du + dv * dv, self.threshold**2
        weights = np.where(usable, self.weights, 0.0)
        slope = weights * (limit / (square + limit)) ** 2  # ρ' of ρ(e) = e² τ² / (e² + τ²)
        bend = -2.0 * slope / (square + limit)  # ρ''
        forces = np.einsum("nij,ni->nj", jacobian, np.stack([du, dv], -1))
        pulls = slope[:, None] * forces
        matrix = np.einsum("n,nij,nik->jk", slope, jacobian, jacobian)
        second = matrix + 2.0 * np.einsum("n,nj,nk->jk", bend, forces, forces)
        gradient, cost = pulls.sum(0), np.where(usable, square * limit / (square + limit), limit) @ self.weights
        return _Linear(float(cost), gradient, matrix, pulls, second, usable & (square < limit))
