"""Photos to be localized: files and folders, each with a camera."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dsac.datasets import load_photos, read_image
from dsac.errors import DatasetError
from dsac.geometry import Camera

WriteImage = Callable[..., Path]


def write_with_exif(path: Path, size: tuple[int, int], equivalent_mm: int) -> Path:
    """A JPEG that states its focal length as that of a 36 mm × 24 mm camera (tag 0xA405)."""
    data = cv2.imencode(".jpg", np.zeros((size[1], size[0], 3), np.uint8))[1].tobytes()
    tiff = b"II" + struct.pack(
        "<HIHHHIIIHHHIHHI", 42, 8, 1, 0x8769, 4, 1, 26, 0, 1, 0xA405, 3, 1, equivalent_mm, 0, 0
    )
    exif = b"Exif\0\0" + tiff
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    return path


def test_a_file_has_the_name_it_was_given_and_an_image_of_a_folder_its_path_there(
    tmp_path: Path, write_image: WriteImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one.png", "trip/b.png", "trip/day 2/a.JPG", "trip/notes.txt"):
        write_image(Path(name)) if not name.endswith("txt") else Path(name).write_text("no image")
    photos = load_photos(["one.png", "trip"], focal_px=10)
    assert photos.names == ["one.png", "b.png", "day 2/a.JPG"]
    assert photos.cam_from_world is None and not photos.has_depth
    assert [photo.image.shape for photo in photos] == [(3, 6, 8)] * 3
    assert [load_photos([name], focal_px=10).names for name in ("./one.png", str(tmp_path / "one.png"))] == [
        ["one.png"],
        [str(tmp_path / "one.png")],
    ]


def test_all_photos_have_the_focal_length_given(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "a.png", (8, 6))
    write_image(tmp_path / "b.png", (6, 8))
    write_image(tmp_path / "c.png", (8, 6))
    photos = load_photos([tmp_path], focal_px=12.5)
    cameras = [photos.camera(i) for i in range(3)]
    assert [camera.size for camera in cameras] == [(8, 6), (6, 8), (8, 6)]
    assert [camera.params.tolist() for camera in cameras] == [[12.5, 4, 3], [12.5, 3, 4], [12.5, 4, 3]]
    assert len(photos.cameras) == 2


def test_all_photos_have_the_camera_given(tmp_path: Path, write_image: WriteImage) -> None:
    camera = Camera.from_params("RADIAL", [10, 4, 3, 0.1, 0.01], (8, 6))
    photos = load_photos([write_image(tmp_path / "a.png"), write_image(tmp_path / "b.png")], camera=camera)
    assert photos.camera(0) is photos.camera(1) is camera
    write_image(tmp_path / "b.png", (9, 6))
    with pytest.raises(DatasetError, match="b.png: the image is 9x6, but its intrinsics are for 8x6"):
        photos[1]


def test_exif_data_are_the_fallback_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_with_exif(tmp_path / "a.jpg", (360, 240), 50)
    write_with_exif(tmp_path / "b.jpg", (240, 360), 28)
    with caplog.at_level(logging.WARNING):
        photos = load_photos([tmp_path])
    # on a 36 mm × 24 mm picture of 10 px a millimetre
    assert [photos.camera(i).focal_px[0].item() for i in range(2)] == pytest.approx([500, 280])
    (record,) = caplog.records
    said = "focal length from EXIF data, 280 to 500 px, solved anew with the pose (photos: 2)"
    assert record.getMessage() == said
    assert photos.focal == ("rough", "rough") and photos[1].focal == "rough"
    caplog.clear()
    assert load_photos([tmp_path], focal_px=450).focal is None
    assert not caplog.records


def test_a_phones_photos_are_upright_unless_asked_for_as_stored(
    tmp_path: Path, write_phone_photo: WriteImage
) -> None:
    upside_down = write_phone_photo(tmp_path / "down.jpg", 3)
    quarter = write_phone_photo(tmp_path / "quarter.jpg", 6)
    for as_stored in (False, True):
        photos = load_photos([quarter, upside_down], focal_px=30, as_stored=as_stored)
        for i, path in enumerate((quarter, upside_down)):
            expected = read_image(path, (40, 24) if as_stored else None)
            assert photos.camera(i).size == expected.shape[1::-1]
            assert torch.equal(
                (photos[i].image * 255).round().byte().permute(1, 2, 0), torch.from_numpy(expected)
            )
    # a camera's size tells which
    stored, upright = Camera.simple(30, (40, 24)), Camera.simple(30, (24, 40))
    assert load_photos([quarter], camera=stored)[0].image.shape == (3, 24, 40)
    assert load_photos([quarter], camera=upright)[0].image.shape == (3, 40, 24)


def test_the_camera_of_the_mapping_images_serves_where_exif_data_do_not_contradict(
    tmp_path: Path, write_image: WriteImage, caplog: pytest.LogCaptureFixture
) -> None:
    mapping_camera = Camera.from_params("SIMPLE_RADIAL", [500, 178, 121, 0.1], (360, 240))
    write_with_exif(tmp_path / "a same.jpg", (360, 240), 52)  # 520 px
    write_with_exif(tmp_path / "b wide.jpg", (360, 240), 26)
    write_with_exif(tmp_path / "c tall.jpg", (240, 360), 50)
    write_image(tmp_path / "d small.png", (180, 120))
    with caplog.at_level(logging.WARNING):
        photos = load_photos([tmp_path], mapping_camera=mapping_camera)
    cameras = [photos.camera(i) for i in range(4)]
    assert cameras[0].to_text() == "SIMPLE_RADIAL,360,240,500,178,121,0.1"
    assert cameras[1].model == "SIMPLE_PINHOLE"
    assert cameras[1].params.tolist() == pytest.approx([260, 180, 120])
    assert cameras[2].to_text() == "SIMPLE_RADIAL,240,360,500,119,178,0.1"  # turned clockwise
    assert cameras[3].to_text() == "SIMPLE_RADIAL,180,120,250,89,60.5,0.1"
    said = " ".join(record.getMessage() for record in caplog.records)
    assert (
        "the mapping images' is taken: SIMPLE_RADIAL,360,240,500,178,121,0.1 (photos of its shape: 3)" in said
    )
    assert "focal length from EXIF data, 260 to 260 px, solved anew with the pose (photos: 1)" in said
    assert photos.focal == ("assumed", "rough", "assumed", "assumed")
    assert photos[[3, 1]].focal == ("assumed", "rough")
    write_image(tmp_path / "e.png", (8, 6))
    assert load_photos([tmp_path / "e.png"], mapping_camera=mapping_camera).focal == ("unknown",)


@pytest.mark.parametrize("orientation", [6, 8])
@pytest.mark.parametrize("given", [True, False])
def test_a_camera_serves_for_the_same_phone_held_the_other_way(
    tmp_path: Path, write_phone_photo: WriteImage, orientation: int, given: bool
) -> None:
    """A photo is taken upright; the camera is that of photos taken lengthwise, whose sensor is the same."""
    lengthwise = Camera.from_params("OPENCV", [60, 61, 38, 25, 0.1, 0, 0.01, 0.02], (80, 48))
    path = write_phone_photo(tmp_path / "a.jpg", orientation)
    if given:  # photos that are stored in the camera's size stay as they are stored, in any size
        assert load_photos([path], camera=lengthwise).camera(0).size == (40, 24)
        tall = lengthwise.turn() if orientation == 6 else lengthwise.turn().turn().turn()
        assert load_photos([path], camera=tall).camera(0).to_text() == tall.rescale((24, 40)).to_text()
        return
    photos = load_photos([path], mapping_camera=lengthwise)
    camera = photos.camera(0)
    assert camera.size == (24, 40) and photos[0].image.shape == (3, 40, 24)
    # a point to the right on the sensor is below in the photo, or above
    point = torch.tensor([[0.2, 0.1, 1.0]], dtype=torch.float64)
    x, y = lengthwise.project(point)[0].tolist()
    turned = [[-0.1, 0.2, 1.0]] if orientation == 6 else [[0.1, -0.2, 1.0]]
    expected = [24 - y / 2, x / 2] if orientation == 6 else [y / 2, 40 - x / 2]
    seen = camera.project(torch.tensor(turned, dtype=torch.float64))[0]
    assert seen.tolist() == pytest.approx(expected, abs=1e-9)


def test_a_camera_of_upright_photos_serves_for_a_lengthwise_one(
    tmp_path: Path, write_image: WriteImage
) -> None:
    lengthwise = Camera.from_params("OPENCV", [60, 61, 38, 25, 0.1, 0, 0.01, 0.02], (80, 48))
    path = write_image(tmp_path / "a.png", (80, 48))
    for photos in (
        load_photos([path], mapping_camera=lengthwise.turn()),
        load_photos([path], camera=lengthwise.turn()),
    ):
        torch.testing.assert_close(photos.camera(0).params, lengthwise.params)
        assert photos[0].camera.size == (80, 48)


def test_a_camera_given_serves_for_photos_of_other_sizes(tmp_path: Path, write_image: WriteImage) -> None:
    camera = Camera.from_params("RADIAL", [10, 4, 3, 0.1, 0.01], (8, 6))
    photos = load_photos([write_image(tmp_path / "a.png", (16, 12))], camera=camera)
    assert photos[0].camera.params.tolist() == [20, 8, 6, 0.1, 0.01]


def test_files_that_are_no_photos_are_passed_over_and_those_that_might_be_are_counted(
    tmp_path: Path, write_image: WriteImage, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path / "a.png")
    for name in ("b.HEIC", "c.heic", "d.MOV", "._a.png", ".DS_Store", "notes.txt", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        assert load_photos([tmp_path], focal_px=10).names == ["a.png"]
    (record,) = caplog.records
    assert (
        record.getMessage()
        == f"{tmp_path}: passed over, since they are not read here, HEIC photos: 2, videos: 1 "
        "(`pip install pillow-heif` for HEIC)"
    )
    (tmp_path / "a.png").unlink()
    with pytest.raises(DatasetError, match="found none in it; not read here: HEIC photos: 2, videos: 1"):
        load_photos([tmp_path], focal_px=10)


@pytest.mark.parametrize("focal_px", [None, "auto"])
def test_a_focal_length_that_nobody_knows_is_guessed_and_said(
    tmp_path: Path, write_image: WriteImage, caplog: pytest.LogCaptureFixture, focal_px: str | None
) -> None:
    path = write_image(tmp_path / "a.png", (80, 60))
    with caplog.at_level(logging.WARNING):
        photos = load_photos([path], focal_px=focal_px)
    assert photos.focal == ("unknown",) and photos[0].focal == "unknown"
    assert 50 < photos.camera(0).focal_px[0].item() < 80
    assert "solved with the pose; --focal-px tells it (photos: 1)" in caplog.records[0].getMessage()
    both = load_photos([path, write_image(tmp_path / "b.png")], focal_px=["auto", 9])
    assert both.focal == ("unknown", "known")


@pytest.mark.parametrize(
    ("dtype", "channels"), [(np.uint8, 1), (np.uint8, 4), (np.uint16, 1), (np.uint16, 3)], ids=str
)
def test_grey_transparent_and_16_bit_photos_are_photos(
    tmp_path: Path, write_image: WriteImage, dtype: type, channels: int
) -> None:
    photo = load_photos([write_image(tmp_path / "a.png", dtype=dtype, channels=channels)], focal_px=10)[0]
    assert photo.image.shape == (3, 6, 8)
    assert 0 <= photo.image.min() < 0.2 and 0.8 < photo.image.max() <= 1


def test_paths_without_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DatasetError, match=f"{tmp_path}: expected a folder with images, found none"):
        load_photos([tmp_path], focal_px=10)
    with pytest.raises(DatasetError, match="none.jpg: expected an image or a folder of images, found nothing"):
        load_photos([tmp_path / "none.jpg"], focal_px=10)
    with pytest.raises(DatasetError, match="notes.txt: expected an image"):
        load_photos([tmp_path / "notes.txt"], focal_px=10)
    with pytest.raises(DatasetError, match="expected images, got none"):
        load_photos([], focal_px=10)


def test_two_photos_of_one_name_are_refused(tmp_path: Path, write_image: WriteImage) -> None:
    first, second = write_image(tmp_path / "1" / "a.png"), write_image(tmp_path / "2" / "a.png")
    with pytest.raises(DatasetError, match=f"{second}: {first} has the same name"):
        load_photos([tmp_path / "1", tmp_path / "2"], focal_px=10)
    # the same photo twice is no contradiction
    assert load_photos([first, first], focal_px=10).names == [str(first)]


@pytest.mark.parametrize("focal_px", [0, -5.0, float("nan")])
def test_a_focal_length_that_is_not_positive_is_refused(
    tmp_path: Path, write_image: WriteImage, focal_px: float
) -> None:
    with pytest.raises(ValueError, match="positive focal"):
        load_photos([write_image(tmp_path / "a.png")], focal_px=focal_px)


def test_camera_and_focal_length_together_are_refused(tmp_path: Path, write_image: WriteImage) -> None:
    with pytest.raises(ValueError, match="either camera or focal_px, got both"):
        load_photos([write_image(tmp_path / "a.png")], camera=Camera.simple(10, (8, 6)), focal_px=10)


def test_a_large_photo_is_read_smaller_with_the_camera_that_belongs_to_it(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (1440, 1920, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.jpg"), colours)
    (photo,) = load_photos([tmp_path / "a.jpg"], focal_px=1500)
    assert photo.image.shape == (3, 720, 960) and photo.camera.size == (960, 720)
    assert photo.camera.focal_px.tolist() == [750, 750] and photo.camera.center_px.tolist() == [480, 360]
