"""`transforms.json` as other programs than nerfstudio, and nerfstudio's exporters, write it."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from dsac.datasets import load_scene
from dsac.errors import DatasetError

LENS = {"fl_x": 10.0, "fl_y": 11.0, "cx": 3.5, "cy": 2.5, "w": 8, "h": 6}


def pose(i: int) -> list[list[float]]:
    matrix = np.eye(4)
    matrix[0, 3] = i
    return matrix.tolist()


@pytest.fixture
def scene_of(tmp_path, write_image):
    """Loads a scene whose file names frames; images are written under the names given."""

    def load(top: dict[str, Any], file_paths: list[str], images: list[str], size=(8, 6), **frame):
        for name in images:
            write_image(tmp_path / name, size)
        frames = [{"file_path": name, "transform_matrix": pose(i)} | frame for i, name in enumerate(file_paths)]
        (tmp_path / "transforms.json").write_text(json.dumps(top | {"frames": frames}))
        return load_scene(tmp_path)

    return load


@pytest.mark.parametrize("k", [{}, {"k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4}])
def test_is_fisheye_of_instant_ngp_is_a_fisheye(scene_of, k):
    camera = scene_of(LENS | {"is_fisheye": True} | k, ["a.png"], ["a.png"]).mapping.camera(0)
    assert camera.model == "OPENCV_FISHEYE"
    assert camera.distortion is not None and camera.distortion.tolist() == (list(k.values()) or [0.0] * 4)
    assert scene_of(LENS | {"is_fisheye": False}, ["a.png"], []).mapping.camera(0).model == "PINHOLE"


@pytest.mark.parametrize("model", ["PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "OPENCV"])
def test_coefficients_that_are_there_are_taken_whatever_the_model_is_called(scene_of, model):
    camera = scene_of(LENS | {"camera_model": model, "k1": 0.1}, ["a.png"], ["a.png"]).mapping.camera(0)
    assert camera.model == "OPENCV" and camera.params.tolist() == [10, 11, 3.5, 2.5, 0.1, 0, 0, 0]


def test_k3_and_k4_of_metashape_are_the_next_terms_of_the_polynomial(scene_of):
    points = torch.tensor([[0.3, 0.2, 1.0]], dtype=torch.float64)
    square = 0.3**2 + 0.2**2
    for k in ({"k1": 0.1, "k3": 0.3}, {"k1": 0.1, "k3": 0.3, "k4": 0.4}):
        camera = scene_of(LENS | k, ["a.png"], ["a.png"]).mapping.camera(0)
        factor = 1 + 0.1 * square + 0.3 * square**3 + k.get("k4", 0) * square**4
        expected = [10 * 0.3 * factor + 3.5, 11 * 0.2 * factor + 2.5]
        assert camera.project(points)[0].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "model", ["SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE", "FULL_OPENCV"]
)
def test_models_of_colmap_keep_their_coefficients(scene_of, model):
    camera = scene_of(LENS | {"camera_model": model, "k1": 0.1}, ["a.png"], ["a.png"]).mapping.camera(0)
    assert camera.model == {"THIN_PRISM_FISHEYE": model, "FULL_OPENCV": model}.get(model, "OPENCV_FISHEYE")
    assert camera.distortion is not None and camera.distortion[0] == 0.1


def test_an_angle_of_view_for_each_axis(scene_of):
    top = {"camera_angle_x": math.pi / 2, "camera_angle_y": 2 * math.atan(0.5)}
    camera = scene_of(top, ["a.png"], ["a.png"]).mapping.camera(0)
    assert camera.params.tolist() == pytest.approx([4, 6, 4, 3])


def test_train_val_and_test_filenames_are_the_split(scene_of):
    names = [f"images/{i}.png" for i in range(6)]
    top = {"train_filenames": ["./images/3.png", *names[:2]], "test_filenames": names[4:5]}
    scene = scene_of(LENS | top | {"val_filenames": [names[2]]}, names, names)
    assert scene.mapping.names == [names[0], names[1], names[3]]
    assert scene.query.names == [names[2], names[4]]  # the last is in no part
    scene = scene_of(LENS | {"test_filenames": names[4:]}, names, [])
    assert scene.mapping.names == names[:4] and scene.query.names == names[4:]


def test_files_for_each_part_are_read_together(tmp_path, write_image, caplog):
    """The layout of NeRF's synthetic rooms: no size, no endings."""
    for part, count in (("train", 3), ("val", 1), ("test", 2)):
        frames = []
        for i in range(count):
            write_image(tmp_path / part / f"r_{i}.png", (8, 6), channels=4)
            frames.append({"file_path": f"./{part}/r_{i}", "transform_matrix": pose(i)})
        text = json.dumps({"camera_angle_x": math.pi / 2, "frames": frames})
        (tmp_path / f"transforms_{part}.json").write_text(text)
    scene = load_scene(tmp_path)
    assert scene.mapping.names == ["train/r_0.png", "train/r_1.png", "train/r_2.png"]
    assert scene.query.names == ["val/r_0.png", "test/r_0.png", "test/r_1.png"]
    frame = scene.query[0]
    assert frame.image.shape == (3, 6, 8) and frame.camera.params.tolist() == pytest.approx([4, 4, 4, 3])
    assert len(load_scene(tmp_path / "transforms_train.json").mapping) == 3
    assert not caplog.records


@pytest.mark.parametrize(
    "written",
    [
        "images/a 1",
        "/home/me/room/images/a 1.png",
        "../room/images/a 1.png",
        "images\\a 1.png",
        "C:\\Users\\me\\room\\images\\a 1.png",
        "a 1.png",
        "images/a 1.PNG",
    ],
)
def test_images_are_found_under_the_names_that_others_write(scene_of, written):
    scene = scene_of(LENS, [written], ["images/a 1.png"]) if "/" in written or "\\" in written else None
    if scene is None:  # the file was moved into the folder of the images
        scene = scene_of(LENS, ["images/" + written], [written])
        assert scene.mapping.names == [written]
    else:
        assert scene.mapping.names == ["images/a 1.png"]
    assert scene.mapping[0].image.shape == (3, 6, 8)


def test_two_names_for_one_image_are_an_error(scene_of):
    with pytest.raises(DatasetError, match=r"images/0.png has 2 poses"):
        scene_of(LENS, ["/left/images/0.png", "/right/images/0.png"], ["images/0.png"])


@pytest.mark.parametrize("folder", ["images", "images_4"])
def test_smaller_copies_of_the_images_have_rescaled_intrinsics(scene_of, caplog, folder):
    lens = {"fl_x": 40.0, "fl_y": 44.0, "cx": 14.0, "cy": 10.0, "w": 32, "h": 24, "k1": 0.1}
    names = ["images/0.png", "images/1.png"]
    with caplog.at_level(logging.WARNING):
        scene = scene_of(lens, names, [name.replace("images", folder) for name in names])
    camera = scene.mapping[1].camera
    assert camera.size == (8, 6) and camera.params.tolist() == [10, 11, 3.5, 2.5, 0.1, 0, 0, 0]
    assert "images are 8x6, their cameras are for 32x24: intrinsics are rescaled" in caplog.text


@pytest.mark.parametrize(("cx", "cy"), [(8.0, 3.0), (4.0, 6.1), (16.0, 12.0)])
def test_a_principal_point_of_larger_images_is_an_error(scene_of, cx, cy):
    """Where the file does not say for what size its intrinsics are."""
    lens = {"fl_x": 10.0, "cx": cx, "cy": cy}
    with pytest.raises(DatasetError, match=r"is no principal point of images of 8x6.*give `w` and `h`"):
        scene_of(lens, ["a.png"], ["a.png"])
    assert len(scene_of(lens | {"w": 8, "h": 6}, ["a.png"], []).mapping) == 1  # so be it


def test_images_of_another_shape_are_an_error_when_read(scene_of):
    frames = scene_of(LENS, ["a.png"], ["a.png"], size=(8, 8)).mapping
    with pytest.raises(DatasetError, match="a.png: the image is 8x8, but its intrinsics are for 8x6"):
        frames[0]


@pytest.mark.parametrize("key", ["depth_file_path", "depth_path"])
def test_depth_in_units_of_instant_ngp(scene_of, tmp_path, key):
    units = np.arange(1, 49, dtype=np.uint16).reshape(6, 8) * 100
    cv2.imwrite(str(tmp_path / "d.png"), units)
    frame = scene_of(LENS | {"integer_depth_scale": 0.0002}, ["a.png"], ["a.png"], **{key: "./d.png"}).mapping[
        0
    ]
    assert frame.depth is not None
    np.testing.assert_allclose(frame.depth.numpy(), units * 0.0002, rtol=1e-6)
    with pytest.raises(DatasetError, match="`integer_depth_scale` as a positive number, got -1"):
        scene_of(LENS | {"integer_depth_scale": -1}, ["a.png"], [], **{key: "./d.png"})


def test_depth_is_brought_to_the_scale_that_nerfstudio_gave_the_poses(scene_of, tmp_path):
    cv2.imwrite(str(tmp_path / "d.png"), np.full((6, 8), 3000, np.uint16))
    scene = scene_of(LENS | {"applied_scale": 0.5}, ["a.png"], ["a.png"], depth_file_path="d.png")
    depth = scene.mapping[0].depth
    assert depth is not None and depth.unique().tolist() == pytest.approx([1.5])
    assert not scene.metric


def test_depth_names_without_ending_are_found(scene_of, tmp_path):
    np.save(tmp_path / "d.npy", np.full((6, 8), 1.5, np.float32))
    frame = scene_of(LENS, ["a"], ["a.png"], depth_file_path="d").mapping[0]
    assert frame.depth is not None and frame.depth.unique().tolist() == [1.5]


@pytest.mark.parametrize("text", ['{"frames": [1,]}', '{// a remark\n"frames": []}'])
def test_json_as_people_edit_it_is_an_error_that_says_why(tmp_path, text):
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(DatasetError, match="no comments and no comma before a bracket.*line"):
        load_scene(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_of_windows_is_read(scene_of, tmp_path, encoding):
    scene_of(LENS, ["Küche/a.png"], ["Küche/a.png"])
    path: Path = tmp_path / "transforms.json"
    path.write_bytes(json.dumps(json.loads(path.read_text()), ensure_ascii=False, indent=1).encode(encoding))
    assert load_scene(tmp_path).mapping.names == ["Küche/a.png"]


def test_a_file_names_its_scene(scene_of, tmp_path):
    names = ["0.png", "1.png"]
    scene_of(LENS, names, names)
    (tmp_path / "poses.txt").write_text("0.png 1 0 0 0 0 0 0 10\n")
    (tmp_path / "query.txt").write_text("1.png\n")
    (tmp_path / "transforms.json").rename(tmp_path / "transforms_new.json")
    scene = load_scene(tmp_path / "transforms_new.json")
    assert scene.format == "nerfstudio transforms_new.json"
    assert scene.mapping.names == ["0.png"] and scene.query.names == ["1.png"]


def test_nerfs_rooms_are_read(recordings):
    scene = load_scene(recordings / "formats" / "nerf-synthetic")
    assert len(scene.mapping) == len(scene.query) == 1
    assert scene.mapping[0].image.shape[1] == scene.mapping[0].camera.size[1]


def test_smaller_images_of_nerfstudio_are_found_and_told(recordings, caplog):
    scene = load_scene(recordings / "formats" / "colmap4-rigs" / "nerfstudio")
    assert scene.mapping[0].camera.size == tuple(reversed(scene.mapping[0].image.shape[1:]))
    assert "intrinsics are rescaled" in caplog.text
