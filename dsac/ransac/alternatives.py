"""The other poses that correspondences support: where a place repeats itself, several do.

    others = alternatives(solver, correspondences, solver(correspondences))

The pixels that agree with a pose have other modes, too. What these weigh against the pose's own is how open the
question is; where it is open, the same solver is asked again without the rows that agree with what was found.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from dsac.geometry import Pose
from dsac.ransac.types import Correspondences, PoseEstimate, Solver


def alternatives(
    solver: Solver,
    correspondences: Correspondences,  # B = 1
    estimate: PoseEstimate,  # the solver's answer for them
    most: int = 7,
) -> list[PoseEstimate]:  # B = 1 each, the best supported first; empty where the first answer leaves no other
    """Different poses of one image, each found where the ones before it leave rows unexplained.

    Raises: `ValueError` for more than one image.
    """
    if len(correspondences) != 1:
        raise ValueError(f"correspondences: expected one image, got {len(correspondences)}")
    weights = correspondences.weights
    if correspondences.modes == 1 or weights is None or not estimate.success:
        return []
    pixels_weights = weights.unflatten(1, (-1, correspondences.modes)).sum(-1)  # (1, n)
    left, found = weights.clone(), [estimate]
    of_first = _weight_of_inliers(correspondences, estimate)
    while len(found) <= most:
        left = torch.where(found[-1].inliers, 0.0, left)
        rest = left.unflatten(1, (-1, correspondences.modes)).sum(-1)
        explained = found[0].inliers.unflatten(1, (-1, correspondences.modes)).any(-1)
        if rest[explained].sum() < _OPEN * pixels_weights[explained].sum():
            break
        other = solver(replace(correspondences, weights=left))
        if not other.success or _weight_of_inliers(correspondences, other) < _COMPARABLE * of_first:
            break
        if any(_are_same(other.cam_from_world, known.cam_from_world, correspondences) for known in found):
            break
        found.append(other)
    return found[1:]


_OPEN = 0.15  # of the weight of the pixels that agree, on modes that nothing explains yet
_COMPARABLE = 0.2  # of the weight that agrees with the first pose
_SAME_ANGLE = 0.1  # radians, and ...
_SAME_PLACE = 0.05  # ... of the median depth


def _weight_of_inliers(correspondences: Correspondences, estimate: PoseEstimate) -> torch.Tensor:
    assert correspondences.weights is not None
    return correspondences.weights[estimate.inliers].sum()


def _are_same(a: Pose, b: Pose, correspondences: Correspondences) -> bool:
    depth = (a @ correspondences.scene_points)[..., 2].median()
    near = a.center_distance(b) < _SAME_PLACE * depth
    return bool(near & (torch.deg2rad(a.rotation_error_deg(b)) < _SAME_ANGLE))
