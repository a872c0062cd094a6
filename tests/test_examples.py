"""The examples do what they say: training lowers the loss that it is about."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_training_end_to_end_teaches_a_network_to_fit_lines() -> None:
    example = _example("01_fit_a_line")
    images, truth = example.pictures(100, torch.Generator().manual_seed(1))
    before, after = (
        example.line_loss(example.fit(example.train(steps), images)[0], truth).median() for steps in (0, 150)
    )
    assert after < 0.6 * before


def test_the_line_solver_finds_the_line_among_outliers() -> None:
    """Points on a line and as many beside it: without any network, the true line comes out."""
    example = _example("01_fit_a_line")
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(1, 60, 2, generator=generator)
    points[:, :30, 1] = 0.2 + 0.5 * points[:, :30, 0]
    flat = torch.cat([points, torch.zeros(1, 60, 1)], dim=-1)
    camera = example.Camera(torch.ones(1, 2), torch.ones(1, 2), (48, 48))
    correspondences = example.Correspondences(points, flat, camera, weights=torch.ones(1, 60))
    direction = torch.nn.functional.normalize(torch.tensor([1.0, 0.5]), dim=0)
    truth = example.line(torch.tensor([[0.4, 0.4]]), direction[None])
    solver = example.solver()
    refined = solver.refined(solver.hypotheses(correspondences, generator), correspondences, generator)
    best = refined.cam_from_world[:, refined.weights[0].argmax()]
    assert example.line_loss(best, truth).item() < 1.0
    with pytest.raises(TypeError, match="expected one of camera poses, got LineDistance"):
        solver(correspondences)  # a covariance of camera poses is what lines have not


def test_the_picture_of_the_lines_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "lines.png"
    _example("01_fit_a_line").main(["--steps", "1", "--picture", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "before training" in out and "after training" in out


def test_the_pose_layer_corrects_what_the_points_were_taught_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    history = _example("02_pose_layer").train(first=250, end_to_end=30, every=15)
    (loss, error), *_, (last_loss, last_error) = history
    assert 6 < error < 12  # the depth camera sits 8 cm beside
    assert last_loss < 0.6 * loss and last_error < 0.6 * error
    assert capsys.readouterr().out.count("expected loss") == len(history)
