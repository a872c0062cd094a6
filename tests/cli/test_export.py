"""`dsac export`: what other programs read of a map and of a poses file is what these hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Fails, Run

from dsac.atlas import Atlas
from dsac.datasets import NamedPoses, read_poses, write_poses
from dsac.datasets.formats.colmap import read_cameras_text
from dsac.datasets.trajectory import read_trajectory
from dsac.geometry import Pose, Similarity
from dsac.scene_map import SceneMap

CAMERA = "OPENCV,640,480,500,510,321,239,0.1,0.01,0.001,0"
ORIGIN = (500_000.25, 4_000_000.5, 100.0)


@pytest.fixture
def poses(tmp_path: Path) -> Path:
    steps = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    names = [f"seq 1/Bild ä {i}.png" for i in range(5)]
    write_poses(tmp_path / "poses.txt", NamedPoses(names, Pose.exp(steps)))
    return tmp_path / "poses.txt"


@pytest.fixture
def landmark_map(textured_ball_map: SceneMap, tmp_path: Path) -> Path:
    textured_ball_map.save(tmp_path / "ball.dsac")
    return tmp_path / "ball.dsac"


def read_ply(path: Path) -> dict[str, np.ndarray]:
    """By the head alone."""
    head, _, data = path.read_bytes().partition(b"end_header\n")
    lines = [line.split() for line in head.decode().splitlines()]
    assert lines[:2] == [["ply"], ["format", "binary_little_endian", "1.0"]]
    kinds = {"float": "<f4", "double": "<f8", "uchar": "u1", "int": "<i4"}
    elements: dict[str, tuple[int, list[tuple[str, str]]]] = {}
    for line in lines[2:]:
        if line[0] == "element":
            elements[line[1]] = (int(line[2]), [])
        else:
            list(elements.values())[-1][1].append((line[2], kinds[line[1]]))
    read = {}
    for name, (count, fields) in elements.items():
        read[name] = np.frombuffer(data, fields, count)
        data = data[read[name].nbytes :]
    assert not data
    return read


def xyz(vertices: np.ndarray) -> np.ndarray:
    return np.stack([vertices[axis] for axis in "xyz"], axis=-1).astype(np.float64)


def expected(path: Path) -> Pose:
    return read_poses(path).cam_from_world


def test_tum_has_world_from_camera(poses: Path, run: Run) -> None:
    code, out, error = run("export", poses, poses.parent / "t.txt", "--to", "tum")
    assert code == 0 and "5 poses" in out, error
    trajectory = read_trajectory(str(poses.parent / "t.txt"))
    torch.testing.assert_close(trajectory.world_from_sensor.matrix, expected(poses).inverse().matrix)
    np.testing.assert_allclose(trajectory.times, np.arange(5) / 30, atol=1e-6)


def test_kitti_has_world_from_camera(poses: Path, run: Run) -> None:
    assert run("export", poses, poses.parent / "k.txt", "--to", "kitti")[0] == 0
    matrices = np.loadtxt(poses.parent / "k.txt").reshape(-1, 3, 4)
    np.testing.assert_allclose(matrices, expected(poses).inverse().matrix[:, :3], atol=1e-12)


def test_nerfstudio_has_opengls_axes_and_the_camera(poses: Path, run: Run) -> None:
    assert run("export", poses, poses.parent / "t.json", "--to", "nerfstudio", "--camera", CAMERA)[0] == 0
    top = json.loads((poses.parent / "t.json").read_text(encoding="utf-8"))
    assert [top[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h", "k1", "p1")] == [
        500, 510, 321, 239, 640, 480, 0.1, 0.001,
    ]  # fmt: skip
    assert [frame["file_path"] for frame in top["frames"]] == read_poses(poses).names
    for frame, pose in zip(top["frames"], expected(poses).inverse().matrix.numpy(), strict=True):
        matrix = np.array(frame["transform_matrix"])
        np.testing.assert_allclose(matrix @ np.diag([1, -1, -1, 1]), pose, atol=1e-12)


def test_focal_lengths_of_a_poses_file_win(poses: Path, run: Run) -> None:
    with_focals = replace(read_poses(poses), focal_px=torch.tensor([400.0, 450, 400, 400, 450]).double())
    with_focals = replace(with_focals, names=[f"{i}.png" for i in range(5)])
    write_poses(poses, with_focals)
    assert run("export", poses, poses.parent / "model", "--to", "colmap", "--camera", CAMERA)[0] == 0
    cameras = read_cameras_text(str(poses.parent / "model" / "cameras.txt"))
    assert [camera.focal_px.tolist() for camera in cameras.values()] == [[400, 400], [450, 450]]
    assert all(camera.center_px.tolist() == [321, 239] for camera in cameras.values())
    images = [
        line.split()
        for line in (poses.parent / "model" / "images.txt").read_text().splitlines()
        if ".png" in line
    ]
    assert [line[8] for line in images] == ["1", "2", "1", "1", "2"]


def test_ply_has_a_pyramid_for_each_camera(poses: Path, run: Run) -> None:
    assert run("export", poses, poses.parent / "c.ply", "--to", "ply", "--camera", CAMERA)[0] == 0
    ply = read_ply(poses.parent / "c.ply")
    points = xyz(ply["vertex"]).reshape(5, 5, 3)
    np.testing.assert_allclose(points[:, 0], expected(poses).center, atol=1e-6)
    in_camera = (expected(poses) @ torch.from_numpy(points)).numpy()
    assert (
        (in_camera[:, 1:, 2] > 0).all() and (in_camera[:, 1:3, 1] < 0).all() and (in_camera[:, 3:, 1] > 0).all()
    )
    white = np.stack([ply["vertex"][c] for c in ("red", "green", "blue")], -1).min(-1).reshape(5, 5) == 255
    assert (white == [False, True, True, False, False]).all()
    edges = np.stack([ply["edge"]["vertex1"], ply["edge"]["vertex2"]], -1)
    assert edges.shape == (40, 2) and (edges // 5 == np.repeat(np.arange(5), 8)[:, None]).all()


def test_a_map_becomes_a_cloud_of_its_landmarks(
    textured_ball_map: SceneMap, landmark_map: Path, run: Run
) -> None:
    landmarks = textured_ball_map.landmarks
    assert landmarks is not None
    code, out, error = run("export", landmark_map, landmark_map.parent / "m.ply", "--to", "ply")
    assert code == 0 and f"{len(landmarks)} landmarks" in out, error
    vertices = read_ply(landmark_map.parent / "m.ply")["vertex"]
    np.testing.assert_allclose(xyz(vertices), landmarks.points, rtol=1e-6)
    rgb = np.stack([vertices[colour] for colour in ("red", "green", "blue")], axis=1)
    assert landmarks.colors is not None
    np.testing.assert_array_equal(rgb, landmarks.colors)
    grey, middle = rgb @ np.array([0.299, 0.587, 0.114]), landmarks.patches.shape[-1] // 2
    assert np.corrcoef(grey, landmarks.patches[:, middle, middle])[0, 1] > 0.7

    before = replace(textured_ball_map, landmarks=replace(landmarks, colors=None))
    before.save(landmark_map.parent / "before.dsac")
    run("export", landmark_map.parent / "before.dsac", landmark_map.parent / "grey.ply", "--to", "ply")
    vertices = read_ply(landmark_map.parent / "grey.ply")["vertex"]
    np.testing.assert_array_equal(vertices["green"], landmarks.patches[:, middle, middle])


def test_a_map_far_from_the_origin_keeps_its_place(
    textured_ball_map: SceneMap, tmp_path: Path, run: Run
) -> None:
    far = replace(textured_ball_map, info=replace(textured_ball_map.info, origin=ORIGIN))
    far.save(tmp_path / "far.dsac")
    landmarks = textured_ball_map.landmarks
    assert landmarks is not None
    assert run("export", tmp_path / "far.dsac", tmp_path / "far.ply", "--to", "ply")[0] == 0
    points = xyz(read_ply(tmp_path / "far.ply")["vertex"])
    np.testing.assert_allclose(points - ORIGIN, landmarks.points, rtol=0, atol=1e-6)
    assert run("export", tmp_path / "far.dsac", tmp_path / "far.txt", "--to", "tum")[0] == 0
    centers = read_trajectory(str(tmp_path / "far.txt")).world_from_sensor.translation
    np.testing.assert_allclose(
        centers - torch.tensor(ORIGIN).double(), landmarks.cam_from_world.center, rtol=0, atol=1e-5
    )


def test_colmap_sees_the_landmarks_where_the_map_has_them(landmark_map: Path, run: Run) -> None:
    pytest.importorskip("PIL")
    pycolmap = pytest.importorskip("pycolmap")
    folder = landmark_map.parent / "model"
    code, _, error = run("export", landmark_map, folder, "--to", "colmap", "--camera", CAMERA)
    assert code == 0, error
    model = pycolmap.Reconstruction(str(folder))
    landmarks = SceneMap.load(landmark_map).landmarks
    assert landmarks is not None and len(model.points3D) == len(landmarks)
    for number, point in list(model.points3D.items())[::20]:
        np.testing.assert_allclose(point.xyz, landmarks.points[number - 1], rtol=1e-6)
        (element,) = point.track.elements
        image = model.images[element.image_id]
        assert image.name == f"view-{landmarks.view[number - 1]:04d}"
        np.testing.assert_allclose(
            image.project_point(point.xyz), image.points2D[element.point2D_idx].xy, rtol=0, atol=1e-2
        )


def test_mistakes_are_one_line(poses: Path, blank_map: Path, room: Path, fails: Fails) -> None:
    folder = poses.parent
    (folder / "diary.ply").write_text("dear diary")
    (folder / "nothing.txt").write_text("# nothing\n")
    for arguments, message in (
        ((blank_map, folder / "new.ply", "--to", "ply"), "blank.dsac: holds no landmarks"),
        ((folder / "none.dsac", folder / "new.ply", "--to", "ply"), "expected a map file, found nothing"),
        ((folder / "none.txt", folder / "new.ply", "--to", "ply"), "none.txt: no such file"),
        (
            (folder / "nothing.txt", folder / "new.ply", "--to", "ply"),
            "nothing.txt: expected poses, found none",
        ),
        ((poses, folder / "diary.ply", "--to", "ply"), "diary.ply: already exists and is something else"),
        ((poses, folder / "diary.ply", "--to", "kitti"), "diary.ply: already exists and is something else"),
        ((poses, folder / "no" / "new.ply", "--to", "ply"), "its folder does not exist"),
        ((poses, room, "--to", "colmap", "--camera", CAMERA), "room: expected a new or an empty folder"),
        ((poses, folder / "model", "--to", "colmap"), "colmap needs the images' --camera MODEL,WIDTH"),
        ((poses, folder / "new.json", "--to", "nerfstudio"), "nerfstudio needs the images' --camera"),
        ((poses, folder / "new.json", "--to", "nerfstudio", "--camera", "X"), "--camera X: expected MODEL"),
    ):
        assert message in fails("export", *arguments)


@pytest.mark.parametrize("to", ["ply", "tum", "kitti", "nerfstudio"])
def test_an_export_may_replace_another_of_its_kind(poses: Path, run: Run, to: str) -> None:
    for _ in range(2):
        code, _, error = run("export", poses, poses.parent / "file", "--to", to, "--camera", CAMERA)
        assert code == 0, error


def test_a_map_of_many_regions_is_one_cloud_in_the_world(
    textured_ball_map: SceneMap, run: Run, tmp_path: Path
) -> None:
    away = Similarity.of((10.0, 0.0, 0.0), scale=2.0)
    there = replace(textured_ball_map, info=textured_ball_map.info.in_world_of(away))
    path, landmarks = tmp_path / "two.dsac", textured_ball_map.landmarks
    assert landmarks is not None
    Atlas.of({"here": textured_ball_map, "there": there}).save(path)
    code, out, _ = run("export", path, tmp_path / "model", "--to", "colmap")
    assert code == 0 and f"{2 * len(landmarks.cam_from_world)} views" in out
    text = (tmp_path / "model" / "points3D.txt").read_text()
    points = np.array([line.split()[1:4] for line in text.splitlines() if line[:1] != "#"], dtype=float)
    assert len(points) == 2 * len(landmarks)
    np.testing.assert_allclose(points[len(landmarks) :], 2 * points[: len(landmarks)] + [10, 0, 0], atol=1e-3)
