"""`dsac extend`: a map that grows by new frames."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dsac.cli.align import check_one_world
from dsac.cli.console import PHASES, bars_of_phases, let_kernels_compile, out
from dsac.cli.options import (
    Device,
    Maybe,
    Positional,
    check_seed,
    choose_device,
    given,
    read_scene,
    users_mistakes,
)
from dsac.cli.outputs import check_writable, is_map
from dsac.cli.process import let_waiting_threads_sleep
from dsac.errors import DsacError

if TYPE_CHECKING:
    from dsac.mapping.extending import Extended


@dataclass(frozen=True)
class Extend:
    """Let a map know new frames: what it knows is refreshed, new ground becomes regions.

    The frames' poses have to be in the map's world; if some that it localizes lie elsewhere, the matrix is told
    that would bring them there. Where the map knows what frames show, they add landmarks, landmarks that they
    contradict go, and so do the least useful where there are more than a map remembers; no old image is needed,
    and it takes a second for a photo. Frames of new ground are mapped as `dsac map` does, in as many regions as
    they need. Ctrl-C leaves the map as it was.

    For example:
      $ dsac extend house.dsac house-after-the-move
      $ dsac extend house.dsac attic --output larger.dsac --minutes 1
    """

    map: Positional[Path]
    """The map file, which is written anew."""
    scene: Positional[str]
    """Folder (or URL) of a recording with poses; of one that is split its mapping frames."""
    output: Maybe[Path] = None
    """Map file to write instead of the one given."""
    truth: Maybe[str] = None
    """Which of the recording's truths the map is in, where it has several (7-Scenes: sfm, dslam)."""
    max_gap: Maybe[float] = None
    """Seconds between an image and its pose, at most, in formats with timestamps (default: 0.02)."""
    minutes: Maybe[float] = None
    """For mapping new ground, instead of --steps."""
    steps: Maybe[int] = None
    """Training steps for new ground (default: 600)."""
    views: Maybe[int] = None
    """Augmented views of each new region in total (default: 600)."""
    workers: int = 1
    """New regions learned side by side, each by a process of one thread."""
    seed: int = 0
    """The same seed gives the same map on the same machine."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""

    def run(self) -> None:
        let_waiting_threads_sleep()
        from dsac.atlas import Atlas
        from dsac.mapping import MappingSettings
        from dsac.mapping.extending import extend

        atlas = Atlas.load(self.map)
        check_one_world(self.map, atlas)
        output = self.output or self.map
        check_writable(output, is_map)
        check_seed(self.seed)
        if self.workers < 1:
            raise DsacError(f"--workers: expected 1 or more, got {self.workers}")
        with users_mistakes():
            settings = MappingSettings(**given(minutes=self.minutes, steps=self.steps, num_views=self.views))
        device = choose_device(self.device)
        scene = read_scene(self.scene, self.truth, self.max_gap)
        let_kernels_compile()
        with tempfile.TemporaryDirectory(prefix=".dsac-", dir=output.parent) as folder:
            with bars_of_phases() as show:
                grown = extend(
                    atlas, scene, Path(folder), settings,
                    name=self.map.stem, device=device, workers=self.workers, seed=self.seed,
                    on_progress=lambda phase, fraction: show(PHASES.get(phase, phase), fraction, ""),
                )  # fmt: skip
            grown.atlas.save(output)
        for line in _told(grown):
            out.print(line, soft_wrap=True)
        size = output.stat().st_size / 1e6
        regions = "1 region" if len(grown.atlas) == 1 else f"{len(grown.atlas)} regions"
        out.print(f"{output}: {regions}, {size:.2f} MB", soft_wrap=True)


def _told(grown: Extended) -> list[str]:
    lines = [f"{grown.num_known} frames were in the map already"] if grown.num_known else []
    for name, region in grown.refreshed.items():
        without = f" (no new ones: {region.fault})" if region.fault else ""
        lines.append(
            f"{name}: {region.num_frames} new frames, {region.num_added} landmarks more, "
            f"{region.num_gone} gone, {region.num_left_out} left out for more useful ones{without}"
        )
    lines += [f"{name}: a new region of {number} frames" for name, number in grown.added.items()]
    what = "some" if grown.added else f"{grown.num_new} frames"
    return lines + [f"{what} of new ground became no region: {fault}" for fault in grown.faults]
