"""What becomes of a map that is extended: ten times where nothing changed, and by photos of a changed corner.

    python benchmarks/extend.py SCENE MAP [--extensions 10] [--photos 10] [--steps 600]

SCENE is 7-Scenes' red kitchen with depth (seq-01, poses_sfm.txt), MAP what `dsac map SCENE MAP` made. Of the
query frames every second one is asked, photos to extend by are taken from the others. The corner is changed by
two walls of pictures, put before the cupboards in every frame (`repainted.py`). Writes results/extend.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from repainted import Panel, repainted, shares_shown
from scripts import run, table_parser, write_table

from dsac import Localizer, Scene, evaluate, load_scene
from dsac.atlas import Atlas
from dsac.datasets import Frames
from dsac.mapping import MappingSettings, build_map
from dsac.mapping.extending import extend
from dsac.rooms import posters, write_scene

SHOWN = 0.3  # of a photo of the corner, that the pictures cover


def panels() -> list[Panel]:
    """Two walls of pictures before the cupboards in the kitchen's corner, as high as the counter and more."""
    corner, down = np.array([-1.956, -0.514, 2.864]), np.array([0.0, 0.901, 0.433])  # of the counter
    to_corner, along = np.array([0.0, -0.433, 0.901]), np.array([0.999, 0.016, -0.034])
    rng = np.random.default_rng(0)
    left = [posters.poster_city_map(rng), posters.poster_fern(rng)]
    right = [posters.poster_type(rng), posters.poster_mountains(rng), posters.poster_geometric(rng)]
    top, off_left, off_right = corner - 0.35 * down, [0.03, 0.0, 0.0], [-0.001, 0.013, -0.027]
    return [
        Panel(top - 1.0 * to_corner + off_left, 1.0 * to_corner, 1.05 * down, _wall(left, 1.0, 1.05)),
        Panel(top + off_right, 1.5 * along, 1.05 * down, _wall(right, 1.5, 1.05)),
    ]


def _wall(pictures: list[np.ndarray], width: float, height: float) -> np.ndarray:
    """Pictures side by side, four millimetres a pixel."""
    size = round(width * 250 / len(pictures)), round(height * 250)
    return np.hstack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures])


def spread(frames: Frames, count: int, start: int = 0) -> Frames:
    """So many, spread over all; others for each `start`, as far as there are."""
    step = len(frames) / count
    rows = (np.arange(count) * step + start * step / 10).astype(int)
    return frames[np.unique(rows)]


def extended(atlas: Atlas, scene: Scene, photos: Frames, steps: int) -> tuple[Atlas, str]:
    """With these photos, and what happened: seconds, landmarks."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        grown = extend(atlas, replace(scene, mapping=photos), Path(folder), MappingSettings(steps=steps))
        grown.atlas.save(Path(folder) / "grown.dsac")
        seconds = time.perf_counter() - started
        (told,) = grown.refreshed.values()
        more = f"{seconds:.0f} | {told.num_added} | {told.num_gone} | {told.num_left_out}"
        return Atlas.of({"": grown.atlas.regions[0].read()}), more


def scored(atlas: Atlas, scene: Scene, photos: Frames) -> str:
    """Cells of the table."""
    told = evaluate(Localizer(atlas), replace(scene, query=photos)).summaries[0]
    return (
        f"{told.percent_5cm_5deg:.1f} | {told.percent_1cm_1deg:.1f} "
        f"| {100 * told.median_translation_m:.2f} | {told.median_rotation_deg:.3f}"
    )


def held(atlas: Atlas) -> str:
    holds = atlas.holds
    size = sum(region.size_bytes for region in atlas.regions) / 1e6
    return f"{size:.2f} | {holds.num_landmarks} | {holds.num_described_points}"


def again_and_again(scene: Scene, atlas: Atlas, times: int, count: int, steps: int) -> list[str]:
    """Lines of the table: a map before and after each of some extensions by what it knows."""
    asked, others = scene.query[::2], scene.query[1::2]
    own = scene.mapping[::10]

    def quality() -> str:
        return f"{scored(atlas, scene, asked)} | {scored(atlas, scene, own)}"

    lines = [f"| before | – | – | – | – | {held(atlas)} | {quality()} |"]
    print(lines[-1], flush=True)
    for i in range(times):
        atlas, happened = extended(atlas, scene, spread(others, count, i), steps)
        told = quality() if i in (0, times // 2 - 1, times - 1) else " | ".join("–" * 8)
        lines.append(f"| {i + 1} × {count} photos | {happened} | {held(atlas)} | {told} |")
        print(lines[-1], flush=True)
    return lines


def changed_corner(scene: Scene, atlas: Atlas, count: int, steps: int) -> list[str]:
    """Lines of the table: the map before, with photos of the changed corner, and made anew of all frames."""
    shown = shares_shown(scene.query, panels())
    with tempfile.TemporaryDirectory() as folder:
        whole = replace(
            scene,
            mapping=repainted(scene.mapping, panels()),
            query=repainted(scene.query, panels()),
            truths={"exact": next(iter(scene.truths.values()))},
        )
        write_scene(whole, Path(folder) / "changed")
        changed = load_scene(Path(folder) / "changed")
        corner = np.flatnonzero(shown >= SHOWN)
        asked, others = corner[corner % 2 == 0], corner[corner % 2 == 1]
        elsewhere = np.flatnonzero(shown < SHOWN)
        elsewhere = elsewhere[elsewhere % 2 == 0]
        after, happened = extended(atlas, changed, spread(changed.query[others], count), steps)
        fresh = Atlas.of({"": build_map(changed, MappingSettings(steps=steps))})
        lines = []
        for name, each in (
            ("before", atlas),
            (f"with {count} photos ({happened.replace(' | ', ', ')})", after),
            ("made anew of all frames", fresh),
        ):
            of_corner = scored(each, changed, changed.query[asked])
            of_rest = scored(each, changed, changed.query[elsewhere])
            lines.append(f"| {name} | {held(each)} | {of_corner} | {of_rest} |")
            print(lines[-1], flush=True)
        return [
            f"{len(asked)} photos of the corner, {len(elsewhere)} of what is beside it.",
            "",
            *_head("|", 2),
            *lines,
        ]


def _head(first: str, *asked: str) -> list[str]:
    quality = "".join(f" {of}: % 5 cm 5° | % 1 cm 1° | cm | ° |" for of in asked)
    head = f"{first} MB | landmarks | described points |{quality}"
    return [head, "|" + "---|" * (head.count("|") - 1)]


def main(arguments: argparse.Namespace) -> None:
    scene, atlas = load_scene(arguments.scene), Atlas.load(arguments.map)
    lines = [_ABOUT, "", *_head("| | s | landmarks more | gone | left out |", "queries", "own frames")]
    lines += again_and_again(scene, atlas, arguments.extensions, arguments.photos, arguments.steps)
    lines += ["", _CHANGED, "", *changed_corner(scene, atlas, arguments.photos, arguments.steps)]
    write_table(arguments.output, "extend.md", lines)


_ABOUT = """# Extending a map

`python benchmarks/extend.py SCENE MAP`: the red kitchen's map of its 250 mapping frames, extended by ten
photos, again and again, from the other half of the query frames. Nothing has changed there. Every second query
frame is asked; frames that the map was made from are no test, but tell what it forgets elsewhere."""

_CHANGED = """## A changed corner

Two walls of pictures are put up before the cupboards, in every frame, behind what stands before them. The map
is extended by ten photos of that corner (in brackets: seconds, landmarks more, gone, left out)."""


if __name__ == "__main__":
    parser = table_parser(__doc__)
    parser.add_argument("scene")
    parser.add_argument("map", type=Path)
    parser.add_argument("--extensions", type=int, default=10)
    parser.add_argument("--photos", type=int, default=10)
    parser.add_argument("--steps", type=int, default=600)
    run(parser, main)
