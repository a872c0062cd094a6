from __future__ import annotations

import numpy as np
import pytest
from known_cameras import expect_camera, world_from_cams

from dsac.datasets import load_scene
from dsac.errors import DatasetError

MATRICES = world_from_cams(3)


def poses_bounds(matrices: np.ndarray, size: tuple[int, int] = (8, 6), focal_px: float = 10) -> np.ndarray:
    """Axes down, right, backward; then height, width, focal length and the bounds of depth."""
    rows = []
    for matrix in matrices:
        right, down, forward, position = matrix[:3].T
        rows.append(
            [*np.stack([down, right, -forward, position, [size[1], size[0], focal_px]], 1).ravel(), 1, 9]
        )
    return np.array(rows)


@pytest.fixture
def recording(tmp_path, write_image):
    for i in range(3):
        write_image(tmp_path / "images" / f"IMG_{i}.JPG")
    (tmp_path / "images" / "._IMG_0.JPG").write_bytes(b"left by a Mac")
    np.save(tmp_path / "poses_bounds.npy", poses_bounds(MATRICES))
    return tmp_path


def test_axes_are_down_right_backward(recording):
    scene = load_scene(recording)
    assert scene.format == "LLFF poses_bounds.npy" and not scene.metric
    assert scene.mapping.names == [f"images/IMG_{i}.JPG" for i in range(3)]
    for frame, matrix in zip(scene.mapping, MATRICES, strict=True):
        expect_camera(frame, matrix, (10, 10, 4, 3))


def test_smaller_images_have_a_shorter_focal_length(recording):
    np.save(recording / "poses_bounds.npy", poses_bounds(MATRICES, (32, 24), 40))
    (recording / "images").rename(recording / "images_4")
    frames = load_scene(recording).mapping
    assert frames.names[0] == "images_4/IMG_0.JPG"
    expect_camera(frames[0], MATRICES[0], (10, 10, 4, 3))


def test_another_count_of_images_than_rows_is_an_error(recording):
    np.save(recording / "poses_bounds.npy", poses_bounds(MATRICES[:2]))
    with pytest.raises(DatasetError, match="an image for each of 2 rows, found 3 in images"):
        load_scene(recording)


@pytest.mark.parametrize("table", [np.zeros((3, 12)), np.zeros((0, 17)), np.array([{}], dtype=object)])
def test_another_array_is_an_error(recording, table):
    np.save(recording / "poses_bounds.npy", table, allow_pickle=True)
    with pytest.raises(DatasetError, match="poses_bounds.npy: expected an array"):
        load_scene(recording)


def test_a_width_of_zero_is_an_error(recording):
    np.save(recording / "poses_bounds.npy", poses_bounds(MATRICES, (0, 0)))
    with pytest.raises(DatasetError, match="poses_bounds.npy: camera SIMPLE_PINHOLE: expected finite values"):
        load_scene(recording)
