from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from dsac.datasets import FrameReader, Frames, NamedPoses, load_scene
from dsac.datasets.recording import FileReader
from dsac.errors import DatasetError
from dsac.geometry import Pose


def test_frame_holds_image_camera_and_pose(image_folder, write_image):
    frame = load_scene(image_folder).mapping[2]
    assert frame.name == "2.png" and frame.camera.size == (8, 6)
    assert frame.image.shape == (3, 6, 8) and frame.image.dtype == torch.float32
    assert 0 <= float(frame.image.min()) and 0.9 < float(frame.image.max()) <= 1
    assert frame.cam_from_world is not None and frame.cam_from_world.shape == ()
    assert frame.cam_from_world.translation.tolist() == [2, 0, 0]
    assert frame.depth is None


@pytest.mark.parametrize(
    ("index", "names"),
    [
        (slice(1, 3), ["1.png", "2.png"]),
        (slice(None, None, -2), ["3.png", "1.png"]),
        ([3, 0, 0], ["3.png", "0.png", "0.png"]),
        (np.array([2]), ["2.png"]),
        ([], []),
    ],
)
def test_parts_of_frames_keep_names_and_poses_together(image_folder, index, names):
    part = load_scene(image_folder).mapping[index]
    assert isinstance(part, Frames) and part.names == names and len(part) == len(names)
    assert part.cam_from_world is not None
    assert part.cam_from_world.translation[:, 0].tolist() == [float(name[0]) for name in names]


def test_frames_are_a_sequence(image_folder):
    frames = load_scene(image_folder).mapping
    assert [frame.name for frame in frames] == frames.names
    assert frames[-1].name == "3.png"
    with pytest.raises(IndexError):
        frames[4]


def test_image_of_another_size_than_its_intrinsics_is_an_error_that_says_both(image_folder, write_image):
    write_image(image_folder / "3.png", size=(6, 8))  # the same focal length as the others: one camera
    frames = load_scene(image_folder).mapping
    frames[0]
    with pytest.raises(DatasetError, match="3.png: the image is 6x8, but its intrinsics are for 8x6 .turned"):
        frames[3]


def test_file_reader_is_a_frame_reader():
    assert isinstance(FileReader("."), FrameReader)


def test_named_poses_by_row_keep_their_focal_length():
    poses = NamedPoses(["a", "b", "c"], Pose.identity(3), torch.tensor([1.0, 2.0, 3.0]))
    taken = poses.take(np.array([2, 0]))
    assert taken.names == ["c", "a"] and taken.index == {"c": 0, "a": 1}
    assert taken.focal_px is not None and taken.focal_px.tolist() == [3, 1]
    assert taken.cam_from_world.shape == (2,)


def test_missing_depth_of_some_images_counts_as_unknown(image_folder, write_image, caplog):
    write_image(image_folder / "depth" / "0.png", dtype=np.uint16, channels=1)
    with caplog.at_level(logging.WARNING):
        frames = load_scene(image_folder).mapping
    assert "3 of 4 images have no depth" in caplog.text and "1.png, 2.png, 3.png" in caplog.text
    assert frames.has_depth
    depths = [frame.depth for frame in frames]
    assert all(depth is not None and depth.shape == (6, 8) for depth in depths)
    assert depths[0].min() > 0 and depths[1].max() == 0


def test_frames_scenes_and_poses_are_equal_to_themselves_alone(image_folder):
    """Comparing the values of tensors has no one answer; `in`, sets and dictionaries must work."""
    scene, again = load_scene(image_folder), load_scene(image_folder)
    for one, other in (
        (scene, again),
        (scene.mapping, again.mapping),
        (scene.mapping[0], again.mapping[0]),
        (scene.truths["poses"], again.truths["poses"]),
    ):
        assert one == one and one != other and one not in [other] and len({one, other, one}) == 2


def damage(data: bytes, how: str) -> bytes:
    if how == "changed":  # a byte of the pixels
        at = data.index(b"IDAT") + 12
        return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]
    return {"empty": b"", "truncated": data[:-20], "text": b"no image"}[how]


@pytest.mark.parametrize("how", ["empty", "truncated", "text", "changed"])
@pytest.mark.parametrize("file", ["2.png", "depth/2.png"])
def test_damaged_files_are_found_without_reading_frames(image_folder, write_image, caplog, how, file):
    for i in range(4):
        write_image(image_folder / "depth" / f"{i}.png", dtype=np.uint16, channels=1)
    frames = load_scene(image_folder).mapping
    assert frames.without_damaged() is frames
    path = image_folder / file
    path.write_bytes(damage(path.read_bytes(), how))
    with caplog.at_level(logging.WARNING):
        assert frames.without_damaged().names == ["0.png", "1.png", "3.png"]
        of_colour = frames.without_depth().without_damaged().names
    assert of_colour == (["0.png", "1.png", "3.png"] if file == "2.png" else frames.names)
    assert "1 of 4 images are damaged, left out: 2.png" in caplog.text and str(path) in caplog.text
    with pytest.raises(DatasetError, match=str(path)):
        frames[2]


def test_frames_of_which_all_are_damaged_are_an_error(image_folder):
    for i in range(4):
        (image_folder / f"{i}.png").write_bytes((image_folder / f"{i}.png").read_bytes()[:60])
    with pytest.raises(DatasetError, match="0.png: the image is truncated"):
        load_scene(image_folder).mapping.without_damaged()
