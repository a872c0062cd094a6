"""Which frames of a recording say how good a map is.

Its query frames; where it has none, the frames that the map did not learn from, which the map knows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dsac.atlas import Map
from dsac.datasets.frame import Scene
from dsac.datasets.held_out import joined
from dsac.errors import DatasetError


def with_queries(scene: Scene, scene_map: Map, every_frame: bool = False) -> Scene:
    """The scene with the frames to score this map on for queries, and with `every_frame` all that it has.

    Raises: `DatasetError` when there is none.
    """
    if every_frame:
        return replace(scene, query=joined(scene.mapping, scene.query))
    if len(scene.query):
        return scene
    if not scene_map.info.frames:
        raise DatasetError(
            f"{scene.path}: expected query images, found none, and this map does not know which frames it was "
            "made from: evaluate --all scores it on all of them"
        )
    own = scene_map.learned_from(scene.mapping)
    if own.all():
        raise DatasetError(
            f"{scene.path}: expected query images, or frames that this map was not made from, found none: "
            "map with --hold-out 8, or evaluate --all, which is no test"
        )
    others = scene.mapping[np.flatnonzero(~own)].without_damaged()
    return replace(scene, mapping=scene.mapping[np.flatnonzero(own)], query=others)
