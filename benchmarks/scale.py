"""What a place costs as one region of many: exactness, wrong regions, milliseconds, megabytes.

    python benchmarks/scale.py SCENE=MAP [SCENE=MAP ...] [--every 1] [--regions 1 3 10 30 100]

Localizes the query frames of each scene by its own map, and by an atlas of the regions of all maps; the scenes'
worlds lie far apart in it. An answer is in a wrong region when it is trusted and farther off than a tenth of
the place. Then the time of a photo, of as many regions as are asked for: the maps' own, and copies of them
whose visual words are those of nothing. One thread, processor time. Writes results/scale.md.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scripts import run, table_parser, write_table

from dsac import Localizer, Pose, Scene, load_scene
from dsac.atlas import Atlas, Region, unused_name
from dsac.evaluation import with_queries
from dsac.geometry import Similarity
from dsac.localization import Localization

_APART = 1e5  # between the worlds of two scenes
_THRESHOLDS = 0.05, 0.02, 0.01  # of a metre, and as many hundreds of degrees
_TIMED = 40  # photos


class Asked(NamedTuple):
    """What became of the query frames of a scene."""

    distances: np.ndarray  # of the answers from the truth, infinite where there is none
    degrees: np.ndarray
    wrong: int  # answers in a wrong region
    times_ms: np.ndarray


def joined(atlases: list[Atlas]) -> Atlas:
    """All regions, each scene's world so far from the next that nothing is near both."""
    regions: list[Region] = []
    for number, atlas in enumerate(atlases):
        away = Similarity.of((_APART * number, 0.0, 0.0))
        for region in atlas.saying(lambda info, away=away: info.in_world_of(away)).regions:
            name = unused_name(region.name or f"scene-{number + 1}", [known.name for known in regions])
            regions.append(replace(region, name=name))
    return Atlas(tuple(regions))


def with_strangers(atlas: Atlas, count: int) -> Atlas:
    """So many regions: the atlas' own, then copies with words of nothing, which no photo should ask."""
    regions = list(atlas.regions[:count])
    generator = torch.Generator().manual_seed(0)
    while len(regions) < count:
        copied = atlas.regions[len(regions) % len(atlas)]
        words = copied.words
        if words is not None:
            other = words.words[:, torch.randperm(words.words.shape[1], generator=generator)]
            words = replace(words, words=other.contiguous())
        regions.append(replace(copied, name=f"stranger-{len(regions)}", words=words))
    return Atlas(tuple(regions))


def asked(localizer: Localizer, scene: Scene, every: int, world: Similarity) -> Asked:
    """`world`: where the localizer's maps of this scene lie."""
    queries = scene.query[::every].without_damaged()
    truth = queries.cam_from_world
    assert truth is not None
    extent = (truth.center - truth.center.median(0).values).norm(dim=-1).median().item()
    distances, degrees, times, wrong = [], [], [], 0
    answers = localizer.localize_frames(queries)
    for i in range(len(queries)):
        started = time.process_time()
        answer: Localization = next(answers)
        times.append(1000 * (time.process_time() - started) - answer.timing.decode_ms)
        there: Pose = world.pose(truth[i])
        off = answer.cam_from_world.center_distance(there).item()
        wrong += bool(answer.success) and off > max(0.5, 0.1 * extent)
        distances.append(off if answer.success else math.inf)
        degrees.append(answer.cam_from_world.rotation_error_deg(there).item() if answer.success else math.inf)
    return Asked(np.array(distances), np.array(degrees), wrong, np.array(times))


def row(label: str, what: Asked, size_mb: float) -> str:
    shares = [f"{100 * np.mean((what.distances < t) & (what.degrees < 100 * t)):.1f}" for t in _THRESHOLDS]
    localized = f"{100 * np.isfinite(what.distances).mean():.1f}"
    exact = f"{100 * np.median(what.distances):.2f}"
    cells = [label, localized, *shares, exact, str(what.wrong), f"{np.median(what.times_ms):.0f}"]
    return f"| {' | '.join(cells)} | {size_mb:.1f} |"


def measure(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    pairs = [given.rsplit("=", 1) for given in arguments.maps]
    maps = [Path(path) for _, path in pairs]
    atlases = [Atlas.load(path) for path in maps]
    scenes = [with_queries(load_scene(path), atlas) for (path, _), atlas in zip(pairs, atlases, strict=True)]
    whole = joined(atlases)
    together, lines = Localizer(whole), _head(arguments)
    size = sum(path.stat().st_size for path in maps) / 1e6
    for number, (scene, atlas, path) in enumerate(zip(scenes, atlases, maps, strict=True)):
        name = Path(scene.path).name
        own = asked(Localizer(atlas), scene, arguments.every, Similarity.identity())
        lines.append(row(f"{name}, own map, {len(atlas)} regions", own, path.stat().st_size / 1e6))
        if len(atlases) > 1:
            world = Similarity.of((_APART * number, 0.0, 0.0))
            among = asked(together, scene, arguments.every, world)
            lines.append(row(f"{name}, among {len(whole)} regions", among, size))
    lines += ["", "| regions | ms a photo, median | 90 % | MB of regions in memory |", "|---|---|---|---|"]
    every = max(1, len(scenes[0].query) // _TIMED)
    for count in arguments.regions:
        localizer = Localizer(with_strangers(whole, count), memory_mb=arguments.memory_mb)
        times = asked(localizer, scenes[0], every, Similarity.identity()).times_ms
        median, most = np.quantile(times, (0.5, 0.9))
        lines.append(f"| {count} | {median:.1f} | {most:.1f} | {localizer.memory_used_mb:.0f} |")
    write_table(arguments.output, "scale.md", lines)


def _head(arguments: argparse.Namespace) -> list[str]:
    return [
        "# One region of many",
        "",
        f"`python benchmarks/scale.py {' '.join(Path(m).name for m in arguments.maps)} "
        f"--every {arguments.every}`, one thread, processor time without decoding.",
        "",
        "| query frames | % localized | % 5 cm 5° | % 2 cm 2° | % 1 cm 1° | median cm | wrong | ms | MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]


if __name__ == "__main__":
    parser = table_parser(__doc__)
    parser.add_argument("maps", nargs="+", metavar="SCENE=MAP")
    parser.add_argument("--every", type=int, default=1, help="query frames, one in so many")
    parser.add_argument("--regions", type=int, nargs="*", default=[1, 3, 10, 30, 100])
    parser.add_argument("--memory-mb", type=float, default=2000.0, help="for regions")
    run(parser, measure)
