"""Several maps in one file: of one world, or of worlds that nobody relates to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dsac.atlas import Atlas, Region, unused_name
from dsac.errors import DsacError
from dsac.map_info import MapInfo

NamedMap = tuple[str, Atlas]  # the name is for a region without one, and for messages


def in_one_world(maps: Sequence[NamedMap]) -> Atlas:
    """Their regions together, in the first map's world: poses of all are meant in that already, see `aligned`.

    Raises: `DsacError` where they cannot be of one world: in other units, or about other places on Earth.
    """
    for name, atlas in maps:
        if len(atlas.worlds) > 1:
            raise DsacError(
                f"{name}: expected a map in one world, its regions are in {_listed(atlas.worlds)}: "
                "take the regions of one out with `dsac crop`"
            )
    infos = [(name, region.info) for name, atlas in maps for region in atlas.regions]
    _agreed(infos, "metric", lambda info: "metres" if info.metric else "a unit that is not the metre")
    geo = _agreed(infos, "geo", lambda info: f"axes about {info.geo} on Earth")
    world = maps[0][1].worlds[0]
    return _joined(maps, lambda _, info: replace(info, world=world, geo=geo))


def apart(maps: Sequence[NamedMap]) -> Atlas:
    """Their regions together, each map in a world by itself, which has the map's name if it has none."""
    taken: list[str] = []
    names: list[dict[str, str]] = []
    for name, atlas in maps:
        names.append({})
        for world in atlas.worlds:
            names[-1][world] = unused_name(world or name, taken)
            taken.append(names[-1][world])
    return _joined(maps, lambda number, info: replace(info, world=names[number][info.world]))


def _joined(maps: Sequence[NamedMap], told: Callable[[int, MapInfo], MapInfo]) -> Atlas:
    """A name that is there already gets a number."""
    regions: list[Region] = []
    for number, (name, atlas) in enumerate(maps):
        for region in atlas.regions:
            unused = unused_name(region.name or name, [other.name for other in regions])
            info = told(number, region.info)
            regions.append((region if info == region.info else region.saying(info)).named(unused))
    return Atlas(tuple(regions))


def _agreed(infos: Sequence[tuple[str, MapInfo]], field: str, say: Callable[[MapInfo], str]) -> Any:
    """What all maps that say something say. Raises: `DsacError`."""
    known = [(name, info) for name, info in infos if getattr(info, field) is not None]
    for name, info in known[1:]:
        if getattr(info, field) != getattr(known[0][1], field):
            first, one = known[0]
            raise DsacError(
                f"{name}: expected a map in the world of {first}, which has {say(one)}, got one with "
                f"{say(info)}: --transform or --recording can bring it there, --apart keeps them apart"
            )
    return getattr(known[0][1], field) if known else None


def _listed(worlds: Sequence[str]) -> str:
    return ", ".join(world or "one without a name" for world in worlds)
