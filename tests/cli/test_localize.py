"""`dsac localize`: poses as lines, JSON and a file, of photos as people have them."""

from __future__ import annotations

import gzip
import json
import math
import re
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from command_line import Fails, Run

from dsac.datasets import load_scene, read_poses
from dsac.networks.encoder import load_encoder
from dsac.scene_map import SceneMap


def test_localize_prints_and_writes_poses(corner: Path, run: Run, tmp_path: Path) -> None:
    images = sorted((corner / "scene" / "images").iterdir())[1::2]
    code, out, _ = run(
        "localize",
        corner / "corner.dsac",
        *images,
        "--focal-px",
        262.5,
        "--output",
        tmp_path / "poses.txt",
        "--json",
    )
    assert code == 0
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["name"] for answer in answers] == [str(path) for path in images]
    found = {answer["name"]: answer for answer in answers if answer["success"]}
    assert len(found) >= 4
    written = read_poses(tmp_path / "poses.txt")
    assert written.names == list(found)
    truth = load_scene(corner / "scene").truths["poses"]
    for name, pose in zip(written.names, written.cam_from_world, strict=True):
        printed = found[name]["cam_from_world"]
        assert pose.quaternion_wxyz.tolist() == pytest.approx(printed["quaternion_wxyz"], abs=1e-6)
        assert pose.translation.tolist() == pytest.approx(printed["translation"], abs=1e-6)
        assert found[name]["center"] == pytest.approx(pose.center.tolist(), abs=1e-5)
        assert np.shape(found[name]["covariance"]) == (6, 6)
        assert 0 <= found[name]["confidence"] <= 1 and found[name]["inliers"] > 0
        assert set(found[name]["timing_ms"]) == {"decode", "encode", "head", "solve", "align"}
        # of a map that was made in seconds
        assert pose.center_distance(truth.cam_from_world[truth.index[Path(name).name]]) < 0.5


def test_localize_says_a_line_for_each_photo(corner: Path, run: Run, tmp_path: Path) -> None:
    grey = np.full((240, 320), 128, np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    image = corner / "scene" / "images" / "mapping-005.jpg"
    camera = "PINHOLE,320,240,262.5,262.5,160,120"
    code, out, _ = run("localize", corner / "corner.dsac", image, tmp_path / "grey.png", "--camera", camera)
    assert code == 0
    first, second, total = out.splitlines()
    assert re.match(rf"{re.escape(str(image))}  at \(\S+ \S+ \S+\) m  ", first) and "inliers" in first
    assert second.startswith(f"{tmp_path / 'grey.png'}  not localized")
    assert total == "1 of 2 localized"


def test_photos_that_are_not_localized_have_no_line_in_the_poses_file(
    blank_map: Path, run: Run, tmp_path: Path, photo: Path
) -> None:
    code, out, _ = run(
        "localize", blank_map, photo, "--focal-px", 100, "--output", tmp_path / "poses.txt", "--json"
    )
    assert code == 0
    answer = json.loads(out)
    assert answer["success"] is False
    assert answer["cam_from_world"] is answer["center"] is answer["covariance"] is None
    assert (tmp_path / "poses.txt").read_text() == ""


@pytest.mark.parametrize(
    ("dtype", "channels"), [(np.uint8, 1), (np.uint8, 4), (np.uint16, 1), (np.uint16, 3)], ids=str
)
def test_a_grey_transparent_or_16_bit_photo_is_localized_like_any_other(
    corner: Path, run: Run, tmp_path: Path, dtype: type, channels: int
) -> None:
    image = cv2.imread(str(corner / "scene" / "images" / "mapping-005.jpg"))
    assert image is not None
    if channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if channels == 4:
        image = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), image.astype(dtype) * (257 if dtype == np.uint16 else 1))
    code, out, _ = run("localize", corner / "corner.dsac", path, "--focal-px", 262.5)
    assert code == 0
    assert out.startswith(f"{path}  ")
    if channels > 1:
        assert "1 of 1 localized" in out


def test_focal_lengths_of_exif_data_are_named(blank_map: Path, run: Run, tmp_path: Path, photo: Path) -> None:
    data = photo.read_bytes()
    tiff = b"II" + struct.pack("<HIHHHIIIHHHIHHI", 42, 8, 1, 0x8769, 4, 1, 26, 0, 1, 0xA405, 3, 1, 28, 0, 0)
    exif = b"Exif\0\0" + tiff
    photo.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    code, _, err = run("localize", blank_map, photo)
    assert code == 0
    focal_px = 28 / math.hypot(36, 24) * math.hypot(128, 96)  # 28 mm on a full frame
    assert f"focal length from EXIF data, {focal_px:.0f} to" in " ".join(err.split())


_OWN = "a unit of the recording's own, not metres"


def test_lengths_are_metres_where_the_recording_says_so(corner: Path, run: Run, tmp_path: Path) -> None:
    image = corner / "scene" / "images" / "mapping-005.jpg"
    units = {}
    for metric in (True, False, None):
        scene_map = SceneMap.load(corner / "corner.dsac")
        path = tmp_path / "unit.dsac"
        replace(scene_map, info=replace(scene_map.info, metric=metric)).save(path)
        _, info, _ = run("info", path)
        _, line, _ = run("localize", path, image)
        _, answer, _ = run("localize", path, image, "--json")
        assert json.loads(answer)["metric"] is metric
        assert (") m  " in line) == bool(metric)
        assert (re.search(r"  ± [\d.]+ mm, \d+\.\d\d°  ", line) is not None) == bool(metric)
        assert re.search(r"  ± \d\.\d+( mm)?, \d+\.\d\d°  ", line)
        units[metric] = re.findall(r"in (.*)", info)[0], re.findall(r"positions are in (.*)", line)
    assert units == {
        True: ("metres", []),
        False: (_OWN, [_OWN]),
        None: ("the unit of the recording's poses", ["the unit of the recording's poses"]),
    }


def test_photos_of_the_mapping_cameras_shape_need_no_focal_length(corner: Path, run: Run) -> None:
    _, info, _ = run("info", corner / "corner.dsac")
    (camera,) = re.findall(r"camera +(\S+)", info)
    assert camera == "SIMPLE_PINHOLE,320,240,262.5,160,120"
    image = corner / "scene" / "images" / "mapping-005.jpg"
    _, guessed, err = run("localize", corner / "corner.dsac", image, "--json")
    _, given, _ = run("localize", corner / "corner.dsac", image, "--json", "--camera", camera)
    assert json.loads(guessed)["cam_from_world"] == json.loads(given)["cam_from_world"] is not None
    assert f"the mapping images' is taken: {camera} (photos of its shape: 1)" in " ".join(err.split())


def test_a_photo_that_a_phone_stored_turned_is_localized_like_any_other(
    corner: Path, run: Run, tmp_path: Path
) -> None:
    image = cv2.imread(str(corner / "scene" / "images" / "mapping-005.jpg"))
    assert image is not None
    data = cv2.imencode(".jpg", cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE))[1].tobytes()
    exif = b"Exif\0\0II" + struct.pack("<HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    path = tmp_path / "phone.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    code, out, _ = run("localize", corner / "corner.dsac", path, "--json")
    answer = json.loads(out)
    assert code == 0 and answer["success"]
    scene = load_scene(corner / "scene")
    truth = scene.truths["poses"]
    center = truth.cam_from_world[truth.index["mapping-005.jpg"]].center
    assert (torch.tensor(answer["center"]) - center).norm() < 0.5


def test_a_bad_map_is_named(blank_map: Path, fails: Fails, photo: Path, tmp_path: Path) -> None:
    good = blank_map.read_bytes()
    plain = gzip.decompress(good)  # as files were before they were compressed
    bad = {
        "none": (None, "found nothing"),
        "half": (good[: len(good) // 2], "half of one"),
        "empty": (b"", "half of one"),
        "text": (b"dear diary", "something else"),
        "old": (
            plain.replace(b'\\"format_version\\": 1', b'\\"format_version\\": 0'),
            "expected map format 1, got 0",
        ),
        "foreign": (plain.replace(load_encoder().digest.encode(), b"0123456789abcdef"), "0123456789abcdef"),
    }
    for name, (content, expected) in bad.items():
        path = tmp_path / f"{name}.dsac"
        if content is not None:
            assert content not in (good, plain)
            path.write_bytes(content)
        line = fails("localize", path, photo, "--focal-px", 100)
        assert str(path) in line and expected in line


def test_a_photo_of_one_colour_is_not_localized(corner: Path, run: Run, tmp_path: Path) -> None:
    for value in (0, 128, 255):
        cv2.imwrite(str(tmp_path / "plain.png"), np.full((240, 320, 3), value, np.uint8))
        code, out, _ = run("localize", corner / "corner.dsac", tmp_path / "plain.png", "--focal-px", 262.5)
        assert code == 0
        assert "not localized" in out


def test_bad_photos_are_named(blank_map: Path, fails: Fails, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "zero.jpg").write_bytes(b"")
    (tmp_path / "half.jpg").write_bytes(photo.read_bytes()[:2000])
    (tmp_path / "text.jpg").write_text("no image")
    for name, expected in [
        ("none.jpg", "found nothing"),
        ("empty", "found none in it"),
        ("zero.jpg", "empty"),
        ("half.jpg", "truncated"),
        ("text.jpg", "expected an image"),
    ]:
        line = fails(
            "localize", blank_map, tmp_path / name, "--focal-px", 100, "--output", tmp_path / "out.txt"
        )
        assert str(tmp_path / name) in line and expected in line


def test_photos_behind_a_url_are_refused_by_that_name(blank_map: Path, fails: Fails) -> None:
    url = "https://example.org/a.jpg"
    assert f"{url}: expected photos on this machine, got a URL" in fails("localize", blank_map, url)


def test_photos_that_cannot_be_used_are_named_and_the_others_are_localized(
    corner: Path, run: Run, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(corner / "scene" / "images", photos)
    names = sorted(path.name for path in photos.iterdir())
    damaged, text = photos / names[1], photos / "a text.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    text.write_text("no photo")
    code, out, error = run("localize", corner / "corner.dsac", photos, "--output", tmp_path / "out.txt")
    assert code == 2
    for path in (damaged, text):
        assert f"{path}: " in error
    assert f"2 of {len(names) + 1} photos could not be used" in error
    assert [line.split()[0] for line in out.splitlines()[:-1]] == [names[0], *names[2:]]
    assert (tmp_path / "out.txt").is_file()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--focal-px", "-5"], "positive focal"),
        (["--focal-px", "nan"], "--focal-px: expected a finite number, got nan"),
        (
            ["--focal-px", "9", "--camera", "SIMPLE_PINHOLE,128,96,9,64,48"],
            "either camera or focal_px, got both",
        ),
        (["--camera", "SIMPLE_PINHOLE"], "--camera SIMPLE_PINHOLE: expected MODEL,WIDTH,HEIGHT,PARAMS..."),
        (
            ["--camera", "cameras.txt"],
            "cameras.txt: expected MODEL,WIDTH,HEIGHT,PARAMS..., or a file of",
        ),
        (["--camera", "SIMPLE_PINHOLE,128,96,9,64"], "expected 3 parameters, got 2"),
        (["--camera", "SIMPLE_PINHOLE,128,96,0,64,48"], "positive focal"),
        (["--camera", "SIMPLE_PINHOLE,128,96,nine,64,48"], "expected MODEL,WIDTH,HEIGHT,PARAMS..."),
        (["--camera", "SIMPLE_PINHOLE,inf,96,9,64,48"], "expected MODEL,WIDTH,HEIGHT,PARAMS..."),
        (["--camera", "LENS,128,96,9,64,48"], "expected one of SIMPLE_PINHOLE, PINHOLE"),
        (
            ["--camera", "SIMPLE_PINHOLE,96,120,9,64,48"],
            "the image is 128x96, but its intrinsics are for 96x120",
        ),
    ],
    ids=str,
)
def test_a_photo_without_a_usable_camera_says_what_is_missing(
    blank_map: Path, fails: Fails, photo: Path, options: list[str], expected: str
) -> None:
    assert expected in fails("localize", blank_map, photo, *options)


def test_photos_are_localized_with_depth_of_their_names(
    corner: Path, run: Run, fails: Fails, tmp_path: Path
) -> None:
    scene, camera = corner / "scene", "PINHOLE,320,240,262.5,262.5,160,120"
    images = sorted((scene / "images").iterdir())[1:4:2]
    options = ("localize", corner / "corner.dsac", *images, "--camera", camera, "--json")
    plain, measured = (
        [json.loads(line) for line in run(*options, *more)[1].splitlines()]
        for more in ((), ("--depth", scene / "depth"))
    )
    assert [answer["success"] for answer in measured] == [True, True]
    assert all(a["center"] != b["center"] for a, b in zip(plain, measured, strict=True))
    code, out, err = run(*options, "--depth", scene / "depth", "--depth-scale", 1)
    assert code == 0 and "times the depth_scale (--depth-scale)" in " ".join(err.split())
    assert [json.loads(line)["center"] for line in out.splitlines()] == [answer["center"] for answer in plain]
    assert "--depth-scale: expected with --depth" in fails(*options, "--depth-scale", 0.001)
    assert "depth for each of 2 photos, got one" in fails(
        *options, "--depth", next((scene / "depth").iterdir())
    )
    assert "expected a depth image or a folder of them" in fails(*options, "--depth", tmp_path / "no depth")
