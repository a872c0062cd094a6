"""`dsac frames`: the frames of a video that are worth having, as images in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dsac.cli.console import bars_of_phases, out
from dsac.cli.options import Maybe, Positional, users_mistakes


@dataclass(frozen=True)
class Frames:
    """Write the sharp frames of a video that each show something new into a folder.

    A frame is taken whenever the picture has moved on by a twentieth of its width, the sharpest around there;
    while the camera stands still, none. They are named by their number in the video, 000123.jpg.

    For example:
      $ dsac frames walk.mp4 walk --count 200
    """

    video: Positional[Path]
    """The video file."""
    folder: Positional[Path]
    """The folder to write, a new or an empty one."""
    count: Maybe[int] = None
    """At most so many frames, of the whole video; it is then read twice."""

    def run(self) -> None:
        from dsac.datasets import write_frames

        with users_mistakes(), bars_of_phases() as show:
            names = write_frames(
                self.video, self.folder, self.count, on_progress=lambda done: show("read video", done, "")
            )
        out.print(f"{len(names)} frames of {self.video} in {self.folder}", soft_wrap=True)
