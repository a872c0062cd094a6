"""Networks of the papers, in a small form: they learn, repeat, resume, and make maps like any other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ball_world import FramesInMemory, ball_frames
from devices import NoArrays

from dsac import Localizer
from dsac.datasets import Frames
from dsac.errors import MapFormatError
from dsac.mapping import MappingProgress, NetworkSettings, build_map, network_learner
from dsac.mapping.fine_tuning import fine_tune
from dsac.mapping.views import Augmentation, View, random_view
from dsac.networks.scene_networks import NetworkArchitecture, NetworkName
from dsac.rooms import synthetic_scene
from dsac.scene_map import SceneMap

GENTLE = Augmentation(0.9, 1.1, 5.0, max_brightness=0.05, max_gamma=1.0, max_blur_px=0.0)
SMALL = NetworkSettings(
    NetworkArchitecture("dsac-star", grey=False, width=1 / 16),
    steps=12,
    learning_rate=2e-3,
    short_side_px=64,
    augmentation=GENTLE,
)


@pytest.fixture(scope="module")
def frames() -> Frames:
    return ball_frames()


@pytest.fixture(autouse=True)
def few_views_for_the_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two views of each photo show how large the ball is."""
    monkeypatch.setattr(network_learner, "_SHAPE_VIEWS", 12)


def _interrupt() -> Callable[[MappingProgress], None]:
    """Ctrl-C, once, after the first step (which is always reported)."""
    done = []

    def on_progress(progress: MappingProgress) -> None:
        if progress.phase == "training" and not done:
            done.append(None)
            raise KeyboardInterrupt

    return on_progress


def _state(scene_map: SceneMap) -> dict[str, torch.Tensor]:
    assert scene_map.encoder is not None
    return {**scene_map.head.state_dict(), **scene_map.encoder.state_dict()}


def _same(a: SceneMap, b: SceneMap) -> bool:
    first, second = _state(a), _state(b)
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["dsac", "dsac-star"])
def test_a_network_learns_a_photo_by_heart(frames: Frames, name: NetworkName) -> None:
    network = NetworkArchitecture(name, grey=False, width=1 / 16)
    still = Augmentation(1.0, 1.0, 0.0, max_brightness=0.0, max_gamma=1.0, max_blur_px=0.0)
    reports: list[MappingProgress] = []
    settings = replace(SMALL, network=network, augmentation=still, steps=100)
    build_map(frames[:1], settings, on_progress=reports.append)
    training = [p for p in reports if p.phase == "training"]
    assert training[0].step == 1 and training[-1].step == 100
    assert training[-1].loss < 0.5 * training[0].loss


def test_the_map_says_what_it_is_and_survives_its_file(frames: Frames, tmp_path: Path) -> None:
    scene_map = build_map(frames, SMALL, source="a ball")
    info = scene_map.info
    assert (info.encoder_id, info.head, info.network) == ("dsac-star", None, SMALL.network)
    assert (info.num_frames, info.supervision, info.stride) == (6, "depth", 8)
    assert info.training["steps"] == 12 and info.settings["learning_rate"] == 2e-3
    assert info.depth_range[0] < 2 and info.depth_range[1] > 4
    scene_map.save(tmp_path / "ball.dsac")
    loaded = SceneMap.load(tmp_path / "ball.dsac")
    assert loaded.info == info
    assert loaded.holds == scene_map.holds
    for name, value in _state(scene_map).items():
        torch.testing.assert_close(_state(loaded)[name], value, rtol=1e-3, atol=1e-6)  # half precision
    loaded.save(tmp_path / "again.dsac")
    assert (tmp_path / "again.dsac").read_bytes() == (tmp_path / "ball.dsac").read_bytes()
    answer = next(Localizer.load(tmp_path / "ball.dsac").localize_frames(frames))
    assert answer.correspondences.grid is not None and answer.correspondences.weights is not None
    assert (answer.correspondences.weights == 1).all()


def test_the_same_seed_gives_the_same_map_and_another_seed_another(frames: Frames) -> None:
    first, again, other = (build_map(frames, SMALL, seed=seed) for seed in (1, 1, 2))
    assert _same(first, again)
    assert not _same(first, other)


def test_an_interrupted_training_gives_a_map_and_resumes_to_the_very_same_end(
    frames: Frames, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "ball.checkpoint"
    whole = build_map(frames, SMALL)
    part = build_map(frames, SMALL, checkpoint=checkpoint, on_progress=_interrupt())
    assert part.info.training["interrupted"] and part.info.training["steps"] == 1
    resumed = build_map(frames, SMALL, checkpoint=checkpoint, resume=True)
    assert resumed.info.training["steps"] == 12
    assert _same(resumed, whole)


def test_an_interrupt_while_a_view_is_made_leaves_a_map_too(
    frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def interrupted(*arguments: Any) -> View:
        made.append(None)
        if len(made) == 5:
            raise KeyboardInterrupt
        return random_view(*arguments)

    monkeypatch.setattr(network_learner, "random_view", interrupted)
    training = build_map(frames, SMALL).info.training
    assert training["interrupted"] and training["steps"] < 12 and math.isfinite(training["loss"])


def test_the_checkpoint_of_another_network_is_refused(frames: Frames, tmp_path: Path) -> None:
    checkpoint = tmp_path / "ball.checkpoint"
    build_map(frames, SMALL, checkpoint=checkpoint, on_progress=_interrupt())
    other = replace(SMALL, network=replace(SMALL.network, width=1 / 8))
    with pytest.raises(MapFormatError, match="with these settings, got another"):
        build_map(frames, other, checkpoint=checkpoint, resume=True)


@pytest.mark.parametrize("exact_depth", [True, False])
def test_a_training_step_makes_no_arrays_of_what_is_on_the_device(frames: Frames, exact_depth: bool) -> None:
    learner = network_learner.network_learner(
        frames, SMALL, exact_depth=exact_depth, seed=0, device=torch.device("cpu"), on_progress=lambda _: None
    )
    with NoArrays():  # views are made in threads of their own, on the CPU
        learner.update(0, 0.0)
        learner.evaluate()


def test_the_rate_is_halved_after_each_sixth_of_the_training(frames: Frames) -> None:
    learner = network_learner.network_learner(
        frames, SMALL, exact_depth=True, seed=0, device=torch.device("cpu"), on_progress=lambda _: None
    )
    optimizer = learner.parts["optimizer"]
    assert isinstance(optimizer, torch.optim.Adam)
    rates = []
    for step, progress in enumerate((0.0, 0.16, 0.17, 0.34, 0.99)):
        learner.update(step, progress)
        rates.append(optimizer.param_groups[0]["lr"] / SMALL.learning_rate)
    assert rates == [1, 1, 1 / 2, 1 / 4, 1 / 32]


def test_the_published_settings_are_the_defaults() -> None:
    settings = NetworkSettings(NetworkArchitecture.published("dsac"))
    assert (settings.steps, settings.learning_rate, settings.network.width) == (300_000, 1e-4, 1.0)


@pytest.mark.parametrize("setting", [{"steps": 0}, {"minutes": 0.0}, {"learning_rate": -1.0}], ids=str)
def test_settings_that_mean_nothing_are_refused(setting: dict) -> None:
    with pytest.raises(ValueError, match="expected more than 0, got"):
        replace(SMALL, **setting)


def test_fine_tuning_says_that_it_is_for_the_shared_encoder(frames: Frames) -> None:
    with pytest.raises(MapFormatError, match="maps of the shared encoder, got a network trained whole"):
        fine_tune(build_map(frames, replace(SMALL, steps=1)), frames)


@pytest.mark.slow
def test_a_network_learns_the_synthetic_room_by_poses_only() -> None:
    """Some seconds for a network of 1/64 of the values: it knows about where it is, to decimetres."""
    room = synthetic_scene(num_mapping=240, num_query=1, size=(320, 240))
    mapping, query = room.mapping[:24:2], room.mapping[1:24:2]
    mapping = replace(mapping, reader=FramesInMemory({frame.name: frame for frame in mapping}))
    settings = NetworkSettings(
        NetworkArchitecture.published("dsac-star", width=1 / 8),
        steps=250,
        learning_rate=3e-3,
        short_side_px=120,
        augmentation=GENTLE,
    )
    reports: list[MappingProgress] = []
    scene_map = build_map(mapping.without_depth(), settings, on_progress=reports.append)
    first = next(p for p in reports if p.phase == "training")
    assert scene_map.info.training["loss"] < 0.4 * first.loss
    assert scene_map.info.supervision == "poses"
    truth = query.cam_from_world
    assert truth is not None
    errors_m = [
        answer.cam_from_world.center_distance(truth[i]).item()
        for i, answer in enumerate(Localizer(scene_map).localize_frames(query))
    ]
    # too coarse to be trusted, so most answers say not localized; chance would be off by metres
    assert np.median(errors_m) < 0.8
