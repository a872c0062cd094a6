from __future__ import annotations

import unicodedata

import cv2
import numpy as np
import pytest

from dsac.datasets import load_scene
from dsac.datasets.image import read_depth
from dsac.errors import DatasetError
from dsac.geometry import Camera


def test_each_focal_length_is_a_camera(image_folder, write_image):
    lines = [f"{i}.png 1 0 0 0 {i} 0 0 {10 + i % 2}" for i in range(4)]
    (image_folder / "poses.txt").write_text("\n".join(lines))
    write_image(image_folder / "1.png", size=(4, 8))
    write_image(image_folder / "3.png", size=(4, 8))
    frames = load_scene(image_folder).mapping
    assert len(frames.cameras) == 2
    for i, frame in enumerate(frames):
        expected = Camera.simple(10 + i % 2, (4, 8) if i % 2 else (8, 6))
        assert frame.camera.size == expected.size and frame.camera.params.tolist() == expected.params.tolist()


def test_cameras_file_gives_full_intrinsics_to_all_images(image_folder):
    (image_folder / "poses.txt").write_text("".join(f"{i}.png 1 0 0 0 0 0 0\n" for i in range(4)))
    (image_folder / "cameras.txt").write_text("# one\n7 OPENCV 8 6 10 11 4.5 3.5 0.1 0.01 0.001 0.002\n")
    frames = load_scene(image_folder).mapping
    assert len(frames.cameras) == 1
    camera = frames.camera(3)
    assert camera.model == "OPENCV" and camera.size == (8, 6)
    assert camera.params.tolist() == [10, 11, 4.5, 3.5, 0.1, 0.01, 0.001, 0.002]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 PINHOLE 8 6 10 11 4\n", "cameras.txt, line 1: camera PINHOLE: expected 4 parameters, got 3"),
        ("# x\n1 FISHY 8 6 10\n", "cameras.txt, line 2: camera model: expected one of .*, got FISHY"),
        ("1 PINHOLE eight 6 10 11 4 3\n", "cameras.txt, line 1"),
        ("1 PINHOLE\n", "cameras.txt, line 1"),
        ("1 SIMPLE_PINHOLE 8 6 9 4 3\n2 SIMPLE_PINHOLE 8 6 9 4 3\n", "one camera for all images, got 2"),
    ],
)
def test_bad_cameras_file_is_an_error_with_its_line(image_folder, text, message):
    (image_folder / "cameras.txt").write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_scene(image_folder)


def test_no_intrinsics_anywhere_is_an_error_that_says_what_to_add(image_folder):
    (image_folder / "poses.txt").write_text("".join(f"{i}.png 1 0 0 0 0 0 0\n" for i in range(4)))
    with pytest.raises(DatasetError, match="no intrinsics; add the focal length .* cameras.txt"):
        load_scene(image_folder)


@pytest.mark.parametrize(("scale", "metres_per_unit"), [(None, 0.001), ("0.0002\n", 0.0002)])
def test_depth_is_in_metres(image_folder, write_image, scale, metres_per_unit):
    for i in range(4):
        path = write_image(image_folder / "depth" / f"{i}.png", dtype=np.uint16, channels=1)
    if scale is not None:
        (image_folder / "depth_scale.txt").write_text(scale)
    depth = load_scene(image_folder).mapping[3].depth
    assert depth is not None
    np.testing.assert_allclose(depth.numpy(), read_depth(path) * metres_per_unit, rtol=1e-6)


@pytest.mark.parametrize("scale", ["", "one\n", "-1\n", "nan", "1e308", "1e-320", "1\n2\n"])
def test_bad_depth_scale_is_an_error(image_folder, scale):
    (image_folder / "depth_scale.txt").write_text(scale)
    with pytest.raises(DatasetError, match="depth_scale.txt: expected one positive number"):
        load_scene(image_folder)


def test_depth_of_another_size_is_an_error_that_says_both(image_folder, write_image):
    for i in range(4):
        write_image(image_folder / "depth" / f"{i}.png", size=(4, 4), dtype=np.uint16, channels=1)
    with pytest.raises(DatasetError, match=r"depth/0\.png: expected depth of the image's size 8x6, got 4x4"):
        load_scene(image_folder)
    write_image(image_folder / "depth" / "0.png", dtype=np.uint16, channels=1)
    frames = load_scene(image_folder).mapping
    with pytest.raises(DatasetError, match=r"depth/1\.png: expected depth of the image's size 8x6, got 4x4"):
        frames[1]


def test_images_in_a_subfolder_find_their_depth(tmp_path, write_image):
    write_image(tmp_path / "images" / "left" / "0.jpg")
    write_image(tmp_path / "depth" / "left" / "0.png", dtype=np.uint16, channels=1)
    (tmp_path / "poses.txt").write_text("left/0.jpg 1 0 0 0 0 0 0 10\n")
    frame = load_scene(tmp_path).mapping[0]
    assert frame.name == "left/0.jpg" and frame.depth is not None and float(frame.depth.min()) > 0


def test_truncated_image_of_a_scene_is_an_error_with_its_path(image_folder):
    path = image_folder / "1.png"
    path.write_bytes(path.read_bytes()[:80])
    frames = load_scene(image_folder).mapping
    with pytest.raises(DatasetError, match=r"1\.png: the image is truncated"):
        frames[1]


@pytest.mark.parametrize(
    "written",
    ["images\\Küche.png", "Küche", "C:\\room\\images\\Küche.PNG", unicodedata.normalize("NFD", "Küche.png")],
)
def test_images_are_found_under_the_names_that_others_write(tmp_path, write_image, written):
    write_image(tmp_path / "images" / "Küche.png")
    (tmp_path / "poses.txt").write_text(f"{written} 1 0 0 0 0 0 0 10\n")
    scene = load_scene(tmp_path)
    assert scene.mapping.names == scene.truths["poses"].names == ["Küche.png"]
    assert scene.mapping[0].image.shape == (3, 6, 8)


def test_smaller_images_have_a_rescaled_camera(image_folder, caplog):
    (image_folder / "poses.txt").write_text("".join(f"{i}.png 1 0 0 0 {i} 0 0\n" for i in range(4)))
    (image_folder / "cameras.txt").write_text("1 SIMPLE_RADIAL 32 24 40 16 12 0.1\n")
    camera = load_scene(image_folder).mapping[2].camera
    assert camera.to_text() == "SIMPLE_RADIAL,8,6,10,4,3,0.1"
    assert "images are 8x6, their cameras are for 32x24: intrinsics are rescaled" in caplog.text


@pytest.mark.parametrize("name", ["{}.npy", "{}.tiff"])
def test_floating_point_depth_is_in_metres_unless_its_scale_is_given(image_folder, name):
    (image_folder / "depths").mkdir()
    metres = np.linspace(0, 2, 48, dtype=np.float32).reshape(6, 8)
    for i in range(4):
        path = str(image_folder / "depths" / name.format(i))
        np.save(path, metres) if name.endswith("npy") else cv2.imwrite(path, metres)
    depth = load_scene(image_folder).mapping[1].depth
    assert depth is not None and (depth.numpy() == metres).all()
    (image_folder / "depth_scale.txt").write_text("0,5")
    depth = load_scene(image_folder).mapping[1].depth
    assert depth is not None and (depth.numpy() == metres / 2).all()
