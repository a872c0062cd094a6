from __future__ import annotations

import json
import logging
import math
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from dsac.datasets import load_scene
from dsac.errors import DatasetError
from dsac.geometry import Pose

LENS = {"fl_x": 10.0, "fl_y": 11.0, "cx": 3.5, "cy": 2.5, "w": 8, "h": 6}
LOOKING_ALONG_MINUS_Z = torch.eye(4).tolist()  # of a camera in OpenGL axes


@pytest.fixture
def scene_of(tmp_path, write_image):
    """Loads a scene of `transforms.json` with the given frames; each image is written."""

    def load(top: dict[str, Any], *frames: dict[str, Any]):
        entries = []
        for i, frame in enumerate(frames):
            write_image(tmp_path / "images" / f"{i}.png")
            entries.append(
                {"file_path": f"./images/{i}.png", "transform_matrix": LOOKING_ALONG_MINUS_Z} | frame
            )
        (tmp_path / "transforms.json").write_text(json.dumps(top | {"frames": entries}))
        return load_scene(tmp_path)

    return load


def test_opengl_axes_become_ours(scene_of):
    camera_right_of_origin = np.eye(4)
    camera_right_of_origin[0, 3] = 2.0
    scene = scene_of(LENS, {"transform_matrix": camera_right_of_origin.tolist()})
    frame = scene.mapping[0]
    assert scene.format == "nerfstudio transforms.json" and frame.name == "images/0.png"
    assert not scene.metric
    assert frame.cam_from_world is not None
    assert frame.cam_from_world.center.tolist() == [2, 0, 0]
    # world y is up: the point ahead, one right and one up, is seen right of and above the centre
    points_cam = frame.cam_from_world @ torch.tensor([[3.0, 1.0, -5.0]], dtype=torch.float64)
    assert points_cam.tolist() == [[1, -1, 5]]
    assert frame.camera.project(points_cam).tolist() == [[3.5 + 10 / 5, 2.5 - 11 / 5]]


def test_intrinsics_of_a_frame_win_over_those_at_the_top(scene_of):
    frames = scene_of(LENS, {}, {"fl_x": 20.0, "k1": 0.1}, {}).mapping
    assert len(frames.cameras) == 2
    assert [frames.camera(i).focal_px[0].item() for i in range(3)] == [10, 20, 10]
    assert [frames.camera(i).model for i in range(3)] == ["PINHOLE", "OPENCV", "PINHOLE"]


def test_field_of_view_stands_in_for_the_focal_length_and_the_image_for_its_size(scene_of):
    camera = scene_of({"camera_angle_x": math.pi / 2}, {}).mapping.camera(0)
    assert camera.size == (8, 6)
    assert camera.params.tolist() == pytest.approx([4, 4, 4, 3])  # 90 degrees over 8 pixels


@pytest.mark.parametrize(
    ("keys", "model", "distortion"),
    [
        ({"k1": 0.1, "k2": 0.2, "p1": 0.3, "p2": 0.4}, "OPENCV", [0.1, 0.2, 0.3, 0.4]),
        (
            {"camera_model": "OPENCV_FISHEYE", "k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4},
            "OPENCV_FISHEYE",
            [0.1, 0.2, 0.3, 0.4],
        ),
        ({"camera_model": "PINHOLE"}, "PINHOLE", None),
        ({"camera_model": "OPENCV", "k1": 0.0}, "PINHOLE", None),
    ],
)
def test_distortion(scene_of, keys, model, distortion):
    camera = scene_of(LENS | keys, {}).mapping.camera(0)
    assert camera.model == model
    assert (None if camera.distortion is None else camera.distortion.tolist()) == distortion


def test_depth_file_of_a_frame_is_read(scene_of, tmp_path, write_image):
    depth_path = write_image(tmp_path / "depths" / "d.png", dtype=np.uint16, channels=1)
    scene = scene_of(LENS, {"depth_file_path": "./depths/d.png"})
    assert scene.metric  # who measured depth knows metres
    frame = scene.mapping[0]
    units = cv2.imread(str(depth_path), cv2.IMREAD_UNCHANGED)
    assert frame.depth is not None
    np.testing.assert_allclose(frame.depth.numpy(), units * 1e-3, rtol=1e-6)


def matrix(change) -> dict[str, Any]:
    values = np.eye(4)
    change(values)
    return {"transform_matrix": values.tolist()}


def scaled(values):
    values[:3, :3] *= 2


def mirrored(values):
    values[0, 0] = -1


def sheared(values):
    values[0, 1] = 0.2


@pytest.mark.parametrize(
    ("top", "frame", "message"),
    [
        ({}, {}, "images/0.png: no intrinsics: expected `fl_x` or `camera_angle_x`"),
        (LENS | {"camera_model": "EQUIRECTANGULAR"}, {}, "`camera_model` among .*, got EQUIRECTANGULAR"),
        (LENS | {"k5": 0.1}, {}, "k5 other than 0: no coefficients of OPENCV"),
        (LENS | {"camera_model": "OPENCV", "is_fisheye": True}, {}, "a fisheye `camera_model` where"),
        (LENS | {"is_fisheye": "yes"}, {}, "`is_fisheye` as true or false, got yes"),
        (LENS | {"fl_x": -1}, {}, "positive focal"),
        (LENS | {"fl_x": "wide"}, {}, "images/0.png: .*wide"),
        (LENS, matrix(scaled), "images/0.png: expected a rigid motion, .* off the identity by 3"),
        (LENS, matrix(mirrored), "images/0.png: expected a rigid motion, .* a reflection"),
        (LENS, matrix(sheared), "images/0.png: expected a rigid motion, .* off the identity by 0.2"),
        (LENS, {"transform_matrix": [[1, 2], [3, 4]]}, "images/0.png: expected `transform_matrix` as 3x4"),
        (LENS, {"transform_matrix": None}, "expected `transform_matrix` in each frame, frame 0 has none"),
    ],
)
def test_bad_frame_is_an_error_that_names_it(scene_of, top, frame, message):
    with pytest.raises(DatasetError, match=f"transforms.json.*{message}"):
        scene_of(top, frame)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"w": float("inf")}, "expected `w` as a finite number, got inf"),
        ({"w": 10**400}, "expected `w` as a finite number"),
        ({"w": 2**31}, "expected a width and height in pixels"),
        ({"w": -8}, "expected a width and height in pixels"),
        ({"h": 0}, "expected a width and height in pixels"),
        ({"h": 6.5}, "expected `w` and `h` in whole pixels"),
        ({"w": True}, "expected `w` as a finite number, got True"),
        ({"fl_x": [50]}, r"expected `fl_x` as a finite number, got \[50\]"),
        ({"fl_x": {"value": 50}}, "expected `fl_x` as a finite number"),
        ({"fl_y": "10"}, "expected `fl_y` as a finite number, got 10"),
        ({"fl_y": 0}, "positive focal"),
        ({"cx": float("nan")}, "expected `cx` as a finite number, got nan"),
        ({"k1": []}, "expected `k1` as a finite number"),
        ({"fl_x": None, "camera_angle_x": 0}, "expected `camera_angle_x` between 0 and pi"),
        ({"fl_x": None, "camera_angle_x": 7}, "expected `camera_angle_x` between 0 and pi"),
        ({"fl_x": None, "camera_angle_x": "wide"}, "expected `camera_angle_x` as a finite number"),
        ({"camera_model": ["OPENCV"]}, "`camera_model` among"),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.parametrize("place", ["top", "frame"])
def test_intrinsics_of_a_wrong_type_or_size_are_an_error_that_names_the_frame(scene_of, keys, message, place):
    with pytest.raises(DatasetError, match=f"transforms.json, images/0.png: .*{message}"):
        lens = {key: value for key, value in LENS.items() if key not in keys}
        scene_of(lens | keys, {}) if place == "top" else scene_of(lens, keys)


@pytest.mark.parametrize("depth", [3, ["d.png"], True, {}])
def test_depth_of_a_wrong_type_is_an_error_that_names_the_frame(scene_of, depth):
    with pytest.raises(DatasetError, match="images/0.png: expected `depth_file_path` as text"):
        scene_of(LENS, {"depth_file_path": depth})


def test_what_is_null_is_not_there(scene_of):
    frame = scene_of(LENS, {"depth_file_path": None, "camera_model": None, "fl_x": None}).mapping[0]
    assert frame.depth is None and frame.camera.focal_px.tolist() == [10, 11]


def test_whole_sizes_may_be_written_as_floats(scene_of):
    assert scene_of(LENS | {"w": 8.0, "h": 6.0}, {}).mapping[0].camera.size == (8, 6)


def test_an_image_twice_is_an_error_that_names_it(scene_of):
    with pytest.raises(DatasetError, match="transforms.json: images/0.png has 2 poses"):
        scene_of(LENS, {}, {"file_path": "images/0.png"})


@pytest.mark.parametrize(
    "matrix",
    [[[10**400] * 4] * 3, [[1e200, 1e200, 0, 0], [1e200, -1e200, 0, 0], [0, 0, 1, 0]], [[[1]]], "x", {}],
)
def test_a_matrix_that_is_none_is_an_error(scene_of, matrix):
    with pytest.raises(DatasetError, match="expected (a rigid motion|`transform_matrix`)"):
        scene_of(LENS, {"transform_matrix": matrix})


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", "{}", '{"frames": []}', '{"frames": [1]}'])
def test_file_without_frames_is_an_error(tmp_path, text):
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(DatasetError, match="transforms.json: expected"):
        load_scene(tmp_path)


def test_pose_that_is_not_finite_is_left_out_and_named(scene_of, caplog):
    with caplog.at_level(logging.WARNING):
        scene = scene_of(LENS, {}, matrix(lambda values: values.__setitem__((0, 3), math.nan)))
    assert scene.mapping.names == ["images/0.png"]
    assert "1 of 2 poses" in caplog.text and "images/1.png" in caplog.text


def test_fox_names_its_missing_images(recordings, caplog):
    with caplog.at_level(logging.WARNING):
        scene = load_scene(recordings / "fox")
    assert len(scene.mapping) == 50 and len(scene.query) == 0
    [record] = caplog.records
    assert "17 of 67" in record.message
    for name in ("images/0005.jpg", "images/0113.jpg"):
        assert name in record.message


def test_fox_poses_agree_with_its_pictures(recordings, caplog):
    """Matched keypoints lie within a few pixels of their epipolar lines, which no other axes would give."""
    frames = load_scene(recordings / "fox").mapping
    first, second = frames[0], frames[6]
    pixels = matched_pixels(first.image, second.image)
    assert len(pixels) > 100
    assert float(epipolar_distance_px(pixels, first, second).median()) < 2.0


def matched_pixels(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """SIFT matches as pixels (N, 2 images, 2), in our pixel convention."""
    sift = cv2.SIFT.create(1500)
    grey = [(image.mean(0).numpy() * 255).astype(np.uint8) for image in (first, second)]
    (keys_a, about_a), (keys_b, about_b) = (sift.detectAndCompute(image, None) for image in grey)
    pairs = cv2.BFMatcher().knnMatch(about_a, about_b, k=2)
    good = [best for best, other in pairs if best.distance < 0.7 * other.distance]
    matched = [(keys_a[m.queryIdx].pt, keys_b[m.trainIdx].pt) for m in good]
    return torch.tensor(matched, dtype=torch.float64) + 0.5


def epipolar_distance_px(pixels: torch.Tensor, first, second) -> torch.Tensor:
    """Distance on the second image's ideal plane from each epipolar line, in pixels."""
    second_from_first: Pose = second.cam_from_world @ first.cam_from_world.inverse()
    rays_a, rays_b = (frame.camera.unproject(pixels[:, i]) for i, frame in enumerate((first, second)))
    lines = torch.linalg.cross(
        second_from_first.translation.expand_as(rays_a), rays_a @ second_from_first.rotation.mT
    )
    return (lines * rays_b).sum(-1).abs() / lines[:, :2].norm(dim=-1) * second.camera.focal_px[0]
