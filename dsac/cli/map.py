"""`dsac map`: a folder of posed images becomes a map file."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dsac.cli.check import refuse_contradictions
from dsac.cli.console import let_kernels_compile, out, training_progress
from dsac.cli.map_regions import Making, Place, map_regions
from dsac.cli.map_scenes import map_scenes
from dsac.cli.options import (
    Device,
    Flag,
    Inverted,
    Maybe,
    Meaning,
    Positional,
    check_seed,
    choose_device,
    given,
    read_scene,
    users_mistakes,
)
from dsac.cli.outputs import check_writable, is_map
from dsac.cli.process import let_waiting_threads_sleep
from dsac.cli.score import score_map
from dsac.cli.sfm import place_photos
from dsac.errors import DsacError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from dsac.datasets import Conventions, Scene
    from dsac.mapping import ForestSettings, MappingProgress, MappingSettings, NetworkSettings, Start
    from dsac.scene_map import SceneMap


@dataclass(frozen=True)
class Map(Meaning):
    """Learn a map from a folder of posed images.

    Formats, recognised by what is in the folder: 7-Scenes, COLMAP models, nerfstudio / instant-ngp
    transforms.json, TUM RGB-D, ACE's folders, exports of phone apps and more, or images with poses.txt
    (docs/recordings.md). Depth is used where it is there. Photos and videos, which have no poses, get them with
    --sfm. Of a recording that does not say which frames are for queries some are held out; at the end they are
    localized, and a line says how well.

    For example:
      $ dsac map 7scenes/redkitchen kitchen.dsac
      $ dsac map holiday/photos square.dsac --sfm
      $ dsac map walk.mp4 lane.dsac --sfm
      $ dsac map building floors.dsac --workers 4 --compact
      $ dsac map 7scenes/redkitchen kitchen.dsac --regressor dsac-star --device cuda
      $ dsac map 7scenes/redkitchen kitchen.dsac --truth dslam --regressor forest
      $ dsac map 7scenes/* --output maps --workers 4
      $ dsac map s3://bucket/house house.dsac --ray 10.0.0.1:6379
    """

    names: Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="SCENE MAP", help_behavior_hint="")]]
    """Folder (or URL) of the recording, or `synthetic`, and the map file to write; with --output any number of
    recordings instead."""
    output: Maybe[str] = None
    """Folder for the maps of all the recordings, each a file by the name of its recording's folder."""
    truth: Maybe[str] = None
    """Which of the recording's truths to map in, where it has several (7-Scenes: sfm, dslam)."""
    poses: Inverted = None
    """Its poses are camera from world where the format has world from camera, or the other way round."""
    max_gap: Maybe[float] = None
    """Seconds between an image and its pose, at most, in formats with timestamps (default: 0.02)."""
    sfm: Flag = False
    """Find the poses by structure from motion, from the images alone; kept in MAP.sfm for the next time. Wants
    `pip install 'dsac[colmap]'`."""
    focal_px: Maybe[float] = None
    """With --sfm: focal length of the photos in pixels, where known (default: of their EXIF data, or found)."""
    regressor: Literal["shared", "dsac", "dsac-star", "forest"] = "shared"
    """What learns: a small head behind the shared encoder, a whole network of the papers (wants a GPU), or the
    regression forests from before them, for photos with and without depth."""
    width: Maybe[float] = None
    """Of the paper's network, relative to the published one (default: 1); 0.125 is small enough for a CPU."""
    trees: Maybe[int] = None
    """Of each kind of forest (default: 4)."""
    minutes: Maybe[float] = None
    """Time for all of mapping, instead of steps: training gets what preparation leaves, at least 5 s."""
    steps: Maybe[int] = None
    """Training steps (default: 600; a network of the papers 300000)."""
    views: Maybe[int] = None
    """Augmented views in total, spread over the frames (shared encoder; default: 600)."""
    buffer_size: Maybe[int] = None
    """Cells kept in memory, 0.3 kB each (shared encoder; default: 3000000)."""
    landmarks: Maybe[int] = None
    """Scene points remembered with a patch, 0.24 kB each, and up to twice as many with a descriptor, 76 bytes
    each; 0 for none (shared encoder; default: 8000)."""
    compact: Flag = False
    """Write a file of a third of the size, some 1 MB a region (shared encoder); of a map that is there,
    `dsac crop --compact` makes one."""
    modes: Maybe[int] = None
    """Scene coordinates for each cell, with probabilities (shared encoder; default: 1): several where a place
    repeats itself."""
    depth: Flag = True
    """Map from poses alone, even if the recording has depth."""
    hold_out: Maybe[Literal["8", "0", "blocks"]] = None
    """Frames kept from the map to score it: every 8th, none (0), or four blocks of neighbours, which is harder
    (default: 8, where the recording has no query frames of its own and 24 or more others)."""
    check: Flag = True
    """Learn even what the recording's own images contradict."""
    resume: Flag = False
    """Go on from what an unfinished mapping to the same file, or folder, left."""
    regions: Maybe[int] = None
    """Regions to divide the frames into by what they see, each learned for itself, all in one file (default: as
    many as the place needs, with the shared encoder; a room or two are one)."""
    workers: Maybe[int] = None
    """Regions, of all scenes, learned side by side, each by a process of one thread (default: 1, with all
    threads; with --ray as many as the cluster has CPUs)."""
    ray: Maybe[str] = None
    """Learn regions on a Ray cluster: HOST:PORT of its head, auto for the one that this machine is part of,
    local for one of this machine alone. Its nodes need the recording in a folder by the same path, or behind a
    URL. Wants `pip install 'dsac[ray]'`."""
    seed: int = 0
    """The same seed gives the same map on the same machine."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""

    def run(self) -> None:
        let_waiting_threads_sleep()
        from dsac.kernels import compile_beside

        if self.output is None:
            path, file = self._scene_and_map()
            check_writable(file, is_map)
        elif not self.names:
            raise DsacError("map: expected one scene or more before --output, got none")
        elif "://" in self.output:
            raise DsacError(f"--output {self.output}: expected a folder on this machine, got a URL")
        check_seed(self.seed)
        for name, number in (("regions", self.regions), ("workers", self.workers)):
            if number is not None and number < 1:
                raise DsacError(f"--{name}: expected 1 or more, got {number}")
        with users_mistakes():
            settings = self.settings()
        device = choose_device(self.device)
        compile_beside()
        meant = self.conventions(self.poses)
        with self._workers() as (workers, start):
            making = Making(settings, device, self.seed, self.resume, workers, start)
            if self.output is not None:
                map_scenes(
                    self.names, Path(self.output), making, lambda path, file: self._place(path, file, meant)
                )
                return
            place = self._place(path, file, meant)
            if len(place.rows) == 1 and start is None:
                map_scene(place.scene, file, settings, device, self.seed, self.resume)
            else:
                map_regions(place, making)
        score_map(file, place.scene, device, place.held_out)
        self._show_next(path, file, len(place.scene.query) > 0 and not self.sfm, meant)

    @contextmanager
    def _workers(self) -> Iterator[tuple[int, Start | None]]:
        """How many, and who they are where not this process and its own. Raises: `DsacError`."""
        if self.ray is None:
            yield self.workers or 1, None
            return
        from dsac.mapping import on_ray

        with on_ray(self.ray, self.workers) as cluster:
            yield cluster

    def _scene_and_map(self) -> tuple[str, Path]:
        """Raises: `DsacError` where the names are not those of one scene and one file."""
        if len(self.names) != 2:
            raise DsacError(
                f"map: expected a scene and the map file to write, got {len(self.names)} names; of many scenes "
                "--output FOLDER takes the maps"
            )
        scene, file = self.names
        if Path(file).is_dir():
            raise DsacError(
                f"{file}: expected a file to write, got a folder; of many scenes --output FOLDER takes the maps"
            )
        return scene, Path(file)

    def _place(self, path: str, file: Path, meant: Conventions) -> Place:
        """What is to be learned of a recording. Raises: `DsacError`, also where its images contradict it."""
        scene = self._scene(path, file, meant)
        split = len(scene.query) > 0
        scene = self._held_out(scene)
        if not self.depth:
            scene = replace(scene, mapping=scene.mapping.without_depth())
        if self.check and not self.resume and not self.sfm and path != "synthetic":
            refuse_contradictions(scene, meant)
        return Place("", scene, self._divided(scene), file, len(scene.query) > 0 and not split)

    def _divided(self, scene: Scene) -> list[np.ndarray]:
        """Rows of the mapping frames of each region."""
        import numpy as np

        from dsac.mapping import divide

        if self.regressor != "shared" and self.regions is None:
            return [np.arange(len(scene.mapping))]
        return divide(scene.mapping, regions=self.regions)

    def _held_out(self, scene: Scene) -> Scene:
        """The scene with some frames for queries, where it has none of its own.

        Raises: `DsacError` where it has and others are asked for.
        """
        from dsac.datasets import hold_out

        if len(scene.query):
            if self.hold_out not in (None, "0"):
                number = len(scene.query)
                raise DsacError(
                    f"--hold-out: the recording has {number} query frames, which no map learns from"
                )
            return scene
        if self.hold_out == "0" or (self.hold_out is None and len(scene.mapping) < _FEW_FRAMES):
            return scene
        scene = hold_out(scene, in_blocks=self.hold_out == "blocks")
        if len(scene.query):
            out.print(f"{len(scene.query)} frames are held out to score the map (--hold-out 0: none)")
        return scene

    def _show_next(self, path: str, file: Path, has_queries: bool, meant: Conventions) -> None:
        """The commands to go on with; photos, and what the recording means, are the same as before."""
        options = [] if self.truth is None else ["--truth", self.truth]
        options += [] if self.max_gap is None else ["--max-gap", f"{self.max_gap:g}"]
        evaluate = shlex.join(["dsac", "evaluate", str(file), path, *options])
        if has_queries:
            out.print(f"Next: {evaluate} {meant.options()}".strip(), style="dim", soft_wrap=True)
        localize = shlex.join(["dsac", "localize", str(file)])
        out.print(f"Next: {localize} PHOTO", style="dim", soft_wrap=True)

    def _scene(self, path: str, file: Path, meant: Conventions) -> Scene:
        """Raises: `DatasetError`; `DsacError` for options that mean nothing with or without --sfm."""
        if not self.sfm:
            if self.focal_px is not None:
                raise DsacError("focal_px: expected with --sfm only, a recording has its own intrinsics")
            return read_scene(path, self.truth, self.max_gap, meant)
        of_poses = [meant.options(), *(f"--{name}" for name in given(truth=self.truth, max_gap=self.max_gap))]
        if options := " ".join(filter(None, of_poses)).replace("_", "-"):
            raise DsacError(f"--sfm: finds poses from the images alone, expected no {options} with it")
        return place_photos(path, file.with_name(file.name + ".sfm"), self.focal_px, self.seed)

    def settings(self) -> MappingSettings | NetworkSettings | ForestSettings:
        """Raises: `ValueError` for what means nothing, or nothing to this regressor."""
        from dsac.mapping import ForestSettings, MappingSettings, NetworkSettings
        from dsac.networks.scene_networks import NetworkArchitecture

        of_head = given(
            num_views=self.views,
            buffer_size=self.buffer_size,
            num_landmarks=self.landmarks,
            num_modes=self.modes,
            compact=self.compact or None,
        )
        of_network = given(width=self.width)
        length = given(steps=self.steps, minutes=self.minutes)
        if len(length) == 2:
            raise ValueError("minutes: expected either steps or minutes, got both")
        if of_network and self.regressor not in ("dsac", "dsac-star"):
            raise ValueError("width: expected with --regressor dsac or dsac-star only")
        if self.trees is not None and self.regressor != "forest":
            raise ValueError("trees: expected with --regressor forest only")
        if self.regressor == "shared":
            return MappingSettings(**of_head, **length)
        if of_head:
            option = next(iter(of_head)).removeprefix("num_")
            raise ValueError(f"{option}: expected with the shared encoder only, got {self.regressor}")
        if self.regressor == "forest":
            if length:
                raise ValueError(
                    f"{next(iter(length))}: expected no length with forests, which --trees makes long"
                )
            return ForestSettings(**given(num_trees=self.trees))
        return NetworkSettings(NetworkArchitecture.published(self.regressor, **of_network), **length)


def map_scene(
    scene: Scene,
    path: Path,
    settings: MappingSettings | NetworkSettings | ForestSettings,
    device: torch.device,
    seed: int = 0,
    resume: bool = False,
) -> None:
    """Build and save a map with live progress and a JSONL log beside it.

    Raises: `KeyboardInterrupt` when training was interrupted, after saving the map as far as it was.
    """
    from dsac.mapping import build_map

    checkpoint, log_path = path.with_name(path.name + ".checkpoint"), path.with_name(path.name + ".jsonl")
    if resume and not checkpoint.is_file():
        raise DsacError(f"{checkpoint}: nothing to resume, expected the checkpoint of an unfinished mapping")
    let_kernels_compile()
    with training_progress(log_path, checkpoint, resume) as show:
        scene_map = build_map(
            scene,
            settings,
            device=device,
            seed=seed,
            checkpoint=checkpoint,
            resume=resume,
            on_progress=lambda progress: show(progress, _note(progress)),
        )
        scene_map.save(path)
    training = scene_map.info.training
    size_mb = path.stat().st_size / 1e6
    out.print(f"{path}: {size_mb:.1f} MB, mapped in {training['seconds']:.0f} s", soft_wrap=True)
    if (repeated := _repeated(scene_map)) is not None:
        out.print(repeated, style="yellow", soft_wrap=True)
    if training["interrupted"]:
        out.print(f"after {training['steps']} steps: usable as it is, --resume goes on", style="yellow")
        raise KeyboardInterrupt
    checkpoint.unlink(missing_ok=True)


def _repeated(scene_map: SceneMap) -> str | None:
    """What is to be said of a place that repeats itself; None where it hardly does."""
    from dsac.landmarks.look_alikes import REPEATED

    share = scene_map.share_repeated
    if share < REPEATED:
        return None
    return (
        f"the place repeats itself: what {share:.0%} of the frames show is seen elsewhere, too; photos that "
        "cannot tell are not localized, and their alternatives are named"
    )


def _note(progress: MappingProgress) -> str:
    if progress.phase != "training":
        return ""
    return f"{progress.fraction_good:.0%} in 10 px, median {progress.median_error_px:.1f}"


_FEW_FRAMES = 24  # of fewer none is held out: each shows what no other does
