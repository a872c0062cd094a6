"""The command `dsac`: one function a verb. Each checks its outputs first, shows progress, ends with the result.

Only this file prints. Heavy imports stay in the functions: `dsac --help` answers at once.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args

import tyro
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

import dsac
from dsac.errors import DatasetError, DsacError

if TYPE_CHECKING:
    import torch

    from dsac.datasets import Frames, Scene
    from dsac.evaluation import Evaluation
    from dsac.geometry import Camera
    from dsac.localizer import Localization
    from dsac.mapping import MappingProgress, MappingSettings, NetworkSettings
    from dsac.mapping.fine_tuning import FineTuningProgress
    from dsac.scene_map import MapInfo, SceneMap

_out = Console(highlight=False, markup=False)  # file names may hold square brackets
_err = Console(stderr=True, highlight=False, markup=False)

T = TypeVar("T")
Positional = tyro.conf.Positional
_UNSAID = tyro.conf.arg(help_behavior_hint="")  # tyro's "(default: None)": the help says it in words
Maybe = Annotated[T | None, _UNSAID]
Flag = Annotated[bool, _UNSAID]
Device = Literal["auto", "cpu", "cuda"]


# ---- the verbs -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Demo:
    """See it work: render a furnished room, map it, localize photos of it, and show how well that went.

    Needs nothing. The folder it leaves has the room's images, the map and the report page.
    """

    folder: Path = Path("demo")
    """Where the room, its map and the report go."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""


@dataclass(frozen=True)
class Map:
    """Learn a map from a folder of posed images.

    Formats, recognised by what is in the folder: 7-Scenes, COLMAP models, nerfstudio / instant-ngp
    transforms.json, or images with poses.txt (docs/conventions.md). Depth is used where it is there.

    For example:
      $ dsac map 7scenes/redkitchen kitchen.dsac
      $ dsac map 7scenes/redkitchen kitchen.dsac --regressor dsac-star --device cuda
    """

    scene: Positional[str]
    """Folder (or URL) of the recording, or `synthetic`."""
    map: Positional[Path]
    """The map file to write."""
    truth: Maybe[str] = None
    """Which of the recording's truths to map in, where it has several (7-Scenes: sfm, dslam)."""
    regressor: Literal["shared", "dsac", "dsac-star"] = "shared"
    """What learns: a small head behind the shared encoder, or a network of the papers, whole (wants a GPU)."""
    width: Maybe[float] = None
    """Of the paper's network, relative to the published one (default: 1); 0.125 is a small form for a CPU."""
    minutes: Maybe[float] = None
    """Time for all of mapping, instead of steps: training gets what preparing leaves of it, 5 s at least."""
    steps: Maybe[int] = None
    """Training steps (default: 1000; a network of the papers 300000)."""
    views: Maybe[int] = None
    """Augmented views in total, spread over the frames (shared encoder; default: 1000)."""
    buffer_size: Maybe[int] = None
    """Cells kept in memory, 0.3 kB each (shared encoder; default: 3000000)."""
    landmarks: Maybe[int] = None
    """Scene points remembered with a patch, 0.24 kB each; 0 for none (shared encoder; default: 8000)."""
    depth: Flag = True
    """Map from poses alone, though the recording has depth."""
    resume: Flag = False
    """Go on from the checkpoint that an unfinished mapping to the same file left."""
    seed: int = 0
    """The same seed gives the same map on the same machine."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""


@dataclass(frozen=True)
class FineTune:
    """Train a map end to end on the poses of the recording that it was made from.

    A slice of the mapping frames, seen at other scales, rolls and exposures, judges: the best map on them is
    written, and the one that came in is the first candidate. Query frames are not looked at. Ctrl-C writes the
    best so far.

    For example:
      $ dsac fine-tune kitchen.dsac 7scenes/redkitchen --output tuned.dsac
    """

    map: Positional[Path]
    """The map file."""
    scene: Positional[str]
    """Folder (or URL) of the recording that it was made from."""
    output: Maybe[Path] = None
    """The map file to write; default: in place of the old one."""
    truth: Maybe[str] = None
    """Which of the recording's truths the map is in, where it has several (7-Scenes: sfm, dslam)."""
    selection: Literal["dsac", "softam", "argmax"] = "dsac"
    """Which poses the expected loss is taken over: all hypotheses, their mean, or the best."""
    scoring: Literal["soft-count", "score-network"] = "soft-count"
    """What scores hypotheses; a score network is trained first, and the map uses it from then on (12 MB)."""
    encoder: Flag = False
    """Train the encoder too: the map then holds its weights (0.7 MB)."""
    steps: Maybe[int] = None
    """Training steps (default: 120)."""
    learning_rate: Maybe[float] = None
    """Of Adam, at the start (default: 3e-05)."""
    views_per_frame: Maybe[int] = None
    """Augmented views of each mapping frame, 1.4 MB each (default: 2)."""
    resume: Flag = False
    """Go on from the checkpoint that an unfinished fine-tuning to the same file left."""
    seed: int = 0
    """The same seed gives the same map on the same machine."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""


@dataclass(frozen=True)
class Localize:
    """Tell from where photos were taken.

    Prints a line for each photo; --output writes a poses file (name qw qx qy qz tx ty tz, cam_from_world),
    --json prints one JSON object a photo instead. Photos that cannot be localized say so.

    For example:
      $ dsac localize kitchen.dsac photo.jpg --focal-px 525
    """

    map: Positional[Path]
    """The map file."""
    images: Annotated[
        Positional[tuple[str, ...]], tyro.conf.arg(metavar="IMAGES...", help_behavior_hint="(required)")
    ]
    """Photos, or folders of photos."""
    focal_px: Maybe[float] = None
    """Focal length in pixels of all photos; without it, the map's camera or each photo's EXIF data serve."""
    camera: Maybe[str] = None
    """All photos' camera: MODEL,WIDTH,HEIGHT,PARAMS... with COLMAP's models and order of parameters."""
    output: Maybe[Path] = None
    """Poses file to write."""
    json: Flag = False
    """Print JSON: pose, confidence, covariance, inliers, timing."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""


@dataclass(frozen=True)
class Evaluate:
    """Score a map on a recording's query images, or a file of estimates against a truth.

    For example:
      $ dsac evaluate kitchen.dsac 7scenes/redkitchen
      $ dsac evaluate --poses estimates.txt --truth truth.txt
    """

    map: Positional[Maybe[Path]] = None
    """The map file."""
    scene: Positional[Maybe[str]] = None
    """Folder of the recording with query images and their poses."""
    poses: Maybe[Path] = None
    """Estimates to score instead of a map (poses file)."""
    truth: Maybe[str] = None
    """With --poses: the file of true poses. With a map: which of the recording's truths comes first."""
    report: Maybe[Path] = None
    """Report page to write (HTML); default: beside the map."""
    csv: Maybe[Path] = None
    """Table to write, a row per image; default: beside the map."""
    figures: Maybe[Path] = None
    """Folder for figures on inlier ratios, selections, times and hard frames (a scene with depth)."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""


@dataclass(frozen=True)
class Info:
    """Say what a map file is."""

    map: Positional[Path]
    """The map file."""


@dataclass(frozen=True)
class Bench:
    """Time our pose solver beside the ones that are installed (PoseLib, OpenCV, pycolmap), and on a batch.

    For example:
      $ OMP_NUM_THREADS=1 dsac bench solver --output results
    """

    what: Positional[Literal["solver"]]
    """What to time."""
    inputs: Maybe[Path] = None
    """Folder with files input_r*.npz of scene coordinates; default: those of the synthetic scene, made here."""
    frames: int = 50
    """Frames of each input."""
    repeats: int = 3
    """Runs on each frame."""
    output: Maybe[Path] = None
    """Folder for solver.md, solver.json and solver.png."""


Command = Demo | Map | FineTune | Localize | Evaluate | Info | Bench
_CommandInBrief = Union[  # noqa: UP007
    tuple(
        Annotated[verb, tyro.conf.subcommand(description=(verb.__doc__ or "").partition("\n")[0])]
        for verb in get_args(Command)
    )
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code (0 good, 2 a mistake that the message explains, 130 interrupted).

    Without arguments it shows what `dsac --help` does.
    """
    keep_freed_memory()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in ("demo", "map", "fine-tune"):
        # Waiting threads sleep instead of spinning: on a busy machine a training step is 6 times faster so.
        # A query's layers are too short for that: two threads would be slower than one.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if words == ["--version"]:
        print(f"dsac {dsac.__version__}")
        return 0
    words = words or ["--help"]
    overview = words[0] in ("-h", "--help")
    command = tyro.cli(
        Annotated[_CommandInBrief if overview else Command, tyro.conf.arg(name="")],  # type: ignore[arg-type]
        prog="dsac",
        description="Where was this photo taken? Maps a place from posed images, localizes photos in it.",
        args=words,
        config=(
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.OmitArgPrefixes,
            tyro.conf.DisallowNone,
            tyro.conf.PositionalMetavarFromFieldName,
            tyro.conf.FlagCreatePairsOff,
        ),
    )
    handler = RichHandler(console=_err, show_time=False, show_path=False, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    try:
        _RUN[type(command)](command)
        return 0
    except KeyboardInterrupt:
        _err.print("interrupted", style="yellow")
        return 130
    except (DsacError, OSError) as error:
        _err.print(f"dsac: {_one_line(error)}", style="red", soft_wrap=True)
        return 2


def keep_freed_memory() -> None:
    """Let glibc keep large freed buffers: page faults would take a tenth to a third of an image's encoding.

    Elsewhere than on glibc nothing happens.
    """
    import ctypes

    trim_threshold, mmap_threshold, largest = -1, -3, 1 << 30  # of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(mmap_threshold, largest)
        mallopt(trim_threshold, largest)


# ---- what they do --------------------------------------------------------------------------------


def _demo(command: Demo) -> None:
    from dsac.datasets.synthetic import synthetic_scene, write_scene
    from dsac.mapping import MappingSettings

    room, map_file = command.folder / "room", command.folder / "room.dsac"
    _check_writable(map_file, _is_map, make_folder=True)
    started = time.monotonic()
    if not (room / "poses.txt").is_file():
        scene = synthetic_scene()
        with _progress() as bar:
            task = bar.add_task("render a room", total=1.0, note="")
            write_scene(scene, room, lambda done, total: bar.update(task, completed=done / total))
    scene = _load_scene(str(room))
    settings = MappingSettings(steps=_DEMO_STEPS, num_views=_DEMO_VIEWS)
    _map_scene(scene, scene.mapping, map_file, settings, _device(command.device), seed=0, resume=False)
    _evaluate_map(
        map_file, scene, command.folder / "report.html", command.folder / "report.csv", command.device
    )
    _out.print(
        f"\n{time.monotonic() - started:.0f} s in all. Now with your own photos: dsac map FOLDER place.dsac",
        style="dim",
    )


_DEMO_STEPS, _DEMO_VIEWS = 800, 600  # of one room: about a minute on two cores


def _map(command: Map) -> None:
    _check_writable(command.map, _is_map)
    scene = _load_scene(command.scene, command.truth)
    _check_seed(command.seed)
    with _one_line_mistakes():
        settings = _mapping_settings(command)
    frames = scene.mapping if command.depth else scene.mapping.without_depth()
    _map_scene(scene, frames, command.map, settings, _device(command.device), command.seed, command.resume)
    if len(scene.query):
        command_line = shlex.join(["dsac", "evaluate", str(command.map), command.scene])
        _out.print(f"Next: {command_line}", style="dim", soft_wrap=True)


def _mapping_settings(command: Map) -> MappingSettings | NetworkSettings:
    """Raises: `ValueError` for what means nothing, or nothing to this regressor."""
    from dsac.mapping import MappingSettings, NetworkSettings
    from dsac.networks.scene_networks import NetworkArchitecture

    of_head = _given(num_views=command.views, buffer_size=command.buffer_size, num_landmarks=command.landmarks)
    of_network = _given(width=command.width)
    length = _given(steps=command.steps, minutes=command.minutes)
    if command.regressor == "shared":
        if of_network:
            raise ValueError("width: expected with --regressor dsac or dsac-star only")
        return MappingSettings(**of_head, **length)
    if of_head:
        option = next(iter(of_head)).removeprefix("num_")
        raise ValueError(f"{option}: expected with the shared encoder only, got {command.regressor}")
    return NetworkSettings(NetworkArchitecture.published(command.regressor, **of_network), **length)


def _fine_tune(command: FineTune) -> None:
    from dsac.localizer import Localizer
    from dsac.mapping.fine_tuning import fine_tune
    from dsac.mapping.settings import FineTuningSettings

    path = command.output or command.map
    if path == command.map:
        _check_writable(path)
    else:
        _check_writable(path, _is_map)
    checkpoint, log_path = (path.with_name(path.name + end) for end in (".tuning", ".tuning.jsonl"))
    if command.resume and not checkpoint.is_file():
        raise DsacError(f"{checkpoint}: nothing to resume, expected what an unfinished fine-tuning left")
    names = ("selection", "scoring", "encoder", "steps", "learning_rate", "views_per_frame")
    with _one_line_mistakes():
        settings = FineTuningSettings(**_given(**{name: getattr(command, name) for name in names}))
    _check_seed(command.seed)
    scene_map = Localizer.load(command.map).scene_map  # which looks for its encoder
    scene = _load_scene(command.scene, command.truth)
    with _told(log_path, checkpoint, command.resume) as tell:

        def on_progress(p: FineTuningProgress) -> None:
            note = "" if p.phase == "features" else f"loss {p.loss:.2f}"
            if p.phase == "training":
                note += f", validation {p.best_validation:.2f}"
            tell(p, note)

        tuned = fine_tune(
            scene_map,
            scene.mapping,
            settings,
            device=_device(command.device),
            seed=command.seed,
            checkpoint=checkpoint,
            resume=command.resume,
            on_progress=on_progress,
        )
        tuned.save(path)
    told = tuned.info.training["fine_tuning"]
    lengths = "cm" if tuned.info.metric else "hundredths of the recording's unit"
    _out.print(
        f"{path}: mean error on the validation slice {told['validation_before']:.2f} -> "
        f"{told['validation_after']:.2f} (degrees or {lengths}, whichever is more), "
        f"best at step {told['best_step']} of {told['trained_steps']}, {told['seconds']:.0f} s",
        soft_wrap=True,
    )
    if told["interrupted"]:
        _out.print("interrupted: the best map so far is usable, --resume goes on", style="yellow")
        raise KeyboardInterrupt
    checkpoint.unlink(missing_ok=True)


def _localize(command: Localize) -> None:
    import torch

    from dsac.datasets import NamedPoses, load_photos, write_poses
    from dsac.datasets.poses_file import check_names
    from dsac.geometry import Pose
    from dsac.localizer import Localizer

    if command.output is not None:
        _check_writable(command.output, _is_poses_file)
    camera = None if command.camera is None else _parse_camera(command.camera)
    if not command.images:
        raise DsacError("no images given: dsac localize MAP IMAGES...")
    localizer = Localizer.load(command.map, device=_device(command.device))
    scene_map = localizer.scene_map
    with _one_line_mistakes():
        photos = load_photos(
            command.images,
            camera=camera,
            focal_px=command.focal_px,
            mapping_camera=scene_map.mapping_camera,
            as_stored=scene_map.info.as_stored,
        )
    if command.output is not None:
        check_names(photos.names)
    found: dict[str, Pose] = {}
    unread = 0

    def keep() -> None:
        if command.output is not None:
            stacked = Pose.stack(list(found.values())) if found else Pose.identity(0, dtype=torch.float64)
            write_poses(command.output, NamedPoses(list(found), stacked))

    try:
        for i in range(len(photos)):
            try:
                (localization,) = localizer.localize_frames(photos[i : i + 1])
            except DatasetError as error:  # one bad photo among many is no reason to leave the others
                if len(photos) == 1:
                    raise
                unread += 1
                _err.print(f"dsac: {_one_line(error)}", style="red", soft_wrap=True)
                continue
            print((_as_json if command.json else _as_line)(localization, scene_map.info.metric), flush=True)
            estimate = localization.estimate
            if estimate.success.item():
                found[localization.name] = estimate.cam_from_world[0].to("cpu", dtype=torch.float64)
    except KeyboardInterrupt:
        keep()
        raise
    keep()
    if not command.json:
        unit = "" if scene_map.info.metric or not found else f"; positions are in {_unit(scene_map.info)}"
        _out.print(f"{len(found)} of {len(photos)} localized{unit}", style="dim", soft_wrap=True)
    if unread:
        raise DsacError(f"{unread} of {len(photos)} photos could not be used")


def _evaluate(command: Evaluate) -> None:
    from dsac.evaluation import evaluate_poses

    if command.poses is not None:
        if command.map is not None or command.truth is None:
            raise DsacError("evaluate --poses FILE needs --truth FILE, and no map")
        if command.report is not None:
            _check_writable(command.report, _is_page)
        if command.csv is not None:
            _check_writable(command.csv, _is_table)
        result = evaluate_poses(command.poses, Path(command.truth), report=command.report)
        _show(result, command.report, command.csv)
        return
    if command.map is None or command.scene is None:
        raise DsacError("evaluate needs MAP and SCENE, or --poses FILE --truth FILE")
    report = command.report or command.map.with_suffix(".html")
    csv = command.csv or command.map.with_suffix(".csv")
    _check_writable(report, _is_page)
    _check_writable(csv, _is_table)
    scene = _load_scene(command.scene, command.truth)
    if command.figures is not None:
        from dsac.evaluation.evidence import check_scene
        from dsac.evaluation.plots import require_matplotlib

        require_matplotlib()
        check_scene(scene)
        _check_writable(command.figures / "evidence.html", make_folder=True)
    _evaluate_map(command.map, scene, report, csv, command.device, command.figures)


def _info(command: Info) -> None:
    from dsac.scene_map import SceneMap

    scene_map = SceneMap.load(command.map)
    print(command.map)
    for name, value in _describe(scene_map, command.map):
        print(f"  {name:13} {value}")  # plain lines: to be searched, and the camera to be copied


def _bench(command: Bench) -> None:
    from dsac.evaluation.solver_benchmark import Row, benchmark_solvers, titled_tables, write_results

    with _one_line_mistakes():
        for name in ("frames", "repeats"):
            if getattr(command, name) < 1:
                raise ValueError(f"{name}: expected 1 or more, got {getattr(command, name)}")
    if command.output is not None:
        for name in ("solver.md", "solver.json", "solver.png"):
            _check_writable(command.output / name, make_folder=True)

    with _progress() as bar:
        task = bar.add_task("time solvers", total=None, note="")

        def on_input(rows: list[Row]) -> None:
            bar.update(task, advance=1, note=f"{rows[0].input}: {rows[0].cpu_ms:.2f} ms")

        results = benchmark_solvers(command.inputs, command.frames, command.repeats, on_input)
    for title, cells in titled_tables(results):
        header, *lines = zip(*cells, strict=True)  # a line an input: there are many
        shown = Table(title=title, title_justify="left", box=None)
        for name in header:
            shown.add_column(name, justify="left" if not name else "right")
        for cells in lines:
            shown.add_row(*cells)
        _out.print(shown)
    _out.print(results.about, style="dim", soft_wrap=True)
    if command.output is not None:
        write_results(results, command.output)


_RUN = {
    Demo: _demo,
    Map: _map,
    FineTune: _fine_tune,
    Localize: _localize,
    Evaluate: _evaluate,
    Info: _info,
    Bench: _bench,
}


# ---- parts ---------------------------------------------------------------------------------------


def _given(**options: object) -> dict[str, Any]:
    """Those that the user gave; the library has the others' defaults."""
    return {name: value for name, value in options.items() if value is not None}


def _load_scene(path: str, truth: str | None = None) -> Scene:
    from dsac.datasets import load_scene

    scene = load_scene(path, truth)
    depth = "with depth" if scene.mapping.has_depth else "without depth"
    _out.print(
        f"{path}: {scene.format}, {len(scene.mapping)} mapping frames {depth}, {len(scene.query)} query frames",
        soft_wrap=True,
    )
    return scene


def _map_scene(
    scene: Scene,
    frames: Frames,
    path: Path,
    settings: MappingSettings | NetworkSettings,
    device: torch.device,
    seed: int,
    resume: bool,
) -> None:
    """Build and save a map with live progress and a JSONL log beside it.

    Raises: `KeyboardInterrupt` when training was interrupted, after saving the map as far as it was.
    """
    from dsac.mapping import build_map

    checkpoint, log_path = path.with_name(path.name + ".checkpoint"), path.with_name(path.name + ".jsonl")
    if resume and not checkpoint.is_file():
        raise DsacError(f"{checkpoint}: nothing to resume, expected the checkpoint of an unfinished mapping")
    with _told(log_path, checkpoint, resume) as tell:

        def on_progress(p: MappingProgress) -> None:
            note = "" if p.phase != "training" else (
                f"{p.fraction_good:.0%} in 10 px, median {p.median_error_px:.1f}"
            )  # fmt: skip
            tell(p, note)

        scene_map = build_map(
            frames,
            settings,
            device=device,
            seed=seed,
            source=f"{scene.path} ({scene.format})",
            checkpoint=checkpoint,
            resume=resume,
            on_progress=on_progress,
        ).recorded_in(scene)
        scene_map.save(path)
    training = scene_map.info.training
    size_mb = path.stat().st_size / 1e6
    _out.print(f"{path}: {size_mb:.1f} MB, mapped in {training['seconds']:.0f} s", soft_wrap=True)
    if (good := training["fraction_good"]) < _FEW_GOOD:
        _err.print(
            f"only {good:.0%} of the cells are within 10 px, so photos will hardly be localized: "
            "more minutes or steps help",
            style="yellow",
            soft_wrap=True,
        )
    if training["interrupted"]:
        _out.print(f"after {training['steps']} steps: usable as it is, --resume goes on", style="yellow")
        raise KeyboardInterrupt
    checkpoint.unlink(missing_ok=True)


_FEW_GOOD = 0.1  # a fifth to nine tenths in maps that localize


@contextmanager
def _told(
    log_path: Path, checkpoint: Path, resume: bool
) -> Iterator[Callable[[MappingProgress | FineTuningProgress, str], None]]:
    """Tell progress: on the screen a bar with a note for each phase, in the log a line of JSON each time.

    Work that fails leaves a log only where it leaves a checkpoint.
    """
    tasks = {}
    with _progress() as bar:

        def tell(p: MappingProgress | FineTuningProgress, note: str) -> None:
            with open(log_path, "a" if tasks or resume else "w") as log:
                log.write(json.dumps({key: value for key, value in asdict(p).items() if value == value}) + "\n")
            if p.phase not in tasks:
                tasks[p.phase] = bar.add_task(_PHASES[p.phase], total=1.0, note="")
            bar.update(tasks[p.phase], completed=p.fraction, note=note)

        try:
            yield tell
        except BaseException:
            if tasks and not checkpoint.is_file():
                log_path.unlink(missing_ok=True)
            raise


_PHASES = {
    "depth": "triangulate",
    "landmarks": "find landmarks",
    "features": "encode views",
    "scoring": "score network",
    "training": "train",
}


def _evaluate_map(
    map_file: Path, scene: Scene, report: Path | None, csv: Path, device: Device, figures: Path | None = None
) -> None:
    from dsac.evaluation import evaluate
    from dsac.evaluation.evidence import frame_evidence, inlier_distance
    from dsac.localizer import Localizer

    if not _has_matplotlib():
        _err.print("no report page: it needs matplotlib (pip install 'dsac[plots]')", style="yellow")
        report = None
    localizer = Localizer.load(map_file, device=_device(device))
    settings = [("command", " ".join(["dsac", *sys.argv[1:]])), *_describe(localizer.scene_map, map_file)]
    evidence, max_distance = [], inlier_distance(scene, localizer.scene_map.info)
    with _progress() as bar:
        task = bar.add_task("localize", total=len(scene.query), note="")

        def on_frame(localization: Localization) -> None:
            if figures is not None:
                frame = scene.query[len(evidence)]
                evidence.append(frame_evidence(localization, frame, max_distance))
            bar.advance(task)

        result = evaluate(localizer, scene, report=report, settings=settings, on_frame=on_frame)
    _show(result, report, csv)
    if figures is not None:
        from dsac.evaluation.figures import write_figures

        write_figures(evidence, localizer, scene, figures)
        _out.print(f"figures: {figures / 'evidence.html'}", soft_wrap=True)


def _show(result: Evaluation, report: Path | None, csv: Path | None) -> None:
    if csv is not None:
        result.write_csv(csv)
    _out.print(result.table)
    timing = result.median_timing_ms
    if timing:
        stages = ", ".join(f"{name} {value:.1f}" for name, value in timing)
        _out.print(f"median {result.median_total_ms:.0f} ms an image ({stages})", soft_wrap=True)
    if report is not None:
        _out.print(f"report: {report}", soft_wrap=True)
    if csv is not None:
        _out.print(f"table: {csv}", soft_wrap=True)


def _describe(scene_map: SceneMap, path: Path) -> list[tuple[str, str]]:
    info = scene_map.info
    size = [high - low for low, high in zip(info.bounds_min, info.bounds_max, strict=True)]
    training = info.training
    return [
        ("size", f"{path.stat().st_size / 1e6:.2f} MB, {scene_map.num_values:,} values"),
        ("made from", f"{info.source}, {info.num_frames} frames, {info.supervision}"),
        ("scene", f"{size[0]:.3g} × {size[1]:.3g} × {size[2]:.3g}, depths {info.depth_range[0]:.3g} to "
                  f"{info.depth_range[1]:.3g}, in {_unit(info)}"),
        ("camera", (info.camera or "unknown") + (", photos as they are stored" if info.as_stored else "")),
        *_describe_regressor(info),
        ("working size", f"short side {info.short_side_px} px"),
        ("landmarks", f"{0 if scene_map.landmarks is None else len(scene_map.landmarks)}"),
        ("scores", "soft inlier count" if info.score_network is None else "score network"),
        ("training", f"{training.get('steps')} steps, {training.get('seconds')} s"
                     + (", interrupted" if training.get("interrupted") else "")),
        ("written", f"{info.created} by dsac {info.dsac_version}, format {info.format_version}"),
    ]  # fmt: skip


def _unit(info: MapInfo) -> str:
    """Of lengths in the world that the map is in."""
    if info.metric is None:
        return "the unit of the recording's poses"
    return "metres" if info.metric else "a unit of the recording's own, not metres"


def _describe_regressor(info: MapInfo) -> list[tuple[str, str]]:
    if (network := info.network) is not None:
        colours = "grey" if network.grey else "colour"
        kind = f"{network.name} on {colours} images, {network.width:g} × the published width"
        return [("network", f"{kind}, stride {info.stride}")]
    assert info.head is not None
    return [
        (
            "encoder",
            f"{info.encoder_id} ({info.encoder_digest}), stride {info.stride}"
            + (", trained with this map" if info.own_encoder else ""),
        ),
        ("head", f"{info.head.num_blocks} blocks, {info.head.width} wide"),
    ]


def _as_line(localization: Localization, metric: bool | None) -> str:
    estimate = localization.estimate
    if not estimate.success.item():
        return f"{localization.name}  not localized (confidence {estimate.confidence.item():.2f})"
    x, y, z = estimate.cam_from_world.center[0].tolist()
    unit = " m" if metric else ""
    return (
        f"{localization.name}  at ({x:.3f}, {y:.3f}, {z:.3f}){unit}  "
        f"confidence {estimate.confidence.item():.2f}  {estimate.num_inliers.item()} inliers  "
        f"{localization.timing.total_ms:.0f} ms"
    )


def _as_json(localization: Localization, metric: bool | None) -> str:
    estimate = localization.estimate
    success = bool(estimate.success.item())
    pose = estimate.cam_from_world[0]
    answer = {
        "name": localization.name,
        "success": success,
        "confidence": round(estimate.confidence.item(), 4),
        "inliers": int(estimate.num_inliers.item()),
        "cam_from_world": {
            "quaternion_wxyz": pose.quaternion_wxyz.tolist(),
            "translation": pose.translation.tolist(),
        } if success else None,
        "center": pose.center.tolist() if success else None,
        "metric": metric,
        "covariance": estimate.covariance[0].tolist() if success else None,
        "timing_ms": {key.removesuffix("_ms"): round(ms, 2) for key, ms in asdict(localization.timing).items()},
    }  # fmt: skip
    return json.dumps(answer)


def _parse_camera(text: str) -> Camera:
    from dsac.geometry import Camera

    try:
        return Camera.from_text(text)
    except (ValueError, OverflowError) as error:
        raise DsacError(f"--camera {text}: expected MODEL,WIDTH,HEIGHT,PARAMS... ({error})") from None


def _check_writable(
    path: Path, is_our_kind: Callable[[Path], bool] = lambda path: True, make_folder: bool = False
) -> None:
    """Find out before the work that the result could not be written, or would replace something else.

    Raises: `DsacError`.
    """
    folder = path.parent
    if make_folder:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DsacError(f"{folder}: cannot be made ({error.strerror})") from None
    if path.is_dir():
        raise DsacError(f"{path}: expected a file to write, got a folder")
    special = path.exists() and not path.is_file()  # a pipe, a device: written to, not replaced
    if not folder.is_dir():
        raise DsacError(f"{path}: its folder does not exist")
    if not (special or os.access(folder, os.W_OK)) or (path.exists() and not os.access(path, os.W_OK)):
        raise DsacError(f"{path}: not writable")
    if path.is_file() and path.stat().st_size > 0 and not is_our_kind(path):
        raise DsacError(
            f"{path}: is there already and is something else: give another name, or remove it first"
        )


def _is_map(path: Path) -> bool:
    from dsac.errors import MapFormatError
    from dsac.scene_map import read_map_file

    try:
        return read_map_file(path) is not None
    except MapFormatError:
        return False


def _is_poses_file(path: Path) -> bool:
    from dsac.datasets import read_poses
    from dsac.errors import DatasetError

    try:
        return read_poses(path) is not None
    except DatasetError:
        return False


def _is_page(path: Path) -> bool:
    return path.read_bytes().startswith(b"<!doctype html>")


def _is_table(path: Path) -> bool:
    return path.read_bytes().startswith(b"name,localized,")


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise DsacError(f"seed: expected 0 or more, got {seed}")


def _device(name: Device) -> torch.device:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise DsacError("--device cuda: PyTorch sees no CUDA device here")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _has_matplotlib() -> bool:
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


@contextmanager
def _progress() -> Iterator[Progress]:
    rest = Column(no_wrap=True, max_width=max(1, _err.width - 53))  # the note is cut, and nothing else
    columns = (
        TextColumn("{task.description:>13}"),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", table_column=rest),
    )
    with Progress(*columns, console=_err) as bar:
        yield bar


@contextmanager
def _one_line_mistakes() -> Iterator[None]:
    """A `ValueError` about what was given is the user's to mend, like a `DsacError`."""
    try:
        yield
    except ValueError as error:
        raise DsacError(str(error)) from error


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
