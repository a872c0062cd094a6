"""Whether depth fits what the poses triangulate: its unit, and what it is measured along."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from dsac.checking.agreement import Motions, agreement, depths_in_first
from dsac.checking.finding import Finding
from dsac.checking.sample import SharedCorners
from dsac.datasets import Frames
from dsac.datasets.conventions import Conventions, frames_as
from dsac.geometry import Pose

_AGREES = 0.5  # of a corner whose depth is compared
_ENOUGH = 60  # corners with a measured and a triangulated depth
_MOST_SIGMA = 0.03  # relative, of a triangulated depth
_NEAR = 0.05  # relative: so near a measured depth fits
_UNITS = (1e-4, 1 / 5000, 1e-3, 0.01, 0.1, 0.2, 0.25, 0.5, 2.0, 4.0, 5.0, 10.0, 100.0, 1e3, 5e3, 1e4)
_UNIT_OFF, _UNIT_WRONG = 0.06, 0.15  # relative, from which a factor is said, and said to be wrong


@dataclass(frozen=True)
class DepthCheck:
    """How measured depths compare to those that poses triangulate."""

    corners: int
    fits: float  # share of them within 5 %
    ratio: float  # median of triangulated by measured


def check_depth(
    frames: Frames, shared: SharedCorners, poses: Pose, meant: Conventions
) -> tuple[DepthCheck | None, list[Finding], Conventions]:
    """Compare them under poses that are meant so, and add to the conventions what would make them fit.

    `poses` are those of `shared.frames` as they were read.
    """
    motions = Motions.of(shared, poses, meant)
    depth, sigma = depths_in_first(shared, motions)
    told = (agreement(shared, motions) > _AGREES) & (depth > 0) & (sigma < _MOST_SIGMA * depth)
    rays, _ = shared.rays(meant.focal_scale)
    # focal lengths first: some recordings' depth is registered by them
    values = _measured(frames_as(frames, Conventions(focal_scale=meant.focal_scale)), shared, told, rays)
    both = told & (values > 0)
    if both.sum() < _ENOUGH:
        return None, [], meant
    logs = np.log(depth[both] / values[both])
    findings: list[Finding] = []
    obliquely = -np.log(np.linalg.norm(rays[both], axis=1))  # the cosine to the optical axis
    if _slope(obliquely, logs) > 0.6 and _spread(logs - obliquely) < _spread(logs):
        meant, logs = replace(meant, depth_along="ray"), logs - obliquely
        findings.append(Finding("wrong", "depth is measured along each pixel's ray", "--depth-along ray"))
    ratio = float(np.exp(np.median(logs)))
    if abs(np.log(ratio)) > _UNIT_OFF:
        unit = min(_UNITS, key=lambda u: abs(np.log(ratio / u)))
        scale = unit if abs(np.log(ratio / unit)) < 0.08 else float(f"{ratio:.3g}")
        meant = replace(meant, depth_scale=scale)
        findings.append(
            Finding(
                "wrong" if abs(np.log(ratio)) > _UNIT_WRONG else "doubtful",
                f"what the poses triangulate is {ratio:.4g} times as far as the depth says: "
                "another unit, or poses of another scale",
                f"--depth-scale {scale:.4g}",
            )
        )
    fits = float((np.abs(logs - np.median(logs)) < _NEAR).mean())
    if fits < 0.5:
        findings.append(
            Finding(
                "doubtful",
                f"only {fits:.0%} of the depths fit what the poses triangulate: is depth registered to the "
                "colour camera, and of the same moment?",
            )
        )
    return DepthCheck(int(both.sum()), fits, ratio), findings, meant


def _measured(
    frames: Frames,
    shared: SharedCorners,
    wanted: Bool[np.ndarray, " M"],
    rays: Float[np.ndarray, "M 3"],  # of the corners' first frames
) -> Float[np.ndarray, " M"]:
    """Depth of the wanted corners in their first frame, 0 where unknown."""
    values = np.zeros(len(shared))
    for k in np.unique(shared.first[wanted]):
        frame = frames[shared.frames[k].index]
        assert frame.depth is not None
        rows = np.flatnonzero(wanted & (shared.first == k))
        pixels = frame.camera.project(torch.from_numpy(rays[rows])).numpy()
        inside = ((pixels >= 0) & (pixels < frame.camera.size)).all(1)
        column, row = pixels[inside].astype(int).T
        values[rows[inside]] = frame.depth.numpy()[row, column]
    return values


def _spread(values: Float[np.ndarray, " M"]) -> float:
    """Half of the middle half."""
    low, high = np.percentile(values, [25, 75])
    return float(high - low) / 2


def _slope(x: Float[np.ndarray, " M"], y: Float[np.ndarray, " M"]) -> float:
    """Of a line through points of which some are outliers."""
    weight = np.ones_like(x)
    slope = 0.0
    for _ in range(20):
        mean_x, mean_y = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
        slope = (weight * (x - mean_x) * (y - mean_y)).sum() / max((weight * (x - mean_x) ** 2).sum(), 1e-12)
        residual = y - mean_y - slope * (x - mean_x)
        scale = 1.4826 * np.median(np.abs(residual)) + 1e-9
        weight = 1 / (1 + (residual / (1.5 * scale)) ** 2)
    return float(slope)
