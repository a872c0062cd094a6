"""ROS bags of images, cameras and poses, message by message."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from known_cameras import SIZE, quaternion_xyzw
from rosbags import rosbag1, rosbag2, typesys

START_NS = 1_700_000_000_250_000_000
K = [10.0, 0, 3, 0, 11, 2, 0, 0, 1]
OPTICAL = "camera_color_optical_frame"


class Bag:
    """Writes messages of ROS 1 or ROS 2 to a file."""

    def __init__(self, path: Path, kind: str) -> None:
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

    def camera_info(
        self,
        topic: str,
        model: str = "plumb_bob",
        D: Sequence[float] = (0.0,) * 5,
        K: Sequence[float] = K,
        size: tuple[int, int] = SIZE,
    ) -> None:
        region = self.make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        P = np.insert(np.reshape(K, (3, 3)) * 1.0, 3, 0, axis=1).ravel()
        message = self.make(
            "sensor_msgs/msg/CameraInfo", self.header(START_NS, OPTICAL), size[1], size[0], model,
            np.array(D, float), np.array(K), np.eye(3).ravel(), P, 0, 0, region,
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
