from __future__ import annotations

import logging

import numpy as np
import pytest
from known_cameras import expect_camera, numbers, quaternion_xyzw, world_from_cams

from dsac.datasets import load_scene
from dsac.errors import DatasetError

MATRICES = world_from_cams(3)
HEAD = "Visual Landmark Dataset V1\nImageFile, Camera Position [X Y Z W P Q R]\n\n"
NAMES = ["seq2/frame00001.png", "seq2/frame00002.png", "seq3/frame00001.png"]


def line(name: str, matrix: np.ndarray) -> str:
    x, y, z, w = quaternion_xyzw(matrix[:3, :3].T)
    return f"{name} {numbers(matrix[:3, 3])} {numbers([w, x, y, z])}\n"


@pytest.fixture
def recording(tmp_path, write_image):
    for name in NAMES:
        write_image(tmp_path / name, (192, 108))
    lines = [line(name, matrix) for name, matrix in zip(NAMES, MATRICES, strict=True)]
    (tmp_path / "dataset_train.txt").write_text(HEAD + "".join(lines[:2]))
    (tmp_path / "dataset_test.txt").write_text(HEAD + lines[2])
    return tmp_path


def test_positions_and_turns_of_the_world_into_the_camera(recording, caplog):
    with caplog.at_level(logging.INFO):
        scene = load_scene(recording)
    assert scene.format == "Cambridge Landmarks" and scene.metric and list(scene.truths) == ["dataset"]
    assert scene.mapping.names == NAMES[:2] and scene.query.names == NAMES[2:]
    for frame, matrix in zip([*scene.mapping, *scene.query], MATRICES, strict=True):
        expect_camera(frame, matrix, (167, 167, 96, 54))  # 1670 px of 1920
    assert "3 of 3 images have no focal length in reconstruction.nvm, 1670 px of 1920 are taken" in caplog.text


def test_focal_lengths_of_the_model_are_for_1920_pixels_and_its_images_end_otherwise(recording):
    rest = " 1 0 0 0 0 0 0 0.01 0\n"
    images = "".join(
        f"{name.replace('.png', '.jpg')}\t{focal}{rest}"
        for name, focal in zip(NAMES, (1600, 1700, 1800), strict=True)
    )
    (recording / "reconstruction.nvm").write_text(f"NVM_V3\n\n3\n{images}\n2\n0 0 0 9 9 9 1 0 0 0 0\n")
    frames = load_scene(recording).mapping
    assert [frames.camera(i).focal_px[0].item() for i in (0, 1)] == [160, 170]


def test_names_with_another_machines_folders_are_found(recording):
    path = recording / "dataset_train.txt"
    text = path.read_text()
    path.write_text(text.replace("seq2/", "D:\\_git\\PoseNet\\ShopFacade\\seq2\\"))
    assert load_scene(recording).mapping.names == NAMES[:2]
    (recording / NAMES[0]).unlink()  # its pose is known all the same, by the name that it would have
    assert load_scene(recording).truths["dataset"].names == NAMES


def test_a_pose_without_numbers_is_left_out_and_one_cut_short_is_an_error(recording, caplog):
    path = recording / "dataset_train.txt"
    with open(path, "a") as file:
        file.write("seq2/frame00003.png nan nan nan 1 0 0 0\n")
    with caplog.at_level(logging.WARNING):
        assert load_scene(recording).mapping.names == NAMES[:2]
    assert "seq2/frame00003.png" in caplog.text
    with open(path, "a") as file:
        file.write("seq2/frame00004.png 1 2 3 1 0 0\n")
    with pytest.raises(DatasetError, match="dataset_train.txt, line 7: expected `name X Y Z W P Q R`"):
        load_scene(recording)


def test_shop_facade_is_read(recordings, tmp_path, write_image):
    """The lists alone are real: two of their images are made up."""
    for part in ("train", "test"):
        text = (recordings / "formats" / "cambridge" / f"dataset_{part}.txt").read_text()
        (tmp_path / f"dataset_{part}.txt").write_text(text)
    for name in ("seq2/frame00008.png", "seq3/frame00010.png"):
        write_image(tmp_path / name, (192, 108))
    scene = load_scene(tmp_path)
    assert scene.mapping.names == ["seq2/frame00008.png"] and scene.query.names == ["seq3/frame00010.png"]
    assert len(scene.truths["dataset"].names) == 231 + 103
    center = scene.mapping[0].cam_from_world.center
    np.testing.assert_allclose(center, [237.1801, -1.869335, 204.4332], atol=1e-6)
