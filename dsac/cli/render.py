"""`dsac render`: a place with exact poses, rendered on the spot."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dsac.cli.console import out, progress_bars
from dsac.cli.options import Flag, Maybe, Positional, check_seed, given, users_mistakes
from dsac.errors import DsacError

if TYPE_CHECKING:
    from dsac.datasets import Scene

Small = Literal["room", "terrace", "stairs", "corridor", "facade"]  # the names of `dsac.rooms.SCENES`


@dataclass(frozen=True)
class Render:
    """Render a place with exact poses: a recording to try things with, nothing to download.

    A furnished room, a terrace above a street, a staircase over four floors, an office corridor of equal doors,
    a house front of equal windows: 200 mapping and 50 query frames each. Or a building: furnished rooms along
    corridors, ten a floor, some of which look alike; 200 mapping and 25 query frames a room, in folders named
    by where they are taken (room-07/mapping-000.jpg). Thirty rooms take minutes.

    For example:
      $ dsac render building office --rooms 3
      $ dsac map office office.dsac
      $ dsac evaluate office.dsac office
    """

    place: Positional[Literal[Small, "building"]]
    """What is rendered."""
    folder: Positional[Path]
    """The folder to write, a new or an empty one."""
    rooms: Maybe[int] = None
    """How many rooms the building has (default: 30)."""
    depth: Flag = False
    """Also write depth, as depth cameras measure it, but exact."""
    seed: int = 0
    """Another number is other furniture, pictures and walks."""

    def run(self) -> None:
        from dsac.datasets.storage import check_new_folder
        from dsac.rooms import DEPTH_UNIT, SCENES, building_scene

        check_seed(self.seed)
        check_new_folder(self.folder)
        if self.rooms is not None and self.place != "building":
            raise DsacError(
                f"--rooms: a building has rooms, got {self.place}; leave it out, or render building"
            )
        if self.rooms is not None and self.rooms < 1:
            raise DsacError(f"--rooms: expected 1 or more, got {self.rooms}")

        def scene() -> Scene:
            if self.place == "building":
                return building_scene(**given(num_rooms=self.rooms), seed=self.seed)
            return SCENES[self.place](seed=self.seed)

        with users_mistakes():
            rendered = render_place(self.place, scene, self.folder, DEPTH_UNIT if self.depth else None)
        out.print(
            f"{self.folder}: {len(rendered.mapping)} mapping frames, {len(rendered.query)} query frames",
            soft_wrap=True,
        )
        name = shlex.quote(str(self.folder))
        out.print(f"Next: dsac map {name} {self.place}.dsac", style="dim", soft_wrap=True)


def render_place(name: str, scene: Callable[[], Scene], folder: Path, depth_unit: float | None) -> Scene:
    """Render and write a scene with a bar; building it takes some time before the first frame."""
    from dsac.rooms import write_scene

    with progress_bars() as bars:
        task = bars.add_task(f"render the {name}", total=None, note="")
        rendered = scene()
        write_scene(
            rendered, folder, lambda done, total: bars.update(task, completed=done, total=total), depth_unit
        )
    return rendered
