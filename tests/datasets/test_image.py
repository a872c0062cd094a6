from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest

from dsac.datasets.image import (
    is_stored_turned,
    read_depth,
    read_exif_focal_px,
    read_image,
    read_image_size,
)
from dsac.errors import DatasetError

RED = np.zeros((6, 8, 3), np.uint8)
RED[..., 2] = 255  # OpenCV writes BGR


def jpeg(size: tuple[int, int] = (40, 24), flags: tuple[int, ...] = ()) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return cv2.imencode(".jpg", noise, flags)[1].tobytes()


def exif(tags: dict[int, tuple[int, ...]], order: str = "<") -> bytes:
    """A TIFF block whose EXIF directory holds shorts (one number) and rationals (two)."""
    entries, values = b"", b""
    values_at = 26 + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        if len(value) == 2:
            entries += struct.pack(order + "HHII", tag, 5, 1, values_at + len(values))
            values += struct.pack(order + "II", *value)
        else:
            entries += struct.pack(order + "HHIHH", tag, 3, 1, value[0], 0)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    main = struct.pack(order + "H", 1) + struct.pack(order + "HHIII", 0x8769, 4, 1, 26, 0)
    return head + main + struct.pack(order + "H", len(tags)) + entries + bytes(4) + values


def with_exif(data: bytes, tiff: bytes) -> bytes:
    segment = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def palette_png() -> bytes:
    """A 2x1 image, red and blue, in a palette."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0)
    colours = b"\xff\x00\x00\x00\x00\xff"
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            chunk(b"IHDR", header),
            chunk(b"PLTE", colours),
            chunk(b"IDAT", zlib.compress(b"\0\0\1")),
            chunk(b"IEND", b""),
        ]
    )


def test_pixels_are_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), RED)
    assert (read_image(tmp_path / "red.png") == [255, 0, 0]).all()


def test_alpha_is_dropped(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([RED, np.full((6, 8), 7, np.uint8)]))
    assert (read_image(tmp_path / "a.png") == [255, 0, 0]).all()


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    cv2.imwrite(str(tmp_path / "a.png"), grey)
    assert (read_image(tmp_path / "a.png") == grey[..., None]).all()


def test_sixteen_bits_become_eight(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), RED.astype(np.uint16) * 257)
    assert (read_image(tmp_path / "a.png") == [255, 0, 0]).all()


def test_palette_is_resolved(tmp_path):
    (tmp_path / "a.png").write_bytes(palette_png())
    assert read_image(tmp_path / "a.png").tolist() == [[[255, 0, 0], [0, 0, 255]]]


def turned_jpeg(orientation: int, order: str = "<") -> bytes:
    """Of 40×24 stored pixels, which viewers turn."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    entry = struct.pack(order + "HHHIHH", 1, 0x0112, 3, 1, orientation, 0)
    return with_exif(jpeg((40, 24)), head + entry + bytes(4))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_upright_as_viewers_show_them(tmp_path, orientation, order):
    path = tmp_path / "a.jpg"
    path.write_bytes(turned_jpeg(orientation, order))
    viewer = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert viewer is not None and viewer.shape[:2] == ((24, 40) if orientation < 5 else (40, 24))
    assert (read_image(path) == viewer).all()
    assert read_image_size(path) == viewer.shape[1::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_the_intrinsics_tells_which_pixels_they_are_of(tmp_path, orientation):
    path = tmp_path / "a.jpg"
    path.write_bytes(turned_jpeg(orientation))
    stored = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    assert (read_image(path, (40, 24)) == stored).all()
    assert read_image_size(path, as_stored=True) == (40, 24)
    assert is_stored_turned(path, (40, 24)) == (orientation > 1)
    assert not is_stored_turned(path, (24, 40))
    assert (read_image(path, (24, 40)) == read_image(path)).all()


def orientation_block(orientation: int) -> bytes:
    entry = struct.pack("<HHHIHH", 1, 0x0112, 3, 1, orientation, 0)
    return b"II" + struct.pack("<HI", 42, 8) + entry + bytes(4)


def turned_png(orientation: int, behind: bool, dtype: type) -> bytes:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (24, 40, 3), dtype=dtype)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    block = orientation_block(orientation)
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    at = data.rindex(b"IEND") - 4 if behind else 33
    return data[:at] + chunk + data[at:]


def turned_webp(orientation: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    chunks = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 100])[1].tobytes()[12:]
    if chunks.startswith(b"VP8X"):
        chunks = chunks[18:]
    extended = b"VP8X" + struct.pack("<II", 10, 8) + (39).to_bytes(3, "little") + (23).to_bytes(3, "little")
    block = orientation_block(orientation)
    body = b"WEBP" + extended + chunks + b"EXIF" + struct.pack("<I", len(block)) + block
    return b"RIFF" + struct.pack("<I", len(body)) + body


def turned_tiff(orientation: int, dtype: type) -> bytes:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (24, 40, 3), dtype=dtype)
    entries = [(256, 4, 40), (257, 4, 24), (258, 3, 8 * np.dtype(dtype).itemsize), (259, 3, 1), (262, 3, 2)]
    entries += [(273, 4, 200), (274, 3, orientation), (277, 3, 3), (278, 4, 24), (279, 4, pixels.nbytes)]
    entries += [(284, 3, 1)]
    head = b"II" + struct.pack("<HIH", 42, 8, len(entries))
    for tag, kind, value in entries:
        head += struct.pack("<HHII", tag, kind, 1, value)  # little endian: a short is the first half
    return (head + bytes(4)).ljust(200, b"\0") + pixels.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "png, behind the pixels", "png, 16 bit", "webp", "tif", "tif, 16 bit"])
def test_every_container_that_can_say_how_to_turn_it_is_turned(tmp_path, kind, orientation):
    ending, _, rest = kind.partition(", ")
    dtype = np.uint16 if rest == "16 bit" else np.uint8
    path, straight = tmp_path / f"a.{ending}", tmp_path / f"straight.{ending}"
    for file, turn in ((path, orientation), (straight, 1)):
        if ending == "png":
            file.write_bytes(turned_png(turn, bool(rest) and dtype == np.uint8, dtype))
        else:
            file.write_bytes(turned_webp(turn) if ending == "webp" else turned_tiff(turn, dtype))
    stored = read_image(straight)
    assert stored.shape == (24, 40, 3) and stored.std() > 20
    expected = stored.transpose(1, 0, 2) if orientation >= 5 else stored
    expected = expected[:, ::-1] if orientation in (2, 3, 6, 7) else expected
    expected = expected[::-1] if orientation in (3, 4, 7, 8) else expected
    assert (read_image(path) == expected).all()
    assert read_image_size(path) == expected.shape[1::-1]
    assert read_image_size(path, as_stored=True) == (40, 24)
    assert (read_image(path, (40, 24)) == stored).all()
    assert is_stored_turned(path, (40, 24)) == (orientation > 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"\0\0\0\x18ftypheic" + bytes(50),
            "a HEIC photo; `pip install pillow-heif` for it to be read, or convert it to JPEG",
        ),
        (b"\0\0\0\x18ftypqt  " + bytes(50), "got a video"),
        (b"\0\0\0\x18ftypmp42" + bytes(50), "got a video"),
        (b"\x76\x2f\x31\x01" + bytes(50), "got an EXR file, which OpenCV reads only if"),
    ],
)
def test_what_phones_write_beside_images_is_named(tmp_path, data, message):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(DatasetError, match=f"a.jpg: expected an image, .*{message}"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(tmp_path, orientation):
    path = tmp_path / "a.jpg"
    path.write_bytes(turned_jpeg(orientation))
    assert read_image(path).shape == (24, 40, 3) and read_image_size(path) == (40, 24)


def test_a_damaged_exif_block_turns_nothing(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(with_exif(jpeg((40, 24)), b"II*\0\xff\xff\0\0"))
    assert read_image(path).shape == (24, 40, 3)


@pytest.mark.parametrize("left", [1, 3, 100, 0.3, 0.9, -2])
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_truncated_image_is_an_error_that_names_the_file(tmp_path, ending, left):
    data = jpeg() if ending == ".jpg" else cv2.imencode(".png", RED)[1].tobytes()
    if ending == ".png" and left == 100:
        left = 60
    cut = int(left * len(data)) if isinstance(left, float) else left
    path = tmp_path / f"cut{ending}"
    path.write_bytes(data[: cut - 8 * (cut < 0)])
    with pytest.raises(DatasetError, match=f"cut{ending}"):
        read_image(path)


def test_end_marker_of_a_thumbnail_does_not_hide_truncation(tmp_path):
    data = with_exif(jpeg(), b"II*\0" + bytes(4) + jpeg((8, 8)))
    path = tmp_path / "cut.jpg"
    path.write_bytes(data)
    assert read_image(path).shape == (24, 40, 3)
    path.write_bytes(data[:-40])
    with pytest.raises(DatasetError, match="truncated"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty file"), (b"not an image", "no decoder knows"), (None, "no such file")],
)
def test_file_without_an_image_is_an_error(tmp_path, content, message):
    path = tmp_path / "bad.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=f"bad.jpg.*{message}"):
        read_image(path)


def test_images_are_read_from_remote_storage():
    with fsspec.open("memory://pictures/red.png", "wb") as file:
        file.write(cv2.imencode(".png", RED)[1].tobytes())  # type: ignore[union-attr]
    assert (read_image("memory://pictures/red.png") == [255, 0, 0]).all()
    with pytest.raises(DatasetError, match="memory://pictures/blue.png: no such file"):
        read_image("memory://pictures/blue.png")


@pytest.mark.parametrize("name", ["plain.jpg", "progressive.jpg", "exif.jpg", "a.png", "a.bmp"])
def test_size_from_the_header_is_the_decoded_size(tmp_path, name):
    data = {
        "plain.jpg": jpeg((40, 24)),
        "progressive.jpg": jpeg((40, 24), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        "exif.jpg": with_exif(jpeg((40, 24)), b"II*\0" + bytes(4) + jpeg((8, 8))),
    }.get(name)
    if data is None:
        data = cv2.imencode(name[1:], np.zeros((24, 40, 3), np.uint8))[1].tobytes()
    (tmp_path / name).write_bytes(data)
    assert read_image_size(tmp_path / name) == (40, 24)
    assert read_image(tmp_path / name).shape == (24, 40, 3)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_focal_from_the_35_mm_equivalent(tmp_path, order):
    path = tmp_path / "a.jpg"
    path.write_bytes(with_exif(jpeg((36, 24)), exif({0xA405: (28,)}, order)))
    assert read_exif_focal_px(path) == pytest.approx(28.0)  # one pixel a millimetre of a 36x24 film


def test_exif_focal_from_the_sensor_resolution(tmp_path):
    path = tmp_path / "a.jpg"
    # 5 mm at 1000 px per cm = 500 px in the original of 4000 px, of which a tenth is left
    tags = {0x920A: (50, 10), 0xA20E: (1000, 1), 0xA210: (3,), 0xA002: (4000,)}
    path.write_bytes(with_exif(jpeg((400, 300)), exif(tags)))
    assert read_exif_focal_px(path) == pytest.approx(50.0)


@pytest.mark.parametrize(
    "tiff",
    [exif({0x920A: (50, 10)}), exif({0xA405: (0,)}), exif({0xA405: (28,)})[:30], b"II"],
    ids=["no resolution", "zero means unknown", "cut off", "no directory"],
)
def test_exif_that_does_not_tell_the_focal_gives_none(tmp_path, tiff):
    path = tmp_path / "a.jpg"
    path.write_bytes(with_exif(jpeg(), tiff))
    assert read_exif_focal_px(path) is None


def test_image_without_exif_has_no_focal(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    assert read_exif_focal_px(tmp_path / "a.jpg") is None


def test_depth_keeps_its_sixteen_bits(tmp_path):
    depth = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000
    cv2.imwrite(str(tmp_path / "d.png"), depth)
    assert (read_depth(tmp_path / "d.png") == depth).all()


@pytest.mark.parametrize("wrong", [RED, RED.astype(np.uint16), RED[..., 0]])
def test_depth_of_another_kind_is_an_error(tmp_path: Path, wrong):
    cv2.imwrite(str(tmp_path / "d.png"), wrong)
    with pytest.raises(DatasetError, match="d.png: expected depth as an image of one channel, 16-bit"):
        read_depth(tmp_path / "d.png")


@pytest.mark.parametrize(
    "array", [np.zeros((0, 0)), np.zeros(5), np.zeros((6, 8), complex), np.full((6, 8), 70000)]
)
def test_an_array_that_is_no_depth_is_an_error(tmp_path: Path, array):
    np.save(tmp_path / "d.npy", array)
    with pytest.raises(DatasetError, match="d.npy: expected depth as an image of one channel, 16-bit"):
        read_depth(tmp_path / "d.npy")


@pytest.mark.parametrize("at", [8, 40, 60, 120, 140])
def test_a_damaged_array_is_an_error(tmp_path: Path, at: int):
    path = tmp_path / "d.npy"
    np.save(path, np.ones((6, 8), np.float32))
    data = path.read_bytes()
    for damaged in (data[:at], data.replace(b"descr': '", b"descr': ({"), data.replace(b"(6, 8)", b"(6, 9)")):
        path.write_bytes(damaged)
        with pytest.raises(DatasetError, match="d.npy: expected an array of numbers"):
            read_depth(path)


def _waves(size: tuple[int, int]) -> np.ndarray:
    """Smooth, unlike left to right and top to bottom."""
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    planes = np.sin(x / 40 + y / 90), np.cos(y / 30), np.sin(x / 70 - y / 50)
    return (127 + 100 * np.stack(planes, -1)).astype(np.uint8)


@pytest.mark.parametrize(("enough_px", "shrink"), [(241, 1), (240, 2), (120, 4), (60, 8), (1, 8)])
def test_a_large_jpeg_is_decoded_smaller_where_that_is_enough(tmp_path, enough_px, shrink):
    colours = _waves((640, 480))
    path = tmp_path / "waves.jpg"
    cv2.imwrite(str(path), colours[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    image = read_image(path, enough_px=enough_px)
    assert image.shape == (480 // shrink, 640 // shrink, 3)
    by_area = cv2.resize(colours, image.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(image.astype(int) - by_area).mean() < 2  # a shift by a quarter of a pixel would be 3 and more
    assert read_image_size(path) == (640, 480)


def test_only_a_jpeg_whose_size_divides_is_decoded_smaller(tmp_path):
    for name, size in (("waves.png", (640, 480)), ("odd.jpg", (642, 481))):
        cv2.imwrite(str(tmp_path / name), _waves(size))
        assert read_image(tmp_path / name, enough_px=100).shape[1::-1] == size


def test_a_shrunk_photo_is_turned_upright_or_kept_as_the_size_says(tmp_path):
    path = tmp_path / "portrait.jpg"
    stored = cv2.imencode(".jpg", _waves((640, 480)))[1].tobytes()
    head = b"II" + struct.pack("<HI", 42, 8) + struct.pack("<H", 1)
    path.write_bytes(with_exif(stored, head + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)))
    assert read_image(path, enough_px=240).shape == (320, 240, 3)
    assert read_image(path, (640, 480), enough_px=240).shape == (240, 320, 3)


def test_a_size_that_stands_far_behind_in_the_file_is_found(tmp_path):
    """Behind 400 kB of application data, as phones write their depth maps."""
    stored = cv2.imencode(".jpg", _waves((64, 48)))[1].tobytes()
    head = b"II" + struct.pack("<HI", 42, 8) + struct.pack("<H", 1)
    turned = with_exif(stored, head + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4))
    ballast = 6 * (b"\xff\xe2" + struct.pack(">H", 65535) + bytes(65533))
    path = tmp_path / "far.jpg"
    path.write_bytes(turned[: -len(stored) + 2] + ballast + stored[2:])
    assert read_image(path).shape == (64, 48, 3)
    assert read_image_size(path) == (48, 64) and read_image_size(path, as_stored=True) == (64, 48)
    assert is_stored_turned(path, (64, 48))
