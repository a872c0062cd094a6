"""Forests that learn a scene: maps survive their file, damage and interrupts, and answer with what is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from ball_world import ball_frames

from dsac.datasets import Frames
from dsac.errors import DatasetError, MapFormatError
from dsac.localizer import Localizer
from dsac.mapping import ForestSettings, MappingProgress, build_map
from dsac.mapping.fine_tuning import fine_tune
from dsac.networks.forests.forest import ForestEncoder
from dsac.ransac import Correspondences
from dsac.scene_map import SceneMap, read_map_file

SMALL = ForestSettings(num_trees=2, samples_per_frame=600, short_side_px=64)


@pytest.fixture(scope="module")
def frames() -> Frames:
    return ball_frames()


@pytest.fixture(scope="module")
def forest(frames: Frames) -> SceneMap:
    return build_map(frames, SMALL, source="a ball")


@pytest.fixture(scope="module")
def guessing(frames: Frames) -> SceneMap:
    """With auto-context."""
    return build_map(frames, replace(SMALL, auto_context=True))


@pytest.fixture(scope="module")
def path(guessing: SceneMap, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("forest") / "ball.dsac"
    guessing.save(path)
    return path


def _interrupt(phase: str, step: int = 0) -> Callable[[MappingProgress], None]:
    """Ctrl-C, once."""
    done = []

    def on_progress(progress: MappingProgress) -> None:
        if progress.phase == phase and progress.step >= step and not done:
            done.append(None)
            raise KeyboardInterrupt

    return on_progress


def _same(a: SceneMap, b: SceneMap) -> bool:
    states = [{**m.head.state_dict(), **m.encoder.state_dict()} for m in (a, b)]  # type: ignore[union-attr]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def _rows(scene_map: SceneMap, frames: Frames, i: int, depth: torch.Tensor | None) -> Correspondences:
    frame, regressor = frames[i], scene_map.regressor()
    seen = regressor.encode(frame.image[None], frame.camera, None if depth is None else depth[None])
    return regressor.predict(seen, frame.camera)


def _errors(rows: Correspondences, frames: Frames, i: int) -> torch.Tensor:
    """How far the likeliest point of each cell is from the ball where its pixel shows it, metres."""
    pose, frame = frames[i].cam_from_world, frames[i]
    assert pose is not None and frame.depth is not None
    likeliest = rows.scene_points[0, :: rows.modes]
    rays = rows.camera.unproject(rows.pixels)[0, :: rows.modes].double()
    at_working_size = frame.camera.rescale(rows.camera.size)
    place = at_working_size.project(rays) * (frame.camera.size[0] / rows.camera.size[0])
    depth = frame.depth[place[:, 1].long(), place[:, 0].long()]
    return (pose.inverse() @ (rays * depth[:, None]) - likeliest).norm(dim=-1)


@pytest.mark.parametrize("kind", ["forest", "guessing"])
def test_a_forest_knows_what_it_saw_with_depth_and_without(
    kind: str, frames: Frames, request: pytest.FixtureRequest
) -> None:
    forest = request.getfixturevalue(kind)
    for i in range(2):  # a distorting lens, and another size
        for depth in (None, frames[i].depth):
            rows = _rows(forest, frames, i, depth)
            assert rows.modes > 1 and rows.weights is not None
            assert (rows.weights[0, :: rows.modes] > 0).float().mean() > 0.9
            assert _errors(rows, frames, i).median() < 0.3  # of a ball of 3 m


def test_the_map_says_what_it_is_and_survives_its_file(guessing: SceneMap, path: Path, frames: Frames) -> None:
    info = guessing.info
    assert info.forest is not None and info.head is None and info.network is None
    assert [size[0] for size in (info.forest.context, info.forest.color, info.forest.depth)] == [2, 2, 2]
    assert info.training["steps"] == 6 and info.settings["num_trees"] == 2 and info.supervision == "depth"
    loaded = SceneMap.load(path)
    assert loaded.info == info and loaded.holds == guessing.holds and loaded.holds.num_values > 1000
    again = path.with_name("again.dsac")
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()
    first, second = (_rows(m, frames, 0, None) for m in (guessing, loaded))
    apart = (first.scene_points - second.scene_points).abs()
    assert (apart < 0.02).float().mean() > 0.98  # half precision changes which modes gather, here and there
    assert isinstance(Localizer.load(path).regressor.encoder, ForestEncoder)  # type: ignore[union-attr]


def test_photos_with_depth_are_localized_by_it(forest: SceneMap, frames: Frames) -> None:
    truth = frames.cam_from_world
    assert truth is not None
    answers = list(Localizer(forest).localize_frames(frames, use_depth=True))
    errors_m = [answer.cam_from_world.center_distance(truth[i]).item() for i, answer in enumerate(answers)]
    assert np.median(errors_m) < 0.1  # of a ball of 3 m


def test_depth_full_of_holes_is_answered_as_if_there_was_none(forest: SceneMap, frames: Frames) -> None:
    depth = frames[0].depth
    assert depth is not None
    plain, whole = (_rows(forest, frames, 0, x).scene_points for x in (None, depth))
    half = depth.clone()
    half[:70] = 0
    for holes in (torch.zeros_like(depth), torch.full_like(depth, torch.nan), -depth, half):
        assert torch.equal(_rows(forest, frames, 0, holes).scene_points, plain)
    assert not torch.equal(whole, plain)
    some = depth.clone()
    some[:20] = torch.nan
    rows = _rows(forest, frames, 0, some)
    assert rows.weights is not None
    known = rows.weights[0, :: rows.modes] > 0
    assert 0.5 < known.float().mean() < 0.95
    assert torch.equal(rows.scene_points[0, :: rows.modes][known], whole[0, :: rows.modes][known])


def test_the_same_seed_gives_the_same_map_and_another_seed_another(forest: SceneMap, frames: Frames) -> None:
    assert _same(build_map(frames, SMALL), forest)
    assert not _same(build_map(frames, SMALL, seed=1), forest)


def test_an_interrupted_training_gives_a_map_and_resumes_to_the_very_same_end(
    forest: SceneMap, frames: Frames, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "ball.checkpoint"
    part = build_map(frames, SMALL, checkpoint=checkpoint, on_progress=_interrupt("training"))
    assert part.info.training["interrupted"] and part.info.training["steps"] == 1
    assert part.info.forest is not None and part.info.forest.depth == (0, 0, 0)
    by_one_tree = _rows(part, frames, 0, frames[0].depth)
    assert _errors(by_one_tree, frames, 0).median() < 1.0
    resumed = build_map(frames, SMALL, checkpoint=checkpoint, resume=True)
    assert resumed.info.training["steps"] == 4
    assert _same(resumed, forest)
    elsewhere = replace(frames, cam_from_world=frames.cam_from_world.inverse())  # type: ignore[union-attr]
    with pytest.raises(MapFormatError, match="expected this scene's checkpoint, got another's"):
        build_map(elsewhere[:2], SMALL, checkpoint=checkpoint, resume=True)


def test_an_interrupt_before_the_first_tree_leaves_nothing(
    frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dsac.mapping.forest_learner.ForestLearner._grown", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_map(frames, SMALL)


def test_a_recording_without_depth_has_no_trees_of_depth(frames: Frames) -> None:
    """What is triangulated serves to learn, and photos with depth are answered without it."""
    from dsac.mapping.forest_learner import forest_learner

    learner = forest_learner(frames, SMALL, exact_depth=False, seed=0, on_progress=lambda _: None)
    assert learner.steps == 2


def test_what_is_hardly_known_is_refused(frames: Frames) -> None:
    from ball_world import FramesInMemory

    for known in (0, 50):
        hardly = {}
        for frame in frames:
            assert frame.depth is not None
            depth = torch.zeros_like(frame.depth)
            depth.flatten()[:known] = frame.depth.flatten()[:known]
            hardly[frame.name] = replace(frame, depth=depth)
        with pytest.raises(DatasetError, match="known"):
            build_map(replace(frames, reader=FramesInMemory(hardly))[:1], SMALL)


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("encoder.color.child", lambda x: x.index_fill_(0, torch.tensor(0), 0), "node 0 leads back to node 0"),
        ("encoder.depth.child", lambda x: x.index_fill_(0, torch.tensor(0), 2**30), "leads beyond the last"),
        ("encoder.depth.child", lambda x: x.masked_fill_(x < 0, ~9999), "leaf 9999 of depth, expected less"),
        ("encoder.context.child", lambda x: x.masked_fill_(x < 0, ~9999), "leaf 9999 of context"),
        ("encoder.context.tests", lambda x: x[:, 4].fill_(99), "looks at none of 13 channels, 99"),
        ("encoder.color.roots", lambda x: x.fill_(-5), "a root is node -5"),
        ("covariance", lambda x: x.fill_(torch.nan), "covariance: expected finite numbers"),
        ("encoder.context_head.covariance", lambda x: x.fill_(torch.inf), "expected finite numbers"),
    ],
)
def test_damaged_maps_are_refused(path: Path, name: str, damage: Callable, told: str, tmp_path: Path) -> None:
    metadata, tensors = read_map_file(path.read_bytes(), "")
    damage(tensors[name])
    damaged = tmp_path / "damaged.dsac"
    damaged.write_bytes(safetensors.torch.save(tensors, {"dsac": metadata}))
    with pytest.raises(MapFormatError, match=told) as error:
        SceneMap.load(damaged)
    assert "\n" not in str(error.value)


def test_maps_from_before_leaves_had_covariances_say_so(path: Path, tmp_path: Path) -> None:
    metadata, tensors = read_map_file(path.read_bytes(), "")
    tensors["scale"] = tensors.pop("covariance")[..., 0].contiguous()
    before = tmp_path / "before.dsac"
    before.write_bytes(safetensors.torch.save(tensors, {"dsac": metadata}))
    with pytest.raises(MapFormatError, match="leaves without covariances, .*: map the scene again"):
        SceneMap.load(before)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("color", [2, -1, 4]),
        ("color", [2, 3]),
        ("depth", "none"),
        ("typical_depth", 0.0),
        ("typical_depth", "x"),
    ],
)
def test_damaged_metadata_are_refused(path: Path, field: str, value: object, tmp_path: Path) -> None:
    import json

    text, tensors = read_map_file(path.read_bytes(), "")
    metadata = json.loads(text)
    metadata["forest"][field] = value
    damaged = tmp_path / "damaged.dsac"
    damaged.write_bytes(safetensors.torch.save(tensors, {"dsac": json.dumps(metadata)}))
    with pytest.raises(MapFormatError, match="damaged map metadata"):
        SceneMap.load(damaged)


@pytest.mark.wrong_input
@pytest.mark.parametrize("setting", [{"num_trees": 0}, {"num_trees": 101}, {"samples_per_frame": -1}], ids=str)
def test_settings_that_mean_nothing_are_refused(setting: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(SMALL, **setting)


def test_fine_tuning_says_that_it_is_for_the_shared_encoder(forest: SceneMap, frames: Frames) -> None:
    with pytest.raises(MapFormatError, match="maps of the shared encoder, got forests"):
        fine_tune(forest, frames)


def test_halves_of_a_recording_share_no_photo(frames: Frames) -> None:
    from dsac.mapping.forest_photos import ForestPhotos

    photos = ForestPhotos.of(frames, 64, with_depth=True, seed=0, on_progress=lambda _: None)
    first, second = photos.half(0), photos.half(1)
    assert sorted([*first, *second]) == list(range(6))
    one = ForestPhotos.of(frames[:1], 64, with_depth=True, seed=0, on_progress=lambda _: None)
    assert one.half(0).tolist() == one.half(1).tolist() == [0]
    # known pixels show their points, but for half a pixel of rounding, a whole one at the border
    np.testing.assert_array_less(photos.errors_px(photos.known, photos.known.points), 1.1)
