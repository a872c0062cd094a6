"""`dsac demo`: everything at once, on a room that is rendered on the spot."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from dsac.cli.console import out, progress_bars
from dsac.cli.evaluate import evaluate_map
from dsac.cli.map import map_scene
from dsac.cli.options import Device, choose_device, read_scene
from dsac.cli.outputs import check_writable, is_map
from dsac.cli.process import let_waiting_threads_sleep


@dataclass(frozen=True)
class Demo:
    """See it work: render a furnished room, map it, localize photos of it, and show how well that went.

    Needs no data. Afterwards the folder has the room's images, the map and the report page.
    """

    folder: Path = Path("demo")
    """Where the room, its map and the report go."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""

    def run(self) -> None:
        let_waiting_threads_sleep()
        from dsac.mapping import MappingSettings

        room, map_file = self.folder / "room", self.folder / "room.dsac"
        device = choose_device(self.device)
        check_writable(map_file, is_map, make_folder=True)
        started = time.monotonic()
        if not (room / "poses.txt").is_file():
            _render(room)
        scene = read_scene(str(room))
        settings = MappingSettings(steps=_STEPS, num_views=_VIEWS)
        map_scene(scene, map_file, settings, device)
        evaluate_map(map_file, scene, self.folder / "report.html", self.folder / "report.csv", device)
        seconds = time.monotonic() - started
        out.print(
            f"\n{seconds:.0f} s in all. Now with your own photos: dsac map FOLDER place.dsac", style="dim"
        )


def _render(folder: Path) -> None:
    from dsac.rooms import synthetic_scene, write_scene

    scene = synthetic_scene()
    with progress_bars() as bars:
        task = bars.add_task("render a room", total=1.0, note="")
        write_scene(scene, folder, lambda done, total: bars.update(task, completed=done / total))


_STEPS, _VIEWS = 800, 600  # for one room: about a minute on two cores
