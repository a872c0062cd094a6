"""The building: exact through its doors, drawn as if nothing were left out, with rooms that look alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dsac.datasets import Frame, Scene, load_scene
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose
from dsac.rooms import (
    Room,
    RoomBuilder,
    bake_light,
    building_scene,
    develop,
    look_alikes,
    plan_building,
    render_depth,
    render_light,
    write_scene,
)
from dsac.rooms.builder import X, Y, Z
from dsac.rooms.floors import to_world
from dsac.rooms.scene import view_of
from dsac.rooms.textures import plain
from dsac.rooms.visibility import see, spaces_seen

ALIKE = [plan_building(8)[2], plan_building(8)[7]]  # one north, one south of the corridor
COUNT, QUERIES = 40, 8  # in each room and in the corridor
STILL = np.zeros((60, 80, 3), np.float32)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsac.rooms.building.plan_building", lambda count, seed: ALIKE)
        yield building_scene(2, COUNT, QUERIES, size=(80, 60), light_cell=2.0)


@pytest.fixture(scope="module")
def room(scene: Scene) -> Room:
    return scene.mapping.reader.room  # type: ignore[attr-defined]


def _frame(scene: Scene, name: str) -> Frame:
    frames = scene.query if "query" in name else scene.mapping
    return frames[frames.names.index(name)]


@pytest.mark.parametrize(
    "first, second",
    [
        ("room-02/mapping-010", "room-02/mapping-011"),
        ("room-07/mapping-025", "room-07/mapping-026"),
        ("corridor-0/mapping-012", "corridor-0/mapping-013"),
    ],
)
def test_points_of_one_frame_are_seen_by_another_at_their_depth(scene: Scene, first: str, second: str) -> None:
    source, target = _frame(scene, f"{first}.jpg"), _frame(scene, f"{second}.jpg")
    assert source.depth is not None and target.depth is not None
    assert source.cam_from_world is not None and target.cam_from_world is not None
    y, x = torch.meshgrid(torch.arange(60), torch.arange(80), indexing="ij")
    rays = source.camera.unproject(torch.stack([x, y], dim=-1).reshape(-1, 2).double() + 0.5)
    points = source.cam_from_world.inverse() @ (rays * source.depth.double().reshape(-1, 1))
    points_cam = target.cam_from_world @ points
    pixels = target.camera.project(points_cam)
    inside = ((pixels > 1) & (pixels < torch.tensor([79, 59]))).all(-1) & (points_cam[:, 2] > 0)
    assert inside.sum() > 100
    there = cv2.remap(
        target.depth.numpy(), pixels[inside].numpy().astype(np.float32)[:, None] - 0.5, None, cv2.INTER_LINEAR
    )[:, 0]
    error = np.abs(there - points_cam[inside, 2].numpy())
    seen = error < 0.03  # the rest is hidden, or at an edge
    assert seen.mean() > 0.4
    assert np.median(error[seen]) < 2e-3


def test_what_no_door_shows_is_left_out_and_nothing_else(scene: Scene, room: Room) -> None:
    whole = room._replace(
        spaces=np.array([[0, len(room.kind)]]),
        boxes=np.array([[[-np.inf] * 3, [np.inf] * 3]]),
        doors=room.doors[:0],
        leads=room.leads[:0],
    )
    drawn = []
    for i in range(0, len(scene.mapping), 5):
        view = view_of(scene.mapping.cameras[0], scene.mapping.cam_from_world[i])  # type: ignore[index]
        drawn.append(len(see(room, view).surface) / len(room.kind))
        all_of_it, part = render_depth(whole, view), render_depth(room, view)
        assert (all_of_it != part).mean() < 1e-3 and (part > 0).all()  # what touches is drawn in another order
        picture = [develop(render_light(place, [view]), 1.0, STILL) for place in (whole, room)]
        assert (np.abs(picture[0].astype(int) - picture[1]).max(2) > 2).mean() < 5e-3
    assert min(drawn) < 0.5 and max(drawn) == 1


def test_from_one_room_the_room_across_is_seen_through_two_doors(scene: Scene, room: Room) -> None:
    seen = [
        len(spaces_seen(room, view_of(scene.mapping.cameras[0], pose)))
        for pose in scene.mapping.cam_from_world  # type: ignore[union-attr]
    ]
    assert set(seen) == {1, 2, 3}
    # from outside, as for a plan of the place, everything is
    above = Pose(torch.eye(3).double(), torch.tensor([0.0, 0.0, 99.0]).double())
    assert len(spaces_seen(room, view_of(scene.mapping.cameras[0], above))) == 3


def test_names_say_where_the_camera_stands(scene: Scene, room: Room) -> None:
    spaces = ["corridor-0", "room-02", "room-07"]
    for frames, part, count in ((scene.mapping, "mapping", COUNT), (scene.query, "query", QUERIES)):
        counts = [len(frames) - 2 * count, count, count]
        assert counts[0] > count  # a long corridor has more
        assert frames.names == [
            f"{space}/{part}-{i:03d}.jpg" for space, n in zip(spaces, counts, strict=True) for i in range(n)
        ]
        assert frames.cam_from_world is not None
        for name, center in zip(frames.names, frames.cam_from_world.center.numpy(), strict=True):
            lower, upper = room.boxes[spaces.index(name.split("/")[0])]
            assert (lower < center).all() and (center < upper).all(), name


def test_cameras_keep_away_from_things(scene: Scene, room: Room) -> None:
    leaves = room.bounds[room.links[:, 1] >= 0]
    for frames in (scene.mapping, scene.query):
        assert frames.cam_from_world is not None
        for center in frames.cam_from_world.center.numpy():
            outside = np.maximum(np.maximum(leaves[:, 0] - center, center - leaves[:, 1]), 0)
            assert np.linalg.norm(outside, axis=1).min() > 0.15


def test_queries_are_taken_from_elsewhere_in_the_same_rooms(scene: Scene) -> None:
    mapping, query = (
        frames.cam_from_world.center  # type: ignore[union-attr]
        for frames in (scene.mapping, scene.query)
    )
    nearest = torch.cdist(query, mapping).min(1).values
    assert 0.05 < nearest.median() < 0.6 and nearest.max() < 1.2


def test_rooms_of_a_model_differ_in_little(room: Room) -> None:
    camera, pictures = Camera.simple(64.0, (80, 60)), []
    eye = np.array([[ALIKE[0].size[0] / 2, ALIKE[0].size[1] / 2, 1.5]])
    for yaw in (0.0, 1.57, 3.14, -1.57):
        views = []
        for plan in ALIKE:
            turn = yaw + plan.yaw
            forward, level = (
                np.array([np.cos(turn), np.sin(turn), 0]),
                np.array([np.sin(turn), -np.cos(turn), 0]),
            )
            rotation = torch.from_numpy(np.stack([level, np.cross(forward, level), forward]))
            views.append(view_of(camera, Pose(rotation, -rotation @ torch.from_numpy(to_world(plan, eye)[0]))))
        first, second = (develop(render_light(room, [view]), 1.0, STILL).astype(int) for view in views)
        assert first.std() > 15
        pictures.append((np.abs(first - second).max(2) > 12).mean())
    assert max(pictures[:3]) < 0.02 < pictures[3] < 0.4  # at the door: a print, and what is behind it


def test_every_floor_has_the_same_rooms_and_some_look_alike() -> None:
    rooms = plan_building(30, seed=3)
    assert [room.name for room in rooms[::11]] == ["room-00", "room-11", "room-22"]
    for room in rooms:
        below = rooms[room.number % 10]
        assert (room.kind, room.size, room.door, room.at[:2]) == (
            below.kind, below.size, below.door, below.at[:2],
        )  # fmt: skip
        assert room.at[2] - below.at[2] == pytest.approx(3.2 * room.floor)
    groups = look_alikes(rooms)
    offices = [f"room-{i}{j}" for i in range(3) for j in (2, 7)]
    assert sorted(groups) == sorted([offices, ["room-05", "room-15", "room-25"]])
    for names in groups:
        assert len({(room.size, room.door, room.kind) for room in rooms if room.name in names}) == 1
    assert look_alikes(plan_building(3)) == []
    with pytest.raises(ValueError, match="rooms: expected 1 or more, got 0"):
        plan_building(0)


def test_rooms_do_not_overlap() -> None:
    rooms = plan_building(30, seed=1)
    boxes = [np.sort(to_world(room, np.array([[0, 0, 0], [*room.size, 2.7]])), axis=0) for room in rooms]
    for i, first in enumerate(boxes):
        for second in boxes[:i]:
            assert ((first[0] >= second[1] + 0.1) | (second[0] >= first[1] + 0.1)).any()


def test_light_stays_in_its_space() -> None:
    b = RoomBuilder(np.random.default_rng(0))
    grey = b.material(plain((200, 200, 200)), (1, 1))
    for x in (0.0, 2.0):
        with b.placed((x, 0, 0)), b.space((0, 0, 0), (2, 2, 2)):
            b.rectangle((0, 0, 0), 2 * X, 2 * Y, grey)
    room = bake_light(b.room(), np.array([[1.0, 1, 1.9, 0, 0, -1, 4, 4, 4]]), 0.5)
    bright, dark = (room.light[first : first + nu * nv] for first, nu, nv in room.cells)
    assert bright.min() > 0.1 and dark.max() == 0


def test_what_is_placed_is_turned_and_then_moved() -> None:
    b = RoomBuilder(np.random.default_rng(0))
    grey = b.material(plain((200, 200, 200)), (1, 1))
    with b.placed((1, 2, 3), np.pi / 2), b.placed((1, 0, 0)), b.space((0, 0, 0), (3, 1, 1)):
        b.rectangle((1, 0, 0), X, Z, grey)
    b.rectangle((0, 0, 0), X, Z, grey)
    room = b.room()
    np.testing.assert_allclose(room.frame[0], [[1, 4, 3], [0, 1, 0], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(room.boxes[0], [[0, 3, 3], [1, 6, 4]], atol=1e-12)
    np.testing.assert_allclose(room.frame[1], [[0, 0, 0], [1, 0, 0], [0, 0, 1]], atol=0)


def test_a_written_building_has_its_folders_and_is_whole_or_not_there(scene: Scene, tmp_path: Path) -> None:
    mapping, query = scene.mapping[::12], scene.query[::6]
    exact = scene.truths["exact"]
    names = [exact.names.index(name) for name in mapping.names + query.names]
    scene = replace(scene, mapping=mapping, query=query, truths={"exact": exact.take(np.array(names))})

    def interrupted(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scene(scene, tmp_path / "Büro 1", interrupted)
    assert not list(tmp_path.iterdir())
    write_scene(scene, tmp_path / "Büro 1", depth_unit=None)
    assert not (tmp_path / "Büro 1" / "depth").exists()
    again = load_scene(tmp_path / "Büro 1")
    assert again.mapping.names == scene.mapping.names and again.query.names == scene.query.names
    assert not again.mapping.has_depth
    with pytest.raises(DatasetError, match="expected a new or an empty folder"):
        write_scene(scene, tmp_path / "Büro 1")
