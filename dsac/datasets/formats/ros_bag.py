"""ROS 1 and ROS 2 bags and mcap files, read by the package `rosbags` (`pip install 'dsac[ros]'`).

The images are those of the topic with a `camera_info` beside it, colour before grey; their camera is the frame
that their messages name, with an optical frame's axes (x right, y down, z forward). Where it was is the way up
from that frame by `/tf_static`, `/tf` and odometry, or, where nothing on this way moves, a topic of poses of
its topmost frame. Depth is that of the same frame. Times are those of the messages' headers.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from dsac.datasets.format import Recording
from dsac.datasets.frame import Frames, NamedPoses
from dsac.datasets.recording import pick_truth
from dsac.datasets.ros_images import depth_metres, is_depth, rgb_pixels
from dsac.datasets.ros_messages import Bag, BagFiles, Mark
from dsac.datasets.storage import Storage, is_remote
from dsac.datasets.trajectory import pair_by_time
from dsac.datasets.transform_tree import TransformTree
from dsac.errors import DatasetError
from dsac.geometry import Camera

logger = logging.getLogger(__name__)

LOOKS_FOR = "a .bag or .mcap file, or a ROS 2 bag's metadata.yaml (ROS)"
MAX_GAP = 0.1
_DEPTH_GAP = 0.02
_IMAGE, _COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_ODOMETRY = "nav_msgs/msg/Odometry"
_TRANSFORMS = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
_POSES = ("geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/PoseWithCovarianceStamped")
_CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


def recognises(storage: Storage) -> bool:
    return bool(_paths(storage))


def read(storage: Storage, truth: str | None, max_gap: float | None = None) -> Recording:
    """Frames in the order of their times; the truth is `ros`."""
    pick_truth(storage.path, ["ros"], truth)
    files = BagFiles.now(_paths(storage))
    bag = files.open()
    topic, info = _images_with_camera(bag, storage.path)
    camera = _camera(info, "rect" in topic, f"{storage.path}, camera of {topic}")
    stamps = bag.stamps(topic)
    times = np.array(sorted(stamps)) * 1e-9
    marks = {f"{topic.strip('/')}/{stamp}": stamps[stamp] for stamp in sorted(stamps)}
    frame = bag.first(topic).header.frame_id
    tree = _tree(bag, frame, storage.path)
    rows, world_from_cam = tree.at(frame, list(marks), times, MAX_GAP if max_gap is None else max_gap)
    logger.info("%s: images of %s, poses %s", storage.path, topic, " from ".join(reversed(tree.way_up(frame))))
    names = [list(marks)[i] for i in rows]
    depth = _depth(bag, frame, names, times[rows])
    reader = _BagReader(files, {name: marks[name] for name in names}, depth)
    poses = world_from_cam.inverse()
    frames = Frames(names, [camera], np.zeros(len(names), np.int64), poses, reader)
    return Recording(f"ROS bag, {topic}", frames, {"ros": NamedPoses(names, poses)})


@dataclass(frozen=True)
class _BagReader:
    """Pixels of messages, which are looked up by the time of their recording."""

    files: BagFiles
    images: Mapping[str, Mark]
    depth: Mapping[str, Mark]

    @property
    def has_depth(self) -> bool:
        return bool(self.depth)

    def read_image(self, name: str) -> UInt8[np.ndarray, "H W 3"]:
        mark = self.images[name]
        message = self.files.open().first(mark.topic, mark.recorded_ns)
        try:
            return rgb_pixels(message)
        except ValueError as error:
            raise DatasetError(f"{self.files.paths[0]}, {name}: {error}") from None

    def read_depth(self, name: str, camera: Camera) -> Float32[np.ndarray, "H W"]:
        width, height = camera.size
        if name not in self.depth:
            return np.zeros((height, width), np.float32)
        mark = self.depth[name]
        message = self.files.open().first(mark.topic, mark.recorded_ns)
        try:
            depth = depth_metres(message)
            if depth.shape != (height, width):
                raise ValueError(f"expected depth of {width}x{height}, got {depth.shape[1]}x{depth.shape[0]}")
        except ValueError as error:
            raise DatasetError(f"{self.files.paths[0]}, depth of {name}: {error}") from None
        return depth


def _paths(storage: Storage) -> tuple[str, ...]:
    """The file; the parts of a ROS 1 recording in a folder; or the folder of a ROS 2 bag."""
    if is_remote(storage.path):
        return ()
    if storage.path.lower().endswith((".bag", ".mcap")) and os.path.isfile(storage.path):
        return (storage.path,)
    names = sorted(name for name in storage.listing() if not name.startswith("."))
    if "metadata.yaml" in names and any(name.endswith((".db3", ".mcap")) for name in names):
        return (storage.path,)
    return tuple(storage.join(name) for name in names if name.endswith(".bag"))


def _images_with_camera(bag: Bag, path: str) -> tuple[str, Any]:
    """The topic of the images, and the message of their camera."""
    images, infos = bag.topics(_IMAGE, _COMPRESSED), bag.topics(_CAMERA_INFO)
    usable = {}
    for topic in images:
        beside = [info for info in infos if _stands_beside(info, topic)]
        if beside and not ("depth" in topic.lower() or is_depth(bag.first(topic))):
            usable[topic] = beside[0]
    if not usable:
        have = ", ".join(images) or "none"
        raise DatasetError(
            f"{path}: expected a topic of images with a camera_info beside it; images: {have}; camera_info: "
            f"{', '.join(infos) or 'none'}"
        )
    topic = max(usable, key=lambda t: ("rect" in t, any(c in t for c in ("color", "colour", "rgb")), images[t]))
    return topic, bag.first(usable[topic])


def _stands_beside(info: str, topic: str) -> bool:
    """`/camera/color/camera_info` beside `/camera/color/image_raw` and `/camera/color/image_raw/compressed`."""
    return topic.startswith(info.rpartition("/")[0] + "/")


def _camera(info: Any, rectified: bool, where: str) -> Camera:
    K, D, P = (np.array(getattr(info, key, getattr(info, key.lower(), ()))) for key in "KDP")
    size = (int(info.width), int(info.height))
    try:
        if rectified:
            return Camera.from_opencv(P.reshape(3, 4)[:, :3], None, size)
        if info.distortion_model in ("equidistant", "fisheye"):
            return Camera.from_opencv_fisheye(K.reshape(3, 3), D[:4], size)
        if info.distortion_model not in ("plumb_bob", "rational_polynomial", "") and D.any():
            raise ValueError(f"distortion {info.distortion_model} is not understood")
        return Camera.from_opencv(K.reshape(3, 3), D if D.size else None, size)
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from None


def _tree(bag: Bag, frame: str, path: str) -> TransformTree:
    """The frames above that of the images. Raises: `DatasetError` when none of them moves."""
    tree = TransformTree(path)
    for topic in sorted(bag.topics(*_TRANSFORMS), key=lambda topic: "static" not in topic):
        for message in bag.all(topic):
            for link in message.transforms:
                sample = _sample(link.header, link.transform.translation, link.transform.rotation)
                tree.add(link.header.frame_id, link.child_frame_id, sample, "static" in topic)
    for topic in bag.topics(_ODOMETRY):
        if tree.moves(frame):
            break
        for message in bag.all(topic):
            pose = message.pose.pose
            sample = _sample(message.header, pose.position, pose.orientation)
            tree.add(message.header.frame_id, message.child_frame_id, sample)
    topmost = tree.way_up(frame)[-1]
    for topic in bag.topics(*_POSES):
        if tree.moves(frame):
            break
        for message in bag.all(topic):
            pose = getattr(message.pose, "pose", message.pose)
            tree.add(message.header.frame_id, topmost, _sample(message.header, pose.position, pose.orientation))
    if not tree.moves(frame):
        known = ", ".join(f"{parent} to {child}" for child, parent in tree.parent_of.items()) or "none"
        raise DatasetError(
            f"{path}: no poses of the images' frame {frame}: nothing moves on its way up, "
            f"{' to '.join(tree.way_up(frame))}; record /tf_static, /tf or odometry; transforms: {known}"
        )
    return tree


def _sample(header: Any, position: Any, quaternion: Any) -> tuple[float, ...]:
    time = header.stamp.sec + 1e-9 * header.stamp.nanosec
    q = quaternion
    return (time, position.x, position.y, position.z, q.x, q.y, q.z, q.w)


def _depth(bag: Bag, frame: str, names: list[str], times: np.ndarray) -> dict[str, Mark]:
    """Depth of the same frame, by image."""
    for topic in bag.topics(_IMAGE):
        message = bag.first(topic)
        if is_depth(message) and message.header.frame_id == frame:
            stamps = bag.stamps(topic)
            marks = list(stamps.values())
            pairs = pair_by_time(times, np.array(list(stamps)) * 1e-9, _DEPTH_GAP)
            logger.info("%s: %d of %d images have depth of %s", bag.path, len(pairs), len(names), topic)
            return {names[i]: marks[j] for i, j in pairs.items()}
    return {}
