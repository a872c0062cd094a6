from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
from known_cameras import expect_camera, numbers, world_from_cams

from dsac.datasets import load_scene
from dsac.errors import DatasetError

MATRICES = world_from_cams(4)


@pytest.fixture
def recording(tmp_path, write_image):
    """Two frames for mapping, two to localize; `train` has matrices, `test` focal lengths."""
    for part, first in (("train", 0), ("test", 2)):
        for i in (first, first + 1):
            folder, stem = tmp_path / part, f"seq-01-frame-{i:06d}"
            write_image(folder / "rgb" / f"{stem}.color.png")
            write_image(folder / "depth" / f"{stem}.depth.png", (4, 3), np.uint16, channels=1)
            (folder / "poses").mkdir(exist_ok=True)
            (folder / "calibration").mkdir(exist_ok=True)
            (folder / "poses" / f"{stem}.pose.txt").write_text(numbers(MATRICES[i], "\t") + "\r\n")
            lens = "10 0 3.5\n0 11 2.5\n0 0 1" if part == "train" else "9.5"
            (folder / "calibration" / f"{stem}.calibration.txt").write_text(lens)
    return tmp_path


def test_train_is_for_mapping_and_test_to_be_localized(recording):
    scene = load_scene(recording)
    assert scene.format == "DSAC*/ACE folders" and scene.metric
    assert scene.mapping.names == [f"train/rgb/seq-01-frame-00000{i}.color.png" for i in (0, 1)]
    assert scene.query.names == [f"test/rgb/seq-01-frame-00000{i}.color.png" for i in (2, 3)]
    for i in (0, 1):
        expect_camera(scene.mapping[i], MATRICES[i])
        expect_camera(scene.query[i], MATRICES[2 + i], (9.5, 9.5, 4, 3))


def test_smaller_depth_is_that_of_the_pixel_behind(recording):
    frame = load_scene(recording).mapping[1]
    units = cv2.imread(str(recording / "train/depth/seq-01-frame-000001.depth.png"), cv2.IMREAD_UNCHANGED)
    expected = np.repeat(np.repeat(units, 2, 0), 2, 1) * np.float32(0.001)
    np.testing.assert_array_equal(frame.depth, expected)


def test_files_of_other_names_belong_together_by_their_order(recording):
    for i in (0, 1):
        stem = f"seq-01-frame-00000{i}"
        (recording / f"train/poses/{stem}.pose.txt").rename(recording / f"train/poses/{i + 7}.txt")
    (recording / "train/poses/._7.txt").write_text("left by a Mac")
    for i, frame in enumerate(load_scene(recording).mapping):
        expect_camera(frame, MATRICES[i])


def test_image_without_pose_is_named_and_left_out(recording, caplog):
    (recording / "train/poses/seq-01-frame-000001.pose.txt").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(load_scene(recording).mapping) == 1
    assert "1 of 2 images have no file there, left out: seq-01-frame-000001.color.png" in caplog.text


def test_pose_that_is_nan_is_named_and_left_out(recording, caplog):
    (recording / "test/poses/seq-01-frame-000003.pose.txt").write_text(numbers(np.full((4, 4), np.nan)))
    with caplog.at_level(logging.WARNING):
        assert len(load_scene(recording).query) == 1
    assert "1 of 4 poses are NaN or infinite" in caplog.text and "frame-000003" in caplog.text


def test_one_calibration_is_for_all(recording):
    (recording / "train/calibration/seq-01-frame-000001.calibration.txt").unlink()
    assert len(load_scene(recording).mapping) == 2


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("poses/seq-01-frame-000000.pose.txt", "1 0 0", "pose.txt: expected a 4x4 matrix as 16 numbers, got 3"),
        ("poses/seq-01-frame-000000.pose.txt", "1 0 zero", "pose.txt: expected numbers, got `1 0 zero`"),
        ("poses/seq-01-frame-000000.pose.txt", "2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1", "expected a rigid motion"),
        ("poses/seq-01-frame-000000.pose.txt", "1 0 0 0 0 1 0 0 0 0 1 0 1 2 3 1", "last row 0 0 0 1, got"),
        (
            "calibration/seq-01-frame-000000.calibration.txt",
            "10 11",
            "expected a focal length in pixels or a 3x3",
        ),
        ("calibration/seq-01-frame-000000.calibration.txt", "10 1 3 0 11 2 0 0 1", "expected a camera matrix"),
        ("calibration/seq-01-frame-000000.calibration.txt", "-10", "calibration.txt: .*positive focal"),
    ],
)
def test_bad_text_is_an_error_that_names_the_file(recording, file, text, message):
    (recording / "train" / file).write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_scene(recording)


def test_intrinsics_of_another_size_are_told(recording, caplog):
    for file in (recording / "train/calibration").iterdir():
        file.write_text("100 0 35 0 110 25 0 0 1")
    with caplog.at_level(logging.WARNING):
        load_scene(recording)
    assert "the principal point is far from the middle of the images of 8x6 pixels" in caplog.text


def test_map_needs_no_test_folder(recording):
    for file in (recording / "test/rgb").iterdir():
        file.unlink()
    scene = load_scene(recording)
    assert len(scene.mapping) == 2 and not len(scene.query)
