from __future__ import annotations

import logging
import shutil

import cv2
import numpy as np
import pytest
import torch
from known_cameras import expect_camera, numbers, quaternion_xyzw, world_from_cams

from dsac.datasets import load_scene
from dsac.errors import DatasetError

MATRICES = world_from_cams(3)
BODY_FROM_CAM = world_from_cams(1, seed=9)[0]
START_NS = 1403715273262142976
SENSOR = """%YAML:1.0
T_BS:
  cols: 4
  rows: 4
  data: [{}]
resolution: [8, 6]
camera_model: pinhole
intrinsics: [10, 11, 3, 2] #fu, fv, cu, cv
distortion_model: {}
distortion_coefficients: [{}]
"""


@pytest.fixture
def recording(tmp_path, write_image):
    """Writes three images, 50 ms apart, and the body's pose at each and 5 ms later."""

    def write(model="radial-tangential", coefficients="0, 0, 0, 0"):
        cam, truth = tmp_path / "mav0" / "cam0", tmp_path / "mav0" / "state_groundtruth_estimate0"
        truth.mkdir(parents=True, exist_ok=True)
        images, poses = ["#timestamp [ns],filename"], ["#timestamp, p_RS_R_x [m], ..., q_RS_w [], q_RS_x []"]
        for i, matrix in enumerate(MATRICES):
            time = START_NS + i * 50_000_000
            write_image(cam / "data" / f"{time}.png", channels=1)
            images.append(f"{time},{time}.png")
            body = matrix @ np.linalg.inv(BODY_FROM_CAM)
            x, y, z, w = quaternion_xyzw(body)
            row = numbers([*body[:3, 3], w, x, y, z, 0.1, 0.2, 0.3], ",")
            poses += [f"{time},{row}", f"{time + 5_000_000},{row}"]
        (cam / "data.csv").write_text("\r\n".join(images))
        (truth / "data.csv").write_text("\r\n".join(poses))
        (cam / "sensor.yaml").write_text(SENSOR.format(numbers(BODY_FROM_CAM, ", "), model, coefficients))
        return tmp_path

    return write


def test_poses_are_the_bodys_and_the_camera_sits_on_it(recording):
    scene = load_scene(recording())
    assert scene.format == "EuRoC MAV" and scene.metric and list(scene.truths) == ["groundtruth"]
    assert scene.mapping.names[0] == f"mav0/cam0/data/{START_NS}.png"
    assert scene.mapping[0].image.shape == (3, 6, 8)
    for frame, matrix in zip(scene.mapping, MATRICES, strict=True):
        expect_camera(frame, matrix, (10, 11, 3.5, 2.5))


@pytest.mark.parametrize(
    ("model", "ours"), [("radial-tangential", "OPENCV"), ("equidistant", "OPENCV_FISHEYE")]
)
def test_distortion_is_opencvs(recording, model, ours):
    coefficients = [-0.28, 0.07, 0.0002, 0.00002]
    camera = load_scene(recording(model, numbers(coefficients, ", "))).mapping.camera(0)
    assert camera.model == ours
    points = np.random.default_rng(0).uniform([-0.3, -0.3, 1], [0.3, 0.3, 1.5], (20, 3))
    K = np.array([[10, 0, 3], [0, 11, 2], [0, 0, 1.0]])
    project = cv2.projectPoints if ours == "OPENCV" else cv2.fisheye.projectPoints
    seen, _ = project(points[:, None], np.zeros(3), np.zeros(3), K, np.array(coefficients))
    np.testing.assert_allclose(camera.project(torch.from_numpy(points)), seen[:, 0] + 0.5, atol=1e-9)


def test_mav0_itself_without_a_list_of_images(recording, caplog):
    path = recording()
    (path / "mav0/cam0/data.csv").unlink()
    with caplog.at_level(logging.INFO):
        frames = load_scene(path / "mav0").mapping
    assert frames.names == [f"cam0/data/{START_NS + i * 50_000_000}.png" for i in range(3)]
    assert "3 of 3 images have a pose within 0.02 s" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("radial-tangential", "omni", "expected radial-tangential or equidistant distortion, got omni"),
        ("intrinsics: [10,", "intrinsics: [", "expected `intrinsics` as a list of 4 numbers"),
        ("T_BS", "T_SB", "expected `T_BS` as a list of 16 numbers"),
        ("resolution: [8,", "resolution: [0,", "sensor.yaml: expected a width and height in pixels, got 0, 6"),
    ],
)
def test_bad_sensor_is_an_error_that_names_the_file(recording, old, new, message):
    file = recording() / "mav0/cam0/sensor.yaml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(DatasetError, match=message):
        load_scene(file.parents[2])


def test_missing_poses_are_an_error_that_says_where_they_belong(recording):
    path = recording()
    (path / "mav0/state_groundtruth_estimate0/data.csv").unlink()
    with pytest.raises(DatasetError, match="expected poses of the body, looked for .*estimate0/data.csv"):
        load_scene(path)


def test_real_sensor_and_rows_are_read(recordings, tmp_path):
    """The rows are of another sequence, 252 s later: the images are renamed by as much."""
    shutil.copytree(recordings / "formats" / "euroc" / "mav0", tmp_path / "mav0")
    truth = tmp_path / "mav0" / "state_groundtruth_estimate0"
    truth.mkdir()
    (tmp_path / "mav0" / "V102_groundtruth_first2000.csv").rename(truth / "data.csv")
    with pytest.raises(DatasetError, match="no image has a pose within 0.02 s"):
        load_scene(tmp_path)
    (tmp_path / "mav0/cam0/data.csv").unlink()
    for file in (tmp_path / "mav0/cam0/data").iterdir():
        file.rename(file.with_name(f"{int(file.stem) + 252_000_000_000}.png"))
    frames = load_scene(tmp_path).mapping
    assert len(frames) == 6 and frames.camera(0).model == "OPENCV" and frames.camera(0).size == (752, 480)
    assert frames[0].image.shape == (3, 480, 752)
    # the body stands at (0.52, 2.00, 0.97), the camera a few centimetres beside it
    off = frames[0].cam_from_world.center - torch.tensor([0.515, 1.997, 0.971])
    assert off.norm() < 0.3
