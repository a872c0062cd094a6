"""What a format of recordings is: a module that recognises a folder and reads it.

To add one, write the module, put it into `scene.FORMATS` and test it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from dsac.datasets.frame import Frames, NamedPoses
from dsac.datasets.storage import Storage


@dataclass(frozen=True)
class Split:
    """Names of the frames that build the map and of those to localize."""

    mapping: list[str]
    query: list[str]


@dataclass(frozen=True, eq=False)
class Recording:
    """All frames that have an image and a pose."""

    format: str  # for people
    frames: Frames
    truths: Mapping[str, NamedPoses]
    split: Split | None = None  # the format's own
    metric: bool = True  # whether lengths are metres


@runtime_checkable
class Format(Protocol):
    """A module of this package."""

    @property
    def LOOKS_FOR(self) -> str:
        """The files by which it recognises a recording, for people."""
        ...

    def recognises(self, storage: Storage) -> bool: ...

    def read(self, storage: Storage, truth: str | None) -> Recording:
        """The recording with the poses of the truth asked for; None = the best there is.

        Names of frames are unique. Raises: `DatasetError` with the path, the line or frame, and what to do.
        """
        ...


@runtime_checkable
class FormatByTime(Format, Protocol):
    """A format whose images find their poses by time."""

    @property
    def MAX_GAP(self) -> float:
        """How far apart in time an image and its pose may be, where nobody says otherwise."""
        ...

    def read(self, storage: Storage, truth: str | None, max_gap: float | None = None) -> Recording: ...


@runtime_checkable
class ReadsStoredPhotos(Protocol):
    """A `FrameReader` of photos that viewers may rotate."""

    def stores_turned(self, name: str) -> bool:
        """Whether this photo is read as stored, although viewers would rotate it, as its intrinsics demand."""
        ...
