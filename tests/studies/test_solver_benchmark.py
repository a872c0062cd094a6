"""The solvers' benchmark: inputs are what their names say, and rows are of the frames that each solver saw."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsac.errors import DatasetError
from dsac.studies.solver_benchmark import Throughput, measure, pose_error, summary
from dsac.studies.solver_inputs import RATIOS, Input, input_files, read_input, synthetic_inputs
from dsac.studies.solver_tables import plot, table, throughput_table
from dsac.studies.solvers import OURS, OURS_WITH_DEPTH, THRESHOLD_PX, ours, peers


@pytest.fixture(scope="module")
def inputs() -> list[Input]:
    return list(synthetic_inputs(2))


def _reprojection_px(data: Input, frame: int) -> np.ndarray:
    f, cx, cy = data.camera
    matrix = np.linalg.inv(data.world_from_cam[frame])
    x, y, z = (data.scene_points[frame] @ matrix[:3, :3].T + matrix[:3, 3]).T
    return np.hypot(f * x / z + cx - data.pixels[:, 0], f * y / z + cy - data.pixels[:, 1]) + 1e9 * (z < 0)


def test_inputs_have_the_share_of_right_predictions_of_their_names(inputs: list[Input]) -> None:
    names = [f"r{round(100 * ratio):02d}{suffix}" for suffix in ("", "_blob") for ratio in RATIOS]
    assert [data.name for data in inputs] == names
    for data, ratio in zip(inputs, 2 * RATIOS, strict=True):
        for frame in range(2):
            near = (_reprojection_px(data, frame) < 2 * THRESHOLD_PX).mean()
            assert ratio - 0.03 < near < ratio + 0.05  # 2 cm of noise; a wrong one may lie near by chance


def test_wrong_predictions_of_blobs_lie_side_by_side(inputs: list[Input]) -> None:
    def neighbours_alike(data: Input) -> float:
        wrong = (_reprojection_px(data, 0) > 2 * THRESHOLD_PX).reshape(60, 80)
        return float((wrong[:, 1:] == wrong[:, :-1]).mean())

    scattered, patches = (next(d for d in inputs if d.name == name) for name in ("r40", "r40_blob"))
    assert neighbours_alike(scattered) < 0.6 < 0.8 < neighbours_alike(patches)


def test_depths_are_those_of_the_true_points(inputs: list[Input]) -> None:
    data = next(d for d in inputs if d.name == "r85")
    assert data.depths is not None
    matrix = np.linalg.inv(data.world_from_cam[1])
    depth = (data.scene_points[1] @ matrix[:3, :3].T + matrix[:3, 3])[:, 2]
    assert np.mean(np.abs(depth - data.depths[1]) < 0.1) > 0.84


def test_a_written_input_is_read_again(inputs: list[Input], tmp_path: Path) -> None:
    data = inputs[0]
    assert data.depths is not None
    u, v = data.pixels.reshape(60, 80, 2).transpose(2, 0, 1)
    cam = np.zeros((2, 60, 80, 3))
    cam[..., 2] = data.depths.reshape(2, 60, 80)
    coords = data.scene_points.reshape(2, 60, 80, 3)
    path = tmp_path / "input_r05.npz"
    np.savez(path, coords=coords, u=u, v=v, K=data.camera, gt_pose=data.world_from_cam, cam=cam)
    assert input_files(tmp_path) == [path]
    read = read_input(path, 1)
    assert read.name == "r05" and len(read.scene_points) == 1 and read.depths is not None
    assert np.array_equal(read.pixels, data.pixels) and np.array_equal(
        read.scene_points[0], data.scene_points[0]
    )
    assert np.array_equal(read.depths[0], data.depths[0])
    with pytest.raises(DatasetError, match="no such folder"):
        input_files(tmp_path / "elsewhere")


def test_every_solver_that_is_installed_finds_an_easy_frame(inputs: list[Input]) -> None:
    data = next(d for d in inputs if d.name == "r85")
    solvers = {**ours(data), **peers(data)}
    assert {OURS, OURS_WITH_DEPTH, "OpenCV USAC_FAST", "OpenCV USAC_ACCURATE"} <= solvers.keys()
    for name, solve in solvers.items():
        centimetres, degrees = pose_error(solve(0, 1), data.world_from_cam[0])
        assert centimetres < 5 and degrees < 1, name


def test_pose_errors_are_of_centres_and_angles_and_infinite_without_an_answer() -> None:
    turn = np.radians(3)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    center = np.array([0.3, 0.0, 0.4])
    centimetres, degrees = pose_error((rotation, -rotation @ center), np.eye(4))
    assert centimetres == pytest.approx(50) and degrees == pytest.approx(3)
    for nothing in (None, (rotation, np.full(3, np.nan))):
        assert all(math.isinf(value) for value in pose_error(nothing, np.eye(4)))


def test_a_row_counts_each_repeat_of_each_frame(inputs: list[Input]) -> None:
    data = inputs[0]
    true = [np.linalg.inv(matrix) for matrix in data.world_from_cam]

    def right_at_first(frame, seed):
        return (true[frame][:3, :3], true[frame][:3, 3]) if seed < 2 else None

    solvers = {OURS: lambda frame, seed: None, "sometimes": right_at_first}
    lost, sometimes = summary(data, measure(data, solvers, repeats=4))
    assert (lost.runs, lost.found_percent) == (8, 0) and math.isinf(lost.median_cm)
    assert (sometimes.runs, sometimes.found_percent) == (8, 25)
    assert lost.times_ours == 1


def test_tables_have_a_line_a_solver_and_a_column_an_input(inputs: list[Input]) -> None:
    solvers = {OURS: lambda frame, seed: None}
    rows = [row for data in inputs[:2] for row in summary(data, measure(data, solvers, 1))]
    assert table([replace(row, cpu_ms=1.234) for row in rows], "cpu_ms", 2) == [
        ["", "r05", "r10"],
        [OURS, "1.23", "1.23"],
    ]
    first, one = throughput_table([Throughput("r05", 10.4, 20.6), Throughput("r10", 11, 21)])[:2]
    assert first == ["", "r05", "r10"] and one == ["1 thread", "10", "11"]


def test_the_chart_is_a_picture(inputs: list[Input]) -> None:
    pytest.importorskip("matplotlib")
    solvers = {OURS: lambda frame, seed: None}
    rows = [row for data in (inputs[0], inputs[6]) for row in summary(data, measure(data, solvers, 1))]
    assert plot(rows).startswith(b"\x89PNG")
