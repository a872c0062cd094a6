"""The atlas: maps of several regions, in one file, each read when a photo may be of it.

A region is a map like any other, in its own frame that lies somehow in a world: mostly the same for all, else
regions say the name of theirs. The file is a zip archive of map files, stored as they are, beside an index:
what each region says about itself and its visual words, which is all that is read before a photo asks. A map
file alone is an atlas of one region.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Bool

from dsac.datasets import Frames, load_photos
from dsac.datasets.storage import file_written_whole
from dsac.errors import MapFormatError
from dsac.geometry import Camera
from dsac.map_info import Holds, MapInfo, made_from
from dsac.packing import packed, unpacked
from dsac.scene_map import SceneMap, map_bytes, read_map_file
from dsac.visual_words import VisualWords

FORMAT_VERSION = 1
_INDEX, _FOLDER, _ENDING = "index.safetensors", "regions/", ".dsac"


@dataclass(frozen=True, eq=False)
class Region:
    """A map in an atlas: what is known of it unread, and where it is."""

    name: str
    info: MapInfo
    words: VisualWords | None
    holds: Holds
    source: SceneMap | Path  # the map, or the file that is it, or holds it under the name
    is_as_stored: bool = True  # info and words in that file are those here
    stored_as: str | None = None  # its name in that file; None: the same

    @staticmethod
    def of(name: str, scene_map: SceneMap) -> Region:
        return Region(name, scene_map.info, scene_map.words, scene_map.holds, scene_map)

    @staticmethod
    def of_file(name: str, path: Path) -> Region:
        """Of a map file, which is read again when the region is. Raises: `MapFormatError`."""
        return replace(Region.of(name, SceneMap.load(path)), source=path)

    def saying(self, info: MapInfo) -> Region:
        """The same map that says this about itself."""
        if isinstance(self.source, SceneMap):
            return replace(self, info=info, source=replace(self.source, info=info))
        return replace(self, info=info, is_as_stored=False)

    def with_words(self, words: VisualWords) -> Region:
        """The same map with these visual words."""
        if isinstance(self.source, SceneMap):
            return replace(self, words=words, source=replace(self.source, words=words))
        return replace(self, words=words, is_as_stored=False)

    def named(self, name: str) -> Region:
        """The same map by this name."""
        return replace(self, name=name, stored_as=self.name if self.stored_as is None else self.stored_as)

    def read(self) -> SceneMap:
        """Raises: `MapFormatError` where the file is no longer whole."""
        if isinstance(self.source, SceneMap):
            return self.source
        scene_map = SceneMap.from_bytes(self._stored_bytes(self.source), f"{self.source}: region {self.name}")
        return scene_map if self.is_as_stored else replace(scene_map, info=self.info, words=self.words)

    def to_bytes(self) -> bytes:
        """As a map file. Raises: `MapFormatError`."""
        if isinstance(self.source, SceneMap) or not self.is_as_stored:
            return self.read().to_bytes()
        return self._stored_bytes(self.source)

    @property
    def size_bytes(self) -> int:
        """Of its map file. Raises: `MapFormatError`."""
        if not isinstance(self.source, Path):
            return len(self.to_bytes())
        if not zipfile.is_zipfile(self.source):
            return self.source.stat().st_size
        with zipfile.ZipFile(self.source) as archive:
            return archive.getinfo(self._member).file_size

    @property
    def _member(self) -> str:
        """In the archive that holds it."""
        return _member(self.name if self.stored_as is None else self.stored_as)

    def _stored_bytes(self, path: Path) -> bytes:
        try:
            if not zipfile.is_zipfile(path):
                return path.read_bytes()
            with zipfile.ZipFile(path) as archive:
                return archive.read(self._member)
        except (zipfile.BadZipFile, OSError, LookupError) as error:
            raise MapFormatError(f"{path}: region {self.name} is damaged or gone ({error})") from None


@dataclass(frozen=True, eq=False)
class Atlas:
    """Regions, by different names. Raises: `ValueError` for none, and for a name twice."""

    regions: tuple[Region, ...]

    def __post_init__(self) -> None:
        names = self.names
        if not names or len(set(names)) < len(names):
            raise ValueError(f"regions: expected one or more by different names, got {names}")
        if len(names) > 1 and not all(_is_name(name) for name in names):
            raise ValueError(f"regions: expected names without slashes or line breaks, got {names}")

    @staticmethod
    def of(maps: Mapping[str, SceneMap]) -> Atlas:
        return Atlas(tuple(Region.of(name, scene_map) for name, scene_map in maps.items()))

    def __len__(self) -> int:
        return len(self.regions)

    @property
    def names(self) -> list[str]:
        return [region.name for region in self.regions]

    def __getitem__(self, name: str) -> Region:
        """Raises: `KeyError`."""
        return self.regions[{name: i for i, name in enumerate(self.names)}[name]]

    def saying(self, of_region: Callable[[MapInfo], MapInfo]) -> Atlas:
        """The same maps, each saying this about itself."""
        return Atlas(tuple(region.saying(of_region(region.info)) for region in self.regions))

    def compact(self) -> Atlas:
        """The same maps, whose files are a third as large: what they hold is rounded as it is written."""
        return self.saying(lambda info: replace(info, compact=True))

    @property
    def worlds(self) -> list[str]:
        """The names of the different worlds that the regions are in."""
        return list(dict.fromkeys(region.info.world for region in self.regions))

    # ---- as one map ---------------------------------------------------------------------------------

    @cached_property
    def info(self) -> MapInfo:
        """What one map of all regions would say about itself; bounds are along the world's axes.

        Those of regions in different worlds mean nothing.
        """
        infos = [region.info for region in self.regions]
        if len(infos) == 1:
            return infos[0]
        corners = torch.cat([_corners(info) for info in infos])
        focals = [info.focal_range for info in infos if info.focal_range is not None]
        depths = [length * info.scale for info in infos for length in info.depth_range]
        frames: dict[str, str] = {}  # of recordings that share names the last ones', see `learned_from`
        for info in infos:
            frames |= {name: digest or frames.get(name, "") for name, digest in info.frames.items()}
        different = {digest or name for info in infos for name, digest in info.frames.items()}
        metrics, geos = ({getattr(info, name) for info in infos} for name in ("metric", "geo"))
        return replace(
            infos[0],
            bounds_min=tuple(corners.min(0).values.tolist()),
            bounds_max=tuple(corners.max(0).values.tolist()),
            depth_range=(min(depths), max(depths)),
            focal_range=(min(f[0] for f in focals), max(f[1] for f in focals)) if focals else None,
            origin=(0.0, 0.0, 0.0),
            rotation=(1.0, 0.0, 0.0, 0.0),
            scale=1.0,
            frames=frames,
            num_frames=len(different) or sum(info.num_frames for info in infos),
            metric=metrics.pop() if len(metrics) == 1 else None,
            geo=geos.pop() if len(geos) == 1 else None,
            world=self.worlds[0] if len(self.worlds) == 1 else "",
            source=", ".join(dict.fromkeys(info.source for info in infos)),
            created=max(info.created for info in infos),
        )

    @property
    def holds(self) -> Holds:
        """In all regions together."""
        each = [region.holds for region in self.regions]
        values, landmarks, described, shares = zip(*each, strict=True)
        return Holds(sum(values), sum(landmarks), sum(described), sum(shares) / len(shares))

    @property
    def mapping_camera(self) -> Camera | None:
        """A typical one of the mapping images, if the maps know."""
        cameras = [region.info.camera for region in self.regions if region.info.camera]
        return Camera.from_text(max(cameras, key=cameras.count)) if cameras else None

    def learned_from(self, frames: Frames) -> Bool[np.ndarray, " N"]:
        """See `MapInfo`."""
        return made_from(frames, [region.info for region in self.regions])

    # ---- the file -----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the file whole or not at all; of one region without a name, a map file.

        One region at a time is in memory. Raises: `OSError` when the disk is full or not writable,
        `MapFormatError` when a region cannot be read.
        """
        with file_written_whole(Path(path)) as file:
            if len(self) == 1 and not self.names[0]:
                file.write(self.regions[0].to_bytes())
                return
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_stored(_INDEX), self._index(), zipfile.ZIP_DEFLATED)
                for region in self.regions:
                    archive.writestr(_stored(_member(region.name)), region.to_bytes())

    @staticmethod
    def load(path: str | Path) -> Atlas:
        """The index of an atlas file, or a map file.

        Raises: `MapFormatError` when the file is missing, damaged, no map or of another format version.
        """
        path = Path(path)
        if not path.is_file() or not zipfile.is_zipfile(path):
            return Atlas.of({"": SceneMap.load(path)})
        try:
            with zipfile.ZipFile(path) as archive:
                data = archive.read(_INDEX)
                there = set(archive.namelist())
        except (zipfile.BadZipFile, OSError, LookupError) as error:
            raise MapFormatError(
                f"{path}: expected a map file, got another archive, or a damaged one ({error})"
            ) from None
        metadata, tensors = read_map_file(data, str(path))
        try:
            fields = json.loads(metadata)
            if fields["atlas_version"] != FORMAT_VERSION:
                raise MapFormatError(
                    f"{path}: expected an atlas of format {FORMAT_VERSION}, got {fields['atlas_version']}: "
                    "use the version of dsac that wrote it"
                )
            regions = tuple(_region(path, each, tensors) for each in fields["regions"])
            if missing := [region.name for region in regions if _member(region.name) not in there]:
                raise MapFormatError(f"{path}: the file holds no region {missing[0]}, which its index names")
            return Atlas(regions)
        except MapFormatError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise MapFormatError(f"{path}: damaged index ({' '.join(repr(error).split())})") from None

    def _index(self) -> bytes:
        tensors = {
            f"{region.name}/{name}": value.clone()  # one map may be two regions
            for region in self.regions
            for name, value in _words_stored(region).items()
        }
        regions = [
            {"name": region.name, "info": asdict(region.info), "holds": region.holds._asdict()}
            for region in self.regions
        ]
        fields = {"atlas_version": FORMAT_VERSION, "regions": regions}
        return safetensors.torch.save(tensors, {"dsac": json.dumps(fields)})


Map = SceneMap | Atlas  # what can be asked where a photo was taken


def photos_for(known: Map, photos: Any, **given: Any) -> Frames:
    """`load_photos`, which takes and raises the same, for a map: its camera serves photos that have no other,
    and they are read the way up that its own images were.
    """
    return load_photos(photos, mapping_camera=known.mapping_camera, as_stored=known.info.as_stored, **given)


def is_map_file(path: Path) -> bool:
    """Whether a file is a map's, by what it says about itself."""
    try:
        if not zipfile.is_zipfile(path):
            return read_map_file(map_bytes(path), str(path)) is not None
        with zipfile.ZipFile(path) as archive:
            return read_map_file(archive.read(_INDEX), str(path)) is not None
    except (MapFormatError, zipfile.BadZipFile, OSError, LookupError):
        return False


def region_name(text: str) -> str:
    """Of a file's or a scene's name, what a region can be called."""
    return "".join(letter if letter.isprintable() else "_" for letter in text)


def unused_name(name: str, names: Iterable[str]) -> str:
    """The name, with a number where it is among these already."""
    taken, number, free = set(names), 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _region(path: Path, fields: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Region:
    name = fields["name"]
    of_words = {
        key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")
    }
    words = VisualWords.from_tensors(unpacked(of_words)) if of_words else None
    info = MapInfo.from_json(json.dumps(fields["info"]))
    return Region(name, info, words, Holds(**fields["holds"]), path)


def _words_stored(region: Region) -> dict[str, torch.Tensor]:
    """What the index holds of a region's visual words: as much as its file."""
    tensors = {} if region.words is None else region.words.tensors()
    return packed(tensors, region.info.depth_range[0]) if region.info.compact else tensors


def _corners(info: MapInfo) -> torch.Tensor:
    """Of the box around what a map knows, in the world (8, 3)."""
    low, high = info.bounds_min, info.bounds_max
    box = [[(low, high)[(i >> axis) & 1][axis] for axis in range(3)] for i in range(8)]
    return info.world_from_map @ torch.tensor(box, dtype=torch.float64)


def _is_name(name: str) -> bool:
    return bool(name) and "/" not in name and name.isprintable()


def _member(name: str) -> str:
    return f"{_FOLDER}{name}{_ENDING}"


def _stored(name: str) -> zipfile.ZipInfo:
    """Of a fixed date: the same maps make the same file."""
    return zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
