"""A map that grows by a recording: regions that know what it shows are refreshed, new ground becomes regions.

A frame is of known ground where a region has enough landmarks that it would show from its pose much as they
were seen. Poses have to be in the map's world: some frames are localized, and if they lie elsewhere together,
the transform that would mend it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from dsac.atlas import Atlas, Region, region_name, unused_name
from dsac.datasets import Frames, Scene
from dsac.errors import DatasetError
from dsac.geometry import Pose, Similarity, fit_cameras
from dsac.landmarks.alignment import visible
from dsac.landmarks.view import SHORT_SIDE_PX
from dsac.localizer import Localizer
from dsac.mapping.division import divide
from dsac.mapping.mapper import MappingProgress
from dsac.mapping.refreshing import Refreshed, refreshed
from dsac.mapping.regions import build_regions
from dsac.mapping.settings import MappingSettings
from dsac.networks.encoder import Encoder
from dsac.scene_map import SceneMap


class Extended(NamedTuple):
    """A map with what a recording adds to it."""

    atlas: Atlas
    refreshed: dict[str, Refreshed]  # by the regions' names
    added: dict[str, int]  # the regions that are new, with the number of their frames
    num_new: int  # frames of new ground
    num_known: int  # frames that the map was made from already
    faults: tuple[str, ...] = ()  # why some new ground became no region


def extend(
    atlas: Atlas,
    scene: Scene,
    folder: Path,
    settings: MappingSettings | None = None,
    *,
    name: str = "map",
    encoder: Encoder | None = None,
    device: torch.device | str = "cpu",
    workers: int = 1,
    seed: int = 0,
    on_progress: Callable[[str, float], None] = lambda phase, fraction: None,
) -> Extended:
    """The map with the scene's mapping frames, whose poses are in the map's world.

    New ground is divided like a place of its own (see `divide`), its regions are made by so many `workers` (see
    `build_regions`), named after the scene, and read from `folder` until they are saved; a region of the map
    that has no name gets this one when others come. `encoder`: as for a `Localizer`. Interrupted
    (KeyboardInterrupt) nothing is kept.
    Raises: `MapFormatError` for a region that cannot be read, `DatasetError` for frames without poses, in
    another world or unit, that cannot be read, or that the map has all of already, and where none are of use.
    """
    frames = scene.mapping
    if len(frames) == 0 or frames.cam_from_world is None:
        raise DatasetError(f"{scene.path}: expected frames with poses, found none")
    if {scene.metric, atlas.info.metric} == {True, False}:
        raise DatasetError(
            f"{scene.path}: expected poses in the map's unit, one of both is the metre, the other not"
        )
    frames = frames.without_damaged()
    old = atlas.learned_from(frames)
    if old.all():
        raise DatasetError(
            f"{scene.path}: expected new frames, the map was made from all {len(frames)} of them"
        )
    frames = frames[np.flatnonzero(~old)]
    of_frame = _regions_that_know(atlas, frames, lambda done: on_progress("look", done))
    known, new = np.flatnonzero(of_frame >= 0), np.flatnonzero(of_frame < 0)
    localizer = Localizer(atlas, encoder=encoder, device=device)
    _check_world(localizer, frames[np.concatenate([_some(known), _some(new)])], scene.path, on_progress)

    grown, world, geo = list(atlas.regions), atlas.info.world, atlas.info.geo
    changed: dict[str, Refreshed] = {}
    for row in np.unique(of_frame[known]).tolist():
        region, rows = grown[row], np.flatnonzero(of_frame == row)
        told = refreshed(
            region.read(), frames[rows], device=device, seed=seed,
            on_progress=lambda done: on_progress("refresh", done),
        )  # fmt: skip
        grown[row] = Region.of(region.name, told.scene_map)
        changed[region.name or name] = told
    if len(new) == 0:
        return Extended(Atlas(tuple(grown)), changed, {}, 0, int(old.sum()))
    rows = [new[part] for part in divide(frames[new])]
    made = build_regions(
        replace(scene, mapping=frames), rows, folder, settings, workers=workers, device=device, seed=seed,
        on_progress=_of_all(len(rows), on_progress),
    )  # fmt: skip
    if made.interrupted:
        raise KeyboardInterrupt
    if made.atlas is None and not changed:
        raise DatasetError(f"{scene.path}: {next(iter(made.failed.values()))}")
    added: dict[str, int] = {}
    for region in () if made.atlas is None else made.atlas.regions:
        grown = [other if other.name else other.named(name) for other in grown]
        called = unused_name(region_name(Path(scene.path).name or "new"), [other.name for other in grown])
        info = replace(region.info, world=world, geo=geo, compact=atlas.info.compact)
        grown.append(region.saying(info).named(called))
        added[called] = region.info.num_frames
    faults = tuple(made.failed.values())
    return Extended(Atlas(tuple(grown)), changed, added, len(new), int(old.sum()), faults)


def _of_all(count: int, on_progress: Callable[[str, float], None]) -> Callable[[str, MappingProgress], None]:
    """How far so many regions are in a phase, together."""
    done: dict[str, dict[str, float]] = {}

    def show(region: str, progress: MappingProgress) -> None:
        of_phase = done.setdefault(progress.phase, {})
        of_phase[region] = progress.fraction
        on_progress(progress.phase, sum(of_phase.values()) / count)

    return show


# ---- known ground ------------------------------------------------------------------------------------


def _regions_that_know(
    atlas: Atlas, frames: Frames, on_progress: Callable[[float], None]
) -> Int[np.ndarray, " N"]:
    """The row of the region that knows best what each frame shows; -1: new ground."""
    shares = np.zeros((len(atlas), len(frames)))
    for row, region in enumerate(atlas.regions):
        shares[row] = _shares_known(region.read(), frames)
        on_progress((row + 1) / len(atlas))
    best = shares.argmax(0)
    return np.where(shares.max(0) >= _KNOWN, best, -1)


def _shares_known(scene_map: SceneMap, frames: Frames) -> Float[np.ndarray, " N"]:
    """Of each frame: landmarks that it should show, relative to those that the map's own views show."""
    landmarks = scene_map.landmarks
    if landmarks is None or len(landmarks) == 0:
        return np.zeros(len(frames))
    poses = frames.within(scene_map.info.world_from_map).cam_from_world
    assert poses is not None
    counts = [
        len(visible(landmarks, frames.camera(i).pinhole_of(SHORT_SIDE_PX), poses[i], _MOST))
        for i in range(len(frames))
    ]
    own = landmarks.cam_from_world.to(torch.float64)
    some = np.unique(np.linspace(0, len(own) - 1, min(_OWN_VIEWS, len(own))).astype(int))
    camera = (scene_map.mapping_camera or frames.camera(0)).pinhole_of(SHORT_SIDE_PX)
    usual = np.median([len(visible(landmarks, camera, own[i], _MOST)) for i in some.tolist()])
    return np.array(counts) / max(float(usual), _LEAST)


# ---- the world ---------------------------------------------------------------------------------------


def _some(rows: Int[np.ndarray, " N"]) -> Int[np.ndarray, " M"]:
    """Not too many, in an order in which any first ones are spread over all."""
    few = np.unique(np.linspace(0, len(rows) - 1, min(_LOCALIZED, len(rows))).round().astype(int))
    return rows[np.random.default_rng(0).permutation(few)]


def _check_world(
    localizer: Localizer, frames: Frames, path: str, on_progress: Callable[[str, float], None]
) -> None:
    """By the first that are found; more are asked where they lie elsewhere.

    Raises: `DatasetError` where frames lie elsewhere than they say, together.
    """
    assert frames.cam_from_world is not None
    found, said, depths = [], [], []
    for i in range(min(_LOCALIZED, len(frames))):
        (answer,) = localizer.localize_frames(frames[i : i + 1])
        on_progress("check", (i + 1) / min(_LOCALIZED, len(frames)))
        if not answer.success:
            continue
        found.append(answer.cam_from_world.to("cpu"))
        said.append(frames.cam_from_world[i])
        depths.append((answer.cam_from_world @ answer.scene_points)[..., 2].median().item())
        depth = float(np.median(depths))
        if len(found) == _LEAST_FOUND and _off(Pose.stack(found), Pose.stack(said), depth) < _OFF * depth:
            return
    if len(found) < _LEAST_FOUND:
        return
    here, there, depth = Pose.stack(found), Pose.stack(said), float(np.median(depths))
    for rigid in (False, True):
        try:
            fit = fit_cameras(there, here, rigid=rigid)
        except ValueError:  # too near each other, or they agree on nothing
            continue
        agree, map_from_theirs = fit.agree, fit.a_from_b
        before = _off(here[agree], there[agree], depth)
        after = _off(here[agree], map_from_theirs.pose(there[agree]), depth)
        if int(agree.sum()) < _LEAST_FOUND or before < max(_OFF * depth, _BETTER * after):
            return
        raise DatasetError(
            f"{path}: expected poses in the map's world, {int(agree.sum())} of {len(found)} frames that it "
            f"localizes lie elsewhere together: the map's world from theirs is the 4×4 matrix "
            f"{_as_text(map_from_theirs)}; map them by themselves, and `dsac merge --transform` takes it"
        )


def _off(a: Pose, b: Pose, depth: float) -> float:
    """How far what is in so much depth is apart, the median of pairs of poses."""
    turned = torch.deg2rad(a.rotation_error_deg(b))
    return (a.center_distance(b) + turned * depth).median().item()


def _as_text(similarity: Similarity) -> str:
    matrix = similarity.motion.matrix.clone()
    matrix[:3, :3] *= similarity.scale
    return " ".join(f"{value:.10g}" for value in matrix.flatten().tolist())


_KNOWN = 0.3  # of the landmarks that the map's own views show
_MOST, _LEAST = 1000, 20  # landmarks, of a frame; that its views show at least
_OWN_VIEWS = 30
_LOCALIZED, _LEAST_FOUND = 20, 3  # frames
_OFF, _BETTER = 0.02, 4.0  # of the depth, in another world; how many times better the transform has to fit
