from __future__ import annotations

import logging
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from damage import damaged_bytes, expect_scene_or_error
from known_cameras import expect_camera, world_from_cams

from dsac.datasets import load_scene, save_scene
from dsac.datasets.ros_images import depth_metres, rgb_pixels
from dsac.errors import DatasetError

pytest.importorskip("rosbags", reason="needs rosbags")
from bags import OPTICAL, START_NS, Bag  # noqa: E402

MATRICES = world_from_cams(4)
BODY_FROM_CAM = world_from_cams(1, seed=7)[0]
MAP_FROM_ODOM = world_from_cams(1, seed=8)[0]
BODY = "base_link"


@pytest.fixture
def recording(tmp_path):
    """Writes a walk: four images with a camera, depth, and poses as asked for; where it lies."""

    def write(kind: str = "db3", poses: str = "tf", camera: bool = True, static: bool = True):
        bag = Bag(tmp_path, kind)
        pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)
        with bag.writer:
            if camera:
                bag.camera_info("/camera/color/camera_info")
            if static:
                bag.transform("/tf_static", START_NS, BODY, OPTICAL, BODY_FROM_CAM)
            for i, matrix in enumerate(MATRICES):
                time = START_NS + i * 100_000_000
                bag.image("/camera/color/image_raw", time, pixels[i], "rgb8")
                bag.image("/camera/depth/image", time, np.full((6, 8), 1000 + i, np.uint16), "16UC1")
                body = matrix @ np.linalg.inv(BODY_FROM_CAM)
                if poses == "tf":
                    bag.transform("/tf", time, "map", "odom", MAP_FROM_ODOM)
                    bag.transform("/tf", time, "odom", BODY, np.linalg.inv(MAP_FROM_ODOM) @ body)
                elif poses == "odometry":
                    bag.posed("/odom", time, "odom", BODY, body)
                elif poses == "pose":
                    bag.posed("/pose", time, "map", None, body)
        return bag.path, pixels

    return write


@pytest.mark.parametrize("kind", ["bag", "db3", "mcap"])
@pytest.mark.parametrize("poses", ["tf", "odometry", "pose"])
def test_images_depth_camera_and_poses_come_out(recording, kind, poses):
    path, pixels = recording(kind, poses)
    scene = load_scene(path)
    assert scene.format == "ROS bag, /camera/color/image_raw" and scene.metric
    assert scene.mapping.names[1] == f"camera/color/image_raw/{START_NS + 100_000_000}"
    for i, frame in enumerate(scene.mapping):
        expect_camera(frame, MATRICES[i], (10, 11, 3.5, 2.5), tolerance_px=1e-4)  # times count 0.2 µs
        np.testing.assert_array_equal((frame.image * 255).round().permute(1, 2, 0), pixels[i])
        np.testing.assert_allclose(frame.depth, 1 + i / 1000, rtol=1e-6)


def test_an_mcap_file_and_a_folder_of_bags_are_recordings(recording):
    path, _ = recording("mcap")
    (file,) = path.glob("*.mcap")
    assert len(load_scene(file).mapping) == 4
    path, _ = recording("bag")
    assert len(load_scene(path.parent).mapping) == 4


def test_a_bag_is_unpacked_into_files_with_its_times(recording, tmp_path):
    path, pixels = recording()
    saved = save_scene(load_scene(path), tmp_path / "tum", "tum")
    assert saved.num_copied == 0
    assert saved.names[1] == f"rgb/camera/color/image_raw/{START_NS + 100_000_000}.png"
    lines = (tmp_path / "tum" / "rgb.txt").read_text().splitlines()
    assert lines[2].split()[0] == f"{START_NS / 1e9 + 0.1:.6f}"
    for i, frame in enumerate(load_scene(tmp_path / "tum").mapping):
        expect_camera(frame, MATRICES[i], (10, 11, 3.5, 2.5), tolerance_px=1e-4)
        np.testing.assert_array_equal((frame.image * 255).round().permute(1, 2, 0), pixels[i])
        np.testing.assert_allclose(frame.depth, 1 + i / 1000, rtol=1e-6)


def test_images_without_poses_in_time_are_counted(recording, caplog):
    path, _ = recording(poses="tf")
    with caplog.at_level(logging.INFO):
        load_scene(path)
    assert "odom to base_link: 4 of 4 images have a pose within 0.1 s" in caplog.text
    assert f"poses map from odom from {BODY} from {OPTICAL}" in caplog.text
    assert "4 of 4 images have depth of /camera/depth/image" in caplog.text


def test_what_is_missing_is_named(recording, tmp_path):
    path, _ = recording("bag", camera=False)
    with pytest.raises(DatasetError, match="images: /camera/color/image_raw, .*; camera_info: none"):
        load_scene(path)
    path.unlink()
    path, _ = recording("bag", poses="none")
    with pytest.raises(
        DatasetError, match=f"no poses of the images' frame {OPTICAL}: nothing moves on its way"
    ):
        load_scene(path)
    path.unlink()
    path, _ = recording("bag", poses="odometry", static=False)
    with pytest.raises(DatasetError, match="record /tf_static, /tf or odometry; transforms: odom to base_link"):
        load_scene(path)


@pytest.mark.parametrize("kind", ["bag", "db3", "mcap"])
def test_a_damaged_bag_is_a_good_scene_or_an_error(recording, kind, tmp_path):
    path, _ = recording(kind)
    folder = tmp_path if kind == "bag" else path
    (file,) = folder.glob(f"*.{kind}")
    expect_scene_or_error(folder, {file.name: damaged_bytes}, seed=0)


def message(pixels: np.ndarray, encoding: str, big: bool = False) -> SimpleNamespace:
    data = np.frombuffer(pixels.tobytes(), np.uint8)
    height, width = pixels.shape[:2]
    step = data.size // height
    return SimpleNamespace(
        height=height, width=width, encoding=encoding, is_bigendian=big, step=step, data=data
    )


def test_encodings_become_rgb():
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    alpha = np.full((6, 8, 1), 9, np.uint8)
    for encoding, pixels in {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "rgba8": np.concatenate([rgb, alpha], -1),
        "bgra8": np.concatenate([rgb[..., ::-1], alpha], -1),
    }.items():
        np.testing.assert_array_equal(rgb_pixels(message(pixels, encoding)), rgb)
    grey = np.repeat(rgb[..., :1], 3, -1)
    np.testing.assert_array_equal(rgb_pixels(message(rgb[..., 0], "mono8")), grey)
    deep = (rgb[..., 0].astype(np.uint16) * 256).astype(">u2")
    np.testing.assert_array_equal(rgb_pixels(message(deep, "mono16", big=True)), grey)
    data = np.frombuffer(cv2.imencode(".png", rgb[..., ::-1])[1].tobytes(), np.uint8)
    np.testing.assert_array_equal(rgb_pixels(SimpleNamespace(format="png", data=data)), rgb)


@pytest.mark.parametrize(
    ("encoding", "first"),
    [("bayer_rggb8", "RG"), ("bayer_bggr8", "BG"), ("bayer_gbrg8", "GB"), ("bayer_grbg8", "GR")],
)
def test_colour_filters_begin_with_the_colour_that_ros_names(encoding, first):
    colours = {"R": 200, "G": 120, "B": 40}
    second = {"RG": "GB", "BG": "GR", "GB": "RG", "GR": "BG"}[first]
    tile = [[colours[c] for c in first], [colours[c] for c in second]]
    pixels = rgb_pixels(message(np.tile(np.array(tile, np.uint8), (4, 5)), encoding))
    np.testing.assert_array_equal(pixels[3, 4], [200, 120, 40])


def test_depth_is_millimetres_or_metres_and_0_where_unknown():
    units = np.array([[0, 1500], [65535, 1]], np.uint16)
    np.testing.assert_allclose(depth_metres(message(units, "16UC1")), [[0, 1.5], [65.535, 0.001]], rtol=1e-6)
    metres = np.array([[np.nan, 1.5], [np.inf, -1]], np.float32)
    np.testing.assert_array_equal(depth_metres(message(metres, "32FC1")), [[0, 1.5], [0, 0]])


def test_pictures_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="expected an encoding among rgb8, .*, got 64FC9"):
        rgb_pixels(message(np.zeros((6, 8), np.uint8), "64FC9"))
    short = message(np.zeros((6, 8), np.uint8), "mono8")
    short.data = short.data[:-1]
    with pytest.raises(ValueError, match="an image of 8x6 in 47 bytes, 8 a row"):
        rgb_pixels(short)


def test_real_bags_without_cameras_say_what_they_have(recordings):
    folder = recordings / "formats" / "rosbag"
    with pytest.raises(DatasetError, match="images: /camera/fisheye1/image_raw, .*; camera_info: none"):
        load_scene(folder / "trimmed_locoffice.bag")
    for name in ("tf_example.bag", "tf_example_ros2", "nav2_turtlebot.mcap"):
        with pytest.raises(DatasetError, match="images: none; camera_info: none"):
            load_scene(folder / name)
