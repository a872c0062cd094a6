"""Fine-tuning maps of several regions: heads and gate are mended together, and what is not asked stays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ball_world import ColorEncoder, ball_frames, exact_map
from interrupts import interrupt_at

from dsac.atlas import Atlas, Region
from dsac.cropping import some_regions
from dsac.datasets import Frames
from dsac.errors import DatasetError, DsacError, MapFormatError
from dsac.geometry import Pose, Similarity
from dsac.mapping.pose_learner import TuningViews
from dsac.mapping.region_learner import LOST, Expert, Experts, RegionLearner
from dsac.mapping.region_tuning import TunedRegions, fine_tune_regions
from dsac.mapping.settings import FineTuningSettings
from dsac.mapping.trainable_gate import TrainableGate
from dsac.mapping.trainable_map import TuningView
from dsac.mapping.views import Augmentation
from dsac.scene_map import SceneMap
from dsac.visual_words import VisualWords, white

SMALL = FineTuningSettings(
    steps=8,
    learning_rate=5e-4,
    num_hypotheses=8,
    images_per_step=2,
    validate_every=4,
    views_per_frame=1,
    num_validation_frames=2,
    augmentation=Augmentation(max_brightness=0.0, max_gamma=1.0, max_blur_px=0.0),
)
AWAY = Similarity(Pose.exp(torch.tensor([0.1, 0.2, 0.3, 40.0, -5.0, 2.0], dtype=torch.float64)), 0.5)


WORDS, NO_CENTERS = torch.randn(40, 152, generator=torch.Generator().manual_seed(0)), torch.zeros(0, 3)


def _ball(off: float, names: list[str]) -> SceneMap:
    """The exact map of the ball, but so many metres off along each axis; it knows these frames."""
    scene_map = exact_map(96)
    with torch.no_grad():
        scene_map.head.point.bias[:3] += 0.3 * off
    info = replace(scene_map.info, frames=dict.fromkeys(names, ""), metric=True)
    return replace(scene_map, info=info, words=VisualWords.of(WORDS, NO_CENTERS))


@pytest.fixture(scope="module")
def frames() -> Frames:
    return ball_frames(8)


@pytest.fixture
def two(frames: Frames) -> Atlas:
    """Alike to the gate, and both find all frames, but the one is 4 cm off, the other 9 m along each axis."""
    return Atlas.of({"near": _ball(0.04, frames.names[:6]), "far": _ball(9.0, frames.names[5:])})


def _tune(atlas: Atlas, frames: Frames, settings: FineTuningSettings = SMALL, **options) -> TunedRegions:  # noqa: ANN003
    return fine_tune_regions(atlas, frames, settings, encoder=ColorEncoder(), **options)


def test_heads_and_gate_are_mended_together(two: Atlas, frames: Frames) -> None:
    tuned, record = _tune(two, frames)
    assert record["validation_after"] < record["validation_before"] - 1
    assert record["best_step"] > 0 and not record["interrupted"]
    near, far = tuned.regions
    before, after = (region.read().head.point.bias[:3] for region in (two.regions[0], near))
    assert after.abs().sum() < before.abs().sum()
    assert near.words is not None and far.words is not None
    assert near.words.worth is not None and far.words.worth is not None
    assert near.words.worth.mean() > 0 > far.words.worth.mean()
    assert all(region.info.training["fine_tuning"] == record for region in tuned.regions)
    assert two.regions[0].words is not None and two.regions[0].words.worth is None  # the map stays as it is


def test_lengths_are_the_worlds(two: Atlas, frames: Frames) -> None:
    """Half as large a world: the near region is half as far off."""
    assert frames.cam_from_world is not None
    moved = two.saying(lambda info: info.in_world_of(AWAY))
    there = replace(frames, cam_from_world=AWAY.pose(frames.cam_from_world))
    alone = [Atlas((atlas.regions[0], _of_elsewhere(two.regions[0]))) for atlas in (two, moved)]
    whole, half = (
        _tune(atlas, those, replace(SMALL, steps=1)).record["validation_before"]
        for atlas, those in zip(alone, (frames, there), strict=True)
    )
    lost = 0.5 * LOST  # the gate cannot tell the two
    assert half - lost == pytest.approx(0.5 * (whole - lost), rel=0.1)


def _of_elsewhere(region: Region) -> Region:
    """The same, in a world of its own and of other frames."""
    return region.saying(replace(region.info, world="elsewhere", frames={"x": ""})).named("elsewhere")


def test_regions_of_other_worlds_are_neither_read_nor_changed(
    two: Atlas, frames: Frames, tmp_path: Path
) -> None:
    """That region's file is gone."""
    gone = replace(_of_elsewhere(two.regions[1]), source=tmp_path / "gone.dsac")
    tuned, _ = _tune(Atlas((two.regions[0], gone)), frames)
    assert tuned.regions[1] is gone
    words = tuned.regions[0].words
    assert words is not None and words.worth is not None  # the other one's words speak for the photos, too


def test_the_same_seed_gives_the_same_map_and_resuming_goes_on_as_if_nothing_had_been(
    two: Atlas, frames: Frames, tmp_path: Path
) -> None:
    two.save(tmp_path / "two.dsac")
    whole, record = _tune(Atlas.load(tmp_path / "two.dsac"), frames)
    path = tmp_path / "two.tuning"
    half, told = _tune(Atlas.load(tmp_path / "two.dsac"), frames, checkpoint=path, on_progress=interrupt_at(5))
    assert told["interrupted"] and told["trained_steps"] == 5 and told["best_step"] in (0, 4)
    half.save(tmp_path / "half.dsac")
    resumed, again = _tune(Atlas.load(tmp_path / "half.dsac"), frames, checkpoint=path, resume=True)
    assert again["validation_after"] == record["validation_after"]
    for a, b in zip(whole.regions, resumed.regions, strict=True):
        assert torch.equal(a.read().head.point.bias, b.read().head.point.bias)
        assert a.words is not None and b.words is not None
        assert torch.equal(a.words.worths, b.words.worths)


def test_frames_that_the_map_held_out_stay_out(two: Atlas, frames: Frames) -> None:
    known = Atlas(
        tuple(r.saying(replace(r.info, frames=dict.fromkeys(frames.names[:5], ""))) for r in two.regions)
    )
    seen: list[str] = []

    class Counting:
        has_depth = True

        def read_image(self, name: str) -> np.ndarray:
            seen.append(name)
            return frames.reader.read_image(name)

        def read_depth(self, name: str, camera) -> np.ndarray:  # noqa: ANN001
            return frames.reader.read_depth(name, camera)

    _tune(known, replace(frames, reader=Counting()), replace(SMALL, steps=1))
    assert set(seen) == set(frames.names[:5])


def test_frames_of_another_recording_are_remembered_by_the_regions_that_learned(
    two: Atlas, frames: Frames
) -> None:
    strangers = two.saying(lambda info: replace(info, frames={"other": ""}))
    tuned, _ = _tune(strangers, frames)
    assert set(tuned["near"].info.frames) == {"other", *frames.names}


def test_what_the_gate_has_learned_outlives_crop_and_file(two: Atlas, frames: Frames, tmp_path: Path) -> None:
    tuned, _ = _tune(two, frames)
    tuned.save(tmp_path / "tuned.dsac")
    some_regions(Atlas.load(tmp_path / "tuned.dsac"), ["near"]).save(tmp_path / "near.dsac")
    words = tuned["near"].words
    assert words is not None and words.worth is not None
    for region in (Atlas.load(tmp_path / "near.dsac").regions[0], Atlas.load(tmp_path / "tuned.dsac")["near"]):
        assert region.words is not None and region.words.worth is not None
        assert torch.equal(region.words.worth, words.worth)
        of_map = region.read().words
        assert of_map is not None and of_map.worth is not None and torch.equal(of_map.worth, words.worth)


@dataclass(frozen=True, eq=False)
class _Known(Expert):
    """Right for the photos of one room: no loss, and none to hope for of the others."""

    room: str = ""

    def expected_loss(self, views, thinning, generator) -> torch.Tensor:  # noqa: ANN001
        of_views = torch.tensor([0.0 if view.name == self.room else LOST for view in views])
        return of_views + 0 * self.model.head.point.bias.sum()


def test_a_gate_learns_which_words_tell_two_rooms_apart() -> None:
    """Nine tenths of what they show is the same, and one room's words know that better."""
    generator = torch.Generator().manual_seed(0)
    common = 3 * torch.randn(27, 152, generator=generator)
    looks = [torch.cat([common, 3 * torch.randn(3, 152, generator=generator)]) for _ in range(2)]

    def features(room: int, count: int, noise: float) -> torch.Tensor:
        rows = torch.randint(30, (count,), generator=generator)
        return looks[room][rows] + noise * torch.randn(count, 152, generator=generator)

    maps = [
        VisualWords.of(features(room, 60, noise), NO_CENTERS, seed=room)
        for room, noise in enumerate((0.5, 1.5))
    ]

    def photos(count: int) -> list[TuningView]:
        camera = ball_frames(1)[0].camera
        return [
            TuningView(torch.zeros(0), torch.zeros(0, 0, dtype=torch.bool), camera, Pose.identity(), str(room),
                       white(features(room, 150, 1.5)))
            for room in (0, 1) for _ in range(count)
        ]  # fmt: skip

    rooms = Atlas.of({"0": _ball(0.0, []), "1": _ball(0.0, [])})
    settings = FineTuningSettings(steps=100)
    experts = Experts(rooms, settings, torch.device("cpu"))
    for room in range(2):
        experts.asked[room] = _Known(**vars(experts[room]), room=str(room))
    gate = TrainableGate(maps, [True, True])
    learner = RegionLearner(experts, gate, TuningViews(photos(40), []), {}, [0, 1], settings, seed=0)
    test = photos(40)

    def share_right() -> tuple[float, float]:
        with torch.no_grad():
            chances = gate([view.cells for view in test if view.cells is not None]).exp()
        right = chances[torch.arange(len(test)), torch.tensor([int(view.name) for view in test])]
        return (right > 0.5).double().mean().item(), right.mean().item()

    before = share_right()
    for step in range(settings.steps):
        learner.update(step, step / settings.steps)
    after = share_right()
    assert before[0] < 0.8 and after[0] > 0.9
    assert after[1] > before[1] + 0.2


def test_what_cannot_be_trained_is_refused(two: Atlas, frames: Frames) -> None:
    def refused(error: type[Exception], match: str, atlas: Atlas = two, **changes) -> None:  # noqa: ANN003
        with pytest.raises(error, match=match):
            _tune(atlas, frames, replace(SMALL, **changes))

    refused(DsacError, "encoder: the regions of a map share it", encoder=True)
    refused(DsacError, "soft-count that they have, got score-network for region near", scoring="score-network")
    near, far = two.regions
    other_size = far.saying(replace(far.info, short_side_px=48))
    refused(
        MapFormatError,
        "region far: expected short_side_px 96 as of region near, got 48",
        Atlas((near, other_size)),
    )
    old = replace(far, words=None)
    refused(MapFormatError, "region far: a map from before there were visual words", Atlas((near, old)))
    apart = Atlas((near.saying(replace(near.info, frames={})), _of_elsewhere(far)))
    refused(DatasetError, "of 2 worlds and was made from none of these frames", apart)
    elsewhere = two.saying(lambda info: info.in_world_of(AWAY))
    refused(DatasetError, "of the recording that it was made from", elsewhere)
    with pytest.raises(DatasetError, match="four or more frames"):
        _tune(two, frames[:3])
