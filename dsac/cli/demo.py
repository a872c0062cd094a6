"""`dsac demo`: everything at once, on a place that is rendered on the spot."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from dsac.cli.console import out
from dsac.cli.evaluate import evaluate_map
from dsac.cli.map import map_scene
from dsac.cli.options import Device, choose_device, read_scene
from dsac.cli.outputs import check_writable, is_map
from dsac.cli.process import let_waiting_threads_sleep
from dsac.cli.render import Small, render_place


@dataclass(frozen=True)
class Demo:
    """See it work: render a place, map it, localize photos of it, and show how well that went.

    Needs no data. Afterwards the folder has the place's images, the map and the report page.
    Stairs, corridor and facade repeat themselves, which is hard: dsac demo --scene stairs
    """

    scene: Small = "room"
    """What is rendered: a furnished room, a terrace above a street, a staircase over four floors, an office
    corridor of equal doors, or a house front of equal windows; the folder's files are called by it."""
    folder: Path = Path("demo")
    """Where the images, the map and the report go."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""

    def run(self) -> None:
        let_waiting_threads_sleep()
        from dsac.mapping import MappingSettings
        from dsac.rooms import DEPTH_UNIT, SCENES

        place, map_file = self.folder / self.scene, self.folder / f"{self.scene}.dsac"
        report = self.folder / ("report" if self.scene == "room" else f"{self.scene}-report")
        device = choose_device(self.device)
        check_writable(map_file, is_map, make_folder=True)
        started = time.monotonic()
        if not (place / "poses.txt").is_file():
            render_place(self.scene, SCENES[self.scene], place, DEPTH_UNIT)
        scene = read_scene(str(place))
        settings = MappingSettings(steps=_STEPS, num_views=_VIEWS)
        map_scene(scene, map_file, settings, device)
        evaluate_map(map_file, scene, report.with_suffix(".html"), report.with_suffix(".csv"), device)
        seconds = time.monotonic() - started
        out.print(
            f"\n{seconds:.0f} s in all. Now with your own photos: dsac map FOLDER place.dsac", style="dim"
        )


_STEPS, _VIEWS = 800, 600  # for one place: about a minute on two cores
