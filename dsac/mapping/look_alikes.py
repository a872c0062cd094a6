"""Noticing that a place repeats itself: what each mapping view could be taken for elsewhere in the map.

The corners of a view are matched with all described points, each with several that look like it at different
places. What agrees with the view's own pose is set aside; as long as the rest agrees on another pose, what the
view shows is there as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dsac.geometry import Pose
from dsac.landmarks import DescribedPoints, GreyView, Keypoints, Landmarks, LookAlikes, align
from dsac.landmarks.matching import match_several
from dsac.ransac import Correspondences, DenseSolver, ReprojectionError, are_same

_MOST_VIEWS = 100  # evenly spread: what one sees its neighbours see
_MOST_CORNERS = 200
_PLACES = 8  # that a corner may look like
_APART = 0.1  # of the depth of what is seen: nearer points are one place
_OPEN = 20, 0.25  # corners, and share of those that show the place itself, that must be left to look on ...
_ENOUGH = 12, 0.2  # ... and to agree on another pose
_LEAST_CONFIDENCE, _LEAST_ALIGNED = 0.5, 0.6  # by descriptors, and by landmarks
# no second path for what is lost: here that is the usual case
_SEARCH = DenseSolver(ReprojectionError(8.0), None)


@dataclass(frozen=True, eq=False)
class Look:
    """What one view of the landmarks shows."""

    view: int  # its number
    image: GreyView
    cam_from_world: Pose  # batch ()
    corners: Keypoints
    depth: float  # of what it shows, metres


def find_look_alikes(landmarks: Landmarks, described: DescribedPoints, looks: Sequence[Look]) -> LookAlikes:
    """Of some of the views, where else in the map there is what they show: landmarks must be found there."""
    views, motions = [], []
    for i in np.unique(np.linspace(0, len(looks) - 1, min(len(looks), _MOST_VIEWS)).round().astype(int)):
        look = looks[i]
        for other in _other_poses(described, look):
            aligned = align(landmarks, look.image, other).estimate
            if not aligned.success.item() or aligned.confidence.item() < _LEAST_ALIGNED:
                continue
            other = aligned.cam_from_world[0].to(torch.float64)
            if are_same(other, look.cam_from_world, look.depth):
                continue
            views.append(look.view)
            motions.append(other.inverse() @ look.cam_from_world.to(torch.float64))
    if not motions:
        return LookAlikes(torch.zeros(0, dtype=torch.int32), Pose.identity(0, dtype=torch.float64))
    return LookAlikes(torch.tensor(views, dtype=torch.int32), Pose.stack(motions))


def _other_poses(described: DescribedPoints, look: Look) -> list[Pose]:
    corners = Keypoints(look.corners.pixels[:_MOST_CORNERS], look.corners.descriptors[:_MOST_CORNERS])
    rows, similarity = match_several(described, corners, _PLACES, _APART * look.depth)
    c = Correspondences(
        torch.from_numpy(corners.pixels).float().repeat_interleave(_PLACES, 0)[None],
        described.points[torch.from_numpy(rows.clip(0))].reshape(1, -1, 3),
        look.image.camera[None].to(torch.float32),
        weights=torch.from_numpy(np.where(rows >= 0, similarity, 0)).reshape(1, -1),
        modes=_PLACES,
    )
    assert c.weights is not None
    own = _SEARCH.inliers(Pose.stack([look.cam_from_world]), c)
    left, found = torch.where(own, 0.0, c.weights), []
    least_left, enough = (max(least, share * own.sum().item()) for least, share in (_OPEN, _ENOUGH))
    while len(found) < _PLACES - 1 and (left.unflatten(1, (-1, _PLACES)) > 0).any(-1).sum() >= least_left:
        other = _SEARCH(replace(c, weights=left))
        if not other.success.item() or other.num_inliers.item() < enough:
            break
        left = torch.where(other.inliers, 0.0, left)
        pose = other.cam_from_world[0].to(torch.float64)
        if other.confidence.item() > _LEAST_CONFIDENCE and not are_same(pose, look.cam_from_world, look.depth):
            found.append(pose)
    return found
