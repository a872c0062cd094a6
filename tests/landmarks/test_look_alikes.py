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
    answer,
    probabilities,
    sightings,
    support,
)
from dsac.landmarks.described import DescribedPoints
from dsac.landmarks.matching import match_several
from dsac.landmarks.telling import evidence, seen
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


def test_what_differs_speaks_for_the_right_place() -> None:
    scene, memory = _corridor(1.0)
    look_alikes = memory.look_alikes
    assert look_alikes is not None and look_alikes.telling is not None and len(look_alikes.telling) > 50
    told = []
    for i in (1, 2, 3, 4):
        frame = scene.query[i]
        view, truth = GreyView.of(frame.image, frame.camera, colored=True), _pose(frame)
        places = [CORRIDOR.moved(truth, torch.tensor([steps])) for steps in (0, 1, -1)]
        told.append(evidence(look_alikes, view, places))
        assert evidence(look_alikes, view, places[::-1]) == pytest.approx(told[-1][::-1])
    assert sum(here > max(others) + 1 for here, *others in told) >= 3, told
    nowhere = replace(look_alikes, told=look_alikes.told[:0])
    assert (evidence(nowhere, view, places) == 0).all()
    assert (evidence(replace(nowhere, telling=None), view, places) == 0).all()


def test_what_has_another_colour_is_not_there_and_light_does_not_count() -> None:
    scene, memory = _corridor(1.0)
    frame, own = scene.mapping[3], memory.landmarks
    pose = _pose(frame)

    def there(image: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        view = GreyView.of(image, frame.camera, colored=True)
        rows, found, expected = seen(own, view, pose, most=200, radius=4)
        return found[own.view[rows] == 3], expected[own.view[rows] == 3]

    found, at = there(frame.image)
    assert len(found) > 10 and found.mean() > 0.9
    darker, _ = there(0.6 * frame.image * torch.tensor([1.0, 0.9, 0.8])[:, None, None])
    assert darker.mean() > 0.85
    tinted = frame.image.clone()
    edge = int(np.quantile(at[:, 0], 0.3))
    tinted[:2, :, : edge // 2] *= 0.2  # blue
    changed, _ = there(tinted)
    left = at[:, 0] < edge - 8
    assert left.sum() >= 2 and changed[left].mean() < 0.4 and changed[~left].mean() > 0.8


def test_probabilities_add_up_and_favour_what_is_supported() -> None:
    nothing = np.zeros(2)
    chances = probabilities(np.zeros(3), [-0.3, -0.1, -np.inf], [0.5, 0.5, 0.5])
    assert chances.sum() == pytest.approx(1.0)
    assert chances[1] > chances[0] > chances[2] == 0
    assert probabilities(nothing, [-0.2, -0.2], [0.1, 0.1]).tolist() == [0.5, 0.5]
    for likelier, other in (
        probabilities(nothing, [-0.2, -0.2], [0.6, 0.1]),
        probabilities(np.array([3.0, -3.0]), [-0.2, -0.2], [0.1, 0.1]),
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
    few = _corridor(1.0)[1].landmarks
    told = torch.tensor([[0, 1, 1], [2, 0, 0]], dtype=torch.int32)
    again = LookAlikes.from_tensors(replace(look_alikes, telling=few, told=told).tensors())
    assert again.telling is not None and again.telling.colors is not None
    assert torch.equal(again.telling.patches, few.patches) and torch.equal(again.told, told)
    for wrong in (told + torch.tensor([0, 1, 0]), told - 1, told + torch.tensor([len(few), 0, 0])):
        with pytest.raises(ValueError, match="look-alikes' told: expected"):
            replace(look_alikes, telling=few, told=wrong)
    with pytest.raises(ValueError, match="look-alikes' told: expected"):
        replace(look_alikes, told=told)
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
