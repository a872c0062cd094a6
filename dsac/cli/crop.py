"""`dsac crop`: a part of a map, or a smaller file of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dsac.cli.align import check_one_world
from dsac.cli.console import out
from dsac.cli.options import Flag, Positional
from dsac.cli.outputs import check_writable, is_map
from dsac.errors import DsacError


@dataclass(frozen=True)
class Crop:
    """Take a part of a map out: some of its regions, or what lies in a box; or make its file smaller.

    `dsac info MAP` names the regions. A box keeps the regions that have mapping cameras or landmarks in it, and
    of their landmarks and described points those in it, which makes files smaller; what they learned stays.
    A compact map is a third as large, knows as much and answers nearly the same (docs/scale.md).

    For example:
      $ dsac crop house.dsac phone.dsac --compact
      $ dsac crop house.dsac attic.dsac --regions attic stairs
      $ dsac crop house.dsac corner.dsac --box 0 0 -1 4 3 2
    """

    map: Positional[Path]
    """The map file."""
    output: Positional[Path]
    """The map file to write."""
    regions: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="NAMES...", help_behavior_hint="")] = None
    """Names of the regions to keep."""
    box: Annotated[
        tuple[float, float, float, float, float, float] | None,
        tyro.conf.arg(metavar="X0 Y0 Z0 X1 Y1 Z1", help_behavior_hint=""),
    ] = None
    """The lowest and the highest corner, along the world's axes and in its unit."""
    compact: Flag = False
    """Write it in few levels, some 1 MB a region."""

    def run(self) -> None:
        from dsac.atlas import Atlas
        from dsac.cropping import in_box, some_regions

        if self.regions is not None and self.box is not None:
            raise DsacError("crop: expected either --regions or --box, got both")
        if self.regions is None and self.box is None and not self.compact:
            raise DsacError("crop needs --regions NAMES..., --box X0 Y0 Z0 X1 Y1 Z1 or --compact")
        if self.regions == ():
            raise DsacError("--regions: expected one name or more, got none")
        check_writable(self.output, is_map)
        atlas = Atlas.load(self.map)
        if self.regions is not None:
            try:
                part = some_regions(atlas, self.regions)
            except DsacError as error:
                raise DsacError(f"{self.map}: --regions: {error}") from None
        elif self.box is not None:
            check_one_world(self.map, atlas)
            part = in_box(atlas, (self.box[:3], self.box[3:]))
        else:
            part = atlas
        if self.compact:
            part = part.compact()
        part.save(self.output)
        before, after = atlas.holds, part.holds
        out.print(
            f"{self.output}: {len(part)} of {len(atlas)} regions, {after.num_landmarks} of "
            f"{before.num_landmarks} landmarks, {self.output.stat().st_size / 1e6:.2f} MB",
            soft_wrap=True,
        )
