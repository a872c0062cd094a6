"""The synthetic room: exact geometry, the same for the same seed, and readable again from a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dsac.datasets import Frame, Scene, load_scene
from dsac.rooms import DEPTH_UNIT, Room, RoomBuilder, build_living_room, synthetic_scene, write_scene
from dsac.rooms.furniture import bookshelf
from dsac.rooms.textures import plain

ROOM = torch.tensor([5.0, 4.0, 2.7], dtype=torch.float64)
COARSE = 0.5  # metres between the cells of light: baked in no time


@pytest.fixture(scope="module")
def scene() -> Scene:
    return synthetic_scene(num_mapping=80, num_query=20, size=(200, 150), seed=0, light_cell=COARSE)


def _pixel_centers(frame: Frame) -> torch.Tensor:
    _, height, width = frame.image.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2).double() + 0.5


def _scene_points(frame: Frame) -> torch.Tensor:
    """World points (H W, 3) that the pixels show."""
    assert frame.depth is not None and frame.cam_from_world is not None
    rays = frame.camera.unproject(_pixel_centers(frame))
    return frame.cam_from_world.inverse() @ (rays * frame.depth.double().reshape(-1, 1))


@pytest.fixture(scope="module")
def points(scene: Scene) -> torch.Tensor:
    """World points of frames that look everywhere."""
    return torch.cat([_scene_points(scene.mapping[i]) for i in range(0, 80, 4)])


def test_the_same_seed_gives_the_same_bytes(scene: Scene) -> None:
    room = scene.mapping.reader.room  # type: ignore[attr-defined]
    again = build_living_room(0, COARSE)
    assert again is not room and all(np.array_equal(a, b) for a, b in zip(room, again, strict=True))
    walked = synthetic_scene(num_mapping=80, num_query=20, size=(200, 150), seed=0, light_cell=COARSE)
    for part in ("mapping", "query"):
        first, second = (getattr(s, part)[3] for s in (scene, walked))
        assert torch.equal(first.image, second.image) and torch.equal(first.depth, second.depth)
        assert torch.equal(first.cam_from_world.matrix, second.cam_from_world.matrix)


def test_another_seed_is_another_walk_along_other_books(scene: Scene, monkeypatch) -> None:
    room = scene.mapping.reader.room  # type: ignore[attr-defined]
    monkeypatch.setattr("dsac.rooms.living_room._last_room", lambda seed, light_cell: room)  # seconds to paint
    other = synthetic_scene(num_mapping=80, num_query=20, size=(200, 150), seed=1)
    for part in ("mapping", "query"):
        first, second = (getattr(s, part)[3] for s in (scene, other))
        assert not torch.equal(first.cam_from_world.matrix, second.cam_from_world.matrix)
        assert (first.image - second.image).abs().mean() > 0.01

    def shelf(seed: int) -> Room:
        b = RoomBuilder(np.random.default_rng([seed, 0]))
        bookshelf(b, b.material(plain((200, 160, 110)), (1, 1)))
        return b.room()

    books, others = shelf(0), shelf(1)
    assert not np.array_equal(books.texels, others.texels) and not np.array_equal(books.frame, others.frame)


def test_every_pixel_shows_something_at_a_distance(scene: Scene) -> None:
    for frames in (scene.mapping, scene.query):
        for i in range(0, len(frames), 5):
            frame = frames[i]
            assert frame.depth is not None
            assert torch.isfinite(frame.depth).all() and torch.isfinite(frame.image).all()
            assert 0.3 < frame.depth.min() and frame.depth.max() < ROOM.norm()
            assert frame.image.std() > 0.05


def test_scene_points_lie_in_the_room_and_exactly_on_its_planes(points: torch.Tensor) -> None:
    assert (points > -1e-5).all() and (points < ROOM + 1e-5).all()
    for axis, value in ((0, 0.0), (0, 5.0), (1, 4.0), (2, 0.0)):
        assert ((points[:, axis] - value).abs() < 1e-5).sum() > 300, (axis, value)


def test_scene_points_lie_exactly_on_the_globe(points: torch.Tensor) -> None:
    center = torch.tensor([2.95, 3.76, 0.94], dtype=torch.float64)
    distance = (points - center).norm(dim=-1)
    globe = distance[(distance < 0.17) & (points[:, 2] > 0.83)]
    assert len(globe) > 300
    torch.testing.assert_close(globe, torch.full_like(globe, 0.15), atol=1e-5, rtol=0)


@pytest.mark.parametrize("first, second", [(0, 2), (31, 30), (50, 52), (70, 71)])
def test_points_of_one_frame_are_seen_by_the_next_at_their_depth_and_in_their_colour(
    scene: Scene, first: int, second: int
) -> None:
    source, target = scene.mapping[first], scene.mapping[second]
    assert target.depth is not None and target.cam_from_world is not None
    points_cam = target.cam_from_world @ _scene_points(source)
    pixels = target.camera.project(points_cam)
    # a margin of a pixel for the interpolation
    inside = ((pixels > 1) & (pixels < torch.tensor(target.camera.size) - 1)).all(-1) & (points_cam[:, 2] > 0)
    assert inside.float().mean() > 0.3
    pixels, depth = pixels[inside].numpy().astype(np.float32) - 0.5, points_cam[inside, 2].numpy()
    there = cv2.remap(target.depth.numpy(), pixels[:, :1], pixels[:, 1:], cv2.INTER_LINEAR)[:, 0]
    image = target.image.permute(1, 2, 0).numpy()
    colour = cv2.remap(image, pixels[:, :1], pixels[:, 1:], cv2.INTER_LINEAR)[:, 0]
    error = np.abs(there - depth)
    seen = error < 0.02  # the rest is hidden in the second frame, or at an edge
    assert seen.mean() > 0.7
    assert np.median(error[seen]) < 1e-3
    difference = np.abs(colour - source.image.reshape(3, -1).T[inside].numpy()).max(1)
    assert np.median(difference[seen]) < 0.03  # noise, exposure, texture filtered at another scale


def test_cameras_keep_away_from_walls_and_furniture(scene: Scene) -> None:
    room = scene.mapping.reader.room  # type: ignore[attr-defined]
    leaves = room.bounds[room.links[:, 1] >= 0]
    assert len(leaves) == len(room.kind)
    for center in scene.truths["exact"].cam_from_world.center.numpy():
        assert (center > 0.3).all() and (center < ROOM.numpy() - 0.3).all()
        outside = np.maximum(np.maximum(leaves[:, 0] - center, center - leaves[:, 1]), 0)
        nearest = leaves[np.linalg.norm(outside, axis=1).argmin()]
        is_in_shell = (np.ptp(nearest, axis=0) > 2).sum() == 2  # a wall, the floor or the ceiling
        assert is_in_shell or np.linalg.norm(outside, axis=1).min() > 0.3


def test_walks_are_smooth_and_rotations_proper(scene: Scene) -> None:
    mapping = synthetic_scene(size=(64, 48), light_cell=COARSE).mapping
    for frames in (mapping, scene.query):
        pose = frames.cam_from_world
        assert pose is not None
        identity = torch.eye(3, dtype=torch.float64).expand(len(frames), 3, 3)
        torch.testing.assert_close(pose.rotation @ pose.rotation.mT, identity)
        assert (torch.linalg.det(pose.rotation) > 0).all()
        # the image's down is the world's down: nobody is upside down
        assert (pose.rotation[:, 1, 2] < -0.7).all()
    assert mapping.cam_from_world is not None
    round_ = mapping.cam_from_world[:80]
    assert round_[1:].center_distance(round_[:-1]).max() < 0.25
    assert round_[1:].rotation_error_deg(round_[:-1]).max() < 20


def test_some_queries_are_blurred_and_some_badly_exposed(scene: Scene) -> None:
    reader = scene.query.reader
    shots = reader.shots  # type: ignore[attr-defined]
    calm = replace(reader, shots=replace(shots, shake=torch.zeros_like(shots.shake)))  # type: ignore[type-var]
    sharpness = [
        [cv2.Laplacian(r.read_image(name), cv2.CV_32F).std() for name in scene.query.names]
        for r in (reader, calm)
    ]
    blurred = np.array(sharpness[0]) < 0.95 * np.array(sharpness[1])
    assert 2 <= blurred.sum() <= 10
    assert (np.array(sharpness[0])[~blurred] == np.array(sharpness[1])[~blurred]).all()
    brightness = shots.exposure / np.median(shots.exposure)
    assert (brightness < 0.7).any() or (brightness > 1.4).any()
    assert (np.abs(brightness - 1) < 0.2).mean() > 0.5


def test_a_written_scene_is_read_again(tmp_path: Path) -> None:
    scene = synthetic_scene(num_mapping=5, num_query=3, size=(200, 150), light_cell=COARSE)
    calls: list[tuple[int, int]] = []
    write_scene(scene, tmp_path / "room", lambda done, total: calls.append((done, total)))
    assert calls == [(i, 8) for i in range(1, 9)]
    again = load_scene(tmp_path / "room")
    for frames, read in ((scene.mapping, again.mapping), (scene.query, again.query)):
        assert read.names == frames.names and read.has_depth
        for i in range(len(frames)):
            first, second = frames[i], read[i]
            assert second.camera.params.tolist() == first.camera.params.tolist()
            assert second.camera.size == (200, 150)
            assert (first.image - second.image).abs().mean() < 0.02
            assert first.depth is not None and second.depth is not None
            # half a unit, and float32 of metres
            assert (first.depth - second.depth).abs().max() < 0.51 * DEPTH_UNIT
            assert first.cam_from_world is not None and second.cam_from_world is not None
            assert second.cam_from_world.center_distance(first.cam_from_world) < 1e-9
            assert second.cam_from_world.rotation_error_deg(first.cam_from_world) < 1e-6
