"""Queries of a map that has landmarks: they make the answer exact, for every photo and through every lens.

The world is the textured ball: known exactly, photographed through any lens.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from answers import Answer, asked
from ball_world import ColorEncoder
from devices import PretendedGpu
from textured_ball import LENS, places, textured

from dsac.geometry import Camera, Pose
from dsac.localizer import Localizer
from dsac.ransac import Correspondences, PoseSolver
from dsac.scene_map import SceneMap

# the texture is found to a tenth of a pixel of 8 mm; scene coordinates alone are off by 5 cm and a degree
NEAR_M, NEAR_DEG = 0.006, 0.1
SHORT_SIDE_PX, HALF_PIXEL = 480, 0.5  # of the images that landmarks are searched in
QUERIES = places(4, seed=5)
TELE = Camera.simple(900, LENS.size)
OPENCV = Camera.from_params("OPENCV", [400, 396, 212, 165, -0.2, 0.05, 0.003, -0.002], LENS.size)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def localizer(textured_ball_map: SceneMap) -> Localizer:
    return Localizer(textured_ball_map, encoder=ColorEncoder())


@pytest.fixture
def without_landmarks(textured_ball_map: SceneMap) -> Localizer:
    return Localizer(replace(textured_ball_map, landmarks=None), encoder=ColorEncoder())


def _photos(camera: Camera, poses: Pose = QUERIES) -> torch.Tensor:
    return torch.stack([textured(camera, poses[i]).image for i in range(len(poses.translation))])


def _one_by_one(localizer: Localizer, camera: Camera, photos: torch.Tensor) -> list[Answer]:
    return [asked(localizer, photo, camera) for photo in photos]


def _distances(answers: list[Answer]) -> torch.Tensor:
    found = [answer.cam_from_world.center_distance(QUERIES[i]) for i, answer in enumerate(answers)]
    return torch.cat(found)


def test_answers_are_nearer_with_landmarks_than_without(
    localizer: Localizer, without_landmarks: Localizer
) -> None:
    photos = _photos(LENS)
    fine, coarse = (_one_by_one(each, LENS, photos) for each in (localizer, without_landmarks))
    assert all(answer.success.item() for answer in fine)
    assert (_distances(fine) < NEAR_M).all()
    assert (_distances(fine) < 0.2 * _distances(coarse)).all()
    for i, answer in enumerate(fine):
        assert answer.cam_from_world.rotation_error_deg(QUERIES[i]).item() < NEAR_DEG


def test_an_answer_of_little_confidence_is_none(without_landmarks: Localizer) -> None:
    """Scene coordinates of a lens that mapping never saw are found to agree, but not well."""
    answer = asked(without_landmarks, _photos(TELE), TELE)
    assert ((0.1 < answer.confidence) & (answer.confidence < 0.45)).all()
    assert not answer.success.any()


def test_each_photo_of_a_batch_is_aligned_to_itself(localizer: Localizer) -> None:
    photos = _photos(LENS)
    together = asked(localizer, photos, LENS)
    assert together.success.all()
    for i, alone in enumerate(_one_by_one(localizer, LENS, photos)):
        assert alone.cam_from_world.center_distance(together.cam_from_world[i]).item() < 5e-4
        assert alone.confidence.item() == pytest.approx(together.confidence[i].item(), abs=0.02)


def test_a_photo_of_another_focal_length_is_aligned(localizer: Localizer) -> None:
    """More than twice the mapping lens's: nothing looks like its patches before it is made as small as they."""
    answers = _one_by_one(localizer, TELE, _photos(TELE))
    assert all(answer.success.item() for answer in answers)
    assert (_distances(answers) < 0.05).all()  # the ball's wall is nearly a plane for so narrow a view


def test_a_distorted_photo_is_aligned_as_its_undistorted_twin(localizer: Localizer) -> None:
    twins = [asked(localizer, _photos(camera), camera) for camera in (OPENCV, OPENCV.pinhole)]
    for answer in twins:
        assert answer.success.all()
        assert answer.cam_from_world.center_distance(QUERIES).max() < NEAR_M
    assert _offset_px(twins[0], twins[1].cam_from_world) < HALF_PIXEL / 4


def test_answers_are_off_to_no_side(localizer: Localizer) -> None:
    """Half a pixel anywhere on the way from a mapping photo's corner to a query's would show in all alike."""
    poses = places(12, seed=6)
    answer = asked(localizer, _photos(LENS, poses), LENS)
    assert answer.success.all()
    assert _offset_px(answer, poses) < HALF_PIXEL / 4


def test_inliers_are_those_of_the_pose_that_is_answered(textured_ball_map: SceneMap) -> None:
    """Not of the coarse one, some pixels off."""
    localizer = Localizer(textured_ball_map, encoder=ColorEncoder(), solver=PoseSolver.rgb(threshold_px=3.0))
    answer = localizer.localize(textured(LENS, QUERIES[1]).image, LENS)
    seen = answer.correspondences
    points_cam = answer.cam_from_world @ seen.scene_points[0].double()
    error_px = (answer.camera.to(torch.float64).project(points_cam) - seen.pixels[0]).norm(dim=-1)
    clear = (error_px - 3).abs() > 0.01
    assert torch.equal(answer.inliers[clear], (error_px < 3)[clear])
    assert 50 < answer.inliers.sum() < 0.9 * len(error_px)


def _offset_px(answer: Answer, truth: Pose) -> float:
    """By how much the answers show the scene shifted on average, in pixels of the landmarks' images."""
    grid = torch.cartesian_prod(torch.linspace(0.1, 0.9, 5), torch.linspace(0.1, 0.9, 5)).double()
    points_cam = 3 * LENS.unproject(grid * torch.tensor(LENS.size))
    moved = answer.cam_from_world @ truth.inverse()
    shifts = [
        LENS.project(moved[i] @ points_cam) - LENS.project(points_cam) for i in range(len(answer.success))
    ]
    return torch.cat(shifts).mean(0).norm().item() * SHORT_SIDE_PX / min(LENS.size)


def test_a_gpu_gives_the_answer_of_the_cpu(localizer: Localizer) -> None:
    photo = textured(LENS, QUERIES[0]).image
    here = asked(localizer, photo, LENS)
    with PretendedGpu():
        there = asked(Localizer(localizer.scene_map, encoder=ColorEncoder(), device="cuda:0"), photo, LENS)
    assert there.success.item()
    assert there.cam_from_world.center_distance(here.cam_from_world).item() < 1e-3


# ---- photos that scene coordinates do not find ----


class Clueless:
    """Proposes points that have nothing to do with the photo."""

    def encode(self, images: torch.Tensor, camera: Camera) -> torch.Tensor:
        return torch.zeros(len(images), 1, 12, 16)

    def predict(self, features: torch.Tensor, camera: Camera) -> Correspondences:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.rand(1, 192, 2, generator=generator) * torch.tensor(camera.size)
        points = torch.randn(1, 192, 3, generator=generator)
        return Correspondences(pixels, points, camera[None].to(torch.float32))

    def zoom(self, camera: Camera) -> float:
        return 1.0


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_photos_are_found_by_their_keypoints_however_they_are_turned(
    textured_ball_map: SceneMap, quarter_turns: int
) -> None:
    localizer = Localizer(textured_ball_map, regressor=Clueless())
    for i in range(2):
        photo, camera, truth = _turned(textured(LENS, QUERIES[i]).image, LENS, QUERIES[i], quarter_turns)
        answer = asked(localizer, photo, camera)
        assert answer.success.item()
        assert answer.cam_from_world.center_distance(truth).item() < 2 * NEAR_M
        assert answer.cam_from_world.rotation_error_deg(truth).item() < 2 * NEAR_DEG


def test_without_described_points_nothing_else_is_asked(textured_ball_map: SceneMap) -> None:
    localizer = Localizer(replace(textured_ball_map, described=None), regressor=Clueless())
    assert not asked(localizer, textured(LENS, QUERIES[0]).image, LENS).success.item()


def test_a_photo_of_something_else_is_not_found_by_its_keypoints(textured_ball_map: SceneMap) -> None:
    """A texture of the same kind, from other numbers."""
    localizer = Localizer(textured_ball_map, regressor=Clueless())
    other = torch.nn.functional.interpolate(torch.rand(1, 3, 54, 72), LENS.size[::-1], mode="bilinear")[0]
    assert not asked(localizer, other, LENS).success.item()


def _turned(
    photo: torch.Tensor, camera: Camera, cam_from_world: Pose, quarter_turns: int
) -> tuple[torch.Tensor, Camera, Pose]:
    """As a camera that was held turned took it, counterclockwise by so many quarters."""
    step = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    for _ in range(quarter_turns):
        width, height = camera.size
        center = torch.stack([camera.center_px[1], width - camera.center_px[0]])
        camera = Camera(camera.focal_px.flip(0), center, (height, width))
        cam_from_world = Pose(step @ cam_from_world.rotation, step @ cam_from_world.translation)
    return torch.rot90(photo, quarter_turns, (1, 2)), camera, cam_from_world
