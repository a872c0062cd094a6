"""Our CPU solver beside the solvers that are installed, on dense scene coordinates with wrong predictions.

Inputs are files `input_r*.npz` with coords (F,h,w,3), u, v (h,w), K = (f, cx, cy), gt_pose (F,4,4)
world_from_cam and perhaps cam (F,h,w,3), the true points before the camera, or frames of the synthetic scene:
80×60 scene coordinates with 2 cm noise, wrong ones uniform in the room, scattered or in patches ("blob").
Solvers are interleaved frame by frame, and get camera and arrays as they want them; CPU time; a row is the
median over frames of the median over repeats, a ratio the median over frames of the ratios. Our solver is also
given measured depth, the true one with a Kinect's noise, and a batch of images, on one thread and on all:
wall-clock time, which other work on the machine spoils.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import platform
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from dsac.datasets.storage import write_atomically
from dsac.datasets.synthetic import synthetic_scene
from dsac.errors import DatasetError
from dsac.kernels import cpu

THRESHOLD_PX = 10.0
RATIOS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.85)
BUDGET_S = 6.0  # per solver and input: slow peers see fewer frames
THRESHOLD_M = 0.1
DEPTH_NOISE = 0.0015  # of a Kinect at 1 m, in metres
OURS = "dsac"
OURS_WITH_DEPTH = "dsac, RGB-D"

# frame, seed -> (rotation, translation) of cam_from_world, or None
Solver = Callable[[int, int], tuple[np.ndarray, np.ndarray] | None]


@dataclass(frozen=True)
class Input:
    """Frames with the same share of right predictions."""

    name: str
    pixels: np.ndarray  # (N, 2) float32
    scene_points: np.ndarray  # (F, N, 3) float32
    camera: np.ndarray  # f, cx, cy
    world_from_cam: np.ndarray  # (F, 4, 4)
    depths: np.ndarray | None = None  # (F, N) float32, true ones; 0 = none


@dataclass(frozen=True)
class Row:
    """One solver on one input."""

    input: str
    solver: str
    cpu_ms: float
    times_ours: float
    found_percent: float  # within 5 cm and 5°
    median_cm: float
    median_deg: float
    runs: int


@dataclass(frozen=True)
class Throughput:
    """Images a second of our solver on a batch, in wall-clock time."""

    input: str
    one_thread: float
    all_threads: float


@dataclass(frozen=True)
class Results:
    """What was measured, and how."""

    rows: list[Row]
    throughputs: list[Throughput]
    about: str


@dataclass
class Record:
    """What one solver did on one input: milliseconds and errors, frame by frame."""

    cpu_ms: dict[int, list[float]] = field(default_factory=dict)
    errors: list[tuple[float, float]] = field(default_factory=list)  # cm, degrees

    def per_frame(self) -> dict[int, float]:
        return {k: float(np.median(v)) for k, v in self.cpu_ms.items()}


def benchmark_solvers(
    folder: Path | None = None,
    frames: int = 50,
    repeats: int = 3,
    on_input: Callable[[list[Row]], None] = lambda rows: None,
) -> Results:
    """Rows of all solvers on all inputs, those of `folder` or else of the synthetic scene.

    `on_input` gets the rows of each input when it is done. Raises: `DatasetError` when the folder has no inputs
    or a broken one.
    """
    rows: list[Row] = []
    throughputs: list[Throughput] = []
    lost_ms: list[float] = []
    points = 0
    paths = None if folder is None else input_files(folder)
    for data in synthetic_inputs(frames) if paths is None else (read_input(path, frames) for path in paths):
        points = len(data.pixels)
        measured = summary(data, measure(data, {**ours(data), **peers(data)}, repeats))
        throughputs.append(throughput(data))
        lost_ms = lost_ms or times_of_lost(data)
        on_input(measured)
        rows += measured
    options = f"--frames {frames} --repeats {repeats}" + ("" if folder is None else " --inputs FOLDER")
    about = (
        f"{points} points, {frames} frames of {'the synthetic scene' if folder is None else 'recorded depth'}, "
        f"{repeats} repeats (slow solvers see fewer), one thread of {cpu_name()}: "
        f"`OMP_NUM_THREADS=1 dsac bench solver {options}`. Frames without any right prediction take our solver "
        f"{np.median(lost_ms):.1f} ms, at most {max(lost_ms):.1f}."
    )
    if missing := [name for name in ("poselib", "pycolmap") if importlib.util.find_spec(name) is None]:
        about += f" Not installed, so not timed: {', '.join(missing)}."
    return Results(rows, throughputs, about)


def write_results(results: Results, folder: Path) -> None:
    """solver.md, solver.json and, where matplotlib is there, solver.png; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "solver.md", markdown(results).encode())
    write_atomically(folder / "solver.json", json.dumps(asdict(results), indent=1).encode())
    if importlib.util.find_spec("matplotlib") is not None:
        write_atomically(folder / "solver.png", plot(results.rows))


TABLES = (
    ("CPU ms an image", "cpu_ms", 2),
    ("times ours (median of the frames' ratios)", "times_ours", 1),
    ("% within 5 cm, 5°", "found_percent", 0),
    ("median error, cm", "median_cm", 2),
)


def table(rows: list[Row], column: str, digits: int) -> list[list[str]]:
    """A line a solver: its name, then the column's value on each input."""
    inputs = list(dict.fromkeys(row.input for row in rows))
    values = {(row.solver, row.input): f"{getattr(row, column):.{digits}f}" for row in rows}
    solvers = dict.fromkeys(row.solver for row in rows)
    return [["", *inputs], *([name, *(values[name, i] for i in inputs)] for name in solvers)]


def throughput_table(throughputs: list[Throughput]) -> list[list[str]]:
    """A line a number of threads: images a second on each input."""
    numbers = [("1 thread", "one_thread"), (f"{threads()} threads", "all_threads")][: threads()]
    lines = [[name, *(f"{getattr(t, column):.0f}" for t in throughputs)] for name, column in numbers]
    return [["", *(t.input for t in throughputs)], *lines]


# ---- solvers ---------------------------------------------------------------------------------------------


def ours(data: Input) -> dict[str, Solver]:
    """From scene coordinates alone and, where there is depth, with it too. Both want images in batches."""
    f, cx, cy = data.camera
    focal_px, center_px = np.array([[f, f]]), np.array([[cx, cy]])
    pixels, scene_points = data.pixels[None], list(data.scene_points[:, None])

    def solve(frame, seed):
        return _answer(
            cpu.solve_rgb(
                pixels, scene_points[frame], focal_px, center_px, threshold_px=THRESHOLD_PX, seed=seed
            )
        )

    found: dict[str, Solver] = {OURS: solve}
    if data.depths is not None:
        noise = np.random.default_rng(0).standard_normal(data.depths.shape)
        depths = list((data.depths + DEPTH_NOISE * data.depths**2 * noise).astype(np.float32)[:, None])

        def solve_with_depth(frame, seed):
            return _answer(
                cpu.solve_rgbd(
                    pixels,
                    scene_points[frame],
                    depths[frame],
                    focal_px,
                    center_px,
                    threshold_m=THRESHOLD_M,
                    depth_noise=DEPTH_NOISE,
                    seed=seed,
                )
            )

        found[OURS_WITH_DEPTH] = solve_with_depth
    return found


def _answer(solution: cpu.Solution) -> tuple[np.ndarray, np.ndarray] | None:
    """Of the first image; by one number, since this is timed, too."""
    return (solution.rotation[0], solution.translation[0]) if solution.information[0, 0, 0] > 0 else None


def peers(data: Input) -> dict[str, Solver]:
    """The installed ones, given float64 arrays, which is what they want."""
    found: dict[str, Solver] = {}
    pixels, points = data.pixels.astype(np.float64), list(data.scene_points.astype(np.float64))
    f, cx, cy = data.camera
    matrix = np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]])
    camera = {"model": "PINHOLE", "width": int(2 * cx), "height": int(2 * cy), "params": [f, f, cx, cy]}
    cv2.setNumThreads(1)

    def opencv(flag: int) -> Solver:
        def solve(frame, seed):
            scene_points = points[frame]
            ok, vector, translation, rows = cv2.solvePnPRansac(
                scene_points,
                pixels,
                matrix,
                None,
                iterationsCount=10_000,
                reprojectionError=THRESHOLD_PX,
                confidence=0.999,
                flags=flag,
            )
            if not ok or rows is None or len(rows) < 4:
                return None
            rows = np.asarray(rows, np.int64).ravel()
            vector, translation = cv2.solvePnPRefineLM(
                scene_points[rows], pixels[rows], matrix, None, vector, translation
            )
            return cv2.Rodrigues(vector)[0], translation.ravel()

        return solve

    found["OpenCV USAC_FAST"] = opencv(cv2.USAC_FAST)
    found["OpenCV USAC_ACCURATE"] = opencv(cv2.USAC_ACCURATE)
    try:
        import poselib

        def default(frame, seed):
            pose, _ = poselib.estimate_absolute_pose(
                pixels, points[frame], camera, {"max_reproj_error": THRESHOLD_PX, "seed": seed}, {}
            )
            return pose.R, np.asarray(pose.t)

        some = np.random.default_rng(0).permutation(len(data.pixels))[: len(data.pixels) // 8]

        def tuned(frame, seed):
            """RANSAC on an eighth of the cells with a generous threshold, then all its inliers."""
            scene_points = points[frame]
            options = {
                "max_reproj_error": 1.5 * THRESHOLD_PX,
                "seed": seed,
                "min_iterations": 20,
                "success_prob": 0.99,
                "dyn_num_trials_mult": 1.0,
            }
            loss = {"max_iterations": 10, "loss_scale": 5.0}
            pose, _ = poselib.estimate_absolute_pose(pixels[some], scene_points[some], camera, options, loss)
            moved = scene_points @ pose.R.T + np.asarray(pose.t)
            offset = f * moved[:, :2] / moved[:, 2:] + (cx, cy) - pixels
            near = ((offset**2).sum(-1) < (2.5 * THRESHOLD_PX) ** 2) & (moved[:, 2] > 0)
            if near.sum() >= 4:
                pose, _ = poselib.refine_absolute_pose(
                    pixels[near], scene_points[near], pose, camera, {"max_iterations": 20, "loss_scale": 8.0}
                )
            return pose.R, np.asarray(pose.t)

        found["PoseLib"] = default
        found["PoseLib, tuned"] = tuned
    except ImportError:
        pass
    try:
        import pycolmap

        model = pycolmap.Camera(**camera)
        options = pycolmap.AbsolutePoseEstimationOptions()
        options.ransac.max_error = THRESHOLD_PX
        options.ransac.num_threads = 1
        refinement = pycolmap.AbsolutePoseRefinementOptions()

        def colmap(frame, seed):
            options.ransac.random_seed = seed
            answer = pycolmap.estimate_and_refine_absolute_pose(
                pixels, points[frame], model, options, refinement
            )
            if answer is None:
                return None
            matrix = answer["cam_from_world"].matrix()
            return matrix[:, :3], matrix[:, 3]

        found["pycolmap"] = colmap
    except ImportError:
        pass
    return found


# ---- inputs ----------------------------------------------------------------------------------------------


def input_files(folder: Path) -> list[Path]:
    """Raises: `DatasetError` unless the folder has inputs that can be opened."""
    paths = sorted(folder.glob("input_r*.npz")) if folder.is_dir() else []
    if not paths:
        found = "none" if folder.is_dir() else "a file" if folder.exists() else "no such folder"
        raise DatasetError(f"{folder}: expected a folder with files input_r*.npz, found {found}")
    for path in paths:
        read_input(path, 1)
    return paths


def read_input(path: Path, frames: int) -> Input:
    try:
        with np.load(path) as data:
            coords = data["coords"][:frames]
            pixels = np.stack([data["u"], data["v"]], -1).reshape(-1, 2)
            return Input(
                path.stem.removeprefix("input_"),
                np.ascontiguousarray(pixels, np.float32),
                np.ascontiguousarray(coords.reshape(len(coords), len(pixels), 3), np.float32),
                data["K"],
                data["gt_pose"][:frames].reshape(len(coords), 4, 4),
                _depths(data, frames, coords.shape) if "cam" in data else None,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{path}: expected an .npz file with coords, u, v, K, gt_pose ({reason})") from error


def _depths(data: np.lib.npyio.NpzFile, frames: int, shape: tuple[int, ...]) -> np.ndarray:
    """(F, N); without those that are marked as not valid."""
    points = data["cam"][:frames]
    if points.shape != shape:
        raise ValueError(f"cam: expected {shape} like coords, got {points.shape}")
    depths = np.where(data["valid"][:frames], points[..., 2], 0.0) if "valid" in data else points[..., 2]
    return depths.reshape(len(depths), -1).astype(np.float32)


def synthetic_inputs(frames: int) -> Iterator[Input]:
    """The rendered room, seen by cells of 8 pixels."""
    views = synthetic_scene(num_mapping=frames, num_query=1).mapping
    points, poses, depths = [], [], []
    rows, columns = np.mgrid[4:480:8, 4:640:8]
    pixels = np.stack([columns, rows], -1).reshape(-1, 2) + 0.5
    f, cx, cy = views.camera(0).focal_px[0].item(), *views.camera(0).center_px.tolist()
    for k in range(frames):
        view = views[k]
        assert view.depth is not None and view.cam_from_world is not None
        depth = view.depth.numpy()[rows, columns].reshape(-1, 1)
        seen = np.concatenate([(pixels - (cx, cy)) / f, np.ones((len(pixels), 1))], 1) * depth
        matrix = view.cam_from_world.inverse().matrix.numpy()
        points.append(seen @ matrix[:3, :3].T + matrix[:3, 3])
        poses.append(matrix)
        depths.append(depth[:, 0].astype(np.float32))
    truth = np.stack(points)
    low, high = truth.min((0, 1)), truth.max((0, 1))
    for patches in (False, True):
        for ratio in RATIOS:
            rng = np.random.default_rng(int(1000 * ratio) + patches)
            coords = truth + 0.02 * rng.standard_normal(truth.shape)
            for k in range(frames):
                field = rng.standard_normal((60, 80))
                if patches:
                    field = cv2.GaussianBlur(field, (0, 0), 4.0)
                wrong = field.ravel() < np.quantile(field, 1 - ratio)
                coords[k, wrong] = rng.uniform(low, high, (int(wrong.sum()), 3))
            yield Input(
                f"r{round(100 * ratio):02d}" + ("_blob" if patches else ""),
                pixels.astype(np.float32),
                coords.astype(np.float32),
                np.array([f, cx, cy]),
                np.stack(poses),
                np.stack(depths),
            )


# ---- measuring -------------------------------------------------------------------------------------------


def pose_error(answer, world_from_cam: np.ndarray) -> tuple[float, float]:
    """Centimetres and degrees; infinite where there is no answer."""
    if answer is None or not all(np.isfinite(part).all() for part in answer):
        return float("inf"), float("inf")
    rotation, translation = answer
    distance = np.linalg.norm(-rotation.T @ translation - world_from_cam[:3, 3])
    difference = np.linalg.norm(rotation.T - world_from_cam[:3, :3])
    return 100 * float(distance), float(np.degrees(2 * np.arcsin(min(1.0, difference / np.sqrt(8)))))


def measure(data: Input, solvers: dict[str, Solver], repeats: int) -> dict[str, Record]:
    frames = range(len(data.scene_points))
    records = {name: Record() for name in solvers}
    spent = dict.fromkeys(solvers, 0.0)
    names = list(solvers)
    names = names[::2] + names[1::2]  # ours are not side by side: one would find its data in the cache
    for name in names:  # compile, load, warm up
        solvers[name](0, 0)
    for repeat in range(repeats):
        for k in frames:
            turn = (k + repeat) % len(names)
            for name in names[turn:] + names[:turn]:
                if spent[name] > BUDGET_S:
                    continue
                start = time.process_time()
                answer = solvers[name](k, repeat + 1)
                seconds = time.process_time() - start
                spent[name] += seconds
                records[name].cpu_ms.setdefault(k, []).append(1e3 * seconds)
                records[name].errors.append(pose_error(answer, data.world_from_cam[k]))
    return records


def threads() -> int:
    """As many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def throughput(data: Input, images: int = 250, repeats: int = 5) -> Throughput:
    """The frames, repeated to a batch; the fastest of some runs each, taken in turns."""
    which = np.arange(images) % len(data.scene_points)
    f, cx, cy = data.camera
    inputs = (
        np.repeat(data.pixels[None], images, 0),
        data.scene_points[which],
        np.full((images, 2), f),
        np.tile([cx, cy], (images, 1)),
    )
    seconds: dict[int, list[float]] = {1: [], threads(): []}
    for _ in range(repeats):
        for count, measured in seconds.items():
            start = time.perf_counter()
            cpu.solve_rgb(*inputs, threshold_px=THRESHOLD_PX, effort=cpu.Effort(threads=count))
            measured.append(time.perf_counter() - start)
    return Throughput(data.name, images / min(seconds[1]), images / min(seconds[threads()]))


def times_of_lost(data: Input) -> list[float]:
    """Milliseconds for each frame where every scene point is at another one's pixel."""
    shuffled = np.roll(data.scene_points, data.scene_points.shape[1] // 2, axis=1)
    solve = ours(replace(data, scene_points=shuffled, depths=None))[OURS]
    times = []
    for k in range(len(shuffled)):
        start = time.process_time()
        solve(k, 0)
        times.append(1e3 * (time.process_time() - start))
    return times


def summary(data: Input, records: dict[str, Record]) -> list[Row]:
    mine = records[OURS].per_frame()
    rows = []
    for name, record in records.items():
        times, errors = record.per_frame(), np.array(record.errors)
        found = (errors[:, 0] < 5) & (errors[:, 1] < 5)
        rows.append(
            Row(
                data.name,
                name,
                cpu_ms=float(np.median(list(times.values()))),
                times_ours=float(np.median([times[k] / mine[k] for k in times])),
                found_percent=100 * float(found.mean()),
                median_cm=float(np.median(errors[:, 0])),
                median_deg=float(np.median(errors[:, 1])),
                runs=len(errors),
            )
        )
    return rows


# ---- report ----------------------------------------------------------------------------------------------


def titled_tables(results: Results) -> list[tuple[str, list[list[str]]]]:
    """All tables, each with what its numbers are; the first line of a table names the inputs."""
    tables = [(title, table(results.rows, column, digits)) for title, column, digits in TABLES]
    return [*tables, ("images a second, a batch of 250", throughput_table(results.throughputs))]


def markdown(results: Results) -> str:
    lines = ["# Pose solvers on dense scene coordinates", "", results.about, ""]
    for title, ((_, *inputs), *rest) in titled_tables(results):
        lines += [f"| {title} | " + " | ".join(inputs) + " |", "|---" * (len(inputs) + 1) + "|"]
        lines += ["| " + " | ".join(cells) + " |" for cells in rest] + [""]
    return "\n".join(lines)


def plot(rows: list[Row]) -> bytes:
    """A PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, suffix, title in zip(axes, ("", "_blob"), ("scattered", "in patches"), strict=True):
        for name in dict.fromkeys(row.solver for row in rows):
            chosen = [r for r in rows if r.solver == name and r.input.endswith("_blob") == bool(suffix)]
            ratios = [int(r.input[1:3]) / 100 for r in chosen]
            axis.plot(ratios, [r.cpu_ms for r in chosen], "o-", label=name, lw=3 if name == OURS else 1)
        axis.set(xlabel="share of right predictions", title=f"right predictions {title}", yscale="log")
        axis.grid(True, which="both", alpha=0.3)
    axes[0].set_ylabel("CPU ms an image")
    axes[1].legend(fontsize=8)
    figure.tight_layout()
    data = io.BytesIO()
    figure.savefig(data, dpi=120)
    pyplot.close(figure)
    return data.getvalue()


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
