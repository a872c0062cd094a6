"""Places that look alike are noticed while mapping, and a photo says which of them it may show."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from dsac.datasets import Frame, Scene
from dsac.geometry import Pose
from dsac.landmarks import (
    GreyView,
    Keypoints,
    LookAlikes,
    Remembered,
    Telling,
    answer,
    probabilities,
    sightings,
    support,
)
from dsac.landmarks.described import DescribedPoints
from dsac.landmarks.matching import match_several
from dsac.landmarks.telling import evidence
from dsac.mapping.landmark_choice import remember
from dsac.networks.local_features import NUM_VALUES
from dsac.ransac import Correspondences, PoseEstimate
from dsac.rooms.corridor import CORRIDOR, corridor_scene

HERE, EAST = CORRIDOR.periods[0][0], torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)


@cache
def _corridor(difference: float) -> tuple[Scene, Remembered]:
    """Four of its eight doors, seen from near the windows; what a map remembers of that; queries between."""
    scene = corridor_scene(120, 1, (320, 240), difference=difference, light_cell=2.0)
    walk = scene.mapping[:30]
    scene = replace(scene, mapping=walk[[i for i in range(30) if i % 5 != 2]], query=walk[2::5])
    return scene, remember(scene.mapping, 3000)


def _answers(scene: Scene, memory: Remembered, steps: int) -> list[tuple[Pose, PoseEstimate, list]]:
    """Of the queries in the middle, asked from a pose that is so many doors off."""
    found = []
    for i in (1, 2, 3, 4):
        frame = scene.query[i]
        truth = _pose(frame)
        coarse = CORRIDOR.moved(truth, torch.tensor([steps]))
        view = GreyView.of(frame.image, frame.camera)
        rows = Correspondences(torch.zeros(1, 4, 2), torch.zeros(1, 4, 3), view.camera[None].to(torch.float32))
        told = answer(memory, view, rows, _as_estimate(coarse))
        poses = [(told.estimate, told.probability), *told.others]
        found.append((truth, told.estimate, poses))
    return found


def _pose(frame: Frame) -> Pose:
    assert frame.cam_from_world is not None
    return frame.cam_from_world


def _as_estimate(pose: Pose) -> PoseEstimate:
    return PoseEstimate(
        Pose.stack([pose]).to(torch.float32),
        1e2 * torch.eye(6)[None],
        torch.zeros(1, 4, dtype=torch.bool),
        torch.tensor([0.9]),
        torch.tensor([True]),
    )


def _off(estimate: PoseEstimate, truth: Pose) -> float:
    return estimate.cam_from_world[0].to(torch.float64).center_distance(truth).item()


def test_a_map_knows_by_which_motions_its_place_repeats_itself() -> None:
    scene, memory = _corridor(0.0)
    look_alikes = memory.look_alikes
    assert look_alikes is not None and len(look_alikes.views) > len(scene.mapping) / 3
    motion = look_alikes.there_from_here.translation.double()
    doors = (motion @ EAST) / HERE
    whole = (doors - doors.round()).abs() < 0.02
    aside = (motion - (motion @ EAST)[:, None] * EAST).norm(dim=-1) < 0.05
    assert (whole & aside).double().mean() > 0.9
    assert (doors.round().abs() >= 1)[whole].all()


def test_where_photos_cannot_tell_no_pose_is_sure_and_the_right_one_is_named() -> None:
    scene, memory = _corridor(0.0)
    for truth, estimate, poses in _answers(scene, memory, 1):
        assert len(poses) >= 2 and not estimate.success.item()
        assert sum(chance for _, chance in poses) == pytest.approx(1.0, abs=0.1)
        assert max(chance for _, chance in poses) < 0.7
        assert min(_off(pose, truth) for pose, _ in poses) < 0.02


def test_where_photos_can_tell_the_right_place_wins_from_a_wrong_one() -> None:
    scene, memory = _corridor(1.0)
    for steps in (0, 1):
        answers = _answers(scene, memory, steps)
        right = [_off(estimate, truth) < 0.02 for truth, estimate, _ in answers]
        sure = [bool(estimate.success) for _, estimate, _ in answers]
        assert sum(right) >= 2, steps
        assert all(right[i] for i in range(len(sure)) if sure[i])


def test_a_place_that_is_missing_something_has_less_support() -> None:
    scene, memory = _corridor(1.0)
    frame = scene.query[2]
    view, truth = GreyView.of(frame.image, frame.camera), _pose(frame)
    right, wrong, away = (
        support(
            sightings(memory.landmarks, view, CORRIDOR.moved(truth, torch.tensor([steps]))), view.camera.size
        )
        for steps in (0, 1, 1000)
    )
    assert 0 > right > wrong + 0.2
    assert away == -np.inf


def _said(
    memory: Remembered, telling: Telling | None, frame: Frame, image: torch.Tensor, places: list[Pose]
) -> np.ndarray:
    view = GreyView.of(image, frame.camera, colored=True)
    found = [sightings(memory.landmarks, view, place) for place in places]
    return evidence(telling, memory.landmarks, view, places, found)


def test_what_differs_speaks_for_the_right_place() -> None:
    scene, memory = _corridor(1.0)
    assert memory.look_alikes is not None
    telling = memory.look_alikes.telling
    assert telling is not None and len(telling) > 50
    told = []
    for i in (1, 2, 3, 4):
        frame = scene.query[i]
        truth = _pose(frame)
        places = [CORRIDOR.moved(truth, torch.tensor([steps])) for steps in (0, 1, -1)]
        against = _said(memory, telling, frame, frame.image, places)
        assert against == pytest.approx(-against.T)
        assert _said(memory, telling, frame, frame.image, places[::-1]) == pytest.approx(against[::-1, ::-1])
        told.append(against[0, 1:].min())
        darkened = 0.7 * frame.image * torch.tensor([1.0, 0.9, 0.85])[:, None, None]
        darker = _said(memory, telling, frame, darkened, places)
        assert np.abs(darker - against).max() < 0.5 * np.abs(against).max() + 1
        nowhere = replace(telling, told=telling.told[:0], there=telling.there[:0])
        for nothing in (nowhere, None):
            assert (_said(memory, nothing, frame, frame.image, places) == 0).all()
    assert sum(least > 1 for least in told) >= 3, told


def test_equal_places_have_nothing_that_tells_them_apart() -> None:
    equal, different = _corridor(0.0)[1].look_alikes, _corridor(1.0)[1].look_alikes
    assert equal is not None and different is not None
    assert equal.telling is not None and different.telling is not None
    assert len(equal.telling) < 0.3 * len(different.telling)
    doors = (equal.telling.motions.translation @ EAST) / HERE
    assert len(doors) >= 2 and (doors - doors.round()).abs().max() < 0.02


def test_probabilities_add_up_and_favour_what_is_supported() -> None:
    nothing = np.zeros((2, 2))
    chances = probabilities(np.zeros((3, 3)), [-0.3, -0.1, -np.inf], [0.5, 0.5, 0.5])
    assert chances.sum() == pytest.approx(1.0)
    assert chances[1] > chances[0] > 1e-3 > 1e-9 > chances[2]
    assert probabilities(nothing, [-0.2, -0.2], [0.1, 0.1]).tolist() == [0.5, 0.5]
    for likelier, other in (
        probabilities(nothing, [-0.2, -0.2], [0.6, 0.1]),
        probabilities(np.array([[0.0, 3.0], [-3.0, 0.0]]), [-0.2, -0.2], [0.1, 0.1]),
    ):
        assert likelier > other


def test_without_look_alikes_nothing_else_is_asked() -> None:
    scene, memory = _corridor(0.0)
    for look_alikes in (None, LookAlikes(torch.zeros(0, dtype=torch.int32), Pose.identity(0))):
        for _, estimate, poses in _answers(scene, memory._replace(look_alikes=look_alikes), 0):
            assert len(poses) == 1 and estimate.success.item()


def test_they_survive_a_map_file_and_damaged_ones_are_refused() -> None:
    look_alikes = LookAlikes(torch.tensor([3, 5]), Pose.exp(torch.randn(2, 6, dtype=torch.float64)))
    again = LookAlikes.from_tensors(look_alikes.tensors())
    assert torch.equal(again.view, look_alikes.view)
    torch.testing.assert_close(
        again.there_from_here.matrix.double(), look_alikes.there_from_here.matrix, atol=1e-6, rtol=0
    )
    one = Pose.identity(1)
    known = _corridor(1.0)[1].look_alikes
    assert known is not None and known.telling is not None
    whole = replace(look_alikes, telling=known.telling)
    again = LookAlikes.from_tensors(whole.tensors())
    assert again.telling is not None
    for name, value in known.telling.tensors().items():
        assert torch.equal(again.telling.tensors()[name], value), name
    before = {name: value for name, value in whole.tensors().items() if name != "telling.motions"}
    assert LookAlikes.from_tensors(before).telling is None
    told = known.telling.told
    for wrong in (told - 1, told + torch.tensor([len(known.telling), 0]), told + torch.tensor([0, 24])):
        with pytest.raises(ValueError, match="telling told: expected rows from 0"):
            replace(known.telling, told=wrong)
    with pytest.raises(ValueError, match=r"telling motions: expected \(G, 3, 4\)"):
        Telling.from_tensors({**known.telling.tensors(), "motions": torch.eye(4)})
    for view, motion, message in (
        (torch.tensor([1, 2]), one, r"expected batch \(2,\)"),
        (torch.tensor([-1]), one, "counted from 0"),
        (torch.tensor([0]), Pose(one.rotation, one.translation + torch.inf), "expected finite motions"),
    ):
        with pytest.raises(ValueError, match=message):
            LookAlikes(view, motion)
    with pytest.raises(ValueError, match=r"expected \(M, 3, 4\)"):
        LookAlikes.from_tensors({"view": torch.tensor([0]), "there_from_here": torch.eye(4)})


def test_a_keypoint_is_matched_to_every_place_that_looks_like_it() -> None:
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(6, NUM_VALUES))
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    places = rng.uniform(-1, 1, (6, 3))
    # each look at three places 5 m apart, the first place twice
    points = np.concatenate([places, places + 0.01, places + [5, 0, 0], places + [10, 0, 0]])
    known = DescribedPoints.of(points, np.tile(looks, (4, 1)).astype(np.float32))
    keypoints = Keypoints(np.zeros((6, 2)), looks.astype(np.float32))
    rows, similarity = match_several(known, keypoints, 4, apart=0.1)
    assert ((rows[:, :3] % 6) == np.arange(6)[:, None]).all() and (rows[:, 3] == -1).all()
    assert (similarity[:, :3] > 0.99).all() and (similarity[:, 3] == 0).all()
    kept = points[rows[:, :3]]
    assert min(np.linalg.norm(kept[:, i] - kept[:, j], axis=1).min() for i, j in ((0, 1), (0, 2), (1, 2))) > 4
    nothing = DescribedPoints.of(np.zeros((0, 3)), np.zeros((0, NUM_VALUES), np.float32))
    assert (match_several(nothing, keypoints, 4, 0.1)[0] == -1).all()


def test_a_place_that_the_photo_hardly_shows_is_none_however_many_there_are() -> None:
    right, strange = (-0.1, 0.6), (-1.6, 0.0)
    supports, shares = zip(right, *[strange] * 14, strict=True)
    chances = probabilities(np.zeros((15, 15)), supports, shares)
    assert chances[0] == 1.0 and (chances[1:] == 0).all()
