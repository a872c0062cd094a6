"""Recordings that cannot be used: the line names the file and what to do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import Fails, Run, write_poses


def test_a_missing_or_empty_folder_is_named(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    for name in ("none", "empty", "file"):
        line = fails("map", tmp_path / name, tmp_path / "a.dsac")
        assert f"{tmp_path / name}: expected a folder with images and poses" in line


def test_images_without_poses_and_poses_without_images_are_named(room: Path, fails: Fails) -> None:
    target = room.parent / "a.dsac"
    poses = (room / "poses.txt").read_text()
    (room / "poses.txt").unlink()
    assert f"{room}: found 3 images but no poses" in fails("map", room, target)
    (room / "poses.txt").write_text(poses)
    for image in (room / "images").iterdir():
        image.unlink()
    line = fails("map", room, target)
    assert "none of the 3 images" in line and "0.jpg" in line


def test_a_pose_that_is_no_rigid_motion_is_named(room: Path, fails: Fails) -> None:
    write_poses(room, ["1 0 0 0 0 0 0", "2 0 0 0 0 0 0", "1 0 0 0 0 0 0"])
    line = fails("map", room, room.parent / "a.dsac")
    assert "poses.txt, line 2: expected a unit quaternion" in line and "length 2" in line


def test_only_nan_poses_leave_nothing_to_map(room: Path, run: Run, fails: Fails) -> None:
    write_poses(room, ["1 0 0 0 nan 0 0"] * 3)
    assert "poses.txt" in fails("map", room, room.parent / "a.dsac")
    _, _, err = run("map", room, room.parent / "a.dsac")
    assert "0.jpg, 1.jpg, 2.jpg" in " ".join(err.split())


def test_no_intrinsics_anywhere_says_what_to_do(room: Path, fails: Fails) -> None:
    write_poses(room, ["1 0 0 0 0 0 0"] * 3, focal="")
    line = fails("map", room, room.parent / "a.dsac")
    assert f"{room}: no intrinsics; add the focal length" in line


@pytest.mark.parametrize("size", [0, 400])
def test_a_damaged_image_is_named_and_left_out(room: Path, run: Run, fails: Fails, size: int) -> None:
    image = room / "images" / "1.jpg"
    image.write_bytes(image.read_bytes()[:size])
    code, _, error = run("map", room, room.parent / "a.dsac", "--views", 3, "--steps", 1, "--landmarks", 0)
    error = " ".join(error.split())
    assert code == 0 and "1 of 3 images are damaged, left out: 1.jpg" in error
    assert str(image) in error.replace(" ", "") and ("empty" if size == 0 else "truncated") in error
    for other in (room / "images" / "0.jpg", room / "images" / "2.jpg"):
        other.write_bytes(b"")
    line = fails("map", room, room.parent / "b.dsac", "--views", 3)
    assert f"{room / 'images' / '0.jpg'}: expected an image, got an empty file" in line


def test_depth_of_another_size_names_both(room: Path, fails: Fails) -> None:
    depth = room / "depth" / "2.png"
    cv2.imwrite(str(depth), np.full((48, 48), 2000, np.uint16))
    line = fails("map", room, room.parent / "a.dsac", "--views", 3)
    assert f"{depth}: expected depth of the image's size 96x64, got 48x48" in line


def test_an_image_of_another_size_names_both(room: Path, fails: Fails) -> None:
    cv2.imwrite(str(room / "images" / "2.jpg"), np.zeros((32, 48, 3), np.uint8))
    line = fails("map", room, room.parent / "a.dsac", "--views", 3)
    assert "2.jpg: the image is 48x32, but its intrinsics are for 96x64" in line


def test_a_truth_that_the_scene_does_not_have_is_named(room: Path, fails: Fails) -> None:
    assert "expected a truth among poses, got slam" in fails("map", room, room.parent / "a", "--truth", "slam")
