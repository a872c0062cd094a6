"""Many scenes become many maps in a folder, from one queue; a scene that fails costs only itself."""

from __future__ import annotations

import os
import posixpath
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dsac.cli.console import err, out
from dsac.cli.map_regions import Making, Place, folder_beside, make_places, save_place, show_made
from dsac.cli.outputs import check_writable, is_map
from dsac.cli.score import score_map
from dsac.errors import DsacError

if TYPE_CHECKING:
    from dsac.mapping import Mapped, RegionTask


def map_scenes(paths: Sequence[str], folder: Path, making: Making, read: Callable[[str, Path], Place]) -> None:
    """Build, save and score a map of each scene; `read` makes a place of a path and the file for its map.

    All scenes are read before the first is learned; a map is saved when the last of its regions is made.
    Raises: `DsacError` for scenes that their names do not tell apart and where there is nothing to resume; once
    the others are saved, where one could not be mapped; `KeyboardInterrupt` after an interrupt.
    """
    files = {path: folder / f"{name}.dsac" for path, name in scene_names(paths).items()}
    was_there = folder.is_dir()
    for file in files.values():
        check_writable(file, is_map, make_folder=True)
    if making.resume:
        files = _unfinished(files)
    failed: dict[str, str] = {}
    places = _read(files, read, failed)
    tasks = _claimed(places, making, failed)
    places = [place for place in places if place.name not in failed]
    made = make_places(places, tasks, making, _save_early) if places else []
    for place, mapped in zip(places, made, strict=True):
        try:
            save_place(place, mapped)
        except OSError as error:
            _fails(place.name, error, failed)
            continue
        show_made(place, mapped)
        if mapped.atlas is None and not mapped.interrupted:
            failed[place.name] = "no region could be mapped"
    if any(mapped.interrupted for mapped in made):
        out.print("--resume goes on with what is not finished", style="yellow")
        raise KeyboardInterrupt
    for place in places:
        if place.name not in failed:
            out.print(f"{place.name}:", soft_wrap=True)
            score_map(place.map, place.scene, making.device, place.held_out)
    if failed:
        if not was_there:
            with suppress(OSError):  # where others were mapped
                folder.rmdir()
        raise DsacError(f"{len(failed)} of {len(files)} scenes could not be mapped: {', '.join(failed)}")
    merge = shlex.join(["dsac", "merge", *map(str, files.values()), str(folder / "all.dsac"), "--apart"])
    if 1 < len(files) <= _FEW:
        out.print(f"Next: {merge}", style="dim", soft_wrap=True)


def scene_names(paths: Sequence[str]) -> dict[str, str]:
    """Of each path what its map is called: its folder's name, after the parent's where others have the same.

    Raises: `DsacError` where that does not tell them apart, on any file system.
    """
    from dsac.atlas import region_name

    ends = {path: _end(path) for path in paths}
    names = {path: region_name(parts[-1]) for path, parts in ends.items()}
    count = Counter(name.casefold() for name in names.values())
    for path, name in names.items():
        if count[name.casefold()] > 1:
            names[path] = region_name("-".join(ends[path]))
    count = Counter(names[path].casefold() for path in paths)
    for path, name in names.items():
        if count[name.casefold()] > 1:
            raise DsacError(f"{path}: another scene is called {name}, too; map it in a command of its own")
    return names


def _end(path: str) -> list[str]:
    """The last two parts of what leads to a scene, or one; a file in the scene's folder is none."""
    inside, _, archive = path.partition("::")
    _, protocol, place = inside.rpartition("://")
    place = posixpath.normpath(place) if protocol else Path(os.path.abspath(place)).as_posix()
    if place.endswith(".json"):
        place = posixpath.dirname(place)
    parts = [part for part in place.split("/") if part not in ("", ".", "..")]
    if archive and not parts:
        return _end(archive)
    *above, last = parts[-2:] or ["scene"]
    stem, ending = posixpath.splitext(last)
    return [*above, stem if ending.lower() in _FILES else last]


def _unfinished(files: dict[str, Path]) -> dict[str, Path]:
    """Those without a map, and those that an unfinished mapping left something of. Raises: `DsacError`."""
    begun = {path for path, file in files.items() if folder_beside(file).is_dir()}
    if not begun:
        folder = next(iter(files.values())).parent
        raise DsacError(f"{folder}: nothing to resume, expected folders of unfinished mappings, *.regions")
    return {path: file for path, file in files.items() if path in begun or not file.is_file()}


def _read(files: dict[str, Path], read: Callable[[str, Path], Place], failed: dict[str, str]) -> list[Place]:
    places = []
    for path, file in files.items():
        try:
            places.append(read(path, file)._replace(name=file.stem))
        except (DsacError, OSError) as error:
            _fails(file.stem, error, failed)
    return places


def _claimed(places: Sequence[Place], making: Making, failed: dict[str, str]) -> list[list[RegionTask]]:
    """The regions of each place whose folder is theirs: of all before the first is made, for --resume."""
    tasks = []
    for place in places:
        try:
            tasks.append(making.tasks(place))
        except (DsacError, OSError) as error:
            _fails(place.name, error, failed)
    return tasks


def _save_early(place: Place, mapped: Mapped) -> None:
    with suppress(OSError):  # it is tried again in the end
        save_place(place, mapped)


def _fails(name: str, why: Exception, failed: dict[str, str]) -> None:
    failed[name] = str(why)
    err.print(f"{name} could not be mapped: {why}", style="yellow", soft_wrap=True)


_FILES = (".bag", ".mcap", ".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".zip", ".tar")  # that are scenes
_FEW = 12  # that a command can name
