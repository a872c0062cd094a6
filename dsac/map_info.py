"""What a map says about itself: the metadata of its file, checked before anything is built."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

import dsac
from dsac.datasets.frame import Frames, digest_of
from dsac.errors import MapFormatError
from dsac.geometry import Camera, GeoPoint, Similarity, check_geo
from dsac.map_scoring import NETWORK, RULES, MapScoring, scoring_from_json
from dsac.networks import local_features
from dsac.networks.forests.forest import ForestArchitecture
from dsac.networks.heads import HeadArchitecture
from dsac.networks.scene_networks import NetworkArchitecture

FORMAT_VERSION = 1


class Holds(NamedTuple):
    """How much is in a map."""

    num_values: int  # learned
    num_landmarks: int
    num_described_points: int
    share_repeated: float  # of the views that landmarks come from: those that look like others of another place


@dataclass(frozen=True)
class MapInfo:
    """What a map says about itself. Raises: `ValueError` for values that no map can have."""

    encoder_id: str
    encoder_digest: str
    head: HeadArchitecture | None  # None: a network trained whole, or forests
    stride: int  # pixels per cell
    short_side_px: int  # images are resized to this before they are encoded
    bounds_min: tuple[
        float, float, float
    ]  # box around the scene points seen while mapping, metres, map's frame
    bounds_max: tuple[float, float, float]
    depth_range: tuple[float, float]  # of the scene points from the cameras that saw them, metres
    num_frames: int
    supervision: str  # "depth" or "poses"
    source: str  # the recording: path and format
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the mapping, for the record
    training: Mapping[str, Any] = field(default_factory=dict)  # steps, seconds, last loss, whether interrupted
    created: str = ""  # date and time, UTC
    network: NetworkArchitecture | None = None  # of a network trained whole
    forest: ForestArchitecture | None = None
    own_encoder: bool = False  # the map holds weights of its own for the encoder of that id
    scoring: MapScoring = RULES[0]  # of hypotheses
    metric: bool | None = None  # whether the unit of length is the metre; None: nobody said
    camera: str = ""  # of middling focal length among the mapping images', by `Camera.to_text`; empty: unknown
    focal_range: tuple[float, float] | None = None  # of the mapping cameras' `relative_focal`
    described_by: str = ""  # id of the local features of its described points; empty: it has none
    as_stored: bool = False  # mapping images were read as they are stored, though viewers turn some of them
    compact: bool = False  # its file holds it in few levels
    # The frames that it was made from: names, each with the digest of its image file (16 hexadecimal digits),
    # empty where files cannot be told. No names: a map from before they were kept.
    frames: Mapping[str, str] = field(default_factory=dict)
    # Where the map's own frame stands in the world, in the world's unit: poses and points of a map are float32
    # about this place, which keeps georeferenced recordings (UTM, ECEF) exact. Axes and unit are the world's,
    # unless the map was aligned to another world since.
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)  # quaternion wxyz, world from map
    scale: float = 1.0  # units of the world that are one of the map
    # Where the world's origin is on Earth; its axes are then east, north and up there, in metres.
    geo: GeoPoint | None = None
    world: str = ""  # its name, which tells it from those of other regions in one file
    dsac_version: str = dsac.__version__
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        for name in ("encoder_id", "encoder_digest", "supervision", "source", "created", "camera", "world"):
            _check(isinstance(getattr(self, name), str), name, "text", self)
        for name, least, most in (("stride", 1, 256), ("short_side_px", 1, 16_384), ("num_frames", 0, 2**53)):
            value = getattr(self, name)
            _check(type(value) is int and least <= value <= most, name, f"a whole number up to {most}", self)
        for name, length in (
            ("bounds_min", 3),
            ("bounds_max", 3),
            ("depth_range", 2),
            ("origin", 3),
            ("rotation", 4),
        ):
            _check(_are_numbers(getattr(self, name), length), name, f"{length} finite numbers", self)
        if self.focal_range is not None:
            good = _are_numbers(self.focal_range, 2) and 0 < self.focal_range[0] <= self.focal_range[1]
            _check(good, "focal_range", "two numbers above 0, the lower first", self)
        _check(_are_numbers((self.scale,), 1) and self.scale > 0, "scale", "a number above 0", self)
        _check(abs(math.hypot(*self.rotation) - 1.0) < 1e-6, "rotation", "a unit quaternion", self)
        if self.geo is not None:
            _check(_are_numbers(self.geo, 3), "geo", "latitude, longitude and height", self)
            check_geo(self.geo)
        for name in ("own_encoder", "as_stored", "compact"):
            _check(isinstance(getattr(self, name), bool), name, "true or false", self)
        _check(self.described_by in ("", local_features.ID), "described_by", local_features.ID, self)
        _check(self.metric in (None, True, False), "metric", "true, false or nothing", self)
        for name in ("settings", "training", "frames"):
            _check(isinstance(getattr(self, name), Mapping), name, "names with values", self)
        _check(
            all(type(digest) is str for digest in self.frames.values()), "frames", "names with digests", self
        )
        learned = [part for part in (self.head, self.network, self.forest) if part is not None]
        _check(len(learned) == 1, "head", "either a head, a network or a forest", self)
        if self.camera:
            Camera.from_text(self.camera)

    @property
    def world_from_map(self) -> Similarity:
        return Similarity.of(self.origin, self.rotation, self.scale)

    def in_world_of(self, world_from_this: Similarity, geo: GeoPoint | None = None) -> MapInfo:
        """Of the same map in another world, by that world's transform from the present one.

        `geo`: where that world's origin is on Earth.
        """
        moved = world_from_this.after(self.world_from_map)
        return replace(
            self, origin=moved.translation, rotation=moved.quaternion_wxyz, scale=moved.scale, geo=geo
        )

    def learned_from(self, frames: Frames) -> Bool[np.ndarray, " N"]:
        """Which of the frames this map was made from: those with one of its image files, whatever their names.

        Where files cannot be told (rendered rooms, bags), those of the same name.
        Raises: `DatasetError` for an image file that cannot be read.
        """
        return made_from(frames, [self])

    @staticmethod
    def from_json(text: str) -> MapInfo:
        """From what a map file says. Raises: `ValueError`, `TypeError`, `LookupError` for something else."""
        fields = json.loads(text)
        version = fields["format_version"]
        if version != FORMAT_VERSION:
            raise MapFormatError(
                f"expected map format {FORMAT_VERSION}, got {version} (written by dsac "
                f"{fields.get('dsac_version', 'unknown')}): use that version, or map the scene again"
            )
        _as_written_now(fields)
        for name, parse in (
            ("head", lambda value: HeadArchitecture(**value)),
            ("network", lambda value: NetworkArchitecture(**value)),
            ("forest", ForestArchitecture.from_json),
            ("scoring", scoring_from_json),
            *(
                (name, tuple)
                for name in (
                    "bounds_min",
                    "bounds_max",
                    "depth_range",
                    "focal_range",
                    "origin",
                    "rotation",
                    "geo",
                )
            ),
        ):
            if fields.get(name) is not None:
                fields[name] = parse(fields[name])
        return MapInfo(**fields)


def made_from(frames: Frames, infos: Sequence[MapInfo]) -> Bool[np.ndarray, " N"]:
    """Which of the frames one of several maps was made from, see `MapInfo.learned_from`."""
    recorded = [(info.frames, set(info.frames.values())) for info in infos if info.frames]

    def is_own(name: str) -> bool:
        digest = digest_of(frames.reader, name) if recorded else ""
        return any(
            digest in digests if digest and own.get(name) != "" else name in own for own, digests in recorded
        )

    return np.array([is_own(name) for name in frames.names], dtype=bool)


def _as_written_now(fields: dict[str, Any]) -> None:
    """Brings the metadata of maps from before up to date."""
    fields.pop("camera_spacing", None)  # nobody read it
    if (architecture := fields.pop("score_network", None)) is not None:
        fields["scoring"] = {"name": NETWORK, "architecture": architecture}


def _check(good: bool, name: str, expected: str, info: MapInfo) -> None:
    if not good:
        raise ValueError(f"{name}: expected {expected}, got {getattr(info, name)!r}")


def _are_numbers(values: object, length: int) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == length
        and all(type(v) in (int, float) and math.isfinite(v) for v in values)
    )
