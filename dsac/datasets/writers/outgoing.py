"""What writers of formats get: names, cameras and poses, ready to be written; and small things they share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from dsac.geometry import Camera, Pose


@dataclass(frozen=True, eq=False)
class Outgoing:
    """N images with poses: those for mapping first, then those for queries."""

    names: list[str]  # below the folder of images; no two alike
    cameras: list[Camera]
    camera_index: Int[np.ndarray, " N"]  # which camera each image has
    cam_from_world: Pose  # batch (N,), float64
    num_mapping: int
    metric: bool = True  # whether lengths are metres
    with_depth: frozenset[int] = frozenset()  # rows whose depth is known somewhere
    depth_unit: float = 0.0  # metres (of the poses' unit) per unit of the depth images; 0: there are none

    def camera(self, row: int) -> Camera:
        return self.cameras[self.camera_index[row]]


@runtime_checkable
class Writer(Protocol):
    """A module of this package.

    To add one, write the module, put it into `saving.WRITERS` and test it.
    """

    @property
    def DEPTH_UNIT(self) -> float | None:
        """Metres per unit of depth where nothing says otherwise; None: the unit is always written down."""
        ...

    @property
    def ALWAYS_METRIC(self) -> bool:
        """Whether lengths count as metres even without depth."""
        ...

    def says_size(self, cameras: Sequence[Camera]) -> bool:
        """Whether it names the images' size, so that photos that viewers turn are read as they are stored."""
        ...

    def check(self, cameras: Sequence[Camera]) -> None:
        """Raises: `ValueError` for cameras that it cannot say, naming formats that can."""
        ...

    def spelled(self, name: str) -> str:
        """An image's name as this format can have it."""
        ...

    def image_file(self, out: Outgoing, row: int) -> str:
        """Where an image goes, below the new folder."""
        ...

    def depth_file(self, out: Outgoing, row: int) -> str: ...

    def write(self, out: Outgoing, folder: Path) -> None:
        """Everything beside the images and depth, which are there. Raises: `OSError`, `DatasetError`."""
        ...


def as_text(values: Iterable[float]) -> str:
    """Every digit that there is."""
    return " ".join(repr(value).removesuffix(".0") for value in values)


def camera_line(number: int, camera: Camera) -> str:
    """COLMAP's."""
    return " ".join([str(number), *camera.to_text().split(",")])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def write_split(folder: Path, names: Sequence[str], num_mapping: int) -> None:
    """`mapping.txt` and `query.txt`, where there is something to tell apart."""
    if num_mapping < len(names):
        write_lines(folder / "mapping.txt", names[:num_mapping])
        write_lines(folder / "query.txt", names[num_mapping:])


def write_depth_scale(folder: Path, out: Outgoing, usual: float | None = None) -> None:
    """`depth_scale.txt`, where the unit is not the usual one."""
    if out.depth_unit and out.depth_unit != usual:
        write_lines(folder / "depth_scale.txt", [as_text([out.depth_unit])])
