from __future__ import annotations

import logging
import os
from dataclasses import replace

import cv2
import fsspec
import numpy as np
import pytest

from dsac.datasets import image_header, load_scene, scene, storage
from dsac.datasets.format import Format
from dsac.datasets.formats import folder
from dsac.errors import DatasetError

POSE = "1 0 0 0 0 0 0"


def names(frames) -> list[str]:
    return [name.removesuffix(".png") for name in frames.names]


@pytest.mark.parametrize(
    ("mapping", "query", "expected_mapping", "expected_query"),
    [
        (None, None, "0123", ""),
        ("2.png\n0.png\n", None, "20", "13"),
        (None, "# hard ones\r\n3.png\r\n\r\n", "012", "3"),
        ("0.png\n", "1.png\n2.png", "0", "12"),
        ("0.png\n0.png\n", "", "0", ""),
        ("", None, "", "0123"),
        ('.\\2.png\r\n"0.png"\r\n', "images\\1.png\r\n./3", "20", "13"),
    ],
)
def test_split_files_tell_mapping_from_query(image_folder, mapping, query, expected_mapping, expected_query):
    for part, text in (("mapping", mapping), ("query", query)):
        if text is not None:
            (image_folder / f"{part}.txt").write_bytes(text.encode())
    scene = load_scene(image_folder)
    assert names(scene.mapping) == list(expected_mapping)
    assert names(scene.query) == list(expected_query)
    assert scene.truths["poses"].names == [f"{i}.png" for i in range(4)]


def test_a_frame_for_mapping_and_for_query_is_an_error_that_names_it(image_folder):
    (image_folder / "mapping.txt").write_text("0.png\n1.png\n2.png\n")
    (image_folder / "query.txt").write_text("3.png\n2.png\n1.png\n")
    with pytest.raises(DatasetError, match="2 frames are both for mapping and for query.*: 2.png, 1.png"):
        load_scene(image_folder)


def test_every_format_is_one_and_a_reader_may_know_nothing_of_turned_photos(image_folder, monkeypatch):
    assert all(isinstance(format, Format) for format in scene.FORMATS)

    class Plain:
        has_depth = False

        def read_image(self, name):
            return np.zeros((6, 8, 3), np.uint8)

        def read_depth(self, name, camera):
            raise NotImplementedError

    class Other:
        LOOKS_FOR = "anything"

        def recognises(self, storage):
            return True

        def read(self, storage, truth):
            recording = folder.read(storage, truth)
            return replace(recording, frames=replace(recording.frames, reader=Plain()))

    monkeypatch.setattr(scene, "FORMATS", (Other(),))
    read = load_scene(image_folder)
    assert read.stores_turned is False and read.mapping[0].image.shape == (3, 6, 8)


def test_images_of_the_split_without_pose_are_left_out_and_named(image_folder, caplog):
    (image_folder / "mapping.txt").write_text("0.png\nnever.png\n")
    with caplog.at_level(logging.WARNING):
        scene = load_scene(image_folder)
    assert names(scene.mapping) == ["0"]
    assert "1 images of the split" in caplog.text and "never.png" in caplog.text


def test_split_that_names_no_frame_is_an_error(image_folder):
    (image_folder / "mapping.txt").write_text("images/9.png\n")
    (image_folder / "query.txt").write_text("")
    with pytest.raises(DatasetError, match="name no frame that has a pose; the first is images/9.png"):
        load_scene(image_folder)


def test_missing_images_are_counted_and_named_once(image_folder, caplog):
    (image_folder / "0.png").unlink()
    (image_folder / "2.png").unlink()
    with caplog.at_level(logging.WARNING):
        scene = load_scene(image_folder)
    assert names(scene.mapping) == ["1", "3"]
    [record] = caplog.records
    assert "2 of 4 images" in record.message and "0.png, 2.png" in record.message


def test_no_image_left_is_an_error(image_folder):
    for i in range(4):
        (image_folder / f"{i}.png").unlink()
    with pytest.raises(
        DatasetError, match=r"none of the 4 images named in .*poses.txt \(the first is 0\.png\) is in"
    ):
        load_scene(image_folder)


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_place_that_is_no_scene_is_an_error(tmp_path, what):
    path = tmp_path / "room"
    if what == "empty":
        path.mkdir()
    if what == "file":
        path.write_text("hello")
    with pytest.raises(DatasetError, match="room: expected a folder with images and poses"):
        load_scene(path)


def test_images_without_poses_are_an_error_that_says_what_was_looked_for(image_folder):
    (image_folder / "poses.txt").unlink()
    with pytest.raises(DatasetError, match="found 4 images but no poses") as caught:
        load_scene(image_folder)
    for sign in ("poses_sfm.txt", "cameras.bin", "transforms.json", "poses.txt"):
        assert sign in str(caught.value)


def test_unknown_truth_is_an_error_that_lists_the_known(image_folder):
    assert load_scene(image_folder, truth="poses").format == "image folder with poses.txt"
    with pytest.raises(DatasetError, match="expected a truth among poses, got sfm"):
        load_scene(image_folder, truth="sfm")


def test_scene_is_read_from_remote_storage():
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/room/images/a b.png", cv2.imencode(".png", np.full((6, 8, 3), 9, np.uint8))[1].tobytes())
    filesystem.pipe("/room/poses.txt", f"a b.png {POSE} 10\n".encode())
    scene = load_scene("memory://room")
    assert scene.path == "memory://room"
    assert float(scene.mapping[0].image.max()) == pytest.approx(9 / 255)


def test_a_long_list_of_frames_costs_a_listing_a_folder_and_one_header(tmp_path, write_image, monkeypatch):
    count = 10_000
    write_image(tmp_path / "images" / "000000.png")
    listed = {
        str(tmp_path): ["poses.txt", "images"],
        str(tmp_path / "images"): [f"{i:06d}.png" for i in range(count)],
    }
    (tmp_path / "poses.txt").write_text("".join(f"{i:06d}.png {POSE} 10\n" for i in range(count)))
    listings, opened = [], []
    monkeypatch.setattr(os, "listdir", lambda path: listings.append(path) or listed.get(path, []))
    open_file = storage.open_file
    for module in (storage, image_header):
        monkeypatch.setattr(module, "open_file", lambda path: opened.append(str(path)) or open_file(path))
    assert len(load_scene(tmp_path).mapping) == count
    assert len(listings) == len(set(listings)) <= 6  # each folder once: the scene, sparse, images, depth
    assert sorted(opened) == [str(tmp_path / "images" / "000000.png"), str(tmp_path / "poses.txt")]


def test_equal_poses_are_told(image_folder, caplog):
    load_scene(image_folder)
    assert not caplog.records
    (image_folder / "poses.txt").write_text("".join(f"{i}.png {POSE} 10\n" for i in range(4)))
    load_scene(image_folder)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{image_folder}: all 4 poses are the same")
