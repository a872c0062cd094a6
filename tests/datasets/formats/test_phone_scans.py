"""Exports of phone apps: Polycam, Record3D, 3D Scanner App. Their poses have ARKit's axes."""

from __future__ import annotations

import json
import logging

import cv2
import numpy as np
import pytest
import torch
from known_cameras import FOCALS_AND_CENTER, expect_camera, quaternion_xyzw, world_from_cams

from dsac.datasets import load_scene
from dsac.errors import DatasetError

MATRICES = world_from_cams(3)
ARKIT_FROM_OURS = np.diag([1.0, -1, -1, 1])
FX, FY, CX, CY = FOCALS_AND_CENTER
STAMPS = [168123400000 + i for i in range(3)]


def world_from_arkit(matrix: np.ndarray) -> np.ndarray:
    return matrix @ ARKIT_FROM_OURS


@pytest.fixture
def polycam(tmp_path, write_image):
    def write(images="images", cameras="cameras", matrices=MATRICES):
        folder = tmp_path / "keyframes"
        (folder / cameras).mkdir(parents=True, exist_ok=True)
        for stamp, matrix in zip(STAMPS, matrices, strict=True):
            write_image(folder / images / f"{stamp}.jpg")
            write_image(folder / "depth" / f"{stamp}.png", (4, 3), np.uint16, channels=1)
            rows = world_from_arkit(matrix)
            entry = {f"t_{row}{column}": rows[row, column] for row in range(3) for column in range(4)}
            entry |= {"fx": FX, "fy": FY, "cx": CX, "cy": CY, "width": 8, "height": 6, "blur_score": 3}
            (folder / cameras / f"{stamp}.json").write_text(json.dumps(entry))
        return tmp_path

    return write


@pytest.fixture
def record3d(tmp_path, write_image):
    def write(images="rgb", **more):
        for i in range(3):
            write_image(tmp_path / images / f"{i}.jpg")
        poses = [[*quaternion_xyzw(world_from_arkit(m)), *m[:3, 3]] for m in MATRICES]
        K = [FX, 0, 0, 0, FY, 0, CX, CY, 1]  # column by column
        metadata = {"w": 8, "h": 6, "fps": 60, "K": K, "poses": poses} | more
        (tmp_path / "metadata.json").write_text(json.dumps(metadata))
        return tmp_path

    return write


@pytest.fixture
def scanner_app(tmp_path, write_image):
    for i, matrix in enumerate(MATRICES):
        entry = {
            "cameraPoseARFrame": world_from_arkit(matrix).ravel().tolist(),
            "intrinsics": [FX, 0, CX, 0, FY, CY, 0, 0, 1],
            "time": 0.1 * i,
        }
        (tmp_path / f"frame_{i:05d}.json").write_text(json.dumps(entry))
        write_image(tmp_path / f"depth_{i:05d}.png", (4, 3), np.uint16, channels=1)
        if i != 1:
            write_image(tmp_path / f"frame_{i:05d}.jpg")
    (tmp_path / "info.json").write_text("{}")
    return tmp_path


def test_polycam(polycam):
    scene = load_scene(polycam())
    assert scene.format == "Polycam, cameras" and scene.metric
    assert scene.mapping.names == [f"keyframes/images/{stamp}.jpg" for stamp in STAMPS]
    for frame, matrix in zip(scene.mapping, MATRICES, strict=True):
        expect_camera(frame, matrix)
    depth = load_scene(scene.path + "/keyframes").mapping[0].depth
    units = cv2.imread(f"{scene.path}/keyframes/depth/{STAMPS[0]}.png", cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(depth, np.repeat(np.repeat(units, 2, 0), 2, 1) * np.float32(0.001))


def test_an_upright_phone_sees_what_is_above_it_in_the_upper_half(polycam):
    """ARKit's identity looks along -z with y up."""
    scene = load_scene(polycam(matrices=np.stack([ARKIT_FROM_OURS] * 2 + [MATRICES[2]])))
    frame = scene.mapping[0]
    points_world = torch.tensor([[1.0, 2.0, -5.0]], dtype=torch.float64)
    seen = frame.camera.project(frame.cam_from_world @ points_world)
    np.testing.assert_allclose(seen, [[CX + FX / 5, CY - FY * 2 / 5]], atol=1e-12)


def test_polycams_own_refinement_wins(polycam):
    polycam()
    moved = MATRICES.copy()
    moved[:, :3, 3] += 0.5
    scene = load_scene(polycam("corrected_images", "corrected_cameras", moved))
    assert scene.format == "Polycam, corrected_cameras"
    assert scene.mapping.names[0] == f"keyframes/corrected_images/{STAMPS[0]}.jpg"
    expect_camera(scene.mapping[2], moved[2])


def test_polycam_camera_without_a_number_is_an_error_that_names_it(polycam):
    file = polycam() / "keyframes" / "cameras" / f"{STAMPS[1]}.json"
    file.write_text(file.read_text().replace('"t_13"', '"t_31"'))
    with pytest.raises(DatasetError, match=f"{STAMPS[1]}.json: expected `t_13` as a number"):
        load_scene(file.parents[2])


@pytest.mark.parametrize("images", ["rgb", "rgbd"])
def test_record3d(record3d, images):
    scene = load_scene(record3d(images))
    assert scene.format == "Record3D export" and scene.metric
    assert scene.mapping.names == [f"{images}/{i}.jpg" for i in range(3)]
    for frame, matrix in zip(scene.mapping, MATRICES, strict=True):
        expect_camera(frame, matrix)


def test_record3d_intrinsics_of_each_frame_win_and_rows_are_told_from_columns(record3d):
    per_frame = [[FX + i, FY, CX, CY] for i in range(3)]
    frames = load_scene(record3d(perFrameIntrinsicCoeffs=per_frame)).mapping
    for i in range(3):
        expect_camera(frames[i], MATRICES[i], (FX + i, FY, CX, CY))
    frames = load_scene(record3d(K=[FX, 0, CX, 0, FY, CY, 0, 0, 1])).mapping
    expect_camera(frames[0], MATRICES[0])


def test_record3d_images_without_a_pose_are_named(record3d, write_image, caplog):
    path = record3d()
    write_image(path / "rgb" / "3.jpg")
    with caplog.at_level(logging.WARNING):
        assert load_scene(path).mapping.names == ["rgb/0.jpg", "rgb/1.jpg", "rgb/2.jpg"]
    assert "1 of 4 images have no pose, left out: 3.jpg" in caplog.text


def test_record3d_depth_that_is_not_read_is_told(record3d, caplog):
    path = record3d()
    (path / "depth").mkdir()
    (path / "depth" / "0.exr").write_bytes(b"\0")
    with caplog.at_level(logging.WARNING):
        assert not load_scene(path).mapping.has_depth
    assert "depth as EXR or LZFSE is not read, only PNG" in caplog.text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"poses": []}, "expected an object with a list of `poses`"),
        ({"poses": [[1, 2, 3]]}, "pose: expected `0` as 7 numbers"),
        ({"poses": [[1, 1, 1, 1, 0, 0, 0]]}, "pose 0: expected a unit quaternion"),
        ({"K": None}, "metadata.json: expected `K` as 9 numbers"),
        ({"w": "8"}, "expected `w` as a number, got 8"),
    ],
)
def test_bad_metadata_is_an_error_that_names_the_place(record3d, more, message):
    with pytest.raises(DatasetError, match=message):
        load_scene(record3d(**more))


def test_3d_scanner_app_has_an_image_for_some_of_its_frames(scanner_app):
    scene = load_scene(scanner_app)
    assert scene.format == "3D Scanner App" and scene.metric
    assert scene.mapping.names == ["frame_00000.jpg", "frame_00002.jpg"]
    expect_camera(scene.mapping[0], MATRICES[0])
    expect_camera(scene.mapping[1], MATRICES[2])
    units = cv2.imread(str(scanner_app / "depth_00002.png"), cv2.IMREAD_UNCHANGED)
    expected = np.repeat(np.repeat(units, 2, 0), 2, 1) * np.float32(0.001)
    np.testing.assert_array_equal(scene.mapping[1].depth, expected)


@pytest.mark.parametrize("key", ["cameraPoseARFrame", "intrinsics"])
def test_3d_scanner_app_frame_without_numbers_is_an_error(scanner_app, key):
    file = scanner_app / "frame_00002.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: [1, 2]}))
    with pytest.raises(DatasetError, match=f"frame_00002.json: expected `{key}` as"):
        load_scene(scanner_app)
