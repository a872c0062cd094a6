from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
from known_cameras import expect_camera, numbers, world_from_cams

from dsac.datasets import load_scene
from dsac.errors import DatasetError

MATRICES = world_from_cams(4)
INFO = """m_versionNumber = 4
m_sensorName = StructureSensor
m_colorWidth = 16
m_colorHeight = 12
m_depthWidth = 8
m_depthHeight = 6
m_depthShift = 1000
m_calibrationColorIntrinsic = 20 0 7 0 0 22 5 0 0 0 1 0 0 0 0 1
m_calibrationColorExtrinsic = 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1
m_calibrationDepthIntrinsic = 10 0 4 0 0 10 3 0 0 0 1 0 0 0 0 1
m_calibrationDepthExtrinsic = 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1
m_frames.size = 4
"""
SPLIT = "sequence0 [frames=1]  [start=0 ; end=0]\r\nsequence1 [frames=3]  [start=1 ; end=3]\r\n"


@pytest.fixture
def recording(tmp_path, write_image):
    for i, matrix in enumerate(MATRICES):
        stem = tmp_path / "data" / f"frame-{i:06d}"
        write_image(stem.with_name(f"{stem.name}.color.jpg"), (16, 12))
        write_image(stem.with_name(f"{stem.name}.depth.png"), (8, 6), np.uint16, channels=1)
        stem.with_name(f"{stem.name}.pose.txt").write_text(numbers(matrix))
    (tmp_path / "info.txt").write_text(INFO)
    (tmp_path / "split.txt").write_text(SPLIT)
    return tmp_path


def test_first_sequence_is_to_be_localized(recording):
    scene = load_scene(recording)
    assert scene.format == "12-Scenes" and scene.metric and list(scene.truths) == ["poses"]
    assert scene.query.names == ["data/frame-000000.color.jpg"]
    assert scene.mapping.names == [f"data/frame-00000{i}.color.jpg" for i in (1, 2, 3)]
    for frame, matrix in zip([scene.query[0], *scene.mapping], MATRICES, strict=True):
        expect_camera(frame, matrix, (20, 22, 7, 5))


def test_each_colour_pixel_has_the_depth_that_its_ray_meets(recording):
    depth = load_scene(recording).mapping[0].depth
    units = cv2.imread(str(recording / "data/frame-000001.depth.png"), cv2.IMREAD_UNCHANGED)
    assert depth is not None and depth.shape == (12, 16)
    for row in range(12):
        for column in range(16):
            x = int(np.floor(10 * (column + 0.5 - 7) / 20 + 4))
            y = int(np.floor(10 * (row + 0.5 - 5) / 22 + 3))
            inside = 0 <= x < 8 and 0 <= y < 6
            assert depth[row, column] == np.float32(0.001) * (units[y, x] if inside else 0)


def test_the_data_folder_is_no_sequence_of_7_scenes(recording):
    scene = load_scene(recording / "data")
    assert scene.format == "12-Scenes" and scene.query.names == ["frame-000000.color.jpg"]
    expect_camera(scene.mapping[2], MATRICES[3], (20, 22, 7, 5))


def test_without_split_all_are_for_mapping_and_lost_frames_are_named(recording, caplog):
    (recording / "split.txt").unlink()
    (recording / "data/frame-000002.pose.txt").write_text(numbers(np.full((4, 4), -np.inf)))
    with caplog.at_level(logging.WARNING):
        assert len(load_scene(recording).mapping) == 3
    assert "1 of 4 poses are NaN or infinite, left out: data/frame-000002.color.jpg" in caplog.text


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("info.txt", "m_colorWidth", "m_width", "expected `m_colorWidth = ` with 1 numbers"),
        ("info.txt", "Shift = 1000", "Shift = 0", "expected `m_depthShift = ` with a positive number"),
        (
            "info.txt",
            "DepthExtrinsic = 1",
            "DepthExtrinsic = 0.9",
            "expected the identity as m_calibrationDepth",
        ),
        ("split.txt", "start=1", "from 1", "split.txt, line 2: expected `sequence0"),
    ],
)
def test_bad_text_is_an_error_that_names_the_file(recording, file, old, new, message):
    path = recording / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DatasetError, match=message):
        load_scene(recording)
