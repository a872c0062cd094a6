"""What a compact map costs: megabytes, exactness and milliseconds, as it is, compact, coarser and thinner.

    python benchmarks/compact.py SCENE=MAP [SCENE=MAP ...] [--every 1] [--curve]

Localizes the query frames of each scene by its map, by its compact file, and by both without landmarks and
described points. With --curve also by files that are written in half, twice and four times the steps, and by a
quarter of the landmarks and described points as they are. Lengths are of the recording's unit, its metre where
it has one. One thread, processor time. Writes results/compact.md.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from scripts import run, table_parser, write_table

from dsac import Frames, Localizer, Scene, load_scene, packing
from dsac.atlas import Atlas, Region
from dsac.cropping import part_of, with_memory
from dsac.evaluation import with_queries
from dsac.scene_map import SceneMap

_LIMITS = 0.05, 0.02, 0.01  # of the unit, and a hundred times as many degrees
_FACTORS = 0.5, 2.0, 4.0  # of the steps of a compact map
_NOTHING = math.inf, math.inf, math.nan, math.nan, math.nan


@contextmanager
def in_steps(factor: float) -> Iterator[None]:
    """Files are packed in so many times as large steps."""
    coarser = tuple((begin, end, _in_steps(form, factor)) for begin, end, form in packing.FORMS)
    with patch.object(packing, "FORMS", coarser):
        yield


def _in_steps(form: object, factor: float) -> object:
    if isinstance(form, packing.Columns):
        return replace(form, most=min(127, round(form.most / factor)))
    if isinstance(form, (packing.Patches, packing.Rounded)):
        return replace(form, step=type(form.step)(factor * form.step))
    return form


def thinned(scene_map: SceneMap, every: int = 4) -> SceneMap:
    """With one of so many landmarks and described points."""
    memory = scene_map.memory
    if memory is None:
        return scene_map
    described = None if memory.described is None else np.arange(len(memory.described)) % every == 0
    return with_memory(scene_map, part_of(memory, np.arange(len(memory.landmarks)) % every == 0, described))


def without_memory(scene_map: SceneMap) -> SceneMap:
    """Of scene coordinates alone."""
    return replace(scene_map, landmarks=None, described=None, look_alikes=None)


def changed(atlas: Atlas, change: Callable[[SceneMap], SceneMap]) -> Atlas:
    return Atlas(tuple(Region.of(region.name, change(region.read())) for region in atlas.regions))


@dataclass(frozen=True)
class Asked:
    """What became of photos, as the file is read."""

    megabytes: float  # a region
    distances: np.ndarray  # of the answers from the truth, infinite where there is none
    degrees: np.ndarray
    times_ms: np.ndarray  # of the processor
    centers: np.ndarray  # of the cameras, (N, 3); NaN where there is no answer

    @staticmethod
    def of(atlas: Atlas, photos: Frames, folder: Path) -> Asked:
        path = folder / "map.dsac"
        atlas.save(path)
        localizer, found = Localizer(Atlas.load(path)), []
        for i in range(len(photos)):
            photo = photos[i]
            assert photo.cam_from_world is not None
            started = time.process_time()
            answer = localizer.localize(photo.image, photo.camera)
            ms, pose = 1000 * (time.process_time() - started), answer.cam_from_world
            off = pose.center_distance(photo.cam_from_world).item()
            degrees = pose.rotation_error_deg(photo.cam_from_world).item()
            known = (off, degrees, *pose.center.tolist()) if answer.success else _NOTHING
            found.append((*known, ms))
        distances, degrees, x, y, z, times = np.array(found).T
        megabytes = path.stat().st_size / 1e6 / len(atlas)
        return Asked(megabytes, distances, degrees, times, np.stack([x, y, z], axis=1))

    def row(self, label: str, whole: Asked) -> str:
        """A line of the table; `whole`: of the map as it is, from whose answers these are so far away."""
        shares = [f"{100 * np.mean((self.distances < t) & (self.degrees < 100 * t)):.1f}" for t in _LIMITS]
        localized = f"{100 * np.isfinite(self.distances).mean():.1f}"
        medians = f"{100 * np.median(self.distances):.3f}", f"{np.median(self.degrees):.3f}"
        away = 100 * np.linalg.norm(self.centers - whole.centers, axis=1)
        change = "" if self is whole else f"{np.nanmedian(away):.2f}, {np.nanquantile(away, 0.95):.2f}"
        ms = f"{np.median(self.times_ms):.0f}"
        return f"| {' | '.join([label, f'{self.megabytes:.2f}', localized, *shares, *medians, change, ms])} |"


def rows(scene: Scene, atlas: Atlas, arguments: argparse.Namespace, folder: Path) -> list[str]:
    photos = scene.query[:: arguments.every].without_damaged().without_depth()
    lines: list[str] = []

    def measured(label: str, of: Atlas, whole: Asked | None = None) -> Asked:
        what = Asked.of(of, photos, folder)
        lines.append(what.row(f"{Path(scene.path).name}, {label}", whole or what))
        print(lines[-1], flush=True)
        return what

    whole = measured("as it is", changed(atlas, lambda scene_map: scene_map))  # files from before, written anew
    measured("compact", atlas.compact(), whole)
    alone = changed(atlas, without_memory)
    by_head = measured("scene coordinates alone", alone)
    measured("the same, compact", alone.compact(), by_head)
    if arguments.curve:
        for factor in _FACTORS:
            with in_steps(factor):
                measured(f"in {factor:g} times the steps", atlas.compact(), whole)
        measured("a quarter of landmarks and described points", changed(atlas, thinned), whole)
    return lines


def measure(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    lines = [
        "# Compact maps",
        "",
        f"`python benchmarks/compact.py SCENE=MAP ... --every {arguments.every}`, one thread, processor time.",
        "Centimetres are hundredths of the recording's unit. Changed: how far answers lie from those of the",
        "map as it is (of scene coordinates alone: likewise alone), median and 19 of 20.",
        "",
        "| map | MB a region | localized | 5 cm 5° | 2 cm 2° | 1 cm 1° | median cm | ° | changed cm | ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for given in arguments.maps:
            scene_path, map_path = given.rsplit("=", 1)
            atlas = Atlas.load(map_path)
            scene = with_queries(load_scene(scene_path), atlas)
            lines += rows(scene, atlas, arguments, Path(folder))
    write_table(arguments.output, "compact.md", lines)


if __name__ == "__main__":
    parser = table_parser(__doc__)
    parser.add_argument("maps", nargs="+", metavar="SCENE=MAP", help="recordings, each with its map")
    parser.add_argument("--every", type=int, default=1, help="one of so many query frames")
    parser.add_argument("--curve", action="store_true", help="also coarser and thinner files")
    run(parser, measure)
