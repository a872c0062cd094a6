"""Queries with depth: it makes answers surer, is used only where asked for, and does no harm where it is wrong.

The world is the ball, known exactly; depth of a photo is exact until a test spoils it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ball_world import POSE, ColorEncoder, ball_frames, exact_map, photograph
from textured_ball import LENS, places, textured
from torch import Tensor

import dsac.networks.encoder
import dsac.regressor
from dsac.datasets import Frame
from dsac.errors import DsacError
from dsac.geometry import Camera, Pose
from dsac.localization import Localization
from dsac.localizer import Localizer
from dsac.ransac import Correspondences
from dsac.scene_map import SceneMap

OPENCV = Camera.from_params("OPENCV", [280, 290, 140, 90, -0.2, 0.05, 0.003, -0.002], (256, 192))
FISHEYE = Camera.from_params("OPENCV_FISHEYE", [180, 185, 150, 90, 0.03, -0.01, 0, 0], (300, 200))
LARGE = Camera.simple(1120, (1024, 768))


@pytest.fixture
def localizer(monkeypatch: pytest.MonkeyPatch) -> Localizer:
    torch.set_num_threads(1)
    for module in (dsac.regressor, dsac.networks.encoder):
        monkeypatch.setattr(module, "fast_dtype", lambda device: torch.float32)
    return Localizer(exact_map(192), encoder=ColorEncoder())


class Noisy:
    """The map's own rows, each scene point off by 5 cm; remembers what it was given."""

    def __init__(self, localizer: Localizer, seed: int = 0) -> None:
        self.inner, self.generator = localizer.regressor, torch.Generator().manual_seed(seed)
        self.depths: list[Tensor | None] = []

    def encode(self, images: Tensor, camera: Camera, depth: Tensor | None = None) -> Tensor:
        self.depths.append(depth)
        return self.inner.encode(images, camera)

    def predict(self, features: Tensor, camera: Camera) -> Correspondences:
        rows = self.inner.predict(features, camera)
        noise = 0.05 * torch.randn(rows.scene_points.shape, generator=self.generator)
        return replace(rows, scene_points=rows.scene_points + noise)

    def zoom(self, camera: Camera) -> float:
        return 1.0


def _depth(photo: Frame) -> Tensor:
    assert photo.depth is not None
    return photo.depth


def _off(answer: Localization, truth: Pose = POSE) -> float:
    assert answer.success.all()
    return answer.cam_from_world.center_distance(truth).max().item()


def _same(a: Localization, b: Localization) -> bool:
    return torch.equal(a.cam_from_world.matrix, b.cam_from_world.matrix) and torch.equal(a.inliers, b.inliers)


@pytest.mark.parametrize("camera", [OPENCV, FISHEYE, LARGE], ids=["opencv", "fisheye", "large"])
def test_depth_is_of_the_photos_pixels_whatever_the_lens(localizer: Localizer, camera: Camera) -> None:
    photo = photograph(camera)
    answer = localizer.localize(photo.image, camera, depth=_depth(photo))
    assert _off(answer) < 0.004
    rows = answer.correspondences
    assert rows.camera_points is not None
    known = torch.isfinite(rows.camera_points[0]).all(-1)
    expected = POSE.to(torch.float32) @ rows.scene_points[0]
    # the nearest pixel's depth: half a pixel of a wall three metres away that is nowhere steep
    assert known.float().mean() > 0.95
    assert (rows.camera_points[0] - expected)[known].norm(dim=-1).max() < 0.04


def test_answers_are_nearer_and_surer_with_depth(localizer: Localizer) -> None:
    photo = photograph(LARGE)
    noisy = [Localizer(localizer.scene_map, regressor=Noisy(localizer, seed)) for seed in range(8)]
    plain = [each.localize(photo.image, LARGE) for each in noisy]
    measured = [each.localize(photo.image, LARGE, depth=_depth(photo)) for each in noisy]
    errors = [np.mean([_off(answer) for answer in answers]) for answers in (plain, measured)]
    assert errors[1] < 0.7 * errors[0]
    assert measured[0].position_sigma_m < plain[0].position_sigma_m


def test_a_batch_is_a_loop(localizer: Localizer) -> None:
    """Also where one photo of it has no depth, and one the wrong."""
    steps = 0.2 * torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    poses = Pose.exp(steps) @ POSE.expand(3)
    photos = [photograph(OPENCV, poses[i]) for i in range(3)]
    depth = torch.stack([_depth(photos[0]), torch.zeros(192, 256), 1000 * _depth(photos[2])])
    together = localizer.localize(torch.stack([p.image for p in photos]), OPENCV, depth=depth)
    assert _off(together, poses) < 0.004
    for i, photo in enumerate(photos):
        alone = localizer.localize(photo.image, OPENCV, depth=depth[i])
        assert alone.cam_from_world.center_distance(together.cam_from_world[i]) < 1e-4
        assert torch.equal(alone.inliers, together.inliers[i]) or i == 1


@pytest.mark.parametrize("hole", [0.0, float("nan"), -1.0, float("inf")])
def test_without_any_known_depth_the_answer_is_that_of_the_photo_alone(
    localizer: Localizer, hole: float
) -> None:
    photo = photograph(OPENCV)
    plain = localizer.localize(photo.image, OPENCV)
    assert _same(localizer.localize(photo.image, OPENCV, depth=torch.full((192, 256), hole)), plain)
    assert _same(
        localizer.localize(photo.image.permute(1, 2, 0).numpy(), OPENCV),
        localizer.localize(photo.image.permute(1, 2, 0).numpy(), OPENCV, depth=np.full((192, 256), hole)),
    )


def test_what_is_left_of_depth_full_of_holes_is_used(localizer: Localizer) -> None:
    photo = photograph(OPENCV)
    depth = _depth(photo).clone()
    depth[:, 100:] = torch.nan
    answer = localizer.localize(photo.image, OPENCV, depth=depth)
    known = torch.isfinite(answer.correspondences.camera_points).all(-1)  # type: ignore[arg-type]
    assert 0.2 < known.float().mean() < 0.5
    assert _off(answer) < 0.004 and answer.inliers.float().mean() > 0.9


@pytest.mark.parametrize("times", [1000.0, 0.2, 1.6])
def test_depth_in_another_unit_is_named_and_left_out(
    localizer: Localizer, times: float, caplog: pytest.LogCaptureFixture
) -> None:
    photo = photograph(OPENCV)
    depth = times * _depth(photo)
    answer = localizer.localize(photo.image, OPENCV, depth=depth)
    assert _same(answer, localizer.localize(photo.image, OPENCV))
    (line,) = caplog.messages
    assert (
        line.startswith(f"depth is {times:.3g} times") and f"with {1 / times:.3g} times the depth_scale" in line
    )
    assert _off(localizer.localize(photo.image, OPENCV, depth=depth, depth_scale=1 / times)) < 0.004
    assert len(caplog.messages) == 1


def test_depth_of_another_photo_is_left_out(localizer: Localizer) -> None:
    other = photograph(OPENCV, Pose.exp(torch.tensor([0.4, 0.9, 0.2, 0.8, -0.7, 0.9]).double()) @ POSE)
    photo = photograph(OPENCV)
    answer = localizer.localize(photo.image, OPENCV, depth=_depth(other))
    assert _off(answer) < 0.01


def test_depth_of_the_photos_shape_in_another_size_is_taken(localizer: Localizer) -> None:
    photo = photograph(LARGE)
    small = _depth(photo)[2::4, 2::4]
    answer = localizer.localize(photo.image, LARGE, depth=small)
    assert answer.correspondences.has_depth and _off(answer) < 0.004
    with pytest.raises(ValueError, match="depth: expected depth of the image's size 1024x768, got 200x192"):
        localizer.localize(photo.image, LARGE, depth=small[:, :200])
    with pytest.raises(ValueError, match=r"depth: expected \(H, W\) for each of 1 photos, got \(2, 192, 256\)"):
        localizer.localize(photo.image, LARGE, depth=small.expand(2, -1, -1))
    with pytest.raises(ValueError, match="depth: expected floats in metres, got uint16; .*depth_scale=0.001"):
        localizer.localize(photo.image, LARGE, depth=np.full((768, 1024), 2000, np.uint16))


def test_frames_have_their_depth_looked_at_only_when_asked(localizer: Localizer) -> None:
    frames = ball_frames(4)
    source = Noisy(localizer)
    answers = list(Localizer(localizer.scene_map, regressor=source).localize_frames(frames))
    assert source.depths == [None] * 4 and not any(answer.correspondences.has_depth for answer in answers)
    answers = list(localizer.localize_frames(frames, use_depth=True))
    assert all(answer.correspondences.has_depth for answer in answers)
    assert frames.cam_from_world is not None
    for i, answer in enumerate(answers):
        assert _off(answer, frames.cam_from_world[i]) < 0.01
    # a source of photos alone need not know of depth
    source.encode = lambda images, camera: source.inner.encode(images, camera)  # type: ignore[method-assign]
    assert len(list(Localizer(localizer.scene_map, regressor=source).localize_frames(frames))) == 4


def test_whoever_encodes_is_given_the_depth(localizer: Localizer) -> None:
    source, photo = Noisy(localizer), photograph(OPENCV)
    Localizer(localizer.scene_map, regressor=source).localize(photo.image, OPENCV, depth=_depth(photo))
    (depth,) = source.depths
    assert depth is not None and torch.equal(depth[0], _depth(photo).nan_to_num())


def test_a_focal_length_that_is_as_assumed_goes_with_depth(localizer: Localizer) -> None:
    camera = Camera.simple(280, (256, 192))
    scene_map = replace(localizer.scene_map, info=replace(localizer.scene_map.info, camera=camera.to_text()))
    photo = photograph(camera)
    image = photo.image.permute(1, 2, 0).numpy()
    answer = Localizer(scene_map, encoder=ColorEncoder()).localize(image, depth=_depth(photo))
    assert answer.correspondences.has_depth and answer.focal_sigma_px == 0 and _off(answer) < 0.01


def test_a_map_without_metres_refuses_depth(localizer: Localizer) -> None:
    scene_map = replace(localizer.scene_map, info=replace(localizer.scene_map.info, metric=False))
    photo = photograph(OPENCV)
    other = Localizer(scene_map, encoder=ColorEncoder())
    with pytest.raises(DsacError, match="depth: it is in metres, the map is not"):
        other.localize(photo.image, OPENCV, depth=_depth(photo))
    assert _off(other.localize(photo.image, OPENCV)) < 0.004


def test_landmarks_and_depth_together_are_as_near_as_landmarks(textured_ball_map: SceneMap) -> None:
    localizer, poses = Localizer(textured_ball_map, encoder=ColorEncoder()), places(4, seed=5)
    photos = [textured(LENS, poses[i]) for i in range(4)]
    for i, photo in enumerate(photos):
        measured = localizer.localize(photo.image, LENS, depth=_depth(photo))
        assert _off(measured, poses[i]) < 0.006  # as without depth: see test_landmark_queries
    wrong = localizer.localize(photos[0].image, LENS, depth=1000 * _depth(photos[0]))
    assert _same(wrong, localizer.localize(photos[0].image, LENS))
