"""Whether two maps in one world know the same place: what views of the one show that the other remembers."""

from __future__ import annotations

import numpy as np
import torch

from dsac.atlas import Atlas
from dsac.geometry import Camera, Pose
from dsac.landmarks import SHORT_SIDE_PX, Landmarks
from dsac.landmarks.alignment import visible
from dsac.scene_map import SceneMap

_VIEWS = 20  # of a region
_KNOWN = 0.3  # of the landmarks that a map's own views show
_LEAST = 20  # landmarks
_TWICE = 0.3  # of the views: fewer look over a border


def knows_too(first: Atlas, second: Atlas) -> bool:
    """Whether a good part of the second map's views show what the first one knows; poses are in one world.

    Raises: `MapFormatError` for a region that cannot be read.
    """
    views = [
        region.info.world_from_map.pose(_some_views(scene_map))
        for region in second.regions
        if (scene_map := region.read()).landmarks is not None
    ]
    if not views:
        return False
    poses = Pose.cat(views)
    known = np.zeros(len(poses.translation), bool)
    for region in first.regions:
        scene_map = region.read()
        landmarks, camera = scene_map.landmarks, scene_map.mapping_camera or first.mapping_camera
        if landmarks is not None and camera is not None:
            usual = np.median(_shown(landmarks, camera, _some_views(scene_map)))
            here = region.info.world_from_map.inverse().pose(poses)
            known |= _shown(landmarks, camera, here) > max(_LEAST, _KNOWN * float(usual))
    return bool(known.mean() >= _TWICE)


def _some_views(scene_map: SceneMap) -> Pose:
    """Of those that landmarks come from, in the map's frame."""
    assert scene_map.landmarks is not None
    poses = scene_map.landmarks.cam_from_world.to(torch.float64)
    count = len(poses.translation)
    return poses[torch.from_numpy(np.linspace(0, count - 1, min(count, _VIEWS)).round().astype(np.int64))]


def _shown(landmarks: Landmarks, camera: Camera, poses: Pose) -> np.ndarray:
    """How many landmarks each of N views should show (N,)."""
    pinhole = camera.pinhole_of(SHORT_SIDE_PX)
    return np.array(
        [len(visible(landmarks, pinhole, poses[i], len(landmarks))) for i in range(len(poses.translation))]
    )
