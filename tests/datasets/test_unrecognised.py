"""A folder that cannot be read: the message says what is there and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsac.datasets import load_scene
from dsac.errors import DatasetError

POSE = "1 0 0 0 0 0 0"


def message_of(folder: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        load_scene(folder)
    return str(caught.value)


def test_images_in_sub_folders_are_counted(tmp_path, write_image):
    for i in range(3):
        write_image(tmp_path / "rgb" / f"{i}.png")
        write_image(tmp_path / "left" / "day" / f"{i}.JPG")
    write_image(tmp_path / "a.jpg")
    write_image(tmp_path / "left" / "depth" / "0.png")
    (tmp_path / "rgb" / "._0.png").write_bytes(b"")
    message = message_of(tmp_path)
    assert "found 7 images but no poses; `dsac map --sfm` finds them" in message
    assert "images are in rgb, left/day, ." in message


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("bundle.out", "bundle.out is of Bundler: `kapture_import_bundler.py`"),
        ("sfm_data.json", "sfm_data.json is of OpenMVG: `openMVG_main_openMVG2Colmap`"),
        ("cameras.sfm", "cameras.sfm is of Meshroom: `aliceVision_exportColmap`"),
        ("sensors/sensors.txt", "sensors/sensors.txt is of kapture: `kapture_export_colmap.py`"),
        ("database.db", "database.db is of COLMAP's database without a model: `colmap mapper`"),
        ("cameras.xml", "Metashape's: `ns-process-data metashape`"),
        ("sparse/0/cameras.bin", "sparse/0 has cameras.bin of a COLMAP model, its images.bin is missing"),
        ("images.txt", "has images.txt of a COLMAP model, its cameras.txt is missing"),
        ("walk.r3d", "walk.r3d is Record3D's, a zip: unpacked it is read, but for its depth, which is LZFSE's"),
        ("Scan 1.ZIP", "Scan 1.ZIP is an archive: unpack it"),
    ],
)
def test_recordings_of_others_are_named_with_the_tool_that_turns_them(tmp_path, write_image, file, expected):
    write_image(tmp_path / "images" / "0.png")
    for folder in (".", "out"):
        path = tmp_path / folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        assert expected in message_of(tmp_path)
        path.unlink()


def test_a_trajectory_under_another_name_is_told_the_right_one(tmp_path, write_image):
    """SLAM systems write `CameraTrajectory.txt` and the like."""
    write_image(tmp_path / "rgb" / "1305031102.0.png")
    trajectory = tmp_path / "CameraTrajectory.txt"
    trajectory.write_text("# time, position, x y z w\n1305031102.0 0 0 0 0 0 0 1\n")
    (tmp_path / "notes.txt").write_text("1 2 3\n")
    hint = "CameraTrajectory.txt looks like TUM's poses: as groundtruth.txt, beside the images in rgb"
    assert hint in message_of(tmp_path) and "notes.txt looks" not in message_of(tmp_path)
    trajectory.rename(tmp_path / "groundtruth.txt")
    assert "no intrinsics" in message_of(tmp_path)  # the next thing


def test_an_archive_is_to_be_unpacked(tmp_path):
    for name in ("walk.r3d", "room.zip"):
        (tmp_path / name).write_bytes(b"PK")
        message = message_of(tmp_path / name)
        assert message.startswith(f"{tmp_path / name}: expected a folder, not an archive. ")
        assert "unpack" in message


def test_photos_that_are_not_read_are_counted(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a.HEIC", "b.heic", "c.MOV", "._d.heic"):
        (tmp_path / "photos" / name).write_bytes(b"x")
    assert (
        "found no images that are read here, HEIC photos: 2, videos: 1 (`pip install pillow-heif` for HEIC)"
        in message_of(tmp_path)
    )


def test_a_recording_further_in_is_pointed_at(tmp_path, write_image):
    for room in ("kitchen", "hall"):
        write_image(tmp_path / "rooms" / room / "0.png")
        (tmp_path / "rooms" / room / "poses.txt").write_text(f"0.png {POSE} 10\n")
    assert "give that folder: rooms/hall, rooms/kitchen." in message_of(tmp_path)


def test_photos_that_metashape_has_not_aligned_are_told(recordings):
    message = message_of(recordings / "formats" / "metashape")
    assert "cameras.xml is Metashape's, of photos that it has not aligned" in message
