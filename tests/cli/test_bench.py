"""`dsac bench`: tables on the screen and in files."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from command_line import Fails, Run

from dsac.studies import solver_benchmark, solver_inputs


def test_solvers_are_timed_side_by_side(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver_inputs, "RATIOS", (0.05, 0.4))
    few = partial(solver_benchmark.throughput, images=8, repeats=1)
    monkeypatch.setattr(solver_benchmark, "throughput", few)
    monkeypatch.setattr(solver_benchmark, "peers", lambda data: {"nobody": lambda *arguments: None})
    code, printed, _ = run("bench", "solver", "--frames", 1, "--repeats", 1, "--output", tmp_path / "new")
    assert code == 0
    assert "CPU ms an image" in printed and "r05_blob" in printed
    rows = json.loads((tmp_path / "new" / "solver.json").read_text())["rows"]
    found = {(row["solver"], row["input"]): row["found_percent"] for row in rows}
    assert found["dsac", "r40"] == found["dsac, RGB-D", "r40"] == 100 and found["nobody", "r40"] == 0
    error = {row["solver"]: row["median_cm"] for row in rows if row["input"] == "r40"}
    assert error["dsac, RGB-D"] < error["dsac"]
    assert "| nobody |" in (tmp_path / "new" / "solver.md").read_text()
    assert "images a second" in printed and "| 1 thread |" in (tmp_path / "new" / "solver.md").read_text()


def test_wrong_solver_inputs_are_named_before_any_work(tmp_path: Path, fails: Fails) -> None:
    empty, file, broken = tmp_path / "empty", tmp_path / "file", tmp_path / "broken"
    empty.mkdir()
    file.touch()
    broken.mkdir()
    (broken / "input_r05.npz").write_bytes(b"PK\x03\x04 not a zip")
    for folder, expected in (
        (empty, "found none"),
        (file, "found a file"),
        (tmp_path / "missing", "found no such folder"),
        (broken, "input_r05.npz: expected an .npz file"),
    ):
        line = fails("bench", "solver", "--inputs", folder)
        assert str(folder) in line and expected in line
    np.savez(broken / "input_r05.npz", coords=np.zeros((1, 6, 8, 3)))
    assert "coords, u, v, K, gt_pose" in fails("bench", "solver", "--inputs", broken)
    rest = {"u": np.zeros((6, 8)), "v": np.zeros((6, 8)), "K": np.ones(3), "gt_pose": np.eye(4)[None]}
    np.savez(broken / "input_r05.npz", coords=np.zeros((1, 6, 8, 3)), cam=np.zeros((1, 6, 7, 3)), **rest)
    assert "cam: expected" in fails("bench", "solver", "--inputs", broken)


def test_results_that_could_not_be_written_are_named_before_any_work(
    tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solver_benchmark, "benchmark_solvers", lambda *_: pytest.fail("worked"))
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "solver.json").mkdir(parents=True)
    for output in ("file", "folder"):
        assert str(tmp_path / output) in fails("bench", "solver", "--output", tmp_path / output)
