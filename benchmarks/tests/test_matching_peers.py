"""The peers that match: keypoints get the scene points that a rendered room has, and queries their poses."""

from __future__ import annotations

import learned_matching
import numpy as np
import pytest
import torch
from ball_world import ball_frames
from learned_matching import LearnedMap, Vlad, deformable_convolution
from matching_baseline import SiftMap, most_similar, on_line, sift
from peer_geometry import Keypoints, lifted, off_epipolar_line, solve, triangulated, view_pairs

from dsac import Camera, Frame, Pose, Scene
from dsac.rooms import synthetic_scene


@pytest.fixture(scope="module")
def room() -> Scene:
    """Neighbouring mapping frames of one end of the room, one of them as query."""
    scene = synthetic_scene(60, 1, (320, 240), light_cell=1.0)
    return Scene("", "", scene.mapping[[0, 2, 4, 6, 8, 10]], scene.mapping[[5]])


def test_sift_on_a_room_is_triangulated_where_the_depth_is(room: Scene):
    frames, poses = room.mapping, room.mapping.cam_from_world
    assert poses is not None
    keypoints = [sift(frame, 500) for frame in frames]
    matches = {
        (i, j): on_line(keypoints[i], keypoints[j], poses[j] @ poses[i].inverse()) for i, j in view_pairs(poses)
    }
    points = np.concatenate(triangulated(keypoints, poses, matches))
    exact = np.concatenate([lifted(frame, k) for frame, k in zip(frames, keypoints, strict=True)])
    off = np.linalg.norm(points - exact, axis=1)
    off = off[np.isfinite(off)]
    assert len(off) > 300
    assert np.median(off) < 0.03  # a third of a pixel over baselines of decimetres, metres away


@pytest.mark.parametrize("depth", [True, False])
def test_sift_localizes_in_a_room(room: Scene, depth: bool):
    mapping = room.mapping if depth else room.mapping.without_depth()
    sift_map, query = SiftMap.build(mapping, 500), room.query.without_depth()[0]
    pose = sift_map.localize(query)
    assert pose is not None and query.cam_from_world is not None and sift_map.megabytes > 0
    assert pose.center_distance(query.cam_from_world) < 0.02
    assert pose.rotation_error_deg(query.cam_from_world) < 0.5


class _SiftMatcher:
    """In the place of the learned ones."""

    def detect(self, frame: Frame) -> Keypoints:
        return sift(frame, 500)

    def match(self, a: Keypoints, b: Keypoints) -> np.ndarray:
        similarity = a.descriptors @ b.descriptors.T
        rows = np.flatnonzero(similarity.argmax(0)[similarity.argmax(1)] == np.arange(len(a)))
        return np.stack([rows, similarity.argmax(1)[rows]], axis=1)


@pytest.mark.parametrize("depth", [True, False])
def test_matches_with_the_frames_that_look_alike_localize(room: Scene, depth: bool, monkeypatch):
    monkeypatch.setattr(learned_matching, "FRAMES_MATCHED", 3)
    query = room.query.without_depth()[0]
    made = LearnedMap.build(room.mapping if depth else room.mapping.without_depth(), _SiftMatcher())
    pose = made.localize(query)
    assert pose is not None and query.cam_from_world is not None and made.megabytes > 0
    assert pose.center_distance(query.cam_from_world) < 0.02


def test_keypoints_of_a_distorted_photo_lie_on_epipolar_lines():
    frames = ball_frames(3)
    poses = frames.cam_from_world
    assert poses is not None and frames.camera(0).distortion is not None
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(1)).double() + poses[0].inverse() @ (
        torch.tensor([[0.0, 0.0, 9.0]], dtype=torch.float64)
    )
    sides = []
    for i in (0, 1):
        pixels = frames.camera(i).project(poses[i] @ points).numpy()
        sides.append(Keypoints.of(pixels, np.zeros((len(pixels), 1), np.float32), frames.camera(i)))
    off = off_epipolar_line(sides[0], sides[1], poses[1] @ poses[0].inverse())
    assert np.diagonal(off).max() < 1e-2 < np.median(off)


def test_the_pose_of_exact_matches_among_wrong_ones_is_exact():
    generator = torch.Generator().manual_seed(0)
    camera, truth = Camera.simple(500, (640, 480)), Pose.exp(torch.full((6,), 0.3, dtype=torch.float64))
    points = truth.inverse() @ (
        torch.rand(60, 3, generator=generator).double() + torch.tensor([-0.5, -0.5, 2.0])
    )
    pixels = camera.project(truth @ points)
    pixels[40:] = 480 * torch.rand(20, 2, generator=generator).double()
    pose = solve(pixels.numpy(), points.numpy(), camera)
    assert pose is not None and pose.center_distance(truth) < 1e-3
    assert solve(pixels[40:].numpy(), points[40:].numpy(), camera) is None
    assert solve(pixels[:5].numpy(), points[:5].numpy(), camera) is None


@pytest.mark.parametrize("rows", [0, 3, 100, 1234, 21_003])
def test_the_most_similar_are_those_of_a_full_search(rows: int):
    generator = torch.Generator().manual_seed(rows)
    asked, database = torch.rand(20, 16, generator=generator), torch.rand(rows, 16, generator=generator)
    row, similarity = most_similar(asked.numpy(), database.numpy(), 8)
    expected = (asked @ database.T).topk(min(8, rows), dim=1)
    np.testing.assert_allclose(similarity, expected.values, rtol=1e-5)
    assert (row == expected.indices.numpy()).all()


def test_a_rival_of_the_same_place_is_none():
    """Two frames saw a point: the ratio test compares with what else looks like it."""
    descriptors = np.eye(4, dtype=np.float32)[[0, 0, 1]]
    points, reach = np.array([[0.0, 0, 1], [0, 0, 1.01], [1, 0, 1]]), np.full(3, 0.02)
    asked = np.eye(4, dtype=np.float32)[:1]
    assert SiftMap(descriptors, points, reach, 9).match(asked)[1].all()
    assert not SiftMap(descriptors, points, 0 * reach, 9).match(asked)[1].any()
    row, good = SiftMap(descriptors[:0], points[:0], reach[:0], 9).match(asked)
    assert row.shape == good.shape == (1,) and not good.any()


def test_few_frames_are_all_paired_and_many_with_the_nearest_that_look_the_same_way():
    steps = torch.zeros(8, 6, dtype=torch.float64)
    steps[:, 3] = torch.arange(8.0)
    steps[4, 1] = 2.0  # looks away
    assert len(view_pairs(Pose.exp(steps))) == 28
    pairs = view_pairs(Pose.exp(steps), all_pairs=4, partners=2)
    assert (0, 1) in pairs and (3, 5) in pairs and not [pair for pair in pairs if 4 in pair]


def test_deformable_convolution_shifts_each_tap():
    generator = torch.Generator().manual_seed(0)
    image, weight = torch.rand(2, 3, 7, 9, generator=generator), torch.rand(4, 3, 3, 3, generator=generator)
    plain = torch.nn.functional.conv2d(image, weight, padding=1)
    offset = torch.zeros(2, 18, 7, 9)
    torch.testing.assert_close(deformable_convolution(image, offset, weight), plain)
    offset[:, 0::2], offset[:, 1::2] = 1.0, -2.0
    moved = deformable_convolution(image, offset, weight)
    torch.testing.assert_close(moved[..., 1:4, 3:], plain[..., 2:5, 1:-2], rtol=1e-4, atol=1e-5)


def test_by_vlad_a_photo_looks_most_like_one_of_the_same_descriptors():
    generator = np.random.default_rng(0)
    photos = generator.normal(size=(3, 100, 8)).astype(np.float32)
    again = photos + 0.05 * generator.normal(size=photos.shape).astype(np.float32)
    vlad = Vlad.of([*photos])
    looks, looks_again = (np.stack([vlad(photo) for photo in side]) for side in (photos, again))
    np.testing.assert_allclose(np.linalg.norm(looks, axis=1), 1, rtol=1e-5)
    assert (np.argmax(looks_again @ looks.T, axis=1) == np.arange(3)).all()
