"""`dsac track`: a video, or photos in order, become a trajectory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from dsac.cli.console import bars_of_phases, out, print_mistake
from dsac.cli.localize import as_line, parse_cameras
from dsac.cli.options import Device, Flag, Maybe, Positional, choose_device, users_mistakes
from dsac.cli.outputs import check_writable
from dsac.errors import DatasetError, DsacError

if TYPE_CHECKING:
    from dsac.datasets import Frames
    from dsac.localization import Localization
    from dsac.localizer import Localizer
    from dsac.tracker import Motion


@dataclass(frozen=True)
class Track:
    """Follow a camera through a video, or through photos in the order of their names.

    Each photo is looked for from where the last was taken, in a part of the time that a photo by itself takes;
    where that does not tell, it is localized by itself. Prints a line for each photo that is not localized and
    a sum in the end; --output writes the trajectory: `timestamp tx ty tz qx qy qz qw`, world from camera.

    For example:
      $ dsac track kitchen.dsac walk.mp4 --output walk.txt
      $ dsac track kitchen.dsac rgb --focal-px 525 --odometry odometry.txt --json
    """

    map: Positional[Path]
    """The map file."""
    source: Positional[str]
    """A video, or a folder of photos."""
    focal_px: Maybe[float] = None
    """Focal length in pixels. Without it, the map's camera serves for photos of its shape."""
    camera: Maybe[str] = None
    """The camera: MODEL,WIDTH,HEIGHT,PARAMS... with COLMAP's models, or a file of cameras."""
    odometry: Maybe[Path] = None
    """Poses of the camera in any world of their own, which may drift, as in --output's lines: they say where to
    look. Times are those of the photos: in their names, else in the video, else thirty photos a second."""
    output: Maybe[Path] = None
    """Trajectory to write, of the photos that were localized."""
    json: Flag = False
    """Print JSON: for each photo its answer, its time, and the state of the tracker."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""

    def run(self) -> None:
        from dsac.atlas import photos_for
        from dsac.localizer import Localizer

        if self.output is not None:
            check_writable(self.output, _is_trajectory)
        camera = None if self.camera is None else parse_cameras(self.camera)
        localizer = Localizer.load(self.map, device=choose_device(self.device))
        walk = _Walk()
        with users_mistakes(), bars_of_phases() as show:
            photos = photos_for(
                localizer.scene_map,
                self.source,
                camera=camera,
                focal_px=self.focal_px,
                every=1,
                on_progress=lambda video, done: show("read video", done, video),
            )
            times = _times(self.source, photos)
            motions = _motions(self.odometry, photos, times)
            try:
                walk.follow(localizer, photos, times, motions, self.json, show)
            finally:
                self._write(walk)
        if not self.json:
            out.print(walk.told(len(photos)), style="dim", soft_wrap=True)
        if walk.unusable:
            raise DsacError(f"{walk.unusable} of {len(photos)} photos could not be used")

    def _write(self, walk: _Walk) -> None:
        from dsac.datasets.storage import write_atomically

        if self.output is not None:
            write_atomically(self.output, "".join(line + "\n" for line in walk.lines).encode())


@dataclass
class _Walk:
    """What became of the photos so far."""

    lines: list[str] = field(default_factory=list)  # of the trajectory
    how: Counter[str] = field(default_factory=Counter)  # followed, by itself, not localized
    milliseconds: list[float] = field(default_factory=list)
    unusable: int = 0

    def follow(
        self,
        localizer: Localizer,
        photos: Frames,
        times: Sequence[float],
        motions: Sequence[Motion | None],
        as_json: bool,
        show: Callable[[str, float, str], None],
    ) -> None:
        """Localize the photos in their order and say of each what is asked for."""
        from dsac.tracker import Tracker

        tracker = Tracker(localizer)
        for i in range(len(photos)):
            try:
                answer = tracker.update_frame(photos[i : i + 1], times[i], motions[i])
            except DatasetError as error:  # one bad photo among many is no reason to leave the others
                self.unusable += 1
                print_mistake(error)
                continue
            self._learn(answer, times[i])
            show("track", (i + 1) / len(photos), f"{tracker.state}, {self.how['not localized']} not localized")
            if as_json:
                told = {"time": times[i], "state": tracker.state, "by_prior": answer.by_prior}
                print(json.dumps({**answer.to_dict(), **told}), flush=True)
            elif not answer.success:
                print(as_line(answer), flush=True)

    def _learn(self, answer: Localization, time: float) -> None:
        self.milliseconds.append(answer.timing.total_ms)
        if not answer.success:
            self.how["not localized"] += 1
            return
        self.how["followed" if answer.by_prior else "by itself"] += 1
        pose = answer.world_from_cam
        w, x, y, z = pose.quaternion_wxyz.tolist()
        numbers = (*pose.translation.tolist(), x, y, z, w)
        self.lines.append(" ".join([f"{time:.6f}", *(f"{number:.9g}" for number in numbers)]))

    def told(self, count: int) -> str:
        middle = f", {median(self.milliseconds):.0f} ms a photo" if self.milliseconds else ""
        followed, alone = self.how["followed"], self.how["by itself"]
        return f"{followed + alone} of {count} localized: {followed} followed, {alone} by themselves{middle}"


def _times(source: str, photos: Frames) -> list[float]:
    """Seconds, of each photo."""
    from dsac.datasets.video import is_video, read_video_rate
    from dsac.datasets.writers.tum import times_of

    if is_video(source):
        rate = read_video_rate(source)
        return [int(name.rpartition("#")[2]) / rate for name in photos.names]
    return [float(time) for time in times_of(photos.names)]


def _motions(odometry: Path | None, photos: Frames, times: list[float]) -> list[Motion | None]:
    """How the camera moved before each photo, as far as that is known. Raises: `DatasetError`."""
    import numpy as np

    from dsac.datasets.trajectory import read_trajectory
    from dsac.tracker import Motion

    motions: list[Motion | None] = [None] * len(photos)
    if odometry is None:
        return motions
    rows, world_from_cam = read_trajectory(str(odometry)).at(photos.names, np.array(times), _MAX_GAP_S)
    for k in range(1, len(rows)):
        if rows[k] == rows[k - 1] + 1:
            motions[rows[k]] = Motion(world_from_cam[k].inverse() @ world_from_cam[k - 1])
    return motions


def _is_trajectory(path: Path) -> bool:
    from dsac.datasets.trajectory import read_trajectory

    try:
        return read_trajectory(str(path)) is not None
    except DatasetError:
        return False


_MAX_GAP_S = 0.1
