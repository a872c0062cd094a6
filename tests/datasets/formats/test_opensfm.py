from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
from known_cameras import axis_angle, expect_camera, world_from_cams

from dsac.datasets import load_scene
from dsac.errors import DatasetError

MATRICES = world_from_cams(3)
PERSPECTIVE = {"projection_type": "perspective", "width": 8, "height": 6, "focal": 1.25, "k1": 0.0, "k2": 0.0}


def shots(matrices: np.ndarray, camera: str = "c") -> dict:
    cam_from_world = np.linalg.inv(matrices)
    return {
        f"{i}.png": {
            "rotation": axis_angle(matrix).tolist(),
            "translation": matrix[:3, 3].tolist(),
            "camera": camera,
            "orientation": 1,
        }
        for i, matrix in enumerate(cam_from_world)
    }


@pytest.fixture
def recording(tmp_path, write_image):
    def write(*reconstructions: dict, place: str = ".", images: str = "images"):
        for i in range(3):
            write_image(tmp_path / images / f"{i}.png")
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "reconstruction.json").write_text(json.dumps(reconstructions))
        return tmp_path

    return write


@pytest.mark.parametrize("place", [".", "opensfm"])
def test_poses_are_camera_from_world(recording, place):
    scene = load_scene(recording({"cameras": {"c": PERSPECTIVE}, "shots": shots(MATRICES)}, place=place))
    assert scene.format == "OpenSfM reconstruction" and not scene.metric
    assert scene.mapping.names == ["0.png", "1.png", "2.png"]
    for frame, matrix in zip(scene.mapping, MATRICES, strict=True):
        expect_camera(frame, matrix, (10, 10, 4, 3))


COEFFICIENTS = {"k1": 0.1, "k2": -0.02, "k3": 0.003, "k4": 0.0004, "p1": 0.001, "p2": -0.002}
TWO_FOCALS = {"focal_x": 1.25, "focal_y": 1.5, "c_x": 0.01, "c_y": -0.02}


def opensfm_pixels(camera: dict, points_cam: np.ndarray) -> np.ndarray:
    """The equations of OpenSfM's page on camera models, then pixels from the image's corner."""
    x, y = (points_cam[:, :2] / points_cam[:, 2:]).T
    k1, k2, k3, k4, p1, p2 = (camera.get(key, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if camera["projection_type"].startswith("fisheye"):
        r = np.hypot(x, y)
        theta = np.arctan(r)
        scale = theta / r * (1 + k1 * theta**2 + k2 * theta**4 + k3 * theta**6 + k4 * theta**8)
        x, y = scale * x, scale * y
    else:
        square = x**2 + y**2
        radial = 1 + k1 * square + k2 * square**2 + k3 * square**3
        x, y = (
            radial * x + 2 * p1 * x * y + p2 * (square + 2 * x**2),
            radial * y + 2 * p2 * x * y + p1 * (square + 2 * y**2),
        )
    focal_x, focal_y = (camera.get(key, camera.get("focal")) for key in ("focal_x", "focal_y"))
    normalized = np.stack([focal_x * x + camera.get("c_x", 0), focal_y * y + camera.get("c_y", 0)], axis=-1)
    return normalized * 8 + np.array([4, 3])


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("perspective", {"focal": 1.25, "k1": 0.1, "k2": -0.02}),
        ("simple_radial", {**TWO_FOCALS, "k1": 0.1}),
        ("radial", {**TWO_FOCALS, "k1": 0.1, "k2": -0.02}),
        ("brown", {**TWO_FOCALS, **{key: COEFFICIENTS[key] for key in ("k1", "k2", "k3", "p1", "p2")}}),
        ("fisheye", {"focal": 1.25, "k1": 0.1, "k2": -0.02}),
        ("fisheye_opencv", {**TWO_FOCALS, **{key: COEFFICIENTS[key] for key in ("k1", "k2", "k3", "k4")}}),
    ],
)
def test_cameras_project_as_opensfms(recording, kind, keys):
    camera = {"projection_type": kind, "width": 8, "height": 6, **keys}
    read = load_scene(recording({"cameras": {"c": camera}, "shots": shots(MATRICES)})).mapping.camera(0)
    points_cam = np.random.default_rng(0).uniform([-0.5, -0.5, 1], [0.5, 0.5, 1.5], (20, 3))
    seen = read.project(torch.from_numpy(points_cam))
    np.testing.assert_allclose(seen, opensfm_pixels(camera, points_cam), atol=1e-9)


def test_largest_reconstruction_is_taken_and_told(recording, caplog):
    small = {"cameras": {"c": PERSPECTIVE}, "shots": {"2.png": shots(MATRICES)["1.png"]}}
    large = {"cameras": {"c": PERSPECTIVE}, "shots": shots(MATRICES[:2])}
    with caplog.at_level(logging.WARNING):
        assert load_scene(recording(small, large)).mapping.names == ["0.png", "1.png"]
    assert "the largest of 2 reconstructions is taken, 2 of 3 images" in caplog.text


def test_images_of_cameras_without_counterpart_are_named(recording, caplog):
    sphere = {"projection_type": "spherical", "width": 8, "height": 6}
    both = shots(MATRICES) | {"2.png": {**shots(MATRICES)["2.png"], "camera": "ball"}}
    with caplog.at_level(logging.WARNING):
        scene = load_scene(recording({"cameras": {"c": PERSPECTIVE, "ball": sphere}, "shots": both}))
    assert scene.mapping.names == ["0.png", "1.png"]
    assert "1 of 3 images have a camera without counterpart here (spherical), left out: 2.png" in caplog.text
    with pytest.raises(DatasetError, match="3 of 3 images have a camera without counterpart"):
        load_scene(recording({"cameras": {"c": sphere}, "shots": shots(MATRICES)}))


@pytest.mark.parametrize(
    ("reconstruction", "message"),
    [
        ({}, "expected a list of reconstructions with `shots` and `cameras`"),
        ({"cameras": {"c": PERSPECTIVE}, "shots": {"0.png": {"camera": "c"}}}, "0.png: expected `rotation`"),
        (
            {"cameras": {"c": {**PERSPECTIVE, "focal": "1"}}, "shots": shots(MATRICES)},
            "expected `focal` as a number",
        ),
        (
            {"cameras": {"c": {**PERSPECTIVE, "focal": -1}}, "shots": shots(MATRICES)},
            "camera c: .*positive focal",
        ),
    ],
)
def test_bad_reconstruction_is_an_error_that_names_the_place(recording, reconstruction, message):
    with pytest.raises(DatasetError, match=f"reconstruction.json.*{message}"):
        load_scene(recording(reconstruction))


def test_real_reconstruction_is_read(recordings):
    scene = load_scene(recordings / "formats" / "opensfm")
    assert scene.mapping.names == ["01.jpg", "02.jpg", "03.jpg"] and not scene.metric
    camera = scene.mapping.camera(0)
    assert camera.size == (3264, 2448) and camera.focal_px[0].item() == pytest.approx(0.9642521761171555 * 3264)
    # OpenSfM stores where GPS had the cameras; they were moved by metres at most
    folder = recordings / "formats" / "opensfm"
    shots = json.loads((folder / "reconstruction.json").read_text())[0]["shots"]
    gps = torch.tensor([shots[name]["gps_position"] for name in scene.mapping.names], dtype=torch.float64)
    assert (scene.mapping.cam_from_world.center - gps).norm(dim=-1).max() < 5
