from __future__ import annotations

import logging

import numpy as np
import pytest
from known_cameras import expect_camera, numbers, world_from_cams

from dsac.datasets import load_scene
from dsac.errors import DatasetError

MATRICES = world_from_cams(3)
K = np.array([[10, 0, 3], [0, 10, 2], [0, 0, 1.0]])
OFFSETS = {0: np.zeros(3), 2: np.array([0.06, -0.002, 0.003])}


@pytest.fixture
def recording(tmp_path, write_image):
    """The sequence `sequences/04` with poses in `poses/04.txt`."""
    folder = tmp_path / "sequences" / "04"
    for camera in (0, 2):
        for i in range(3):
            write_image(folder / f"image_{camera}" / f"{i:06d}.png")
    P = {i: np.concatenate([K, (K @ b)[:, None]], axis=1) for i, b in OFFSETS.items()}
    (folder / "calib.txt").write_text("".join(f"P{i}: {numbers(matrix)}\n" for i, matrix in P.items()))
    (tmp_path / "poses").mkdir()
    lines = [numbers(matrix[:3]) + "\r\n" for matrix in MATRICES]
    (tmp_path / "poses" / "04.txt").write_text("".join(lines))
    return folder


def world_from_cam2(matrix: np.ndarray) -> np.ndarray:
    """Points of camera 2 are those of camera 0, moved by b."""
    cam0_from_cam2 = np.eye(4)
    cam0_from_cam2[:3, 3] = -OFFSETS[2]
    return matrix @ cam0_from_cam2


def test_colour_camera_stands_beside_the_one_that_the_poses_are_of(recording):
    scene = load_scene(recording)
    assert scene.format == "KITTI odometry, image_2" and scene.metric
    assert scene.mapping.names == [f"image_2/{i:06d}.png" for i in range(3)]
    for frame, matrix in zip(scene.mapping, MATRICES, strict=True):
        expect_camera(frame, world_from_cam2(matrix), (10, 10, 3.5, 2.5))


def test_grey_camera_and_poses_in_the_folder_itself(recording):
    for file in (recording / "image_2").iterdir():
        file.unlink()
    (recording / "image_2").rmdir()
    (recording.parents[1] / "poses" / "04.txt").rename(recording / "poses.txt")
    for frame, matrix in zip(load_scene(recording).mapping, MATRICES, strict=True):
        expect_camera(frame, matrix, (10, 10, 3.5, 2.5))


def test_a_missing_image_is_named_and_the_others_keep_their_poses(recording, caplog):
    (recording / "image_2" / "000001.png").unlink()
    with caplog.at_level(logging.WARNING):
        frames = load_scene(recording).mapping
    assert frames.names == ["image_2/000000.png", "image_2/000002.png"]
    expect_camera(frames[1], world_from_cam2(MATRICES[2]), (10, 10, 3.5, 2.5))
    assert "1 of 3 images named in" in caplog.text and "left out: image_2/000001.png" in caplog.text


def test_images_without_a_pose_are_named(recording, caplog):
    poses = recording.parents[1] / "poses" / "04.txt"
    poses.write_text("".join(poses.read_text().splitlines(keepends=True)[:2]))
    with caplog.at_level(logging.WARNING):
        assert len(load_scene(recording).mapping) == 2
    assert "1 of 3 images have no pose, left out: 000002.png" in caplog.text


def test_missing_poses_or_calibration_are_an_error(recording):
    (recording / "calib.txt").write_text("P0: 1 2 3\n")
    with pytest.raises(DatasetError, match="expected a line `P2:` with 12 numbers for image_2"):
        load_scene(recording)
    (recording / "calib.txt").write_text(f"P2: {numbers(np.zeros((3, 4)))}\n")
    with pytest.raises(DatasetError, match="calib.txt, line 1: K: expected"):
        load_scene(recording)
    (recording.parents[1] / "poses" / "04.txt").unlink()
    (recording / "calib.txt").write_text(f"P2: {numbers(np.eye(3, 4))}\n")
    with pytest.raises(DatasetError, match="expected poses, looked for poses.txt, 04.txt, poses/04.txt, "):
        load_scene(recording)
