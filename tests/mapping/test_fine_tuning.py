"""Fine-tuning on poses: it mends a map, never loses on its validation slice, and can be interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ball_world import RADIUS, ColorEncoder, ball_frames, exact_map

from dsac.cli import main
from dsac.datasets import Frames, Scene
from dsac.errors import DatasetError, MapFormatError
from dsac.mapping.fine_tuning import FineTuningProgress, fine_tune
from dsac.mapping.pose_training import FineTuningSettings
from dsac.mapping.views import Augmentation
from dsac.scene_map import SceneMap

SMALL = FineTuningSettings(
    steps=30,
    learning_rate=5e-4,
    num_hypotheses=8,
    images_per_step=2,
    validate_every=5,
    num_validation_frames=2,
    # the encoder of the ball reads coordinates off the colours: they stay
    augmentation=Augmentation(max_brightness=0.0, max_gamma=1.0, max_blur_px=0.0),
)


@pytest.fixture(scope="module")
def frames() -> Frames:
    return ball_frames(8)


@pytest.fixture
def shifted() -> SceneMap:
    """The exact map, but the scene is 4 cm off along each axis: nothing that reprojections would show."""
    scene_map = exact_map(96)
    with torch.no_grad():
        scene_map.head.point.bias[:3] += 0.012
    return scene_map


def _tune(scene_map: SceneMap, frames: Frames, settings=SMALL, **options) -> SceneMap:
    return fine_tune(scene_map, frames, settings, encoder=ColorEncoder(), **options)


def _interrupt_at(step: int) -> Callable[[FineTuningProgress], None]:
    def on_progress(progress: FineTuningProgress) -> None:
        if progress.phase == "training" and progress.step == step:
            raise KeyboardInterrupt

    return on_progress


def _same(a: SceneMap, b: SceneMap) -> bool:
    first, second = a.head.state_dict(), b.head.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("selection", ["dsac", "softam", "argmax"])
def test_training_on_poses_mends_a_map(shifted: SceneMap, frames: Frames, selection: str) -> None:
    tuned = _tune(shifted, frames, replace(SMALL, selection=selection))
    told = tuned.info.training["fine_tuning"]
    assert told["validation_before"] > 4  # cm
    assert told["validation_after"] < 0.85 * told["validation_before"]
    assert told["best_step"] > 0
    corner = torch.full((1, 3), 0.5 + 0.5 / 3**0.5)
    truth = torch.full((1, 3), RADIUS / 3**0.5)
    before, after = ((m.head(corner).points - truth).norm().item() for m in (shifted, tuned))
    assert after < before


def test_a_map_that_training_would_spoil_comes_back_as_it_was(frames: Frames) -> None:
    start = exact_map(96)
    tuned = _tune(start, frames, replace(SMALL, steps=10, learning_rate=0.3))
    told = tuned.info.training["fine_tuning"]
    assert told["best_step"] == 0
    assert told["validation_after"] == told["validation_before"]
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(tuned.head(points).points, start.head(points).points, atol=5e-3, rtol=0)


def test_the_saved_map_is_the_one_that_was_validated(shifted: SceneMap, frames: Frames, tmp_path: Path) -> None:
    tuned = _tune(shifted, frames)
    tuned.save(tmp_path / "tuned.dsac")
    assert _same(SceneMap.load(tmp_path / "tuned.dsac"), tuned)


def test_an_interrupted_fine_tuning_resumes_to_the_very_same_end(
    shifted: SceneMap, frames: Frames, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "ball.checkpoint"
    whole = _tune(shifted, frames)
    part = _tune(shifted, frames, checkpoint=checkpoint, on_progress=_interrupt_at(8))
    told = part.info.training["fine_tuning"]
    assert told["interrupted"] and told["trained_steps"] == 8
    assert told["validation_after"] <= told["validation_before"]
    resumed = _tune(shifted, frames, checkpoint=checkpoint, resume=True)
    assert _same(resumed, whole)
    assert not checkpoint.exists()


def test_the_map_that_came_in_stays_as_it_is(shifted: SceneMap, frames: Frames) -> None:
    before = {name: value.clone() for name, value in shifted.head.state_dict().items()}
    _tune(shifted, frames, replace(SMALL, steps=2))
    assert all(torch.equal(before[name], value) for name, value in shifted.head.state_dict().items())


def test_progress_tells_loss_norm_and_validation(shifted: SceneMap, frames: Frames) -> None:
    told: list[FineTuningProgress] = []
    _tune(shifted, frames, replace(SMALL, steps=6), on_progress=told.append)
    training = [p for p in told if p.phase == "training"]
    assert [p.fraction for p in told if p.phase == "features"][-1] == 1.0
    assert [p.step for p in training] == list(range(7))
    assert all(p.loss > 0 and p.gradient_norm > 0 for p in training[1:])
    assert [p.step for p in training if p.validation == p.validation] == [0, 5, 6]
    best = [p.best_validation for p in training]
    assert best == sorted(best, reverse=True)


def test_what_is_no_checkpoint_of_this_is_refused(shifted: SceneMap, frames: Frames, tmp_path: Path) -> None:
    path = tmp_path / "ball.checkpoint"
    for content in (b"", b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(MapFormatError, match="ball.checkpoint: expected a checkpoint of fine-tuning"):
            _tune(shifted, frames, checkpoint=path, resume=True)
    torch.save({"step": 3}, path)
    with pytest.raises(MapFormatError, match="start again without resuming"):
        _tune(shifted, frames, checkpoint=path, resume=True)


def test_frames_without_poses_are_refused(shifted: SceneMap, frames: Frames) -> None:
    with pytest.raises(DatasetError, match="four or more frames with poses"):
        _tune(shifted, replace(frames, cam_from_world=None))
    with pytest.raises(DatasetError, match="got 3"):
        _tune(shifted, frames[:3])


@pytest.mark.parametrize("name", ["steps", "learning_rate", "temperature", "views_per_frame"])
def test_settings_that_mean_nothing_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected more than 0, got 0"):
        FineTuningSettings(**{name: type(getattr(SMALL, name))(0)})


@pytest.fixture
def tune(monkeypatch: pytest.MonkeyPatch, frames: Frames, shifted: SceneMap, tmp_path: Path):
    """The command on the ball, whose encoder does not ship: exit code after `dsac fine-tune` with arguments."""
    monkeypatch.setattr(SceneMap, "load_encoder", lambda self, device="cpu": ColorEncoder())
    scene = Scene("ball", "ball", frames, frames[:0])
    monkeypatch.setattr("dsac.datasets.load_scene", lambda path, truth=None: scene)
    shifted.save(tmp_path / "ball.dsac")
    return lambda *arguments: main(["fine-tune", str(tmp_path / "ball.dsac"), "ball", *map(str, arguments)])


def test_the_command_writes_map_and_log(tune, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (tmp_path / "ball.dsac").read_bytes()
    tuned = tmp_path / "tuned.dsac"
    assert tune("--steps", 3, "--output", tuned, "--learning-rate", 1e-3, "--selection", "softam") == 0
    assert (tmp_path / "ball.dsac").read_bytes() == before
    told = SceneMap.load(tuned).info.training["fine_tuning"]
    assert (told["steps"], told["learning_rate"], told["selection"]) == (3, 1e-3, "softam")
    log = [json.loads(line) for line in (tmp_path / "tuned.dsac.tuning.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "gradient_norm" in line] == [1, 2, 3]
    assert "validation slice" in capsys.readouterr().out


def test_the_command_explains_mistakes(tune, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.iterdir())
    assert tune("--steps", 0) == 2
    assert "steps: expected more than 0, got 0" in capsys.readouterr().err
    assert tune("--resume") == 2
    assert "nothing to resume" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
