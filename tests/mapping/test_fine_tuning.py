"""Fine-tuning on poses: it mends a map, never loses on its validation slice, and can be interrupted."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ball_world import RADIUS, ColorEncoder, ball_frames, exact_map
from devices import NoArrays, NoWaiting
from interrupts import interrupt_at
from torch import nn

from dsac import map_scoring
from dsac.cli import main
from dsac.datasets import Frames, Scene
from dsac.errors import DatasetError, DsacError, MapFormatError
from dsac.localizer import Localizer
from dsac.map_scoring import NetworkScore, SoftCount
from dsac.mapping import fine_tuning, pose_learner, training
from dsac.mapping.fine_tuning import FineTuningProgress, fine_tune, trainable_map, tuning_views
from dsac.mapping.pose_learner import PoseLearner, TuningViews
from dsac.mapping.settings import FineTuningSettings
from dsac.mapping.trainable_map import TrainableMap, TuningView
from dsac.mapping.views import Augmentation, random_view
from dsac.networks.heads import SceneHead
from dsac.networks.score_network import ScoreArchitecture
from dsac.ransac import LearnedScore
from dsac.scene_map import SceneMap

SMALL = FineTuningSettings(
    steps=12,
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


def test_frames_that_mapping_held_out_stay_out(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[str] = []

    def taking(frames: Frames, *_: object) -> TuningViews:
        taught.extend(frames.names)
        raise KeyboardInterrupt

    monkeypatch.setattr(fine_tuning, "tuning_views", taking)
    scene_map = exact_map(96)
    of_some = replace(scene_map, info=replace(scene_map.info, frames=dict.fromkeys(frames.names[:5], "")))
    for known, names in ((of_some, frames.names[:5]), (scene_map, frames.names)):
        taught.clear()
        with pytest.raises(KeyboardInterrupt):
            fine_tune(known, frames, SMALL, encoder=ColorEncoder())
        assert taught == names


def test_a_map_remembers_the_frames_that_it_was_tuned_on(frames: Frames, shifted: SceneMap) -> None:
    tuned = fine_tune(shifted, frames, replace(SMALL, steps=1), encoder=ColorEncoder())
    assert list(tuned.info.frames) == frames.names


def test_frames_of_another_place_are_refused(frames: Frames) -> None:
    scene_map = exact_map(96)
    with torch.no_grad():
        scene_map.head.point.bias[:3] += 1.0
    with pytest.raises(DatasetError, match="of the recording that it was made from"):
        fine_tune(scene_map, frames, SMALL, encoder=ColorEncoder())


class TrainableColors(nn.Module):
    """`ColorEncoder` with weights: it mixes the colours, at first not at all."""

    id, digest = ColorEncoder.id, ColorEncoder.digest
    stride, size_multiple, num_features = 8, 8, 3

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 3)
        with torch.no_grad():
            self.mix.weight.copy_(torch.eye(3))
            self.mix.bias.zero_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        colors = torch.nn.functional.avg_pool2d(images, self.stride)
        return self.mix(colors.movedim(1, -1)).movedim(-1, 1)


def _tune(scene_map: SceneMap, frames: Frames, settings=SMALL, encoder=None, **options) -> SceneMap:
    return fine_tune(scene_map, frames, settings, encoder=encoder or ColorEncoder(), **options)


def _same(a: SceneMap, b: SceneMap) -> bool:
    first, second = a.head.state_dict(), b.head.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("selection", ["dsac", "softam", "argmax"])
def test_training_on_poses_mends_a_map(shifted: SceneMap, frames: Frames, selection: str) -> None:
    tuned = _tune(shifted, frames, replace(SMALL, selection=selection))
    record = tuned.info.training["fine_tuning"]
    assert record["validation_before"] > 4  # cm
    assert record["validation_after"] < 0.85 * record["validation_before"]
    assert record["best_step"] > 0
    corner = torch.full((1, 3), 0.5 + 0.5 / 3**0.5)
    truth = torch.full((1, 3), RADIUS / 3**0.5)
    before, after = ((m.head(corner).points - truth).norm().item() for m in (shifted, tuned))
    assert after < before


def test_a_map_of_several_modes_is_mended_too(shifted: SceneMap, frames: Frames) -> None:
    """Every cell may also show a place far off, which is half as likely."""
    architecture = replace(shifted.head.architecture, num_modes=2)
    head = SceneHead(architecture)
    state = shifted.head.state_dict()
    point = {name: state.pop(f"point.{name}") for name in ("weight", "bias")}
    head.load_state_dict(state, strict=False)
    with torch.no_grad():
        for name, value in point.items():
            modes = getattr(head.point, name).unflatten(0, (2, 6))
            modes[:, :5], modes[:, 5] = value, 0.0
        head.point.bias.unflatten(0, (2, 6))[1] += torch.tensor([9.0, 0.0, 0.0, 0.0, 0.0, -0.7])
    both = replace(shifted, head=head, info=replace(shifted.info, head=architecture))
    record = _tune(both, frames, SMALL).info.training["fine_tuning"]
    assert record["validation_before"] > 4  # cm
    assert record["validation_after"] < 0.85 * record["validation_before"]


def test_a_map_that_training_would_spoil_comes_back_as_it_was(frames: Frames) -> None:
    start = exact_map(96)
    tuned = _tune(start, frames, replace(SMALL, steps=10, learning_rate=0.3))
    record = tuned.info.training["fine_tuning"]
    assert record["best_step"] == 0
    assert record["validation_after"] == record["validation_before"]
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
    part = _tune(shifted, frames, checkpoint=checkpoint, on_progress=interrupt_at(8))
    record = part.info.training["fine_tuning"]
    assert record["interrupted"] and record["trained_steps"] == 8
    assert record["validation_after"] <= record["validation_before"]
    resumed = _tune(shifted, frames, checkpoint=checkpoint, resume=True)
    assert _same(resumed, whole)


def test_a_map_that_was_tuned_in_place_until_an_interrupt_resumes_too(
    shifted: SceneMap, frames: Frames, tmp_path: Path
) -> None:
    checkpoint, path = tmp_path / "ball.checkpoint", tmp_path / "ball.dsac"
    part = _tune(shifted, frames, checkpoint=checkpoint, on_progress=interrupt_at(8))
    assert part.info.training["fine_tuning"]["best_step"] > 0 and not _same(part, shifted)
    part.save(path)
    resumed = _tune(SceneMap.load(path), frames, checkpoint=checkpoint, resume=True)
    assert _same(resumed, _tune(shifted, frames))


def test_the_checkpoint_of_another_map_of_the_scene_is_refused(
    shifted: SceneMap, frames: Frames, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "ball.checkpoint"
    _tune(shifted, frames, checkpoint=checkpoint, on_progress=interrupt_at(8))
    later = replace(shifted, info=replace(shifted.info, created="2030-01-01T00:00:00+00:00"))
    with pytest.raises(MapFormatError, match="expected the checkpoint of fine-tuning this map"):
        _tune(later, frames, checkpoint=checkpoint, resume=True)


def test_a_crashed_fine_tuning_goes_on_from_its_last_checkpoint(
    shifted: SceneMap, frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "ball.checkpoint"
    seconds = count(step=5)  # a step takes ten: every third leaves a checkpoint
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))

    def crash(progress: FineTuningProgress) -> None:
        if progress.step == 8:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        _tune(shifted, frames, checkpoint=checkpoint, on_progress=crash)
    reports: list[FineTuningProgress] = []
    resumed = _tune(shifted, frames, checkpoint=checkpoint, resume=True, on_progress=reports.append)
    assert [p.step for p in reports if p.phase == "training"][0] == 7
    assert _same(resumed, _tune(shifted, frames))


def test_a_trained_encoder_belongs_to_the_map(shifted: SceneMap, frames: Frames) -> None:
    encoder = TrainableColors()
    tuned = _tune(shifted, frames, replace(SMALL, encoder=True), encoder)
    record = tuned.info.training["fine_tuning"]
    assert record["validation_after"] < 0.85 * record["validation_before"]
    assert torch.equal(encoder.mix.weight, torch.eye(3)) and encoder.digest == ColorEncoder.digest
    own = tuned.load_encoder()
    assert isinstance(own, TrainableColors)
    assert not torch.equal(own.mix.weight.float(), torch.eye(3))
    tuned.check_encoder(own)
    with pytest.raises(MapFormatError, match="made with encoder colors"):
        tuned.check_encoder(encoder)


def test_an_encoder_without_weights_cannot_be_trained(shifted: SceneMap, frames: Frames) -> None:
    with pytest.raises(DsacError, match="encoder: expected a torch module to be trained, got ColorEncoder"):
        _tune(shifted, frames, replace(SMALL, encoder=True))


@pytest.fixture
def small_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """New score networks are a hundredth of the published one."""
    small = ScoreArchitecture(widths=(16, 32), hidden=64)
    monkeypatch.setattr(map_scoring, "RULES", (SoftCount(), NetworkScore(small)))


@pytest.mark.usefixtures("small_scores")
def test_a_score_network_is_trained_first_and_then_belongs_to_the_map(
    shifted: SceneMap, frames: Frames, tmp_path: Path
) -> None:
    settings = replace(SMALL, scoring="score-network", score_steps=3, steps=2)
    reports: list[FineTuningProgress] = []
    tuned = _tune(shifted, frames, settings, on_progress=reports.append)
    assert [(p.phase, p.step) for p in reports if p.phase != "features"] == [
        *(("scoring", step) for step in (1, 2, 3)),
        *(("training", step) for step in (0, 1, 2)),
    ]
    tuned.save(tmp_path / "tuned.dsac")
    loaded = SceneMap.load(tmp_path / "tuned.dsac")
    errors = 50 * torch.rand(1, 2, 15, 20)
    assert tuned.score_network is not None and loaded.score_network is not None
    torch.testing.assert_close(loaded.score_network(errors), tuned.score_network(errors), rtol=0, atol=0)
    scoring = Localizer(loaded, encoder=ColorEncoder()).solver.scoring
    assert isinstance(scoring, LearnedScore) and torch.equal(
        scoring.network(errors), loaded.score_network(errors)
    )

    reports.clear()
    _tune(tuned, frames, settings, on_progress=reports.append)
    assert {p.phase for p in reports} == {"features", "training"}
    assert _tune(tuned, frames, replace(SMALL, steps=1)).score_network is None


@pytest.mark.usefixtures("small_scores")
def test_a_score_network_was_trained_even_where_nothing_after_it_helped(
    shifted: SceneMap, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SMALL, scoring="score-network", score_steps=2, steps=1)
    judged = []

    def worse_and_worse(model: TrainableMap, weights: dict[str, torch.Tensor], views: object) -> float:
        judged.append(weights)
        return float(len(judged))

    monkeypatch.setattr(pose_learner, "validation_error", worse_and_worse)
    tuned = _tune(shifted, frames, settings)
    untrained = trainable_map(shifted, ColorEncoder(), settings, torch.device("cpu"), seed=0).score_network
    assert tuned.score_network is not None and untrained is not None
    assert tuned.info.training["fine_tuning"]["best_step"] == 0
    last = tuned.score_network.head[-1].bias
    assert (last - untrained.head[-1].bias).abs() > 1e-4
    assert torch.equal(last, judged[0]["score_network.head.4.bias"])


def test_training_and_validation_share_no_frame_and_no_view_with_mapping(frames: Frames) -> None:
    scene_map, seed = exact_map(96), 3
    views = tuning_views(frames, scene_map, ColorEncoder(), SMALL, torch.device("cpu"), seed)
    assert (len(views.training), len(views.validation)) == (12, 4)
    centers = [
        {tuple(view.cam_from_world.center.tolist()) for view in part}
        for part in (views.training, views.validation)
    ]
    assert centers[0].isdisjoint(centers[1])
    first = frames[0]
    size = views.training[0].camera.size
    # numpy's streams of (3, 0) and of (3, 0, 0) are one: mapping and fine-tuning once drew the same views
    of_mapping = random_view(first, size, 8, SMALL.augmentation, np.random.default_rng([seed, 0, 0]))
    assert (views.training[0].camera.focal_px - of_mapping.camera.focal_px).abs().min() > 1


def test_thinning_takes_one_cell_of_each_block(frames: Frames) -> None:
    scene_map = exact_map(96)
    view = tuning_views(frames, scene_map, ColorEncoder(), SMALL, torch.device("cpu"), 0).training[0]
    model = TrainableMap(scene_map, None)
    whole = model.correspondences([view])
    thinned = model.correspondences([view, view], 3, torch.Generator().manual_seed(0))
    assert whole.grid is not None and thinned.grid == (whole.grid[0] // 3, whole.grid[1] // 3)
    blocks = (thinned.pixels / (3 * 8)).floor().unflatten(1, thinned.grid)
    rows, columns = torch.meshgrid(*(torch.arange(n).float() for n in thinned.grid), indexing="ij")
    assert torch.equal(blocks[0], torch.stack([columns, rows], -1))
    assert not torch.equal(thinned.pixels[0], thinned.pixels[1])
    nearest = (whole.pixels - thinned.pixels[0, :, None]).norm(dim=-1).argmin(-1)
    torch.testing.assert_close(thinned.scene_points[0], whole.scene_points[0, nearest])


def test_cells_beside_the_photo_teach_nothing(shifted: SceneMap, frames: Frames) -> None:
    views = tuning_views(frames, shifted, ColorEncoder(), SMALL, torch.device("cpu"), 0)
    assert any(not view.inside.all() for view in views.training)
    view = min(views.training, key=lambda view: view.inside.float().mean().item())
    model = TrainableMap(shifted, None)
    whole, thinned = model.correspondences([view]), model.correspondences([view, view], 2)
    assert whole.weights is not None and thinned.weights is not None
    inside = view.inside.flatten()
    assert torch.equal(whole.weights[0] > 0, inside)
    column, row = (thinned.pixels / 8).long().unbind(-1)
    assert torch.equal(thinned.weights > 0, view.inside[row, column])

    def gradient(training: list[TuningView]) -> torch.Tensor:
        learner = PoseLearner(TrainableMap(shifted, None), replace(views, training=training), SMALL, 0)
        learner.update(0, 0.0)
        return learner.model.head.point.weight.grad

    other = [replace(v, content=torch.where(v.inside, v.content, 0.3)) for v in views.training]
    expected = gradient(views.training)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(gradient(other), expected, rtol=0, atol=1e-6)  # rounding


@pytest.mark.parametrize("encoder", [None, TrainableColors()], ids=["frozen", "trained"])
def test_networks_in_training_ask_the_device_nothing(
    shifted: SceneMap, frames: Frames, encoder: TrainableColors | None
) -> None:
    """What follows is the solver, whose kernels are the device's own."""
    settings = replace(SMALL, encoder=encoder is not None)
    views = tuning_views(frames, shifted, encoder or ColorEncoder(), settings, torch.device("cpu"), 0)
    alike = [view for view in views.training if view.camera.size == views.training[0].camera.size]
    model = TrainableMap(shifted, encoder).requires_grad_(True)
    with NoWaiting(), NoArrays():
        model.correspondences(alike, 2, torch.Generator().manual_seed(0)).scene_points.sum().backward()


def test_the_map_that_came_in_stays_as_it_is(shifted: SceneMap, frames: Frames) -> None:
    before = {name: value.clone() for name, value in shifted.head.state_dict().items()}
    _tune(shifted, frames, replace(SMALL, steps=2))
    assert all(torch.equal(before[name], value) for name, value in shifted.head.state_dict().items())


def test_progress_tells_loss_norm_and_validation(shifted: SceneMap, frames: Frames) -> None:
    reports: list[FineTuningProgress] = []
    _tune(shifted, frames, replace(SMALL, steps=6), on_progress=reports.append)
    training = [p for p in reports if p.phase == "training"]
    assert [p.fraction for p in reports if p.phase == "features"][-1] == 1.0
    assert [p.step for p in training] == list(range(7))
    assert all(p.loss > 0 and p.gradient_norm > 0 for p in training[1:])
    assert [p.step for p in training if p.validation == p.validation] == [0, 5, 6]
    best = [p.best_validation for p in training]
    assert best == sorted(best, reverse=True)


def test_what_is_no_checkpoint_of_this_is_refused(shifted: SceneMap, frames: Frames, tmp_path: Path) -> None:
    path = tmp_path / "ball.checkpoint"
    for content in (b"", b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(MapFormatError, match="ball.checkpoint: expected the checkpoint of fine-tuning"):
            _tune(shifted, frames, checkpoint=path, resume=True)
    torch.save({"step": 3}, path)
    with pytest.raises(MapFormatError, match="start again without resuming"):
        _tune(shifted, frames, checkpoint=path, resume=True)
    _tune(shifted, frames, replace(SMALL, temperature=2.0), checkpoint=path, on_progress=interrupt_at(1))
    with pytest.raises(MapFormatError, match="fine-tuning this map with these settings"):
        _tune(shifted, frames, checkpoint=path, resume=True)
    _tune(shifted, frames, checkpoint=path, on_progress=interrupt_at(1))
    shifted.head.scene_center += 0.1
    with pytest.raises(MapFormatError, match="fine-tuning this map with these settings"):
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
    monkeypatch.setattr("dsac.datasets.load_scene", lambda path, truth=None, max_gap=None: scene)
    of_the_ball = partial(FineTuningSettings, augmentation=SMALL.augmentation)
    monkeypatch.setattr("dsac.mapping.FineTuningSettings", of_the_ball)
    shifted.save(tmp_path / "ball.dsac")
    return lambda *arguments: main(["fine-tune", str(tmp_path / "ball.dsac"), "ball", *map(str, arguments)])


def test_the_command_writes_map_and_log(tune, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (tmp_path / "ball.dsac").read_bytes()
    tuned = tmp_path / "tuned.dsac"
    assert (
        tune(
            "--steps",
            3,
            "--output",
            tuned,
            "--learning-rate",
            1e-3,
            "--selection",
            "softam",
            "--views-per-frame",
            1,
        )
        == 0
    )
    assert (tmp_path / "ball.dsac").read_bytes() == before
    record = SceneMap.load(tuned).info.training["fine_tuning"]
    assert (record["steps"], record["learning_rate"], record["selection"]) == (3, 1e-3, "softam")
    assert (record["scoring"], record["encoder"], record["views_per_frame"]) == ("soft-count", False, 1)
    log = [json.loads(line) for line in (tmp_path / "tuned.dsac.tuning.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "gradient_norm" in line] == [1, 2, 3]
    assert "validation slice" in capsys.readouterr().out


def test_a_tuned_map_that_cannot_be_saved_is_not_lost(
    tune, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("--steps", 3, "--output", tmp_path / "tuned.dsac")
    checkpoint = tmp_path / "tuned.dsac.tuning"
    with monkeypatch.context() as patch:
        patch.setattr(SceneMap, "save", _disk_full)
        assert tune(*command) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert checkpoint.is_file() and (tmp_path / "tuned.dsac.tuning.jsonl").is_file()
    assert tune(*command, "--resume") == 0
    assert SceneMap.load(tmp_path / "tuned.dsac").info.training["fine_tuning"]["trained_steps"] == 3
    assert not checkpoint.exists()


def _disk_full(scene_map: SceneMap, path: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_the_command_explains_mistakes(tune, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.iterdir())
    assert tune("--steps", 0) == 2
    assert "steps: expected more than 0, got 0" in capsys.readouterr().err
    assert tune("--encoder") == 2
    assert "expected a torch module to be trained, got ColorEncoder" in capsys.readouterr().err
    assert tune("--resume") == 2
    assert "nothing to resume" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
