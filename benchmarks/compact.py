"""What a compact map costs: megabytes, exactness and milliseconds, as it is, compact, coarser and thinner.

    python benchmarks/compact.py SCENE=MAP [SCENE=MAP ...] [--every 1] [--curve]

Localizes the query frames of each scene by its map, by its compact file, and by both without landmarks and
described points. With --curve also by files that are written in half, twice and four times the steps, and by a
quarter of the landmarks and described points as they are. Lengths are of the recording's unit, its metre where
it has one. One thread, processor time. Writes results/compact.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from scale import asked
from scripts import run, table_parser, write_table

from dsac import Localizer, Scene, load_scene, packing
from dsac.atlas import Atlas, Region
from dsac.cropping import part_of, with_memory
from dsac.evaluation import with_queries
from dsac.geometry import Similarity
from dsac.scene_map import SceneMap

_LIMITS = 0.05, 0.02, 0.01  # of the unit, and as many hundreds of degrees
_FACTORS = 0.5, 2.0, 4.0  # of the steps of a compact map


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


def row(label: str, atlas: Atlas, scene: Scene, every: int, folder: Path) -> str:
    """What is measured of the atlas as its file is read."""
    path = folder / "map.dsac"
    atlas.save(path)
    megabytes = path.stat().st_size / 1e6
    what = asked(Localizer(Atlas.load(path)), scene, every, Similarity.identity())
    shares = [f"{100 * np.mean((what.distances < t) & (what.degrees < 100 * t)):.1f}" for t in _LIMITS]
    localized = f"{100 * np.isfinite(what.distances).mean():.1f}"
    exact = f"{100 * np.median(what.distances):.3f}"
    degrees = f"{np.median(what.degrees):.3f}"
    of_region = f"{megabytes / len(atlas):.2f}"
    cells = [label, of_region, localized, *shares, exact, degrees, f"{np.median(what.times_ms):.0f}"]
    line = f"| {' | '.join(cells)} |"
    print(line, flush=True)
    return line


def rows(scene: Scene, atlas: Atlas, arguments: argparse.Namespace, folder: Path) -> list[str]:
    def measured(label: str, of: Atlas) -> str:
        return row(f"{Path(scene.path).name}, {label}", of, scene, arguments.every, folder)

    alone = changed(atlas, without_memory)
    lines = [measured("as it is", atlas), measured("compact", atlas.compact())]
    lines += [measured("scene coordinates alone", alone), measured("the same, compact", alone.compact())]
    if arguments.curve:
        for factor in _FACTORS:
            with in_steps(factor):
                lines.append(measured(f"in {factor:g} times the steps", atlas.compact()))
        lines.append(measured("a quarter of landmarks and described points", changed(atlas, thinned)))
    return lines


def measure(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    lines = [
        "# Compact maps",
        "",
        f"`python benchmarks/compact.py SCENE=MAP ... --every {arguments.every}`, one thread, processor time.",
        "Centimetres are hundredths of the recording's unit.",
        "",
        "| map | MB a region | % localized | % 5 cm 5° | % 2 cm 2° | % 1 cm 1° | median cm | median ° | ms |",
        "|---|---|---|---|---|---|---|---|---|",
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
