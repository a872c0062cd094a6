"""Finding what tells places apart that look alike: corners of a view that are not there at a look-alike of it.

Each corner is searched for in the views that see the place, and in those that see the other place, where it
would be if that were the same. What is found here and not there, though what is around it is, tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int

from dsac.geometry import Pose
from dsac.landmarks import Landmarks, LookAlikes
from dsac.landmarks.patches import TILES, tiles_of
from dsac.landmarks.telling import seen
from dsac.mapping.look_alikes import Look

_HERE, _THERE = 4, 3  # views that are asked
_TURN, _FARTHEST = 0.5, 1.2  # radians that count as a step by the depth, and how far off views are asked
_RADIUS = 6  # pixels around the predicted place
_AROUND = 3, 0.3  # corners of the tile, and share of them, that must be there for another to be missing
_SEEN_HERE = 0.7  # of the views that see the place
_MOST = 100  # corners of a view
_NOWHERE = -1


def find_telling(
    look_alikes: LookAlikes,
    looks: Sequence[Look],
    corners: Mapping[int, Landmarks],  # of each view with look-alikes
) -> tuple[dict[int, Int[np.ndarray, " _"]], Int[np.ndarray, "Q 3"]]:
    """Rows of each view's corners that tell it from a look-alike, and what is told: see `LookAlikes.told`."""
    rows_of, told, count = {}, [np.zeros((0, 3), np.int32)], 0
    here = Pose.identity(dtype=torch.float64)
    for look in looks:
        numbers = np.flatnonzero(look_alikes.view.numpy() == look.view)
        if look.view not in corners or len(numbers) == 0:
            continue
        own = corners[look.view]
        others = [other for other in looks if other.view != look.view]
        poses = Pose.stack([other.cam_from_world for other in others]).to(torch.float64)
        pose = look.cam_from_world.to(torch.float64)
        near = _nearest(poses, pose, look.depth, _HERE)
        share = _share_seen(own, [others[k] for k in near], here)
        table = []
        for number in numbers:
            motion = look_alikes.there_from_here[int(number)].to(torch.float64)
            near = _nearest(poses, pose @ motion.inverse(), look.depth, _THERE)
            share_there = _share_seen(own, [others[k] for k in near], motion)
            table.append(np.where(np.isnan(share_there), _NOWHERE, share_there >= 0.5))
        is_there = np.stack(table, axis=1)
        chosen = np.flatnonzero((share >= _SEEN_HERE) & (is_there == 0).any(1))[:_MOST]
        rows_of[look.view] = chosen
        row, which = np.nonzero(is_there[chosen] != _NOWHERE)
        told.append(np.stack([count + row, numbers[which], is_there[chosen][row, which]], 1).astype(np.int32))
        count += len(chosen)
    return rows_of, np.concatenate(told)


def _nearest(poses: Pose, pose: Pose, depth: float, most: int) -> list[int]:
    """Of poses (batch (V,)) those that see most alike what one (batch ()) sees at that depth, metres."""
    turned = torch.deg2rad(poses.rotation_error_deg(pose))
    off = poses.center_distance(pose) / depth + turned / _TURN
    nearest = off.argsort(stable=True)[:most]
    return nearest[off[nearest] < _FARTHEST].tolist()


def _share_seen(corners: Landmarks, looks: Sequence[Look], motion: Pose) -> np.ndarray:
    """Of the views that show a corner, or where it would be after the motion, how many see it; NaN of none."""
    asked, found = np.zeros(len(corners)), np.zeros(len(corners))
    for look in looks:
        pose = look.cam_from_world.to(torch.float64) @ motion
        rows, there, expected = seen(corners, look.image, pose, most=len(corners), radius=_RADIUS)
        told = there | _is_clear(there, tiles_of(expected, look.image.camera.size))
        asked[rows[told]] += 1
        found[rows[there]] += 1
    return found / np.where(asked > 0, asked, np.nan)


def _is_clear(there: Bool[np.ndarray, " A"], tile: Int[np.ndarray, " A"]) -> Bool[np.ndarray, " A"]:
    """Where others of the same tile are seen: nothing stands before it."""
    least, share = _AROUND
    number, found = (np.bincount(tile, weights, TILES[0] * TILES[1]) for weights in (None, there))
    return ((found >= least) & (found >= share * number))[tile]
