"""`dsac evaluate`: poses beside a truth, as a table, a report page and a CSV file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac.cli.console import err, let_kernels_compile, one_object, out, progress_bars
from dsac.cli.info import describe
from dsac.cli.options import Device, Flag, Maybe, Meaning, Positional, choose_device, read_scene
from dsac.cli.outputs import check_writable, is_page, is_table
from dsac.errors import DsacError

if TYPE_CHECKING:
    import torch

    from dsac.datasets import Scene
    from dsac.evaluation import Evaluation


@dataclass(frozen=True)
class Evaluate(Meaning):
    """Score a map on a recording's query images, or a file of estimates against a truth.

    Of a recording without query images those frames are taken that the map was not made from, as `dsac map`
    holds some out. Images that the map was made from are no test; they are counted and have rows of their own.

    For example:
      $ dsac evaluate kitchen.dsac 7scenes/redkitchen
      $ dsac evaluate kitchen.dsac 7scenes/redkitchen --query-depth
      $ dsac evaluate --poses estimates.txt --truth truth.txt
    """

    map: Positional[Maybe[Path]] = None
    """The map file."""
    scene: Positional[Maybe[str]] = None
    """Folder of the recording with images and their poses."""
    all: Flag = False
    """Score every frame, those that the map was made from too."""
    query_depth: Flag = False
    """Localize with the depth of the query images, not by RGB alone."""
    poses: Maybe[str] = None
    """Estimates to score instead of a map (poses file). With a map: `inverted`, if the poses are."""
    truth: Maybe[str] = None
    """With --poses: the file of true poses. With a map: which of the recording's truths comes first."""
    world: Maybe[str] = None
    """Of a map with regions in worlds apart: in which of them the scene's poses are (default: the one made from
    its frames, or by its folder's name). Answers in another are wrong, and counted."""
    max_gap: Maybe[float] = None
    """Seconds between an image and its pose, at most, in formats with timestamps (default: 0.02)."""
    report: Maybe[Path] = None
    """Report page to write (HTML); default: beside the map."""
    csv: Maybe[Path] = None
    """Table to write, a row per image; default: beside the map."""
    figures: Maybe[Path] = None
    """Folder for figures on inlier ratios, selections, times and hard frames (a scene with depth)."""
    json: Flag = False
    """Print one JSON object instead of the table (docs/conventions.md names its keys)."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""

    def run(self) -> None:
        of_map = self.map is not None and self.scene is not None
        with one_object(self.json) as show_object:
            if self.poses is not None and not (of_map and self.poses == "inverted"):
                values = self._score_poses(Path(self.poses))
            elif self.map is not None and self.scene is not None:
                values = self._score_map(self.map, self.scene)
            else:
                raise DsacError("evaluate needs MAP and SCENE, or --poses FILE --truth FILE")
            show_object(values)

    def _score_poses(self, poses: Path) -> dict[str, Any]:
        from dsac.evaluation import evaluate_poses

        if self.map is not None or self.truth is None:
            raise DsacError("evaluate --poses FILE needs --truth FILE, and no map")
        if self.max_gap is not None:
            raise DsacError("--max-gap: expected with a map, the images of poses files have no times")
        if self.all:
            raise DsacError("--all: expected with a map, all images of poses files are scored")
        if self.world is not None:
            raise DsacError("--world: expected with a map, poses files are in one world")
        if self.query_depth:
            raise DsacError("--query-depth: expected with a map, poses files have no images")
        if self.report is not None:
            check_writable(self.report, is_page)
        if self.csv is not None:
            check_writable(self.csv, is_table)
        result = evaluate_poses(poses, Path(self.truth), report=self.report)
        return _show(result, self.report, self.csv)

    def _score_map(self, map_file: Path, scene_path: str) -> dict[str, Any]:
        report = self.report or map_file.with_suffix(".html")
        csv = self.csv or map_file.with_suffix(".csv")
        check_writable(report, is_page)
        check_writable(csv, is_table)
        device = choose_device(self.device)
        scene = read_scene(scene_path, self.truth, self.max_gap, self.conventions(self.poses))
        return evaluate_map(
            map_file, scene, report, csv, device, self.figures, self.all, self.query_depth, self.world
        )


def evaluate_map(
    map_file: Path,
    scene: Scene,
    report: Path | None,
    csv: Path,
    device: torch.device,
    figures: Path | None = None,
    every_frame: bool = False,
    query_depth: bool = False,
    world: str | None = None,
) -> dict[str, Any]:
    """Localize the query images with live progress, write what was asked for, print the table; its figures.

    Of a scene without query images those are taken that the map was not made from, with `every_frame` all.
    `world`: see `evaluate`.
    """
    from dsac.evaluation import evaluate, with_queries, world_of
    from dsac.localizer import Localizer
    from dsac.studies.evidence import EvidenceCollector, inlier_distance

    if find_spec("matplotlib") is None and figures is None:
        err.print("no report page: it needs matplotlib (pip install 'dsac[plots]')", style="yellow")
        report = None
    let_kernels_compile()
    localizer = Localizer.load(map_file, device=device)
    scene_map = localizer.scene_map
    world = world_of(scene, scene_map, world)
    scene = with_queries(scene, scene_map, every_frame)
    if figures is not None:
        if world is not None:
            raise DsacError(f"--figures: expected a map in one world, {map_file} has regions in several")
        _check_figures(figures, scene)
    settings = [("command", " ".join(["dsac", *sys.argv[1:]])), *describe(scene_map, map_file)]
    collector = EvidenceCollector(localizer, inlier_distance(scene, scene_map.info), scene_map=scene_map)
    source = localizer if figures is None else collector
    with progress_bars() as bars:
        task = bars.add_task("localize", total=len(scene.query), note="")
        result = evaluate(
            source,
            scene,
            report=report,
            settings=settings,
            on_frame=lambda localization: bars.advance(task),
            query_depth=query_depth,
            world=world,
        )
    values = _show(result, report, csv)
    if figures is not None:
        from dsac.studies.figures import write_figures

        write_figures(collector.evidence, localizer, scene, figures, result.unit)
        out.print(f"figures: {figures / 'evidence.html'}", soft_wrap=True)
    return values


def _check_figures(folder: Path, scene: Scene) -> None:
    """Raises: `DsacError` where they cannot be drawn or written."""
    from dsac.evaluation.plots import require_matplotlib
    from dsac.studies.evidence import check_scene

    require_matplotlib()
    check_scene(scene)
    check_writable(folder / "evidence.html", make_folder=True)


def _show(result: Evaluation, report: Path | None, csv: Path | None) -> dict[str, Any]:
    if csv is not None:
        result.write_csv(csv)
    out.print(result.table)
    timing = result.median_timing_ms
    if timing:
        stages = ", ".join(f"{name} {value:.1f}" for name, value in timing)
        out.print(f"median {result.median_total_ms:.0f} ms an image ({stages})", soft_wrap=True)
    for said in filter(None, (result.about_places, result.about_worlds)):
        out.print(said, soft_wrap=True)
    if result.note:
        err.print(result.note, style="yellow", soft_wrap=True)
    if report is not None:
        out.print(f"report: {report}", soft_wrap=True)
    if csv is not None:
        out.print(f"table: {csv}", soft_wrap=True)
    files = {"report": report, "csv": csv}
    return result.to_dict() | {name: None if path is None else str(path) for name, path in files.items()}
