"""How well a new map localizes: the line that `dsac map` ends with.

Held-out frames say it. Where there are none, some frames that the map learned from are localized: that is no
test, but a map that does not find them finds nothing.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dsac.cli.console import err, out, progress_bars
from dsac.errors import DatasetError

if TYPE_CHECKING:
    import torch

    from dsac.atlas import Map
    from dsac.datasets import Scene
    from dsac.evaluation import Summary


def score_map(path: Path, scene: Scene, device: torch.device, held_out: bool) -> None:
    """Localize the scene's query frames, if they were `held_out`, else some of the map's own; print how well.

    A photo that cannot be read leaves the map without a score, which is said.
    """
    import numpy as np

    from dsac.evaluation import evaluate
    from dsac.localizer import Localizer

    localizer = Localizer.load(path, device=device)
    scene_map = localizer.scene_map
    try:
        if held_out:
            frames, most = scene.query.without_damaged(), _MOST_HELD_OUT
        else:
            own = scene_map.learned_from(scene.mapping)
            frames, most = scene.mapping[np.flatnonzero(own)], _MOST_OWN
        with progress_bars() as bars:
            task = bars.add_task("localize", total=None, note="")
            for number in (_FEW, most):
                rows = np.linspace(0, len(frames) - 1, min(number, len(frames))).round().astype(int)
                bars.reset(task, total=len(rows))
                asked = replace(scene, query=frames[rows])
                result = evaluate(localizer, asked, on_frame=lambda localization: bars.advance(task))
                if result.summaries[0].num_not_localized == len(rows) or len(rows) == len(frames):
                    break
    except DatasetError as error:
        err.print(f"not scored: {error}", style="yellow", soft_wrap=True)
        return
    summary = result.summaries[0]
    out.print(score_line(summary, len(frames), held_out), soft_wrap=True)
    if (cause := _cause(scene_map, summary, held_out)) is not None:
        err.print(f"photos will hardly be localized: {cause}", style="yellow", soft_wrap=True)


def score_line(summary: Summary, count: int, held_out: bool) -> str:
    """What the figures of some of so many frames say, in a line."""
    from dsac.evaluation.metrics import CENTIMETRES, format_error

    unit, number = summary.unit, summary.num_images
    of = f" of {count}" if number < count else ""
    which = f"{number}{of} held-out photos" if held_out else f"{number}{of} frames that it learned from"
    if summary.num_not_localized == number:
        return f"{which}: none is localized"
    loose, _, tight = unit.thresholds
    median = f"{format_error(unit.of(summary.median_translation_m))} {unit.name}"
    line = (
        f"{which}: {100 * (1 - summary.num_not_localized / number):.0f} % localized, "
        f"{summary.percent_5cm_5deg:.0f} % within {loose}, {summary.percent_1cm_1deg:.0f} % within {tight}, "
        f"median {median}, {format_error(summary.median_rotation_deg)}°"
    )
    if not held_out:
        line += "; others are found less well"
    if unit != CENTIMETRES and summary.camera_spacing_m is not None:
        line += f" (spacing: from a mapping camera to the nearest one, {unit.size:.3g} of the recording's unit)"
    return line


def _cause(scene_map: Map, summary: Summary, held_out: bool) -> str | None:
    """Why so few are found, as far as the map knows; None where enough are.

    Within 5 cm, or as much as a hundredth of the farthest depth: outdoors that is good.
    """
    info, num_landmarks = scene_map.info, scene_map.holds.num_landmarks
    far_off = max(summary.unit.thresholds[0].translation_m, 0.01 * info.depth_range[1])
    localized = 1 - summary.num_not_localized / summary.num_images
    if localized >= _ENOUGH and summary.median_translation_m <= far_off:
        return None
    if num_landmarks < _FEW_LANDMARKS * info.settings.get("num_landmarks", 0):
        return f"hardly a corner is where other frames see it ({num_landmarks} landmarks), dsac check says more"
    if not info.training.get("fraction_good", math.inf) >= _FEW_GOOD:
        return "too little was learned, more minutes or steps help"
    if held_out:
        return "these show what few other frames show, more frames help; dsac check says if something is wrong"
    return "dsac check says whether poses, cameras and images agree"


_MOST_HELD_OUT, _MOST_OWN = 100, 20  # some 40 ms each where they are found
_FEW = 8  # are enough where none of them is found, which takes half a second each
_ENOUGH = 0.5  # of them
_FEW_LANDMARKS = 0.25  # of those wanted: so few are found by chance
_FEW_GOOD = 0.1  # of the cells, within 10 px: a fifth to nine tenths in maps that localize
