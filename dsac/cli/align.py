"""`dsac align`: a map in the world of control points, of the Earth, or of another recording."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dsac.cli.console import let_kernels_compile, out
from dsac.cli.info import as_text, unit_of
from dsac.cli.options import Device, Flag, Maybe, Positional, choose_device, read_scene, users_mistakes
from dsac.cli.outputs import check_writable, is_map
from dsac.errors import DsacError

if TYPE_CHECKING:
    from dsac.atlas import Atlas
    from dsac.datasets import Frames
    from dsac.geometry import GeoPoint, Similarity
    from dsac.worlds import Alignment


@dataclass(frozen=True)
class Align:
    """Turn, move and scale a map into another world: answers are then in its coordinates.

    One of these tells where: --points, places known in both worlds; --clicks, known places that photos show;
    --gps, photos that know where they were taken; --recording, another recording of the place; --transform, a
    matrix; --scale or --distance, if only the unit is missing. With places on Earth the world's axes become
    east, north and up, and answers have latitude, longitude and height.
    Only what the map says of its place changes; align it again, or back, as often as you like.

    For example:
      $ dsac align kitchen.dsac --points survey.csv          # name,x,y,z,X,Y,Z a line; or ...,lat,lon,height
      $ dsac align square.dsac --clicks photos/clicks.csv    # photo,u,v,X,Y,Z a line
      $ dsac align photos.dsac --distance a.jpg b.jpg 2.35   # metres between the two cameras
      $ dsac align square.dsac --gps photos --output square-earth.dsac
      $ dsac align lab.dsac --recording lab-lidar
    """

    map: Positional[Path]
    """The map file, which is written anew."""
    points: Maybe[Path] = None
    """Control points: [NAME] x y z X Y Z a line, in the map's world and in the other. Three or more, not in a
    line. A first line that names lat, lon and height for the last three columns says that they are on Earth.
    JSON has a list of objects with these names."""
    clicks: Maybe[Path] = None
    """Control points in photos: PHOTO u v X Y Z a line, the pixel of a photo that shows the place X Y Z of the
    other world; of each place a line for two photos or more that the map localizes, from different sides. Names
    are from the file's folder. Else as --points."""
    gps: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="PHOTOS...", help_behavior_hint="")] = None
    """Photos, or folders of photos, with GPS in their EXIF data, of which the map localizes three or more. GPS
    is off by some metres: they should be much farther apart, and held level more or less."""
    recording: Maybe[str] = None
    """Folder of a recording of the same place with poses in the other world."""
    transform: Maybe[Path] = None
    """4x4 matrix, other world from the map's world, as text or JSON: a rotation times a scale, and a
    translation. One that scales is taken to end in metres."""
    scale: Maybe[float] = None
    """By how many times lengths become larger, and metres; place and turn stay."""
    distance: Annotated[
        tuple[str, str, float] | None, tyro.conf.arg(metavar="PHOTO PHOTO METRES", help_behavior_hint="")
    ] = None
    """The same, by two photos whose cameras are so far apart, and which the map localizes."""
    rigid: Flag = False
    """Keep the map's unit of length: turn and move only."""
    tolerance: Maybe[float] = None
    """With --points and --clicks: by how much they may be off, in the other world's unit (default: 1 % of their
    extent)."""
    origin: Annotated[
        tuple[float, float, float] | None, tyro.conf.arg(metavar="LAT LON HEIGHT", help_behavior_hint="")
    ] = None
    """Where the other world's origin is on Earth, its axes being east, north and up (default: of points on
    Earth the first, of photos their middle)."""
    output: Maybe[Path] = None
    """Map file to write instead of the one given."""
    device: Device = "auto"
    """Where photos are localized; auto takes the GPU if there is one."""

    def run(self) -> None:
        from dsac.atlas import Atlas
        from dsac.worlds import aligned

        sources = ("points", "clicks", "gps", "recording", "transform", "scale", "distance")
        said = [source for source in sources if getattr(self, source) is not None]
        if len(said) != 1:
            raise DsacError("align needs one of " + ", ".join(f"--{source}" for source in sources))
        if self.tolerance is not None and (said[0] not in ("points", "clicks") or self.tolerance < 0):
            raise DsacError("--tolerance: expected 0 or more, with --points or --clicks")
        if self.rigid and said[0] in ("transform", "scale", "distance"):
            raise DsacError(f"--rigid: expected without --{said[0]}, which says itself whether it scales")
        atlas = Atlas.load(self.map)
        check_one_world(self.map, atlas)
        output = self.output or self.map
        check_writable(output, is_map)
        _check_origin(self.origin)
        alignment = self._alignment(atlas)
        changed = aligned(atlas, alignment)
        each = said[0] in ("points", "clicks")
        for line in [*(_told_points(alignment) if each else []), *told(alignment)]:
            out.print(line, soft_wrap=True)
        changed.save(output)
        geo = changed.info.geo
        where = "" if geo is None else f", east, north and up of {as_text(geo)}"
        out.print(f"{output}: positions are in {unit_of(changed.info)} now{where}", soft_wrap=True)

    def _alignment(self, atlas: Atlas) -> Alignment:
        from dsac.localizer import Localizer
        from dsac.worlds import (
            by_clicks,
            by_control_points,
            by_distance,
            by_gps,
            by_recording,
            by_scale,
            by_transform,
        )

        if self.points is not None:
            return by_control_points(
                str(self.points), tolerance=self.tolerance, rigid=self.rigid, origin=self.origin
            )
        if self.transform is not None:
            return replace(by_transform(self.transform, atlas.info), geo=self.origin)
        if self.scale is not None:
            with users_mistakes():
                return replace(by_scale(self.scale), geo=self.origin)
        localizer = Localizer(atlas, device=choose_device(self.device))
        if self.gps is not None:
            photos = _photos(self.gps, atlas)
            let_kernels_compile()
            return by_gps(localizer, photos, rigid=self.rigid, origin=self.origin)
        if self.recording is not None:
            scene = read_scene(self.recording)
            let_kernels_compile()
            return by_recording(localizer, scene, rigid=self.rigid, origin=self.origin)
        let_kernels_compile()
        if self.clicks is not None:
            return by_clicks(
                localizer, str(self.clicks), tolerance=self.tolerance, rigid=self.rigid, origin=self.origin
            )
        assert self.distance is not None
        *pair, metres = self.distance
        with users_mistakes():
            return replace(by_distance(localizer, (pair[0], pair[1]), metres), geo=self.origin)


def check_one_world(path: Path, atlas: Atlas) -> None:
    """Raises: `DsacError`."""
    if len(atlas.worlds) > 1:
        raise DsacError(
            f"{path}: expected regions in one world, got {', '.join(atlas.worlds)}: take those of one out with "
            "`dsac crop --regions`"
        )


def _check_origin(origin: GeoPoint | None) -> None:
    """Raises: `DsacError`."""
    from dsac.geometry import check_geo

    try:
        if origin is not None:
            check_geo(origin)
    except ValueError as error:
        raise DsacError(f"--origin: {error}") from None


def _photos(given: tuple[str, ...], atlas: Atlas) -> Frames:
    from dsac.atlas import photos_for

    if not given:
        raise DsacError("--gps: expected photos or folders of photos, got none")
    with users_mistakes():
        return photos_for(atlas, given)


def told(alignment: Alignment) -> list[str]:
    """What was found, in lines: who agrees, and the transform."""
    return [*_told_agreement(alignment), _told_transform(alignment.world_from_this)]


def _told_points(alignment: Alignment) -> list[str]:
    """How far off each is."""
    width = max(map(len, alignment.names))
    return [
        f"  {name:{width}}  {residual:.3g}{' m' if alignment.metric else ''}"
        for name, residual in zip(alignment.names, alignment.residuals.tolist(), strict=True)
    ]


def _told_agreement(alignment: Alignment) -> list[str]:
    known = [f"known to {alignment.accuracy}"] if alignment.accuracy else []
    if not alignment.names:
        return known
    residuals, agree = alignment.residuals, alignment.agree
    unit = " m" if alignment.metric else ""
    worst = int(residuals.argmax())
    lines = [
        f"{int(agree.sum())} of {len(agree)} agree, off by {residuals[agree].median():.3g}{unit} (median); "
        f"the worst is {alignment.names[worst]}, by {residuals[worst]:.3g}{unit}"
    ]
    return lines + known


def _told_transform(similarity: Similarity) -> str:
    from dsac.geometry import rotation_angle

    degrees = math.degrees(rotation_angle(similarity.motion.rotation).item())
    x, y, z = similarity.translation
    moved = f"the former origin is at ({x:.3f}, {y:.3f}, {z:.3f})"
    return f"lengths × {similarity.scale:.6g}, turned by {degrees:.2f}°, {moved}"
