"""The other poses that correspondences support: where a place repeats itself, several do.

    others = alternatives(solver, correspondences, solver(correspondences))

The pixels that agree with a pose have other modes, too. What these weigh against the pose's own is how open the
question is; where it is open, the same solver is asked again without the rows that agree with what was found.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

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
    agreeing = estimate.inliers.unflatten(1, (-1, correspondences.modes)).any(-1)
    rows = agreeing.repeat_interleave(correspondences.modes, 1)  # all modes of the pixels that agree
    left, found = weights, [estimate]
    while len(found) <= most:
        left = torch.where(found[-1].inliers, 0.0, left)
        if left[rows].sum() < _OPEN * weights[rows].sum():
            break
        other = solver(replace(correspondences, weights=left))
        comparable = weights[other.inliers].sum() >= _COMPARABLE * weights[estimate.inliers].sum()
        if not other.success or not comparable:
            break
        pose = other.cam_from_world[0]
        depth = (pose @ correspondences.scene_points[other.inliers])[:, 2].median().item()
        if any(are_same(pose, known.cam_from_world[0], depth) for known in found):
            break
        found.append(other)
    return found[1:]


_OPEN = 0.15  # of the weight of the pixels that agree, on modes that nothing explains yet
_COMPARABLE = 0.2  # of the weight that agrees with the first pose
_SAME_ANGLE, _SAME_PLACE = 0.1, 0.1  # radians; of the distance of what is seen


def are_same(a: Pose, b: Pose, depth: float) -> Bool[Tensor, "*B"]:
    """Whether poses (batch (*B,), or one for all) are one answer to a photo of what is so far away, metres."""
    turned = torch.deg2rad(a.rotation_error_deg(b))
    return (a.center_distance(b) < _SAME_PLACE * depth) & (turned < _SAME_ANGLE)
