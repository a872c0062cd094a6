"""`dsac merge`: several maps in one file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dsac.cli.align import check_one_world, told
from dsac.cli.console import let_kernels_compile, out
from dsac.cli.options import Device, Flag, Maybe, Positional, choose_device, read_scene
from dsac.cli.outputs import check_writable, is_map
from dsac.errors import DsacError

if TYPE_CHECKING:
    from dsac.atlas import Atlas
    from dsac.worlds import Alignment


@dataclass(frozen=True)
class Merge:
    """Put several maps into one file, which a photo is then asked of as a whole.

    Each keeps its own regions; a region without a name gets that of its file. How the maps lie to each other is
    for you to say: --same-world, their poses are in one world already (`dsac align` brings them there);
    --transform, a matrix; --recording, frames of the second map's world, which the first map finds; or --apart,
    worlds that have nothing to do with each other: an answer says which of them it is in, and which pose there.

    For example:
      $ dsac merge hall.dsac attic.dsac house.dsac --same-world
      $ dsac merge hall.dsac annex.dsac house.dsac --recording annex-frames
      $ dsac merge paris.dsac rome.dsac oslo.dsac cities.dsac --apart
    """

    maps: Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="MAP... OUTPUT", help_behavior_hint="")]]
    """The map files, two or more, and last the file to write."""
    same_world: Flag = False
    """The poses of all maps are in one world."""
    transform: Maybe[Path] = None
    """Of two maps: 4x4 matrix, the first map's world from the second's, as for `dsac align`."""
    recording: Maybe[str] = None
    """Of two maps: folder of a recording with poses in the second map's world, frames of which show what the
    first map knows."""
    apart: Flag = False
    """Each map has a world of its own, by the name of its file."""
    device: Device = "auto"
    """Where photos are localized; auto takes the GPU if there is one."""

    def run(self) -> None:
        from dsac.atlas import Atlas, region_name
        from dsac.worlds import aligned, apart, in_one_world, knows_too

        if sum((self.same_world, self.transform is not None, self.recording is not None, self.apart)) != 1:
            raise DsacError(
                "merge needs one of --same-world (all poses are in one world), --transform FILE (the first "
                "map's world from the second's), --recording SCENE (with poses in the second map's world, of "
                "what the first knows) and --apart (worlds that stay by themselves)"
            )
        if len(self.maps) < 3:
            raise DsacError(
                f"merge: expected two maps or more and the file to write, got {len(self.maps)} names"
            )
        *paths, output = self.maps
        by_relation = self.transform is not None or self.recording is not None
        if by_relation and len(paths) > 2:
            raise DsacError(
                f"merge: expected two maps with --transform and --recording, got {len(paths)}: merge them one "
                "after another"
            )
        check_writable(output, is_map)
        if output.is_file() and output.stat().st_size > 0 and output.resolve() not in map(Path.resolve, paths):
            raise DsacError(
                f"{output}: already exists, and the last name is that of the file to write: give a new one"
            )
        maps = [(region_name(path.stem), Atlas.load(path)) for path in paths]
        if by_relation:
            for path, (_, atlas) in zip(paths, maps, strict=True):
                check_one_world(path, atlas)
            (_, first), (name, second) = maps
            alignment = self._alignment(first, second)
            for line in told(alignment):
                out.print(line, soft_wrap=True)
            maps[1] = name, aligned(second, alignment)
        together = apart(maps) if self.apart else in_one_world(maps)
        together.save(output)
        for (name, first), (other, second) in combinations(() if self.apart else maps, 2):
            if knows_too(first, second):
                out.print(
                    f"{name} and {other} know the same place: photos of it are asked of both, and where their "
                    "poses disagree, so do answers; `dsac extend` takes the frames of the one into the other",
                    style="yellow",
                    soft_wrap=True,
                )
        worlds = f", worlds {', '.join(together.worlds)}" if len(together.worlds) > 1 else ""
        out.print(f"{output}: {len(together)} regions, {', '.join(together.names)}{worlds}", soft_wrap=True)

    def _alignment(self, first: Atlas, second: Atlas) -> Alignment:
        """Of the second map, to the first one's world."""
        from dsac.localizer import Localizer
        from dsac.worlds import by_recording, by_transform

        geo = first.info.geo
        if self.transform is not None:
            found = by_transform(self.transform, second.info)
            scales = found.world_from_this.scale != 1.0
            return replace(found, metric=first.info.metric if scales else second.info.metric, geo=geo)
        assert self.recording is not None
        scene = read_scene(self.recording)
        let_kernels_compile()
        # that is the recording's, which is the second map's, world from the first's
        found = by_recording(Localizer(first, device=choose_device(self.device)), scene)
        back = found.world_from_this.inverse()
        residuals = found.residuals * back.scale
        return replace(found, world_from_this=back, residuals=residuals, metric=first.info.metric, geo=geo)
