"""A part of a map: some regions, or what lies in a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dsac.atlas import Atlas, Region
from dsac.errors import DsacError
from dsac.geometry import Similarity
from dsac.landmarks import DescribedPoints, Landmarks, LookAlikes, Remembered
from dsac.scene_map import SceneMap

_Box = tuple[Sequence[float], Sequence[float]]  # lowest and highest x, y, z, in the world


def some_regions(atlas: Atlas, names: Sequence[str]) -> Atlas:
    """Those with these names, in the map's order. Raises: `DsacError` for a name that there is not."""
    if unknown := [name for name in names if name not in atlas.names]:
        there = ", ".join(atlas.names[:_MOST_NAMED]) + (", …" if len(atlas) > _MOST_NAMED else "")
        raise DsacError(
            f"expected names of regions, which are {there or 'one without a name'}, got {unknown[0]}"
        )
    return Atlas(tuple(region for region in atlas.regions if region.name in names))


def in_box(atlas: Atlas, box: _Box) -> Atlas:
    """The regions with mapping cameras or landmarks in the box; of landmarks and described points those in it.

    What they have learned stays whole. Raises: `DsacError` where nothing is in the box, or it is none.
    """
    low, high = box
    if not all(a < b for a, b in zip(low, high, strict=True)):
        raise DsacError(f"box: expected x, y, z and higher x, y, z, got {tuple(low)} and {tuple(high)}")
    regions = [part for region in atlas.regions if (part := _in_box(region, box)) is not None]
    if not regions:
        raise DsacError(
            f"box: no region has a mapping camera or a landmark between {tuple(low)} and {tuple(high)}"
        )
    return Atlas(tuple(regions))


def _in_box(region: Region, box: _Box) -> Region | None:
    scene_map, world = region.read(), region.info.world_from_map
    landmarks, words = scene_map.landmarks, scene_map.words
    centers = [] if words is None else [words.centers]
    if landmarks is None:
        return region if any(_inside(world, of_each, box).any() for of_each in centers) else None
    inside = _inside(world, landmarks.points, box)
    centers.append(landmarks.cam_from_world.center)
    if not inside.any() and not any(_inside(world, of_each, box).any() for of_each in centers):
        return None
    memory = scene_map.memory
    assert memory is not None
    described = None if memory.described is None else _inside(world, memory.described.points, box)
    if inside.all() and (described is None or described.all()):
        return region
    return Region.of(region.name, with_memory(scene_map, part_of(memory, inside, described)))


def _inside(world: Similarity, points: Float[Tensor, "N 3"], box: _Box) -> Bool[np.ndarray, " N"]:
    in_world = (world @ points).numpy()
    return np.all((in_world >= np.array(box[0])) & (in_world <= np.array(box[1])), axis=1)


# ---- what maps remember ------------------------------------------------------------------------------


def with_memory(scene_map: SceneMap, memory: Remembered) -> SceneMap:
    """The map with that in place of what it remembers; nothing of it where no landmark is left."""
    if len(memory.landmarks) == 0:
        return replace(
            scene_map, landmarks=None, described=None, look_alikes=None,
            info=replace(scene_map.info, described_by=""),
        )  # fmt: skip
    return replace(scene_map, **memory._asdict())


def part_of(
    memory: Remembered, landmarks: Bool[np.ndarray, " L"], described: Bool[np.ndarray, " M"] | None = None
) -> Remembered:
    """With these landmarks and described points (None: all); look-alikes of views without any go, too."""
    old = memory.landmarks
    views = np.unique(old.view.numpy()[landmarks])  # that stay
    points = memory.described
    if points is not None and described is not None:
        kept = torch.from_numpy(described)
        points = DescribedPoints(points.points[kept], points.descriptors[kept])
    look_alikes = None if memory.look_alikes is None else _of_views(memory.look_alikes, views)
    return Remembered(_some(old, np.flatnonzero(landmarks), views), points, look_alikes)


def _some(landmarks: Landmarks, rows: Int[np.ndarray, " K"], views: Int[np.ndarray, " V"]) -> Landmarks:
    """The rows, which are all of these views; views are counted anew."""
    kept, of_views = torch.from_numpy(rows), torch.from_numpy(views).long()
    view = np.searchsorted(views, landmarks.view.numpy()[rows]).astype(np.int32)
    return Landmarks(
        landmarks.points[kept],
        landmarks.patches[kept],
        torch.from_numpy(view),
        landmarks.cam_from_world[of_views],
        landmarks.focal_px[of_views],
        None if landmarks.colors is None else landmarks.colors[kept],
    )


def _of_views(look_alikes: LookAlikes, views: Int[np.ndarray, " V"]) -> LookAlikes:
    """Of those views, counted anew."""
    view, telling = look_alikes.view.numpy(), look_alikes.telling
    kept = np.flatnonzero(np.isin(view, views))
    return LookAlikes(
        torch.from_numpy(np.searchsorted(views, view[kept]).astype(np.int32)),
        look_alikes.there_from_here[torch.from_numpy(kept)],
        None if telling is None else telling.of_views(views),
    )


_MOST_NAMED = 20
