"""Frames are divided by what they see: by walls, not by where cameras are, and whatever order they come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

import dsac.mapping.coarse_views
import dsac.mapping.division
from dsac.datasets import Frames, load_scene
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose
from dsac.mapping.division import divide

CAMERA = Camera.from_params("PINHOLE", [28, 29, 17, 11.5], (32, 24))
RECTANGLE = tuple[
    int, float, tuple[float, float], tuple[float, float]
]  # axis, where, lowest, highest of the rest


def _box(low: Sequence[float], high: Sequence[float]) -> list[RECTANGLE]:
    """The sides of a box."""
    rest = [[b for b in range(3) if b != a] for a in range(3)]
    return [
        (a, end[a], (low[rest[a][0]], low[rest[a][1]]), (high[rest[a][0]], high[rest[a][1]]))
        for a in range(3)
        for end in (low, high)
    ]


@dataclass
class World:
    """Rectangles, and what cameras measure of them; `scale` metres are one."""

    walls: list[RECTANGLE]
    poses: dict[str, Pose]
    scale: float = 1.0
    has_depth: bool = True
    known: dict[str, np.ndarray] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)

    def read_image(self, name: str) -> np.ndarray:
        raise DatasetError(f"{name}: there are no images")

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        self.read.append(name)
        if name not in self.known:
            self.known[name] = self._measured(self.poses[name], camera)
        return self.known[name] * np.float32(self.scale)

    def _measured(self, cam_from_world: Pose, camera: Camera) -> np.ndarray:
        width, height = camera.size
        y, x = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
        rays = camera.unproject(torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2))).numpy()
        rays, center = rays @ cam_from_world.rotation.numpy(), cam_from_world.center.numpy()
        nearest = np.full(len(rays), np.inf)
        for axis, where, low, high in self.walls:
            depth = (where - center[axis]) / np.where(rays[:, axis] == 0, np.nan, rays[:, axis])
            rest = np.delete(center + depth[:, None] * rays, axis, axis=1)
            hit = (depth > 1e-6) & ((rest >= low) & (rest <= high)).all(1) & (depth < nearest)
            nearest = np.where(hit, depth, nearest)
        return np.where(np.isfinite(nearest), nearest, 0).reshape(height, width).astype(np.float32)


def _looking(center: Sequence[float], yaw: float, pitch: float = 0.0) -> Pose:
    """A camera in a world whose z points up."""
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    rotation = np.stack([right, np.cross(forward, right), forward])
    return Pose(torch.from_numpy(rotation), torch.from_numpy(-rotation @ np.array(center, float)))


def _frames(walls: list[RECTANGLE], poses: list[Pose], start: int = 0) -> Frames:
    names = [f"walk {start + i:05d} ü.png" for i in range(len(poses))]
    world = World(walls, dict(zip(names, poses, strict=True)))
    return Frames(names, [CAMERA], np.zeros(len(poses), np.int64), Pose.stack(poses), world)


def _round(x: float, count: int, phase: float = 0.0) -> list[Pose]:
    """Once round a room of 4 x 4 m from x on, looking across and about."""
    turns = 2 * np.pi * (np.arange(count) / count) + phase
    return [
        _looking((x + 2 + 1.2 * np.cos(t), 2 + 1.2 * np.sin(t), 1.5), t + np.pi + 1.2 * np.sin(5 * t), -0.3)
        for t in turns
    ]


TWO_ROOMS = _box((0, 0, 0), (4, 4, 2.6)) + _box((4.1, 0, 0), (8.1, 4, 2.6))
NEAR_THE_WALL = [_looking((3.7 + 0.7 * side, 2, 1.5), (side == 0) * np.pi, -0.3) for side in (0, 1)]


@pytest.fixture(scope="module")
def two_rooms() -> Frames:
    """70 frames in each, of which the first two stand 0.7 m apart, on either side of the wall."""
    return _frames(TWO_ROOMS, NEAR_THE_WALL + _round(0, 69) + _round(4.1, 69))


@pytest.fixture(scope="module")
def corridor() -> Frames:
    """120 m there and back, looking to both sides."""
    walls = _box((-1, -1.2, 0), (121, 1.2, 2.6))
    walk = [_looking((0.5 * i, 0, 1.5), 0.8 * np.sin(0.9 * i), -0.1) for i in range(240)]
    back = [_looking((120 - 0.5 * i, 0, 1.5), np.pi + 0.8 * np.sin(0.9 * i), -0.1) for i in range(240)]
    return _frames(walls, walk + back)


def _rooms(frames: Frames, rows: np.ndarray) -> set[int]:
    assert frames.cam_from_world is not None
    return set((frames.cam_from_world.center[rows, 0] > 4.05).int().tolist())


def _same(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """The least part of a region of one that it has in common with one of the other."""
    parts = [[len(np.intersect1d(a, b)) / len(np.union1d(a, b)) for b in second] for a in first]
    return min(map(max, parts))


def test_rooms_with_a_wall_between_share_no_region_however_near_cameras_are(two_rooms):
    parts = divide(two_rooms)
    assert len(parts) == 2
    assert [_rooms(two_rooms, rows) for rows in parts] in ([{0}, {1}], [{1}, {0}])
    assert sorted(np.concatenate(parts)) == list(range(len(two_rooms)))
    assert all((np.diff(rows) > 0).all() for rows in parts)


def test_a_room_filmed_twice_is_one_region_and_hardly_read():
    frames = _frames(TWO_ROOMS, _round(0, 80) + _round(0, 60, phase=1.0))
    assert [rows.tolist() for rows in divide(frames)] == [list(range(140))]
    assert len(frames.reader.read) <= 60  # pyright: ignore


def test_a_corridor_is_several_regions_that_overlap(corridor):
    parts = divide(corridor)
    count = np.bincount(np.concatenate(parts), minlength=len(corridor))
    assert len(parts) >= 2
    assert (count >= 1).all()
    assert 0 < (count > 1).mean() <= 0.25
    for rows in parts:
        others = np.concatenate([other for other in parts if other is not rows])
        assert len(np.intersect1d(rows, others))


def test_ways_there_and_back_are_divided_at_the_same_places(corridor):
    """A region is a piece of the corridor, not of time."""
    x = corridor.cam_from_world.center[:, 0].numpy()
    parts = divide(corridor, regions=4)
    assert 3 <= len(parts) <= 5
    assert all(np.ptp(x[rows]) < 45 for rows in parts)


def test_a_ring_has_no_border_where_the_walk_begins():
    """That is in the middle of a side; the same place is seen again in the end."""
    walls = _box((0, 0, 0), (20, 20, 2.6)) + _box((2.4, 2.4, 0), (17.6, 17.6, 2.6))
    poses = []
    for side in range(4):
        for i in range(60):
            along = np.array([1.2 + 17.6 * i / 60, 1.2]) - 10
            c, s = np.cos(side * np.pi / 2), np.sin(side * np.pi / 2)
            x, y = np.array([[c, -s], [s, c]]) @ along + 10
            poses.append(_looking((x, y, 1.5), side * np.pi / 2 + 0.8 * np.sin(0.9 * i), -0.1))
    parts = divide(_frames(walls, poses[30:] + poses[:30]), regions=3)
    assert len(parts) == 3
    assert any({0, 239} <= set(rows.tolist()) for rows in parts)
    assert set(np.concatenate(parts)) == set(range(240))


def test_a_place_of_many_views_is_divided_much_as_one_of_few(corridor, monkeypatch):
    """Where it is cut by views that stand for several."""
    expected = divide(corridor, regions=4)
    monkeypatch.setattr(dsac.mapping.division, "_DENSE", 24)
    parts = divide(corridor, regions=4)
    assert len(parts) == len(expected)
    assert _same(parts, expected) > 0.7
    x = corridor.cam_from_world.center[:, 0].numpy()
    assert all(np.ptp(x[rows]) < 45 for rows in parts)


@pytest.mark.parametrize("count", [0, 1, 2, 31])
def test_few_frames_are_one_region_and_nothing_is_read(count):
    frames = _frames(TWO_ROOMS, _round(0, 20) + _round(4.1, 20))[::-1][:count]
    assert [rows.tolist() for rows in divide(frames)] == [list(range(count))]
    assert frames.reader.read == []


def test_equal_poses_are_one_region():
    frames = _frames(TWO_ROOMS, _round(0, 1) * 100)
    assert [len(rows) for rows in divide(frames)] == [100]
    assert [len(rows) for rows in divide(frames, regions=3)] == [100]


def test_frames_too_few_for_a_map_join_the_nearest(two_rooms):
    closet = _box((12, 0, 0), (14, 2, 2.6))
    alone = [_looking((13, 1, 1.5), 0.1 * i) for i in range(5)]
    frames = _frames(TWO_ROOMS + closet, _round(0, 70) + _round(4.1, 70) + alone)
    parts = divide(frames)
    assert len(parts) == 2
    assert {*range(140, 145)} <= set(next(rows for rows in parts if 1 in _rooms(frames, rows)).tolist())


def test_depth_may_be_unknown_in_places_and_files_damaged(two_rooms):
    class Poor(World):
        def read_depth(self, name: str, camera: Camera) -> np.ndarray:
            number = int(name[5:10])
            if number % 7 == 3:
                raise DatasetError(f"{name}: damaged")
            depth = super().read_depth(name, camera).copy()
            depth[:, :10] = 0
            return depth * (number % 3 > 0)

    reader = two_rooms.reader
    frames = replace(two_rooms, reader=Poor(reader.walls, reader.poses, known=reader.known))
    parts = divide(frames)
    assert all(len(_rooms(frames, rows)) == 1 for rows in parts)
    assert sorted(set(np.concatenate(parts))) == list(range(len(frames)))


def test_where_nothing_is_known_all_is_one_region(two_rooms):
    blind = replace(two_rooms.reader, known={name: np.zeros((24, 32), np.float32) for name in two_rooms.names})
    assert [len(rows) for rows in divide(replace(two_rooms, reader=blind))] == [len(two_rooms)]
    assert [len(rows) for rows in divide(two_rooms.without_depth())] == [len(two_rooms)]


def test_without_depth_what_is_far_apart_is_divided(two_rooms, monkeypatch):
    """As where images were triangulated."""
    monkeypatch.setattr(dsac.mapping.division, "near_depth", lambda frames: 1.5)
    far = [
        Pose(p.rotation, p.translation - p.rotation @ torch.tensor([20.0, 0, 0]).double())
        for p in _round(0, 70)
    ]
    frames = _frames([], _round(0, 70) + far).without_depth()
    parts = divide(frames)
    assert [_rooms(frames, rows) for rows in parts] == [{0}, {1}]


def test_without_depth_walls_are_known_from_what_is_triangulated(two_rooms, monkeypatch):
    """Here exactly, some points a frame; at the border few frames are in both."""

    def triangulated(frames: Frames, index: int, depth: float | None = None) -> np.ndarray:
        known = two_rooms.reader.read_depth(frames.names[index], CAMERA)
        y, x = np.mgrid[2:24:5, 2:32:4]
        rays = CAMERA.unproject(torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2) + 0.5)).numpy()
        return np.concatenate([known[y, x].reshape(-1, 1) * rays, -rays], axis=1)

    monkeypatch.setattr(dsac.mapping.coarse_views, "_triangulated", triangulated)
    parts = divide(two_rooms.without_depth(), regions=2)
    second = [(two_rooms.cam_from_world.center[rows, 0] > 4.05).double().mean().item() for rows in parts]
    assert min(second) < 0.05 and max(second) > 0.95


def test_the_order_of_frames_does_not_matter(two_rooms, corridor):
    for frames in (two_rooms, corridor):
        order = np.random.default_rng(0).permutation(len(frames))
        shuffled = [np.sort(order[rows]) for rows in divide(frames[order])]
        assert [rows.tolist() for rows in shuffled] == [rows.tolist() for rows in divide(frames)]


def test_neither_unit_nor_axes_of_the_world_matter(two_rooms, corridor):
    """To rounding, which a frame at a border may turn over; depth is rounded alike by powers of two."""
    turn = Pose.exp(torch.tensor([0.4, -1.0, 2.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    for frames in (two_rooms, corridor):
        poses = frames.cam_from_world @ turn.expand(len(frames)).inverse()
        moved = Pose(
            poses.rotation, 1024 * poses.translation - poses.rotation @ torch.tensor([5e3, 7e3, 0]).double()
        )
        other = replace(frames, cam_from_world=moved, reader=replace(frames.reader, scale=1024.0))
        parts, expected = divide(other), divide(frames)
        assert len(parts) == len(expected)
        assert _same(parts, expected) > 0.97


@pytest.mark.parametrize("regions", [1, 2, 5])
def test_about_as_many_regions_as_asked(corridor, regions):
    parts = divide(corridor, regions=regions)
    assert abs(len(parts) - regions) <= 1
    assert set(np.concatenate(parts)) == set(range(len(corridor)))
    assert regions == 1 or max(map(len, parts)) < 0.8 * len(corridor)


@pytest.mark.wrong_input
def test_wrong_input_is_named(two_rooms):
    with pytest.raises(ValueError, match="regions: expected at least 1, got 0"):
        divide(two_rooms, regions=0)
    with pytest.raises(ValueError, match="frames: expected poses, got none"):
        divide(replace(two_rooms, cam_from_world=None))


@pytest.mark.parametrize("name", ["7scenes/redkitchen", "hololens", "south-building", "fox", "door"])
def test_real_rooms_and_fronts_stay_whole(recordings, name):
    frames = load_scene(recordings / name).mapping
    assert [len(rows) for rows in divide(frames)] == [len(frames)]
