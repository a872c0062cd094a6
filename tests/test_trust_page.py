"""What docs/trust.md hands to others is the same pose and covariance: its blocks are run, its numbers held."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

import dsac
from dsac.geometry import Camera, Pose
from dsac.localization import Localization, Timing

PAGE = (Path(__file__).parents[1] / "docs" / "trust.md").read_text()
CENTER_PX = (310.0, 250.0)  # in place of the page's, which is the middle
BODY_FROM_CAM = Pose.exp(torch.tensor([0.4, -1.1, 0.3, 0.2, -0.5, 0.1], dtype=torch.float64)).matrix.numpy()
POINTS_CAM = np.array([[0.4, -0.3, 3.0], [-0.8, 0.5, 2.0], [0.1, 0.2, 7.0]])
STEP = 1e-6


@pytest.fixture(scope="module")
def answer() -> Localization:
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    camera = Camera.from_params("SIMPLE_PINHOLE", [500.0, *CENTER_PX], (640, 480))
    camera = Camera(camera.focal_px[None], camera.center_px[None], camera.size)
    rows = dsac.Correspondences(torch.zeros(1, 9, 2).double(), torch.zeros(1, 9, 3).double(), camera)
    return Localization(
        "photo.jpg", Pose.exp(torch.randn(6, generator=generator, dtype=torch.float64)), 1e-6 * half @ half.mT,
        torch.tensor(0.9), torch.tensor(True), torch.ones(9, dtype=torch.bool), rows,
        Timing(1, 1, 1, 1, 1), focal_px=500.0, metric=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def said(answer: Localization) -> dict:
    """The names that the page's blocks of Python leave behind, GTSAM and ROS played by recorders."""
    gtsam, geometry_msgs, msg = (
        ModuleType("gtsam"),
        ModuleType("geometry_msgs"),
        ModuleType("geometry_msgs.msg"),
    )
    gtsam.Pose3 = lambda matrix: matrix  # type: ignore[attr-defined]
    gtsam.noiseModel = SimpleNamespace(Gaussian=SimpleNamespace(Covariance=lambda matrix: matrix))  # type: ignore[attr-defined]
    gtsam.PriorFactorPose3 = lambda key, pose, noise: (pose, noise)  # type: ignore[attr-defined]
    msg.PoseWithCovarianceStamped = lambda: SimpleNamespace(  # type: ignore[attr-defined]
        header=SimpleNamespace(),
        pose=SimpleNamespace(pose=SimpleNamespace(position=SimpleNamespace(), orientation=SimpleNamespace())),
    )
    page = PAGE
    for shown, ours in (("np.eye(4)  # yours", "BODY_FROM_CAM"), ("320, 240", "{}, {}".format(*CENTER_PX))):
        assert page.count(shown) == 1
        page = page.replace(shown, ours)
    names: dict = {"BODY_FROM_CAM": BODY_FROM_CAM}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dsac.Localizer, "load", lambda path: SimpleNamespace(localize=lambda photo: answer))
        for module in (gtsam, geometry_msgs, msg):
            patch.setitem(sys.modules, module.__name__, module)
        for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
            exec(compile(block, "trust.md", "exec"), names)
    return names


def spread(answer: Localization, change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Four times the covariance, of the change that an increment of the pose makes of world from camera."""
    before = answer.world_from_cam.matrix.numpy()
    columns = []
    for increment in STEP * torch.eye(6, dtype=torch.float64):
        moved = (Pose.exp(increment) @ answer.cam_from_world).inverse().matrix.numpy()
        columns.append(change(before, moved) / STEP)
    J = np.stack(columns, axis=1)
    return J @ (4 * answer.covariance.numpy()) @ J.T


def log(matrix: np.ndarray) -> np.ndarray:
    """(rotation, translation) of a motion: GTSAM's and our tangent vector."""
    return Pose.from_matrix(torch.from_numpy(matrix)).log().numpy()


def alike(found: object, expected: np.ndarray) -> bool:
    return np.allclose(np.asarray(found), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_gtsam_gets_world_from_camera_and_a_covariance_on_its_right(answer: Localization, said: dict) -> None:
    pose, noise = said["factor"]
    assert np.allclose(pose[:3, 3], answer.cam_from_world.center) and np.allclose(pose, said["world_from_cam"])
    assert alike(noise, spread(answer, lambda before, moved: log(np.linalg.inv(before) @ moved)))


def test_ros_gets_translation_before_rotation_along_the_axes_of_the_world(
    answer: Localization, said: dict
) -> None:
    def change(before: np.ndarray, moved: np.ndarray) -> np.ndarray:
        turned = np.eye(4)
        turned[:3, :3] = moved[:3, :3] @ before[:3, :3].T  # about fixed axes: from the left
        return np.concatenate([moved[:3, 3] - before[:3, 3], log(turned)[:3]])

    message = said["message"]
    covariance = np.reshape(message.pose.covariance, (6, 6))
    assert alike(covariance, spread(answer, change))
    assert alike(covariance[:3, :3], 4 * answer.center_covariance.numpy())
    to, at = message.pose.pose.orientation, message.pose.pose.position
    pose = Pose.from_quaternion(torch.tensor([to.w, to.x, to.y, to.z]), torch.tensor([at.x, at.y, at.z]))
    assert np.allclose(pose.matrix, said["world_from_cam"], atol=1e-6)


def test_ros_has_the_fields_that_the_page_fills() -> None:
    types = pytest.importorskip("rosbags.typesys")
    known = types.get_typestore(types.Stores.ROS2_HUMBLE).types
    fields = {name: set(known[f"geometry_msgs/msg/{name}"].__dataclass_fields__) for name in ROS}
    assert all(names <= fields[name] for name, names in ROS.items())


ROS = {"PoseWithCovarianceStamped": {"header", "pose"}, "PoseWithCovariance": {"pose", "covariance"}}


def test_a_body_that_carries_the_camera_is_as_unsure_as_it_is_far_from_it(
    answer: Localization, said: dict
) -> None:
    cam_from_body = np.linalg.inv(BODY_FROM_CAM)

    def change(before: np.ndarray, moved: np.ndarray) -> np.ndarray:
        return log(np.linalg.inv(before @ cam_from_body) @ moved @ cam_from_body)

    assert alike(said["body_covariance"], spread(answer, change))
    assert np.allclose(said["world_from_body"], said["world_from_cam"] @ cam_from_body)


def test_opengl_draws_points_where_the_photo_shows_them(answer: Localization, said: dict) -> None:
    world = _homogeneous(POINTS_CAM) @ said["world_from_cam"].T
    clip = world @ (said["projection"] @ said["view"]).T
    across, down = (clip[:, :2] / clip[:, 3:]).T
    drawn = np.stack([(1 + across) / 2 * 640, (1 - down) / 2 * 480], axis=1)
    shown = answer.camera.project(torch.from_numpy(POINTS_CAM)).numpy()
    assert np.allclose(drawn, shown)
    for z, depth in ((0.1, -1.0), (100.0, 1.0)):  # near, far; the camera looks along -z
        at = said["projection"] @ [0, 0, -z, 1]
        assert at[2] / at[3] == pytest.approx(depth)


def test_three_js_gets_the_same_camera_from_the_matrix_and_from_the_json(
    answer: Localization, said: dict
) -> None:
    matrix = np.reshape(said["columns"], (4, 4)).T
    assert np.allclose(matrix @ said["view"], np.eye(4))
    plain = answer.to_dict()
    names = dict(zip("wxyz", plain["cam_from_world"]["quaternion_wxyz"], strict=True))
    set_to, axes = re.findall(r"quaternion\.set\((.*?)\)\.multiply\(new THREE\.Quaternion\((.*?)\)\)", PAGE)[0]
    assert np.allclose(_rotation(set_to, names) @ _rotation(axes, names), matrix[:3, :3])
    assert np.allclose(plain["center"], matrix[:3, 3])


def test_arkit_places_the_map_in_its_session(said: dict) -> None:
    order = [int(i) for i in re.findall(r"c\[(\d+)\]", PAGE)]
    assert order == list(range(16))
    map_from_camera = np.reshape([said["columns"][i] for i in order], (4, 4)).T  # simd takes columns
    session_from_map = BODY_FROM_CAM
    transform = session_from_map @ said["world_from_cam"] @ np.diag([1, -1, -1, 1])  # what ARKit says
    assert np.allclose(transform @ np.linalg.inv(map_from_camera), session_from_map)


def test_unity_sees_the_mirrored_scene_from_the_mirrored_camera(answer: Localization, said: dict) -> None:
    pose = answer.world_from_cam
    names = dict(zip("wxyz", pose.quaternion_wxyz.tolist(), strict=True))
    names |= dict(zip(("tx", "ty", "tz"), pose.translation.tolist(), strict=True))
    at, to = re.findall(r"new Vector3\((.*?)\), new Quaternion\((.*?)\)", PAGE)[0]
    mirror = np.array([1.0, -1.0, 1.0])
    found = (mirror * POINTS_CAM) @ _rotation(to, names).T + np.array(eval(at, names))
    world = (_homogeneous(POINTS_CAM) @ said["world_from_cam"].T)[:, :3]
    assert np.allclose(found, mirror * world)


def test_what_is_doubtful_is_not_trusted(answer: Localization, said: dict) -> None:
    trusted = said["trusted"]
    assert trusted(answer)
    for worse in (
        replace(answer, success=torch.tensor(False)),
        replace(answer, confidence=torch.tensor(0.6)),
        replace(answer, covariance=1e4 * answer.covariance),
        replace(answer, covariance=torch.full_like(answer.covariance, torch.inf)),
    ):
        assert not trusted(worse)


def _homogeneous(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)


def _rotation(arguments: str, names: dict[str, float]) -> np.ndarray:
    """Of a quaternion that is written as three.js and Unity take it: x, y, z, w."""
    x, y, z, w = (float(eval(part, {}, names)) for part in arguments.split(","))
    return Pose.from_quaternion(torch.tensor([w, x, y, z]).double(), torch.zeros(3).double()).rotation.numpy()
