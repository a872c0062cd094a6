from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
from known_cameras import expect_camera, numbers, world_from_cams

from dsac.datasets import load_scene
from dsac.errors import DatasetError

MATRICES = world_from_cams(12)


@pytest.fixture
def recording(tmp_path, write_image):
    """Twelve frames; the third has lost track."""
    for folder in ("pose", "intrinsic"):
        (tmp_path / folder).mkdir()
    for i, matrix in enumerate(MATRICES):
        write_image(tmp_path / "color" / f"{i}.jpg", (16, 12))
        write_image(tmp_path / "depth" / f"{i}.png", (8, 6), np.uint16, channels=1)
        (tmp_path / "pose" / f"{i}.txt").write_text(numbers(np.full((4, 4), -np.inf) if i == 2 else matrix))
    for kind, pinhole in (("color", (20, 22, 7, 5)), ("depth", (10, 10, 4, 3))):
        fx, fy, cx, cy = pinhole
        text = f"{fx} 0 {cx} 0\n0 {fy} {cy} 0\n0 0 1 0\n0 0 0 1\n"
        (tmp_path / "intrinsic" / f"intrinsic_{kind}.txt").write_text(text)
        (tmp_path / "intrinsic" / f"extrinsic_{kind}.txt").write_text(numbers(np.eye(4)))
    return tmp_path


def test_frames_count_by_number_and_lost_ones_are_left_out(recording, caplog):
    with caplog.at_level(logging.WARNING):
        scene = load_scene(recording)
    assert scene.format == "ScanNet export" and scene.metric
    kept = [i for i in range(12) if i != 2]
    assert scene.mapping.names == [f"color/{i}.jpg" for i in kept]
    assert "1 of 12 poses are NaN or infinite, left out: color/2.jpg" in caplog.text
    for frame, i in zip(scene.mapping, kept, strict=True):
        expect_camera(frame, MATRICES[i], (20, 22, 7, 5))


def test_depth_is_seen_by_its_own_camera(recording):
    depth = load_scene(recording).mapping[0].depth
    units = cv2.imread(str(recording / "depth/0.png"), cv2.IMREAD_UNCHANGED)
    assert depth is not None
    # the ray of the colour pixel (7, 5), its centre half a pixel off the principal point
    assert depth[5, 7] == units[3, 4] * np.float32(0.001)
    assert depth[0, 0] == units[int(10 * -4.5 / 22 + 3), int(10 * -6.5 / 20 + 4)] * np.float32(0.001)


def test_colour_in_the_size_of_depth_has_its_intrinsics(recording, write_image):
    for i in range(12):
        write_image(recording / "color" / f"{i}.jpg", (8, 6))
    expect_camera(load_scene(recording).mapping[0], MATRICES[0], (10, 10, 4, 3))


def test_missing_intrinsics_are_an_error_that_says_what_to_write(recording):
    for file in (recording / "intrinsic").glob("intrinsic_*"):
        file.unlink()
    with pytest.raises(DatasetError, match="expected intrinsic/intrinsic_color.txt with the camera's matrix"):
        load_scene(recording)


def test_recording_that_lost_track_everywhere_is_an_error(recording):
    for file in (recording / "pose").iterdir():
        file.write_text(numbers(np.full((4, 4), -np.inf)))
    with pytest.raises(DatasetError, match="pose: all 12 poses are NaN or infinite"):
        load_scene(recording)
