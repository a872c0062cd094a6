from __future__ import annotations

import logging
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from damage import damaged_bytes, expect_scene_or_error
from known_cameras import expect_camera, quaternion_xyzw, world_from_cams

from dsac.datasets import load_scene, save_scene
from dsac.datasets.ros_images import depth_metres, rgb_pixels
from dsac.errors import DatasetError

typesys = pytest.importorskip("rosbags.typesys", reason="needs rosbags")
rosbag1 = pytest.importorskip("rosbags.rosbag1")
rosbag2 = pytest.importorskip("rosbags.rosbag2")

START_NS = 1_700_000_000_250_000_000
MATRICES = world_from_cams(4)
BODY_FROM_CAM = world_from_cams(1, seed=7)[0]
MAP_FROM_ODOM = world_from_cams(1, seed=8)[0]
K = [10.0, 0, 3, 0, 11, 2, 0, 0, 1]
OPTICAL, BODY = "camera_color_optical_frame", "base_link"


class Bag:
    """Writes messages of ROS 1 or ROS 2 to a file."""

    def __init__(self, path, kind: str) -> None:
        self.ros1 = kind == "bag"
        stores = typesys.Stores
        self.store = typesys.get_typestore(stores.ROS1_NOETIC if self.ros1 else stores.ROS2_HUMBLE)
        if self.ros1:
            links = "geometry_msgs/TransformStamped[] transforms"
            self.store.register(typesys.get_types_from_msg(links, "tf2_msgs/msg/TFMessage"))
        self.types = self.store.types
        if self.ros1:
            self.path, self.writer = path / "walk.bag", rosbag1.Writer(path / "walk.bag")
        else:
            plugin = rosbag2.StoragePlugin.SQLITE3 if kind == "db3" else rosbag2.StoragePlugin.MCAP
            self.path = path / "walk"
            self.writer = rosbag2.Writer(self.path, version=9, storage_plugin=plugin)
        self.connections: dict = {}

    def make(self, name: str, *values):
        return self.types[name](*values)

    def stamp(self, time_ns: int):
        return self.make("builtin_interfaces/msg/Time", time_ns // 10**9, time_ns % 10**9)

    def header(self, time_ns: int, frame: str):
        counted = (0,) if self.ros1 else ()
        return self.make("std_msgs/msg/Header", *counted, self.stamp(time_ns), frame)

    def write(self, topic: str, name: str, message, recorded_ns: int) -> None:
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, name, typestore=self.store)
        pack = self.store.serialize_ros1 if self.ros1 else self.store.serialize_cdr
        self.writer.write(self.connections[topic], recorded_ns, pack(message, name))

    def image(self, topic: str, time_ns: int, pixels: np.ndarray, encoding: str, frame: str = OPTICAL) -> None:
        height, width = pixels.shape[:2]
        padded = np.zeros((height, pixels.nbytes // height + 5), np.uint8)
        padded[:, :-5] = pixels.view(np.uint8).reshape(height, -1)
        message = self.make(
            "sensor_msgs/msg/Image", self.header(time_ns, frame), height, width, encoding, 0,
            padded.shape[1], padded.ravel(),
        )  # fmt: skip
        self.write(topic, "sensor_msgs/msg/Image", message, time_ns + 30_000_000)  # recorded later

    def camera_info(self, topic: str, model: str = "plumb_bob", D=(0.0,) * 5) -> None:
        region = self.make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        P = np.insert(np.reshape(K, (3, 3)) * 1.0, 3, 0, axis=1).ravel()
        message = self.make(
            "sensor_msgs/msg/CameraInfo", self.header(START_NS, OPTICAL), 6, 8, model, np.array(D, float),
            np.array(K), np.eye(3).ravel(), P, 0, 0, region,
        )  # fmt: skip
        self.write(topic, "sensor_msgs/msg/CameraInfo", message, START_NS)

    def pose_parts(self, matrix: np.ndarray):
        quaternion = self.make("geometry_msgs/msg/Quaternion", *quaternion_xyzw(matrix))
        return matrix[:3, 3], quaternion

    def transform(self, topic: str, time_ns: int, parent: str, child: str, matrix: np.ndarray) -> None:
        translation, quaternion = self.pose_parts(matrix)
        moved = self.make("geometry_msgs/msg/Vector3", *translation)
        transform = self.make("geometry_msgs/msg/Transform", moved, quaternion)
        stamped = self.make(
            "geometry_msgs/msg/TransformStamped", self.header(time_ns, parent), child, transform
        )
        message = self.make("tf2_msgs/msg/TFMessage", [stamped])
        self.write(topic, "tf2_msgs/msg/TFMessage", message, time_ns)

    def posed(self, topic: str, time_ns: int, parent: str, child: str | None, matrix: np.ndarray) -> None:
        """An odometry message, or a pose where there is no child."""
        position, quaternion = self.pose_parts(matrix)
        pose = self.make("geometry_msgs/msg/Pose", self.make("geometry_msgs/msg/Point", *position), quaternion)
        header = self.header(time_ns, parent)
        if child is None:
            message = self.make("geometry_msgs/msg/PoseStamped", header, pose)
            return self.write(topic, "geometry_msgs/msg/PoseStamped", message, time_ns)
        zero = self.make("geometry_msgs/msg/Vector3", 0.0, 0.0, 0.0)
        twist = self.make("geometry_msgs/msg/Twist", zero, zero)
        message = self.make(
            "nav_msgs/msg/Odometry", header, child,
            self.make("geometry_msgs/msg/PoseWithCovariance", pose, np.zeros(36)),
            self.make("geometry_msgs/msg/TwistWithCovariance", twist, np.zeros(36)),
        )  # fmt: skip
        return self.write(topic, "nav_msgs/msg/Odometry", message, time_ns)


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
