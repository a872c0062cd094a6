"""Whether depth fits what the poses triangulate: its unit, and what it is measured along."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from dsac.checking.agreement import AGREES, Motions, agreement, depths
from dsac.checking.depth_views import NEAR, DepthPoints, DepthView, other_view
from dsac.checking.finding import Finding
from dsac.checking.sample import SharedCorners
from dsac.datasets import Frames
from dsac.datasets.conventions import Conventions, frames_as
from dsac.geometry import Pose

_ENOUGH = 60  # corners with a measured and a triangulated depth
_MOST_OFF = 0.03  # relative, of a triangulated depth
_FEW_FIT = 0.5
_UNITS = (1e-4, 1 / 5000, 1e-3, 0.01, 0.1, 0.2, 0.25, 0.5, 2.0, 4.0, 5.0, 10.0, 100.0, 1e3, 5e3, 1e4)
_UNIT_OFF, _UNIT_WRONG = 0.06, 0.15  # relative, from which a factor is said, and said to be wrong
_FEW_FRAMES = 10  # of fewer the poses alone can be so far off


@dataclass(frozen=True, eq=False)
class DepthCheck:
    """How measured depths compare to those that poses triangulate, for N corners."""

    triangulated: Float[np.ndarray, " N"]
    measured: Float[np.ndarray, " N"]  # as it was read
    fits: float  # share of the corners within 5 % of the median ratio
    ratio: float  # median of triangulated by measured

    @property
    def corners(self) -> int:
        return len(self.measured)


def check_depth(
    frames: Frames, shared: SharedCorners, poses: Pose, meant: Conventions
) -> tuple[DepthCheck | None, list[Finding], Conventions]:
    """Compare them under poses that are meant so, and add to the conventions what would make them fit.

    `poses` are those of `shared.frames` as they were read.
    """
    motions = Motions.of(shared, poses, meant)
    here, there, off = depths(shared, motions)
    told = (agreement(shared, motions) > AGREES) & (here > 0) & (there > 0) & (off < _MOST_OFF)
    rays = [rays[told] for rays in shared.rays(meant.focal_scale)]
    points_cam = np.concatenate([rays[0] * here[told, None], rays[1] * there[told, None]])
    frame = shared.indices.numpy()[np.concatenate([shared.first[told], shared.second[told]])]
    points = DepthPoints.of(frames_as(frames, meant), frame, points_cam)
    logs = points.log_ratios(DepthView())
    known = np.isfinite(logs)
    if known.sum() < _ENOUGH:
        return None, [], meant
    cosine = points.points_cam[:, 2] / points.points_cam.norm(dim=1)
    obliquely = cosine.log().numpy()
    findings: list[Finding] = []
    if _slope(obliquely[known], logs[known]) > 0.6 and _spread((logs - obliquely)[known]) < _spread(
        logs[known]
    ):
        meant = replace(meant, depth_along="ray")
        findings.append(Finding("wrong", "depth is measured along each pixel's ray", "--depth-along ray"))
    else:
        obliquely = np.zeros(len(points))
    fits = float((np.abs((logs - obliquely)[known] - np.median((logs - obliquely)[known])) < NEAR).mean())
    view, of_view = other_view(points, obliquely)
    findings += of_view
    ratio = float(np.exp(np.nanmedian(points.log_ratios(view) - obliquely)))
    few = len(np.unique(points.frame)) < _FEW_FRAMES
    if abs(np.log(ratio)) > (_UNIT_WRONG if few else _UNIT_OFF):
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
    if fits < _FEW_FIT and not of_view:
        findings.append(
            Finding(
                "doubtful",
                f"only {fits:.0%} of the depths fit what the poses triangulate: is depth registered to the "
                "colour camera, and of the same moment?",
            )
        )
    triangulated = points.points_cam[:, 2].numpy()[known]
    return DepthCheck(triangulated, triangulated / np.exp(logs[known]), fits, ratio), findings, meant


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
