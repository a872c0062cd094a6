"""The forms in which people have photos and cameras: what each becomes, what is refused and in which words."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from videos import SIZE, seen, wall, write_video

from dsac.datasets import load_photos, read_image
from dsac.datasets.given import photos_given
from dsac.datasets.given_cameras import read_cameras
from dsac.errors import DatasetError
from dsac.geometry import Camera

WriteImage = Callable[..., Path]
RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def _pixels(photos: object, bgr: bool = False) -> np.ndarray:
    (photo,) = load_photos(photos, focal_px=10, bgr=bgr)
    return (photo.image * 255).round().byte().permute(1, 2, 0).numpy()


# ---- pixels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image",
    [
        RGB,
        np.asfortranarray(RGB),
        np.dstack([RGB, np.full((6, 8), 3, np.uint8)]),
        RGB / 255,
        (RGB / 255).astype(np.float16),
        torch.from_numpy(RGB).permute(2, 0, 1),
        (torch.from_numpy(RGB).permute(2, 0, 1) / 255).requires_grad_(),
        PIL.Image.fromarray(RGB),
        PIL.Image.fromarray(RGB).convert("RGBA"),
    ],
    ids=lambda image: f"{type(image).__name__} {getattr(image, 'dtype', '')} {getattr(image, 'shape', '')}",
)
def test_pixels_in_memory_are_the_photo(image: object) -> None:
    assert np.array_equal(_pixels(image), RGB)
    assert np.array_equal(_pixels([image]), RGB)


def test_channels_in_opencvs_order_are_told() -> None:
    bgr = RGB[..., ::-1]
    assert np.array_equal(_pixels(bgr, bgr=True), RGB)
    assert np.array_equal(_pixels(np.dstack([bgr, bgr[..., 0]]), bgr=True), RGB)
    assert np.array_equal(_pixels(torch.from_numpy(bgr.copy()).permute(2, 0, 1), bgr=True), RGB)


def test_grey_photos_have_three_equal_channels() -> None:
    grey = RGB[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    deep = PIL.Image.fromarray(grey.astype(np.uint16) * 257)
    assert deep.mode.startswith("I;16")
    for image in (grey, grey[..., None], torch.from_numpy(grey)[None], PIL.Image.fromarray(grey), deep):
        assert np.array_equal(_pixels(image), expected)
        assert np.array_equal(_pixels(image, bgr=True), expected)


def test_what_resizing_adds_beyond_the_range_is_cut_off() -> None:
    image = RGB / 255
    image[0, 0] = (-0.05, 1.08, 0.5)
    assert _pixels(image)[0, 0].tolist() == [0, 255, 128]


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (
            RGB.astype(np.uint16),
            r"uint8, or floats from 0 to 1, got uint16; if its values use all 16 bits, give",
        ),
        (RGB.astype(np.int32), "uint8, or floats from 0 to 1, got int32$"),
        (RGB > 9, "uint8, or floats from 0 to 1, got bool$"),
        (RGB.astype(float), r"floats from 0 to 1, got \d+ to 2\d\d; divide by 255$"),
        (RGB - 128.0, r"floats from 0 to 1, got -12\d to 12\d$"),
        (np.full((6, 8, 3), np.nan), "floats from 0 to 1, got nan to nan$"),
        (RGB.transpose(2, 0, 1), r"got \(3, 6, 8\); channels stand last in an array$"),
        (np.zeros((2, 6, 8, 3), np.uint8)[None], r"got \(2, 6, 8, 3\)$"),
        (np.zeros((0, 8, 3), np.uint8), r"got \(0, 8, 3\)$"),
        (torch.from_numpy(RGB), r"a tensor \(3, H, W\), got \(6, 8, 3\); channels stand first in a tensor$"),
        (torch.zeros(6, 8), r"a tensor \(3, H, W\), got \(6, 8\)$"),
        (PIL.Image.fromarray(RGB[..., 0].astype(np.float32)), "PIL image of 8 or 16 bits, got one of mode F$"),
        (io.StringIO("text"), r"expected a file opened in binary mode \('rb'\), it gives str$"),
        (42, "expected a path, bytes, a file opened in binary mode, a PIL image, an array .* got int$"),
        (None, "expected a path, bytes, .* got NoneType$"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
@pytest.mark.wrong_input
def test_what_is_no_photo_is_refused_in_one_line(image: object, said: str) -> None:
    with pytest.raises(ValueError, match=f"photo(-0)?: .*{said}") as refusal:
        load_photos(image, focal_px=10)
    assert "\n" not in str(refusal.value)


# ---- files -----------------------------------------------------------------------------------------


def test_a_file_is_the_same_photo_on_disk_and_in_memory(tmp_path: Path, write_phone_photo: WriteImage) -> None:
    """Upright, and with the focal length of its EXIF data."""
    path = write_phone_photo(tmp_path / "ein Foto ü.jpg", 6, equivalent_mm=26)
    (expected,) = load_photos([path])
    assert expected.camera.size == (24, 40)
    data = path.read_bytes()
    with path.open("rb") as file:
        forms = [
            str(path),
            data,
            bytearray(data),
            memoryview(data),
            io.BytesIO(data),
            file,
            PIL.Image.open(path),
        ]
        photos = [photo for form in forms for photo in load_photos(form)]
    for photo in photos:
        assert torch.equal(photo.image, expected.image)
        assert photo.camera.to_text() == expected.camera.to_text()
    assert [photo.name for photo in photos] == [str(path), *["photo"] * 4, str(path), str(path)]
    stored = Camera.simple(30, (40, 24))  # pixels that are stored in the camera's size stay as they are
    for form in (path, data, PIL.Image.open(path)):
        assert load_photos(form, camera=stored)[0].image.shape == (3, 24, 40)
        assert load_photos(form, focal_px=30, as_stored=True)[0].image.shape == (3, 24, 40)


def test_several_photos_may_come_in_different_forms(tmp_path: Path, write_image: WriteImage) -> None:
    path = write_image(tmp_path / "a.png")
    photos = load_photos([path, path.read_bytes(), RGB, PIL.Image.fromarray(RGB)], focal_px=10)
    assert photos.names == [str(path), "photo-1", "photo-2", "photo-3"]
    with pytest.raises(DatasetError, match="a.png has the same name"):
        load_photos([path, PIL.Image.open(path)], focal_px=10)


def test_photos_may_come_from_a_generator_or_as_one_array(tmp_path: Path, write_image: WriteImage) -> None:
    paths = [write_image(tmp_path / name) for name in ("a.png", "b.png")]
    assert load_photos((path for path in paths), focal_px=10).names == [str(path) for path in paths]
    assert load_photos(tmp_path.glob("*.png"), focal_px=10).camera(1).size == (8, 6)
    assert load_photos(np.stack([RGB, RGB]), focal_px=10).names == ["photo-0", "photo-1"]
    assert load_photos(str(paths[0]), focal_px=10).names == [str(paths[0])]


def test_damaged_photos_in_memory_say_what_is_wrong(tmp_path: Path, write_image: WriteImage) -> None:
    data = write_image(tmp_path / "a.jpg", (80, 60)).read_bytes()
    file = io.BytesIO(data)
    file.read()
    with pytest.raises(DatasetError, match=r"photo: expected an image, got a file at its end; seek\(0\)"):
        load_photos(file, focal_px=10)
    file.close()
    with pytest.raises(DatasetError, match="photo: expected an open file in binary mode: .*closed"):
        load_photos(file, focal_px=10)
    with pytest.raises(DatasetError, match="photo: the image is truncated"):
        load_photos(data[:-100], focal_px=10)[0]
    with pytest.raises(DatasetError, match="photo: expected an image, got an empty file"):
        load_photos(b"", focal_px=10)
    with pytest.raises(DatasetError, match="photo: PIL cannot read the image: "):
        load_photos(PIL.Image.open(io.BytesIO(data[:-500])), focal_px=10)


# ---- videos ----------------------------------------------------------------------------------------


def test_a_video_gives_its_sharp_frames_and_another_its_own(tmp_path: Path, write_image: WriteImage) -> None:
    places = [4 * i for i in range(30)]
    path = write_video(tmp_path / "a b.mp4", (seen(wall(), x) for x in places))
    told: list[tuple[str, float]] = []
    photos = load_photos(
        [write_image(tmp_path / "a.png"), path], focal_px=300, on_progress=lambda *done: told.append(done)
    )
    names = photos.names[1:]
    assert 5 < len(names) < 12 and all(name.startswith(f"{path}#0000") for name in names)
    assert told[-1] == (str(path), 1.0) and told[0][1] < 0.2
    assert photos.camera(1).to_text() == f"SIMPLE_PINHOLE,{SIZE[0]},{SIZE[1]},300,160,120"
    # read in any order, each is the frame of its number
    for i in (*range(1, len(photos)), 2, 1, 4, 3):
        image = photos[i].image.permute(1, 2, 0).flip(-1).mul(255).round().byte().numpy()
        expected = seen(wall(), places[int(photos.names[i][-6:])])
        assert np.abs(image.astype(int) - expected).mean() < 12
    every = load_photos(path, focal_px={"a b.mp4": 300}, every=10)
    assert [name[-7:] for name in every.names] == ["#000000", "#000010", "#000020"]
    with pytest.raises(ValueError, match="every: expected 1 or more, got 0"):
        load_photos(path, focal_px=300, every=0)


def test_a_video_that_shows_nothing_or_is_none_says_so(tmp_path: Path) -> None:
    black = write_video(tmp_path / "black.mp4", [np.zeros((48, 64, 3), np.uint8)] * 5)
    with pytest.raises(DatasetError, match="black.mp4: no frame of this video shows anything"):
        load_photos(black, focal_px=10)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DatasetError, match="text.mp4: expected a video, got"):
        load_photos(tmp_path / "text.mp4", focal_px=10)


# ---- cameras ---------------------------------------------------------------------------------------

K = [[9.0, 0.0, 3.5], [0.0, 10.0, 2.5], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize("matrix", [K, np.array(K), torch.tensor(K), np.array(K).astype(np.float32)], ids=type)
def test_a_matrix_is_the_camera_of_each_photos_own_size(matrix: object) -> None:
    photos = load_photos([RGB, np.zeros((60, 80, 3), np.uint8)], camera=matrix)
    assert [photos.camera(i).to_text() for i in range(2)] == ["PINHOLE,8,6,9,10,4,3", "PINHOLE,80,60,9,10,4,3"]


def test_each_photo_may_have_a_camera_or_a_focal_length_of_its_own() -> None:
    cameras = [Camera.simple(7, (8, 6)), K, Camera.simple(9, (16, 12))]
    photos = load_photos([RGB] * 3, camera=cameras)
    assert [photos.camera(i).focal_px[0].item() for i in range(3)] == [7, 9, 4.5]
    photos = load_photos([RGB] * 3, camera=np.array([K] * 3))
    assert photos.camera(2).to_text() == "PINHOLE,8,6,9,10,4,3"
    photos = load_photos([RGB] * 2, camera=torch.tensor([K] * 2))
    assert photos.camera(1).to_text() == "PINHOLE,8,6,9,10,4,3"
    for focals in (
        [7, 8.5, 9],
        np.array([7, 8.5, 9]),
        torch.tensor([7, 8.5, 9]),
        {"photo-2": 9, "photo-0": 7, "photo-1": 8.5},
        {"query/night/photo-2": 9, "day/photo-0": 7, "day/photo-1": 8.5, "photo-1": 8.5, "a-photo-2": 1},
    ):
        photos = load_photos([RGB] * 3, focal_px=focals)
        assert [photos.camera(i).focal_px[0].item() for i in range(3)] == [7, 8.5, 9]


@pytest.mark.wrong_input
def test_cameras_that_are_not_as_many_as_photos_are_refused() -> None:
    with pytest.raises(ValueError, match="camera: expected one for each of 3 photos, got 2"):
        load_photos([RGB] * 3, camera=[K, K])
    with pytest.raises(ValueError, match="focal_px: expected one for each of 2 photos, got 3"):
        load_photos([RGB] * 2, focal_px=[1, 2, 3])
    with pytest.raises(ValueError, match=r"focal_px: none for photo-0 \(.*: 2 of 3\), but for photo-1"):
        load_photos([RGB] * 3, focal_px={"photo-1": 9})
    with pytest.raises(ValueError, match="none for photo-0 .*, but for a/photo-0, b/photo-0"):
        load_photos([RGB], focal_px={"a/photo-0": 9, "b/photo-0": 8})
    with pytest.raises(ValueError, match="none for photo-0 .*, nor for any other"):
        load_photos([RGB], focal_px={})
    with pytest.raises(ValueError, match="expected a positive focal length in pixels or 'auto', got -2"):
        load_photos([RGB] * 2, focal_px=[1, -2])
    for wrong in ("525", [None, 3], {"photo-0": "9", "photo-1": 9}):
        with pytest.raises(
            ValueError, match="focal_px: expected a positive focal length in pixels or 'auto', got (525|None|9)"
        ):
            load_photos([RGB] * 2, focal_px=wrong)
    for wrong in (np.eye(4), 525, "525", [[1, 2], [3]]):
        with pytest.raises(
            ValueError, match="camera: expected (a dsac.Camera or K, a 3×3 matrix|one for each)"
        ):
            load_photos([RGB], camera=wrong)


def test_cameras_are_read_from_a_text(tmp_path: Path) -> None:
    path = tmp_path / "cameras.txt"
    path.write_text("# Camera list\n1 OPENCV 8 6 9 9 4 3 0.1 0 0 0\n")
    one = read_cameras(path)
    assert isinstance(one, Camera) and one.to_text() == "OPENCV,8,6,9,9,4,3,0.1,0,0,0"
    path.write_text(
        'a b.png SIMPLE_PINHOLE 8 6 9 4 3\n"c d.png";pinhole;8;6;9,5;9;4;3\ne.png PINHOLE,8,6,9,9,4,3\n'
    )
    several = read_cameras(path)
    assert isinstance(several, dict)
    assert {name: camera.focal_px[0].item() for name, camera in several.items()} == {
        "a b.png": 9, "c d.png": 9.5, "e.png": 9,
    }  # fmt: skip
    for text, said in [
        ("a.png 525\n", r"line 1: expected `NAME MODEL WIDTH HEIGHT PARAMS...`, got `a.png 525`"),
        ("a.png LENS 8 6 9\n", "line 1: camera model: expected one of"),
        ("a.png PINHOLE 8 6 9 4 3\n", "line 1: camera PINHOLE: expected 4 parameters, got 3"),
        ("a SIMPLE_PINHOLE 8 6 9 4 3\na SIMPLE_PINHOLE 8 6 9 4 3\n", "line 2: a has a camera already"),
        ("\n", "expected cameras, .* found none"),
    ]:
        path.write_text(text)
        with pytest.raises(DatasetError, match=f"cameras.txt(, |: ){said}"):
            read_cameras(path)


def test_an_array_that_a_camera_of_its_shape_serves_and_one_that_it_does_not() -> None:
    assert load_photos(RGB, camera=Camera.simple(20, (16, 12)))[0].camera.focal_px[0].item() == 10
    with pytest.raises(DatasetError, match="photo: the image is 8x6, but its intrinsics are for 8x8"):
        load_photos(RGB, camera=Camera.simple(20, (8, 8)))[0]
    assert load_photos(RGB).focal == ("unknown",)


def test_nothing_is_decoded_before_it_is_asked_for(
    tmp_path: Path, write_image: WriteImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_image(tmp_path / "a.png")
    expected = read_image(path)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    photos = load_photos([path.read_bytes(), io.BytesIO(path.read_bytes())], focal_px=10)
    monkeypatch.undo()
    assert torch.equal((photos[0].image * 255).round().byte(), torch.from_numpy(expected).permute(2, 0, 1))
    assert len(photos_given(path)) == 1


# ---- HEIC ------------------------------------------------------------------------------------------


class _HeifFile:
    """What `pillow_heif` opens, as far as it is used here: `heic` holds a PNG behind twelve bytes."""

    def __init__(self, file: io.BytesIO) -> None:
        data = file.getvalue()
        if len(data) < 100:
            raise EOFError("corrupt")
        self._image = PIL.Image.open(io.BytesIO(data[12:]))
        self.size, self.info = self._image.size, {"exif": b"Exif\0\0" + _EXIF}

    def to_pillow(self) -> PIL.Image.Image:
        return self._image


_EXIF = b"II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x69\x87\x04\0\x01\0\0\0\x26\0\0\0\0\0\0\0"
_EXIF += b"\x01\0\x05\xa4\x03\0\x01\0\0\0\x1a\0\0\0\0\0\0\0"  # turned by a quarter, of 26 mm


@pytest.fixture
def heic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An upright photo, and a package that reads it."""
    module = type(io)("pillow_heif")
    module.open_heif = _HeifFile  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", module)
    path = tmp_path / "IMG 1.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic" + cv2.imencode(".png", RGB[..., ::-1])[1].tobytes())
    return path


def test_heic_photos_are_read_where_the_package_for_it_is(heic: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are decoded upright, whatever their EXIF data say of that."""
    (heic.parent / "film.mov").write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        (photo,) = load_photos([heic.parent])
    assert photo.name == heic.name
    assert np.array_equal((photo.image * 255).round().byte().permute(1, 2, 0).numpy(), RGB)
    assert photo.camera.focal_px[0].item() == pytest.approx(26 * np.hypot(8, 6) / np.hypot(36, 24))
    assert "passed over, since they are not read here, videos: 1" in caplog.text
    assert np.array_equal(_pixels(heic.read_bytes()), RGB)


def test_a_damaged_heic_photo_is_named(heic: Path) -> None:
    heic.write_bytes(heic.read_bytes()[:50])
    with pytest.raises(
        DatasetError, match=r"IMG 1.HEIC: expected an image, got a damaged HEIC photo \(corrupt\)"
    ):
        load_photos([heic], focal_px=10)


def test_without_the_package_the_way_out_is_named(heic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(
        DatasetError, match="a HEIC photo; `pip install pillow-heif` for it to be read, or convert"
    ):
        load_photos([heic], focal_px=10)
