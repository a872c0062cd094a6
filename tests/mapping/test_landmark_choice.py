"""Landmarks: chosen where frames agree on them, and found again from a pose that is only about right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ball_world import exact_map
from lenses import through
from recorded_depth import relative_depths

from dsac.datasets import Frames, Scene
from dsac.geometry import Camera, Pose
from dsac.landmarks import SHORT_SIDE_PX, GreyView, Landmarks, Matcher, align
from dsac.landmarks.alignment import visible
from dsac.mapping.landmark_choice import Remembered, remember
from dsac.mapping.triangulation import with_triangulated_depth
from dsac.ransac import DenseSolver
from dsac.rooms import synthetic_scene

NEAR = torch.tensor([0.008, -0.006, 0.01, 0.02, -0.015, 0.02], dtype=torch.float64)  # about 10 px


@pytest.fixture(scope="module")
def room() -> Scene:
    """A few steps through the synthetic room; between them a query."""
    scene = synthetic_scene(num_mapping=80, num_query=1, size=(320, 240))
    walk = scene.mapping[:9]
    return replace(scene, mapping=walk[[0, 1, 2, 3, 5, 6, 7, 8]], query=walk[[4]])


@pytest.fixture(scope="module")
def remembered(room: Scene) -> Remembered:
    return remember(room.mapping, 1200)


@pytest.fixture(scope="module")
def landmarks(remembered: Remembered) -> Landmarks:
    return remembered.landmarks


def _aligned(landmarks: Landmarks, query: Frames, off_by: torch.Tensor = NEAR) -> tuple[Pose | None, Pose]:
    frame = query[0]
    assert frame.cam_from_world is not None
    guess = Pose.exp(off_by) @ frame.cam_from_world
    answer = align(landmarks, GreyView.of(frame.image, frame.camera), guess).estimate
    return answer.cam_from_world[0].to(torch.float64) if answer.success else None, frame.cam_from_world


def test_alignment_takes_a_pose_from_centimetres_to_millimetres(room: Scene, landmarks: Landmarks) -> None:
    pose, truth = _aligned(landmarks, room.query)
    assert pose is not None
    assert pose.center_distance(truth) < 0.006
    assert pose.rotation_error_deg(truth) < 0.15


def test_landmarks_of_triangulated_depth_serve_as_well(room: Scene) -> None:
    sparse = with_triangulated_depth(room.mapping.without_depth(), short_side_px=240)
    pose, truth = _aligned(remember(sparse, 1200).landmarks, room.query)
    assert pose is not None
    assert pose.center_distance(truth) < 0.01
    assert pose.rotation_error_deg(truth) < 0.2


def test_a_distorted_photo_is_aligned_as_well(room: Scene, landmarks: Landmarks) -> None:
    lens = Camera.from_params("OPENCV", [330, 325, 165, 112, -0.2, 0.05, 0.002, 0.001], (320, 240))
    pose, truth = _aligned(landmarks, through(room.query, lens))
    assert pose is not None
    assert pose.center_distance(truth) < 0.01


def test_landmarks_lie_on_the_surfaces(room: Scene, landmarks: Landmarks) -> None:
    assert 300 < len(landmarks) <= 1200
    off = (relative_depths(landmarks, room.mapping) - 1).abs()
    assert off.median() < 0.005 and off.quantile(0.9) < 0.03


def test_a_wrong_depth_is_mended_by_the_other_frames(room: Scene) -> None:
    """Every depth 3 % too far: the frames' parallax says so."""
    off = replace(room.mapping, reader=_Stretched(room.mapping.reader, 1.03))
    landmarks = remember(off, 1200).landmarks
    assert abs(relative_depths(landmarks, room.mapping).median().item() - 1) < 0.015


class _Stretched:
    """Another reader's frames with depth that is too far."""

    has_depth = True

    def __init__(self, reader, factor: float) -> None:
        self.reader, self.factor = reader, factor

    def read_image(self, name: str) -> np.ndarray:
        return self.reader.read_image(name)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        return self.reader.read_depth(name, camera) * np.float32(self.factor)


def test_an_image_of_another_place_is_not_aligned(room: Scene, landmarks: Landmarks) -> None:
    frame = room.query[0]
    noise = torch.rand(3, 240, 320, generator=torch.Generator().manual_seed(0))
    for image in (noise, torch.full_like(noise, 0.5), frame.image.flip(-1)):
        assert frame.cam_from_world is not None
        answer = align(landmarks, GreyView.of(image, frame.camera), frame.cam_from_world).estimate
        assert not answer.success or answer.confidence < 0.5


def test_a_pose_that_sees_nothing_is_an_answer(room: Scene, landmarks: Landmarks) -> None:
    turned_around = torch.tensor([0, np.pi, 0, 0, 0, 20.0], dtype=torch.float64)
    pose, _ = _aligned(landmarks, room.query, turned_around)
    assert pose is None


def test_visible_landmarks_are_in_the_image_and_spread_over_it(room: Scene, landmarks: Landmarks) -> None:
    frame = room.query[0]
    camera = GreyView.of(frame.image, frame.camera).camera
    assert frame.cam_from_world is not None and min(camera.size) == SHORT_SIDE_PX
    rows = visible(landmarks, camera, frame.cam_from_world, 100)
    points_cam = frame.cam_from_world @ landmarks.points[torch.from_numpy(rows)].double()
    pixels = camera.project(points_cam)
    assert len(set(rows.tolist())) == len(rows) == 100
    assert (points_cam[:, 2] > 0).all()
    assert ((pixels > 0) & (pixels < torch.tensor(camera.size))).all()
    quarters = (pixels > torch.tensor(camera.size) / 2).long() @ torch.tensor([1, 2])
    assert quarters.bincount(minlength=4).min() > 5


def test_a_map_file_holds_them(remembered: Remembered, tmp_path: Path) -> None:
    from dsac.scene_map import SceneMap

    scene_map = replace(exact_map(120), **remembered._asdict())
    loaded = SceneMap.load(_saved(scene_map, tmp_path / "a.dsac"))
    for kind in ("landmarks", "described"):
        there = getattr(loaded, kind)
        assert there is not None
        for name, value in getattr(remembered, kind).tensors().items():
            assert torch.equal(there.tensors()[name], value), name
        fewer = replace(scene_map, **{kind: None}, look_alikes=None)
        without = SceneMap.load(_saved(fewer, tmp_path / "b.dsac"))
        assert getattr(without, kind) is None


def test_described_points_lie_on_the_surfaces_and_tell_the_pose(room: Scene, remembered: Remembered) -> None:
    frame = room.query[0]
    assert frame.cam_from_world is not None and frame.depth is not None
    view = GreyView.of(frame.image, frame.camera)
    rows = Matcher.of(remembered.described, view).anywhere().rows(view.camera)
    points_cam = frame.cam_from_world @ rows.scene_points[0].double()
    pixels = frame.camera.project(points_cam)
    right = (view.camera.project(points_cam) - rows.pixels[0]).norm(dim=-1) < 6
    assert right.float().mean() > 0.5
    column, row = pixels[right].long().T
    off = (points_cam[right, 2] / frame.depth[row, column] - 1).abs()
    assert off.median() < 0.01
    estimate = DenseSolver.rgb(threshold_px=8.0)(rows)
    assert estimate.success.item()
    assert estimate.cam_from_world[0].to(torch.float64).center_distance(frame.cam_from_world) < 0.03


def _saved(scene_map, path: Path) -> Path:
    scene_map.save(path)
    return path


def test_progress_ends_at_one(room: Scene) -> None:
    reports: list[float] = []
    remember(room.mapping[:3], 100, reports.append)
    assert reports == sorted(reports) and reports[-1] == pytest.approx(1)


@pytest.mark.parametrize("most", [5, 20])
def test_there_are_no_more_than_asked_for(room: Scene, most: int) -> None:
    memory = remember(room.mapping, most)
    assert 0 < len(memory.landmarks) <= most
    assert memory.described is not None and 0 < len(memory.described) <= 2 * most


def test_without_texture_there_are_none(room: Scene) -> None:
    grey = replace(room.mapping, reader=_Flat(room.mapping.reader))
    assert [len(kind) for kind in remember(grey, 100)] == [0, 0, 0]


class _Flat(_Stretched):
    def __init__(self, reader) -> None:
        super().__init__(reader, 1.0)

    def read_image(self, name: str) -> np.ndarray:
        return np.full_like(self.reader.read_image(name), 128)
