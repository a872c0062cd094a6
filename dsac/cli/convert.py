"""`dsac convert`: a recording in another format."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dsac.cli.console import out, progress_bars
from dsac.cli.options import Inverted, Maybe, Meaning, Positional, read_scene


@dataclass(frozen=True)
class Convert(Meaning):
    """Write a recording in another format, for other programs or to mend it once and for all.

    Reads whatever `dsac map` reads. Images are copied as they are where possible, otherwise written as PNG;
    depth as 16-bit PNG. Names, cameras, poses, depth and the split of mapping and query frames are kept where
    the format can say them; a line tells what it cannot. What options mend is right in the new folder without
    them. docs/convert.md says where everything lies.

    For example:
      $ dsac convert 7scenes/redkitchen kitchen-colmap --to colmap
      $ dsac convert lab lab-mended --to plain --poses inverted --axes opengl
    """

    scene: Positional[str]
    """Folder (or URL) of the recording, or `synthetic`."""
    folder: Positional[Path]
    """The folder to write, new or empty."""
    to: Annotated[
        Literal["plain", "colmap", "nerfstudio", "tum", "ace"], tyro.conf.arg(help_behavior_hint="(required)")
    ]
    """The format: images with poses.txt, a COLMAP model, transforms.json, TUM RGB-D, or the folders of
    DSAC* and ACE."""
    truth: Maybe[str] = None
    """Which of the recording's truths to write, where it has several (7-Scenes: sfm, dslam)."""
    poses: Inverted = None
    """Its poses are camera from world where the format has world from camera, or the other way round."""
    max_gap: Maybe[float] = None
    """Seconds between an image and its pose, at most, in formats with timestamps (default: 0.02)."""

    def run(self) -> None:
        from dsac.datasets import save_scene
        from dsac.datasets.storage import check_new_folder

        check_new_folder(self.folder)
        scene = read_scene(self.scene, self.truth, self.max_gap, self.conventions(self.poses))
        with progress_bars() as bars:
            bar = bars.add_task("convert", total=1.0, note="")
            saved = save_scene(
                scene, self.folder, self.to, lambda fraction: bars.update(bar, completed=fraction)
            )
        count = len(saved.names)
        depth = f", depth in units of {saved.depth_unit:g} m" if saved.depth_unit and scene.metric else ""
        out.print(
            f"{self.folder}: {self.to}, {saved.num_mapping} mapping frames, {count - saved.num_mapping} query "
            f"frames; images copied: {saved.num_copied}, written as PNG: {count - saved.num_copied}{depth}",
            soft_wrap=True,
        )
        out.print(f"Next: dsac check {shlex.quote(str(self.folder))}", style="dim", soft_wrap=True)
