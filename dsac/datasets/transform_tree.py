"""ROS' tree of coordinate frames: where one of them was in the topmost frame above it, at any time.

Each frame has a parent and its pose in it, one for all times or a trajectory; the way up multiplies them:
`map_from_camera = map_from_odom @ odom_from_base @ base_from_camera`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float64, Int

from dsac.datasets.rigid import finite_rows, rigid_from_quaternions
from dsac.datasets.trajectory import Trajectory
from dsac.errors import DatasetError
from dsac.geometry import Pose

Sample = tuple[float, ...]  # seconds, tx ty tz, qx qy qz qw


@dataclass
class TransformTree:
    """Poses of frames in their parents, as messages tell them one after the other."""

    source: str  # for messages
    parent_of: dict[str, str] = field(default_factory=dict)
    samples_of: dict[str, list[Sample]] = field(default_factory=dict)
    fixed: set[str] = field(default_factory=set)  # frames that never move in their parents

    def add(self, parent: str, child: str, sample: Sample, fixed: bool = False) -> None:
        """The first parent of a frame counts, and what was fixed stays so."""
        parent, child = parent.strip("/"), child.strip("/")
        if parent == child or self.parent_of.setdefault(child, parent) != parent or child in self.fixed:
            return
        if fixed:
            self.fixed.add(child)
            self.samples_of[child] = []
        self.samples_of.setdefault(child, []).append(sample)

    def way_up(self, frame: str) -> list[str]:
        """The frame, its parent, and so on to the topmost."""
        way = [frame.strip("/")]
        while (parent := self.parent_of.get(way[-1])) is not None and parent not in way:
            way.append(parent)
        return way

    def moves(self, frame: str) -> bool:
        """Whether anything on the way up is more than fixed."""
        return any(child not in self.fixed for child in self.way_up(frame)[:-1])

    def at(
        self, frame: str, names: Sequence[str], times: Float64[np.ndarray, " M"], max_gap: float
    ) -> tuple[Int[np.ndarray, " K"], Pose]:
        """Rows of the images for which all of the way is known in time, and the frame's poses in the topmost.

        Raises: `DatasetError` like `Trajectory.at`.
        """
        rows = np.arange(len(times))
        pose = Pose.identity(len(times), dtype=torch.float64)
        for child in self.way_up(frame)[:-1]:
            trajectory = self._trajectory(child)
            if child in self.fixed:
                pose = trajectory.world_from_sensor[0] @ pose
                continue
            kept, parent_from_child = trajectory.at([names[i] for i in rows.tolist()], times[rows], max_gap)
            rows, pose = rows[kept], parent_from_child @ pose[torch.from_numpy(kept)]
        return rows, pose

    def _trajectory(self, child: str) -> Trajectory:
        source = f"{self.source}, {self.parent_of[child]} to {child}"
        table = torch.tensor(self.samples_of[child], dtype=torch.float64)
        kept = finite_rows(table, [child] * len(table), source)
        if not len(kept):
            raise DatasetError(f"{source}: expected poses, all {len(table)} are NaN or infinite")
        table = table[torch.from_numpy(kept)]
        poses = rigid_from_quaternions(table[:, [7, 4, 5, 6]], table[:, 1:4], lambda _: source)
        return Trajectory.of(source, table[:, 0].numpy(), poses)
