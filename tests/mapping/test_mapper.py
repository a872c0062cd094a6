"""Mapping: repeatable, interruptible, resumable, within its budget, in any unit of length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ball_world import RADIUS, ColorEncoder, FramesInMemory, ball_frames
from devices import NoArrays, NoWaiting

from dsac.datasets import Frames, Scene
from dsac.errors import DatasetError, MapFormatError
from dsac.geometry import Pose, Similarity
from dsac.localizer import Localizer
from dsac.mapping import MappingProgress, MappingSettings, buffer, build_map, mapper, training
from dsac.mapping.head_learner import head_learner
from dsac.mapping.scene_shape import map_origin
from dsac.scene_map import SceneMap

SMALL = MappingSettings(
    steps=120, batch_size=256, width=64, num_blocks=1, num_views=12, buffer_size=10_000, short_side_px=96,
    num_landmarks=0,
    feature_noise=0.0,  # three features say all: none can stand in for another
)  # fmt: skip


@pytest.fixture(scope="module")
def frames() -> Frames:
    return ball_frames()


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks that tick a second at each look: progress is reported after every step."""
    ticks = iter(range(10**9))
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))
    for module in (mapper, training, buffer):
        monkeypatch.setattr(module, "time", clock)


def _build(frames: Frames | Scene, settings: MappingSettings = SMALL, **options) -> SceneMap:
    return build_map(frames, settings, encoder=ColorEncoder(), **options)


def _interrupt_at(step: int) -> Callable[[MappingProgress], None]:
    """Ctrl-C, once, after that step."""
    steps = [step]

    def on_progress(progress: MappingProgress) -> None:
        if progress.step in steps:
            steps.clear()
            raise KeyboardInterrupt

    return on_progress


def _same(a: SceneMap, b: SceneMap) -> bool:
    first, second = a.head.state_dict(), b.head.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def learned(frames: Frames) -> SceneMap:
    torch.set_num_threads(1)
    return _build(frames)


def test_mapping_learns_the_scene(learned: SceneMap) -> None:
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(500, 3, generator=generator)
    truth = RADIUS * torch.nn.functional.normalize(directions, dim=-1)
    truth = truth[truth[:, 2] > 0]  # what the cameras look at
    predicted = learned.head((truth / RADIUS + 1) / 2)
    assert (predicted.points - truth).norm(dim=-1).median() < 0.3


def test_a_training_step_asks_the_device_nothing(frames: Frames) -> None:
    """So that the host can be steps ahead of a GPU; numbers for people are read twice a second."""
    learner = head_learner(
        frames, replace(SMALL, feature_noise=1.0), ColorEncoder(),
        seed=0, device=torch.device("cpu"), seconds=None, on_progress=lambda fraction: None,
    )  # fmt: skip
    before = [p.detach().clone() for p in learner.head.parameters()]
    with NoWaiting(), NoArrays():
        for step in range(3):
            learner.update(step, step / 3)
        learner.evaluate()
    assert not all(torch.equal(p, q) for p, q in zip(learner.head.parameters(), before, strict=True))


def test_features_are_noisy_while_a_head_learns_and_not_when_it_is_judged(frames: Frames) -> None:
    judged, learned = [], []
    for noise in (0.0, 2.0):
        learner = head_learner(
            frames, replace(SMALL, feature_noise=noise), ColorEncoder(),
            seed=0, device=torch.device("cpu"), seconds=None, on_progress=lambda fraction: None,
        )  # fmt: skip
        judged.append(learner.evaluate().total.item())
        learned.append(learner.update(0, 0.0).total.item())
    assert judged[0] == judged[1]
    assert learned[0] != learned[1]
    with pytest.raises(ValueError, match="feature_noise: expected 0 or more, got -1.0"):
        MappingSettings(feature_noise=-1.0)


def test_a_map_says_what_it_was_made_from(frames: Frames) -> None:
    info = _build(frames, source="a ball").info
    assert (info.encoder_id, info.encoder_digest, info.stride) == ("colors", "0", 8)
    assert (info.num_frames, info.supervision, info.source) == (6, "depth", "a ball")
    assert info.settings["steps"] == 120 and info.settings["seed"] == 0
    assert info.training["steps"] == 120 and info.training["interrupted"] is False
    assert -3.1 < min(info.bounds_min) < max(info.bounds_max) < 3.1 and max(info.bounds_max) > 2.5
    assert 0 < info.depth_range[0] < 2 and info.depth_range[1] > 4


@pytest.mark.parametrize(("metric", "stores_turned"), [(True, True), (False, False)])
def test_a_map_of_a_scene_says_what_its_recording_knows(
    frames: Frames, metric: bool, stores_turned: bool
) -> None:
    settings = replace(SMALL, steps=2)
    scene = Scene("balls/1", "COLMAP", frames[:4], frames[4:], metric=metric, stores_turned=stores_turned)
    scene_map, of_frames = _build(scene, settings), _build(frames[:4], settings)
    info = scene_map.info
    assert (info.num_frames, info.source) == (4, "balls/1 (COLMAP)")
    assert (info.metric, info.as_stored) == (metric, stores_turned)
    assert _same(scene_map, of_frames)
    assert (of_frames.info.source, of_frames.info.metric, of_frames.info.as_stored) == ("", None, False)
    assert _build(scene, settings, source="held out").info.source == "held out"


def test_a_map_knows_a_typical_camera_and_the_range_of_lenses(frames: Frames) -> None:
    wide, tele = frames.cameras
    for rows, camera in (([0, 1, 2], wide), ([1, 2, 3], tele)):
        info = _build(frames[rows], replace(SMALL, steps=2)).info
        assert info.camera == camera.to_text()
        assert info.focal_range == (wide.relative_focal, tele.relative_focal)


def test_the_same_seed_gives_the_same_map_and_another_seed_another(frames: Frames) -> None:
    first, again, other = (_build(frames, replace(SMALL, steps=20), seed=seed) for seed in (1, 1, 2))
    assert _same(first, again)
    assert not _same(first, other)


def test_mapping_leaves_the_global_random_state_alone(frames: Frames) -> None:
    before = torch.get_rng_state()
    _build(frames, replace(SMALL, steps=2))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_interrupted_mapping_gives_a_map_and_resumes_to_the_very_same_end(
    frames: Frames, tmp_path: Path, every_step: None
) -> None:
    settings, checkpoint = replace(SMALL, steps=30), tmp_path / "ball.checkpoint"
    whole = _build(frames, settings)

    part = _build(frames, settings, checkpoint=checkpoint, on_progress=_interrupt_at(11))
    assert part.info.training["interrupted"] is True
    assert part.info.training["steps"] == 11
    part.save(tmp_path / "part.dsac")
    usable = SceneMap.load(tmp_path / "part.dsac").head(torch.rand(10, 3))
    assert torch.isfinite(usable.points).all()

    reports: list[MappingProgress] = []
    resumed = _build(frames, settings, checkpoint=checkpoint, resume=True, on_progress=reports.append)
    assert [p.step for p in reports if p.phase == "training"][0] == 12
    assert resumed.info.training["steps"] == 30 and not resumed.info.training["interrupted"]
    assert _same(resumed, whole)
    assert sorted(tmp_path.iterdir()) == [checkpoint, tmp_path / "part.dsac"]


def test_resuming_without_a_checkpoint_starts_at_the_beginning(frames: Frames, tmp_path: Path) -> None:
    settings = replace(SMALL, steps=5)
    checkpoint = tmp_path / "none.checkpoint"
    assert _same(_build(frames, settings, checkpoint=checkpoint, resume=True), _build(frames, settings))


def test_checkpoints_are_kept_while_training_and_outlive_it(
    frames: Frames, tmp_path: Path, every_step: None
) -> None:
    checkpoint = tmp_path / "ball.checkpoint"
    seen = []
    whole = _build(frames, checkpoint=checkpoint, on_progress=lambda p: seen.append(checkpoint.exists()))
    assert any(seen) and not all(seen)
    # the map may yet get lost before it is saved
    reports: list[MappingProgress] = []
    again = _build(frames, checkpoint=checkpoint, resume=True, on_progress=reports.append)
    assert min(p.step for p in reports if p.phase == "training") > 1
    assert _same(again, whole)


def test_an_interrupt_before_training_ends_it_with_nothing_written(frames: Frames, tmp_path: Path) -> None:
    def interrupt(progress: MappingProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _build(frames, checkpoint=tmp_path / "ball.checkpoint", on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def _checkpoint(frames: Frames, path: Path) -> None:
    _build(frames, checkpoint=path, on_progress=_interrupt_at(1))
    assert path.is_file()


def test_a_damaged_checkpoint_is_refused(frames: Frames, tmp_path: Path) -> None:
    path = tmp_path / "ball.checkpoint"
    _checkpoint(frames, path)
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], b"", b"not a checkpoint"):
        path.write_bytes(damaged)
        reports: list[MappingProgress] = []
        with pytest.raises(MapFormatError, match="ball.checkpoint: expected the checkpoint of a mapping"):
            _build(frames, checkpoint=path, resume=True, on_progress=reports.append)
        assert not reports  # found before the work


def test_the_checkpoint_of_another_mapping_is_refused(frames: Frames, tmp_path: Path) -> None:
    path = tmp_path / "ball.checkpoint"
    _checkpoint(frames, path)
    with pytest.raises(MapFormatError, match="with these settings, got another"):
        _build(frames, replace(SMALL, width=32), checkpoint=path, resume=True)
    elsewhere = _transformed(frames, 1.0, torch.tensor([20.0, 0.0, 0.0]))
    with pytest.raises(MapFormatError, match="this scene's checkpoint, got another's"):
        _build(elsewhere, checkpoint=path, resume=True)


def test_a_time_budget_decides_on_views_and_steps(frames: Frames, every_step: None) -> None:
    # a view takes one tick, so that 40 % of 300 s are 20 views a frame; a step takes two ticks
    settings = replace(SMALL, minutes=5.0, num_views=600)
    reports: list[MappingProgress] = []
    scene_map = _build(frames, settings, on_progress=reports.append)
    training = [p for p in reports if p.phase == "training"]
    assert 100 < scene_map.info.training["steps"] < 150
    assert training[-1].fraction == 1.0 and training[-1].elapsed < 320
    middle = training[len(training) // 2]
    assert middle.remaining == pytest.approx(training[-1].elapsed - middle.elapsed, rel=0.1)


def test_the_time_that_triangulation_takes_is_not_left_for_training(
    frames: Frames, every_step: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(poses_only: Frames, **_: object) -> Frames:
        for _ in range(200):
            mapper.time.monotonic()
        return frames

    monkeypatch.setattr(mapper, "with_triangulated_depth", slow)
    reports: list[MappingProgress] = []
    scene_map = _build(frames.without_depth(), replace(SMALL, minutes=5.0), on_progress=reports.append)
    assert 200 < min(p.elapsed for p in reports if p.phase == "training")
    assert 270 < reports[-1].elapsed < 320
    assert 25 < scene_map.info.training["steps"] < 50  # of two ticks


def test_a_budget_that_is_used_up_before_training_leaves_it_some_steps(
    frames: Frames, every_step: None
) -> None:
    reports: list[MappingProgress] = []
    scene_map = _build(frames, replace(SMALL, minutes=0.1), on_progress=reports.append)
    assert 6 < min(p.elapsed for p in reports if p.phase == "training")
    assert scene_map.info.training["steps"] in (2, 3)  # in 5 s, of two ticks


def test_progress_is_told_phase_by_phase(frames: Frames, every_step: None) -> None:
    reports: list[MappingProgress] = []
    _build(frames, replace(SMALL, steps=10, num_landmarks=50), on_progress=reports.append)
    training = [p for p in reports if p.phase == "training"]
    assert list(dict.fromkeys(p.phase for p in reports)) == ["landmarks", "features", "training"]
    for phase in ("landmarks", "features"):
        fractions = [p.fraction for p in reports if p.phase == phase]
        assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1.0)
    assert [p.step for p in training] == [*range(1, 11), 10]
    assert training[-1].fraction == 1.0 and training[-1].remaining == 0.0
    assert all(np.isfinite([p.loss, p.fraction_good, p.median_error_px]).all() for p in training)


@pytest.mark.parametrize("broken", ["no frames", "no poses"])
def test_frames_without_poses_are_refused(frames: Frames, broken: str) -> None:
    useless = frames[:0] if broken == "no frames" else replace(frames, cam_from_world=None)
    with pytest.raises(DatasetError, match="mapping needs frames with poses"):
        _build(useless)


def test_frames_from_which_nothing_can_be_learned_are_refused(frames: Frames) -> None:
    # smooth colours have no keypoints
    with pytest.raises(DatasetError, match="of 6 images 0 share enough points"):
        _build(frames.without_depth())


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 0},
        {"minutes": 0.0},
        {"num_views": -1},
        {"buffer_size": 0},
        {"batch_size": 0},
        {"minutes": np.nan},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(settings: dict) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name}: expected more than 0, got"):
        MappingSettings(**settings)


def test_only_as_many_frames_as_views_are_used(frames: Frames) -> None:
    assert _build(frames, replace(SMALL, num_views=3, steps=2)).info.num_frames == 3


def _transformed(frames: Frames, size: float, origin: torch.Tensor) -> Frames:
    """The same photos in a world whose unit is 1 / size, with its origin elsewhere."""
    poses, reader = frames.cam_from_world, frames.reader
    assert poses is not None and isinstance(reader, FramesInMemory)
    center = size * poses.center + origin
    moved = Pose(poses.rotation, -(poses.rotation @ center[..., None])[..., 0])
    photos = {
        name: replace(photo, depth=size * photo.depth)
        for name, photo in reader.frames.items()
        if photo.depth is not None
    }
    return replace(frames, cam_from_world=moved, reader=FramesInMemory(photos))


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_a_scene_in_another_unit_is_learned_as_well(frames: Frames, learned: SceneMap, size: float) -> None:
    origin = 10 * size * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    answer = _build(_transformed(frames, size, origin))
    features = torch.rand(200, 3, generator=torch.Generator().manual_seed(0))
    points = (answer.head(features).points - origin) / size
    # bfloat16 and rounding lead the two apart a little
    assert (points - learned.head(features).points).norm(dim=-1).median() < 0.1 * RADIUS
    assert answer.info.training["median_error_px"] < 2 * learned.info.training["median_error_px"]


# ---- far from the origin -----------------------------------------------------------------------------


@pytest.mark.parametrize("place", [(450_000.0, 5_400_000.0, 312.0), (4_027_894.0, 307_046.0, 4_919_475.0)])
def test_a_georeferenced_recording_is_mapped_and_localized_as_well(
    frames: Frames, learned: SceneMap, place: tuple[float, float, float]
) -> None:
    """UTM and ECEF coordinates, in which float32 has half a metre."""
    there = frames.within(Similarity.of(tuple(-x for x in place)))
    assert there.cam_from_world is not None and frames.cam_from_world is not None
    scene_map = _build(there)
    assert np.abs(np.array(scene_map.info.origin) - place).max() < 2 * RADIUS
    assert learned.info.origin == (0.0, 0.0, 0.0)  # near it, nothing is moved
    answers = list(Localizer(scene_map, encoder=ColorEncoder()).localize_frames(there))
    at_home = list(Localizer(learned, encoder=ColorEncoder()).localize_frames(frames))
    for i, (far, near) in enumerate(zip(answers, at_home, strict=True)):
        assert far.success == near.success
        off = far.cam_from_world.center_distance(there.cam_from_world[i])
        # two heads of one scene, learned about different places
        assert off < near.cam_from_world.center_distance(frames.cam_from_world[i]) + 0.1
        points = far.scene_points[0][far.inliers].median(0).values
        assert (points - torch.tensor(place, dtype=torch.float64)).norm() < 2 * RADIUS


def test_a_map_has_an_origin_of_its_own_only_far_from_that_of_the_world() -> None:
    walk = torch.randn(50, 3, dtype=torch.float64)
    assert map_origin(walk) == map_origin(walk + 500) == (0.0, 0.0, 0.0)
    far = torch.tensor([450_000.3, 5_400_000.7, 300.1], dtype=torch.float64)
    x, y, z = map_origin(walk + far)
    assert (torch.tensor([x, y, z]) - far).abs().max() < 2 and x == round(x)
    assert map_origin(1e4 * walk + 1e6) == (0.0, 0.0, 0.0)  # a country is no room
