"""Which world a scene's truth is in, of a map whose regions are in worlds apart.

Poses of two such worlds have nothing to do with each other: an answer in another world than the truth's is
wrong, however near its numbers are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dsac.atlas import Atlas, Map, region_name
from dsac.datasets.frame import Scene
from dsac.errors import DsacError
from dsac.map_info import made_from


def world_of(scene: Scene, scene_map: Map, named: str | None = None) -> str | None:
    """The name of the world that the scene's poses are in, which is `named`; None: the map has one world.

    Where nobody names it, it is the one world with regions made of some of the scene's frames, else that by the
    name of the scene's folder. Raises: `DsacError` for a name that there is not, and where neither tells.
    """
    worlds = scene_map.worlds if isinstance(scene_map, Atlas) else [scene_map.info.world]
    if named is not None and named not in worlds:
        raise DsacError(f"world: expected one of {_listed(worlds)}, got {named}")
    if len(worlds) == 1 or not isinstance(scene_map, Atlas):
        return None
    if named is not None:
        return named
    frames = scene.mapping if len(scene.mapping) else scene.query
    some = frames[np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _LOOKED_AT)).astype(int))]
    known = [
        world
        for world in worlds
        if made_from(some, [each.info for each in scene_map.regions if each.info.world == world]).any()
    ]
    if len(known) != 1 and region_name(Path(scene.path).name) in worlds:
        known = [region_name(Path(scene.path).name)]
    if len(known) != 1:
        raise DsacError(
            f"{scene.path}: expected to know in which of the map's worlds its poses are, {_listed(worlds)}: "
            f"{'several were' if known else 'none was'} made from its frames; name it (--world)"
        )
    return known[0]


def _listed(worlds: list[str]) -> str:
    return ", ".join(world or "one without a name" for world in worlds)


_LOOKED_AT = 50  # frames
