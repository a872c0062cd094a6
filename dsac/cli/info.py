"""`dsac info`: what a map file holds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac.cli.console import err, out
from dsac.cli.options import Flag, Maybe, Positional
from dsac.cli.outputs import check_writable
from dsac.errors import DsacError

if TYPE_CHECKING:
    from rich.console import Console

    from dsac.atlas import Atlas, Map
    from dsac.geometry import GeoPoint
    from dsac.map_info import MapInfo


@dataclass(frozen=True)
class Info:
    """Show what a map file holds, and where it is weak.

    Of several regions a table follows. --picture draws the map from above: mapping photos, landmarks, and from
    where in which directions a photo would show too few of them to be found; the worst places are listed.

    For example:
      $ dsac info house.dsac --picture house.png
    """

    map: Positional[Path]
    """The map file."""
    json: Flag = False
    """Print one JSON object: `MapInfo`, and what the file holds beside it (docs/conventions.md)."""

    picture: Maybe[Path] = None
    """PNG file to write: the map from above. Needs `pip install 'dsac[plots]'`."""

    def run(self) -> None:
        from dsac.atlas import Atlas

        if self.picture is not None:
            check_writable(self.picture, _is_png)

        atlas = Atlas.load(self.map)
        scene_map = atlas if len(atlas) > 1 else atlas.regions[0].read()
        if self.json:
            print(json.dumps(as_dict(scene_map, self.map), ensure_ascii=False))
            self._draw(atlas, err)
            return
        print(self.map)
        for name, value in describe(scene_map, self.map):
            print(f"  {name:13} {value}")  # plain lines: to be searched, and the camera to be copied
        if len(atlas) > 1:
            print(*table(atlas), sep="\n")
        self._draw(atlas, out)

    def _draw(self, atlas: Atlas, to: Console) -> None:
        if self.picture is None:
            return
        from dsac.datasets.storage import write_atomically
        from dsac.evaluation.plan import Plan, spots_told

        try:
            plan = Plan.of(atlas)
        except DsacError as error:
            raise DsacError(f"{self.map}: {error}") from None
        write_atomically(self.picture, plan.draw())
        to.print(
            f"{self.picture}: of the directions from where it was filmed {plan.share_known:.0%} are known",
            soft_wrap=True,
        )
        for line in spots_told(plan):
            to.print(f"  {line}", soft_wrap=True)


def table(atlas: Atlas) -> list[str]:
    """A line for each region, and one that names the columns."""
    worlds = len(atlas.worlds) > 1
    rows = [["region", "frames", "size", "landmarks", "MB", *(["world"] if worlds else [])]]
    for region in atlas.regions:
        info = region.info
        sides = zip(info.bounds_min, info.bounds_max, strict=True)
        size = " × ".join(f"{info.scale * (high - low):.3g}" for low, high in sides)
        told = [f"{info.num_frames}", size, f"{region.holds.num_landmarks}", f"{region.size_bytes / 1e6:.2f}"]
        rows.append([region.name, *told, *([info.world] if worlds else [])])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def as_dict(scene_map: Map, path: Path) -> dict[str, Any]:
    """A map file in plain types: its `MapInfo`, and how much of what it holds; each of several regions, too."""
    from dsac.atlas import Atlas

    regions = scene_map.regions if isinstance(scene_map, Atlas) else ()
    of_regions = [{"name": each.name, **each.holds._asdict(), **asdict(each.info)} for each in regions]
    return {
        "map": str(path),
        "size_bytes": path.stat().st_size,
        **scene_map.holds._asdict(),
        **asdict(scene_map.info),
        **({"regions": of_regions} if of_regions else {}),
    }


def describe(scene_map: Map, path: Path) -> list[tuple[str, str]]:
    """Name and value of everything worth knowing about a map file."""
    info, holds = scene_map.info, scene_map.holds
    scale = info.scale  # what the map says of lengths is in its own unit
    size = [scale * (high - low) for low, high in zip(info.bounds_min, info.bounds_max, strict=True)]
    near, far = (scale * depth for depth in info.depth_range)
    training = info.training
    return [
        ("size", f"{path.stat().st_size / 1e6:.2f} MB, {holds.num_values:,} values"
                 + (", compact" if info.compact else "")),
        ("made from", f"{info.source}, {info.num_frames} frames, {info.supervision}"),
        ("scene", f"{size[0]:.3g} × {size[1]:.3g} × {size[2]:.3g}, depths {near:.3g} to {far:.3g}, "
                  f"in {unit_of(info)}"),
        *([] if info.geo is None else [("on Earth", f"east, north, up of {as_text(info.geo)}")]),
        ("camera", (info.camera or "unknown") + (", photos as they are stored" if info.as_stored else "")),
        *_describe_regressor(info),
        ("working size", f"short side {info.short_side_px} px"),
        ("landmarks", f"{holds.num_landmarks}"),
        ("described points", f"{holds.num_described_points}"),
        ("repeated", f"{holds.share_repeated:.0%} of the views look like others elsewhere"),
        ("scores", info.scoring.name.replace("-", " ")),
        ("training", f"{training.get('steps')} steps, {training.get('seconds')} s"
                     + (", interrupted" if training.get("interrupted") else "")),
        ("written", f"{info.created} by dsac {info.dsac_version}, format {info.format_version}"),
    ]  # fmt: skip


def as_text(geo: GeoPoint) -> str:
    """Latitude and longitude to the centimetre, and height."""
    latitude, longitude, height = geo
    return f"{latitude:.7f}°, {longitude:.7f}°, {height:.2f} m"


def unit_of(info: MapInfo) -> str:
    """Of lengths in the world that the map is in."""
    if info.metric is None:
        return "the unit of the recording's poses"
    return "metres" if info.metric else "a unit of the recording's own, not metres"


def _describe_regressor(info: MapInfo) -> list[tuple[str, str]]:
    if (network := info.network) is not None:
        colours = "grey" if network.grey else "colour"
        kind = f"{network.name} on {colours} images, {network.width:g} × the published width"
        return [("network", f"{kind}, stride {info.stride}")]
    if (forest := info.forest) is not None:
        sizes = {"guess": forest.context, "see colours": forest.color, "see depth": forest.depth}
        kinds = [f"{trees} that {what}, {leaves} leaves" for what, (trees, _, leaves) in sizes.items() if trees]
        return [("forests", f"trees: {'; '.join(kinds)}; stride {info.stride}")]
    assert info.head is not None
    return [
        (
            "encoder",
            f"{info.encoder_id} ({info.encoder_digest}), stride {info.stride}"
            + (", trained with this map" if info.own_encoder else ""),
        ),
        (
            "head",
            f"{info.head.num_blocks} blocks, {info.head.width} wide"
            + (f", {info.head.num_modes} modes a cell" if info.head.num_modes > 1 else ""),
        ),
    ]
