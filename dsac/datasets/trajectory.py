"""Poses over time, and images and depth that find theirs by their timestamps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from dsac.datasets.listed_files import files_with
from dsac.datasets.rigid import finite_rows, rigid_from_quaternions
from dsac.datasets.storage import Storage
from dsac.datasets.tables import Row, number_or_none, read_rows
from dsac.errors import DatasetError
from dsac.geometry import Pose
from dsac.geometry.rotation import rotation_from_vector, vector_from_rotation

logger = logging.getLogger(__name__)

_UNITS = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))  # times since 1970 from here on are in these seconds
_LINES = {False: "timestamp tx ty tz qx qy qz qw", True: "timestamp tx ty tz qw qx qy qz"}  # by scalar_first


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses in the order of their times."""

    source: str  # for messages
    times: Float64[np.ndarray, " N"]
    world_from_sensor: Pose  # batch (N,), float64

    @staticmethod
    def of(source: str, times: Float64[np.ndarray, " N"], world_from_sensor: Pose) -> Trajectory:
        """Poses in any order; of several at one time, the first."""
        times, rows = np.unique(times, return_index=True)
        return Trajectory(source, times, world_from_sensor[torch.from_numpy(rows)])

    def at(
        self, names: Sequence[str], times: Float64[np.ndarray, " M"], max_gap: float
    ) -> tuple[Int[np.ndarray, " K"], Pose]:
        """Rows of the images that have a pose not more than `max_gap` away in time, and these poses.

        Between two poses that near, position and rotation are interpolated linearly; else the nearer counts.
        Raises: `DatasetError` with both spans of time when no image has a pose.
        """
        after = np.searchsorted(self.times, times).clip(min(1, len(self.times) - 1), len(self.times) - 1)
        before = (after - 1).clip(0)
        gap_before, gap_after = np.abs(times - self.times[before]), np.abs(self.times[after] - times)
        near = np.minimum(gap_before, gap_after) <= max_gap * (1 + 1e-9)
        inside = (self.times[before] < times) & (times < self.times[after])
        inside &= np.maximum(gap_before, gap_after) <= max_gap
        span = np.where(inside, self.times[after] - self.times[before], 1)
        share = np.where(inside, (times - self.times[before]) / span, gap_after < gap_before)
        self._log(names, times, near, max_gap)
        rows = np.flatnonzero(near)
        first, second = (self.world_from_sensor[torch.from_numpy(ends[rows])] for ends in (before, after))
        return rows, _between(first, second, torch.from_numpy(share[rows])[:, None])

    def _log(self, names: Sequence[str], times: np.ndarray, near: np.ndarray, max_gap: float) -> None:
        lost = [names[i] for i in np.flatnonzero(~near).tolist()]
        if len(lost) == len(names):
            raise DatasetError(
                f"{self.source}: no image has a pose within {max_gap:g} s; images are from "
                f"{times.min():.3f} to {times.max():.3f} s, poses from {self.times[0]:.3f} to "
                f"{self.times[-1]:.3f} s (--max-gap allows a larger gap)"
            )
        log = logger.warning if lost else logger.info
        log(
            "%s: %d of %d images have a pose within %g s, %d do not and are left out%s",
            self.source, len(names) - len(lost), len(names), max_gap, len(lost),
            f": {', '.join(lost[:5])}{' ...' if len(lost) > 5 else ''}" if lost else "",
        )  # fmt: skip


def read_trajectory(path: str, *, scalar_first: bool = False) -> Trajectory:
    """Lines of `timestamp tx ty tz qx qy qz qw`, or with qw first: the pose of a sensor in the world.

    An identifier before the timestamp, columns after the pose and a line of headings are passed over; poses
    with NaN or infinity are left out.
    Raises: `DatasetError` with the line for what cannot be read, and when there is no pose.
    """
    rows = read_rows(path)
    while rows and not any(number_or_none(word) is not None for word in rows[0].words):
        rows = rows[1:]  # headings
    line = _LINES[scalar_first]
    if not rows:
        raise DatasetError(f"{path}: expected lines `{line}`, found none")
    skip = _columns_before_time(rows)
    table = torch.tensor([row.numbers(line, skip, 8) for row in rows], dtype=torch.float64)
    kept = finite_rows(table, [row.place for row in rows], path)
    if not len(kept):
        raise DatasetError(f"{path}: expected poses, all {len(rows)} are NaN or infinite")
    table = table[torch.from_numpy(kept)]
    order = [4, 5, 6, 7] if scalar_first else [7, 4, 5, 6]
    poses = rigid_from_quaternions(table[:, order], table[:, 1:4], lambda i: rows[kept[i]].place)
    return Trajectory.of(path, seconds(table[:, 0].numpy()), poses)


def _columns_before_time(rows: Sequence[Row]) -> int:
    """1 where an identifier stands first: no number, or a number that leaves the quaternions a column later."""
    if number_or_none(rows[0].words[0]) is None:
        return 1
    if min(len(row.words) for row in rows) < 9:
        return 0
    values = np.array([[number_or_none(word) or 0.0 for word in row.words[4:9]] for row in rows])
    values = values[np.isfinite(values).all(axis=1)]
    off = [np.abs(np.linalg.norm(values[:, first : first + 4], axis=1) - 1).max(initial=0) for first in (0, 1)]
    return int(off[1] < off[0])


def seconds(times: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
    """Times since 1970 in nanoseconds, microseconds or milliseconds as seconds; smaller ones are seconds."""
    largest = np.abs(times[np.isfinite(times)]).max(initial=0)
    return times * next((unit for least, unit in _UNITS if largest >= least), 1.0)


def files_by_time(
    storage: Storage, folder: str, endings: Sequence[str], behind: str = ""
) -> tuple[list[str], Float64[np.ndarray, " N"]]:
    """Files named by their time, below the recording's folder, and the times in seconds; others are none.

    With `behind` the time is what stands behind the last such mark.
    """
    stamps: dict[str, float | None] = {}
    for name in files_with(storage, folder, endings):
        stem = name.rpartition(".")[0]
        stamps[name] = number_or_none(stem.rpartition(behind)[2] if behind else stem)
    prefix = "" if folder == "." else f"{folder.removeprefix('./')}/"
    timed = {f"{prefix}{name}": time for name, time in stamps.items() if time is not None}
    return list(timed), seconds(np.array(list(timed.values()), dtype=np.float64))


def pair_by_time(
    times: Float64[np.ndarray, " N"], others: Float64[np.ndarray, " M"], max_gap: float
) -> dict[int, int]:
    """Row of `times` -> row of `others`, of pairs that are nearest to each other, `max_gap` apart at most."""
    if not len(times) or not len(others):
        return {}
    forth, back = nearest(times, others), nearest(others, times)
    near = np.abs(times - others[forth]) <= max_gap * (1 + 1e-9)
    mutual = times[back[forth]] == times
    return {int(i): int(forth[i]) for i in np.flatnonzero(near & mutual)}


def nearest(times: Float64[np.ndarray, " N"], others: Float64[np.ndarray, " M"]) -> Int[np.ndarray, " N"]:
    """The row of the time among `others`, in any order and at least one, that is nearest to each time."""
    order = np.argsort(others, kind="stable")
    after = np.searchsorted(others[order], times).clip(0, len(others) - 1)
    before = (after - 1).clip(0)
    closer = np.abs(times - others[order[before]]) <= np.abs(others[order[after]] - times)
    return order[np.where(closer, before, after)]


def _between(first: Pose, second: Pose, share: Tensor) -> Pose:
    """From `first` at share 0 to `second` at share 1; share is (N, 1)."""
    turn = rotation_from_vector(share * vector_from_rotation(first.rotation.mT @ second.rotation))
    return Pose(first.rotation @ turn, first.translation + share * (second.translation - first.translation))
