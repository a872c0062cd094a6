"""`dsac localize` and `dsac frames` on videos, and the cameras of several photos from a file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import Fails, Run
from videos import seen, wall, write_video

from dsac.datasets import load_scene, read_poses


@pytest.fixture(scope="module")
def walk(corner: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The walk through the corner as a video; its frames are the images in the order of their names."""
    images = sorted((corner / "scene" / "images").iterdir())
    frames = [cv2.imread(str(image)) for image in images]
    return write_video(tmp_path_factory.mktemp("videos") / "ein Gang.avi", frames, "MJPG")  # type: ignore


@pytest.fixture(scope="module")
def wall_walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("wall") / "wall.mp4", (seen(wall(), 4 * i) for i in range(60)))


def test_the_frames_of_a_video_are_localized(corner: Path, walk: Path, run: Run, tmp_path: Path) -> None:
    images = sorted((corner / "scene" / "images").iterdir())
    code, out, err = run(
        "localize", corner / "corner.dsac", walk, "--every", 2, "--output", tmp_path / "poses.txt"
    )
    assert code == 0, err
    numbers = range(0, len(images), 2)
    lines = out.splitlines()
    assert [line.split("  ")[0] for line in lines[:-1]] == [f"{walk}#{number:06}" for number in numbers]
    assert re.fullmatch(rf"\d+ of {len(numbers)} localized", lines[-1])
    found, truth = read_poses(tmp_path / "poses.txt"), load_scene(corner / "scene").truths["poses"]
    assert len(found.names) >= 0.8 * len(numbers)
    for name, pose in zip(found.names, found.cam_from_world, strict=True):
        image = images[int(name.rpartition("#")[2])].name
        assert pose.center_distance(truth.cam_from_world[truth.index[image]]) < 0.5
    # of its own accord, those that are sharp and show something new
    code, out, _ = run("localize", corner / "corner.dsac", walk, "--json")
    names = [json.loads(line)["name"] for line in out.splitlines()]
    assert code == 0 and 1 <= len(names) < len(images) and names == sorted(set(names))


def test_bad_videos_are_named(corner: Path, walk: Path, fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video " * 100)
    (tmp_path / "half.mp4").write_bytes(b"\0\0\0\x1cftypisom" + bytes(500))
    for name, said in [
        ("text.mp4", "no video, or damaged"),
        ("half.mp4", "was it cut off?"),
        ("none.mp4", "nothing"),
    ]:
        line = fails("localize", corner / "corner.dsac", tmp_path / name)
        assert str(tmp_path / name) in line and said in line
        line = fails("frames", tmp_path / name, tmp_path / "frames")
        assert str(tmp_path / name) in line and said in line
    assert "every: expected 1 or more, got 0" in fails("localize", corner / "corner.dsac", walk, "--every", 0)


def test_frames_are_written_into_a_folder(wall_walk: Path, run: Run, fails: Fails, tmp_path: Path) -> None:
    code, out, _ = run("frames", wall_walk, tmp_path / "some frames", "--count", 4)
    assert code == 0
    assert out == f"4 frames of {wall_walk} in {tmp_path / 'some frames'}\n"
    written = sorted((tmp_path / "some frames").iterdir())
    assert len(written) == 4 and all(re.fullmatch(r"0000\d\d.jpg", path.name) for path in written)
    assert cv2.imread(str(written[0])).shape == (240, 320, 3)
    assert "expected an empty or a new folder" in fails("frames", wall_walk, tmp_path / "some frames")
    assert "count: expected 1 or more frames, got 0" in fails("frames", wall_walk, tmp_path / "b", "--count", 0)


def test_a_video_of_nothing_writes_nothing(fails: Fails, tmp_path: Path) -> None:
    black = write_video(tmp_path / "black.mp4", [np.zeros((48, 64, 3), np.uint8)] * 5)
    assert "black.mp4: no frame of this video shows anything" in fails("frames", black, tmp_path / "frames")


def test_cameras_of_several_photos_come_from_a_file(
    corner: Path, run: Run, fails: Fails, tmp_path: Path
) -> None:
    images = sorted((corner / "scene" / "images").iterdir())[1:4:2]
    cameras = tmp_path / "cameras.txt"
    right, wrong = "320 240 262.5 160 120", "320 240 400 160 120"
    centers = {}
    for text in (
        f"1 SIMPLE_PINHOLE {right}\n",
        f"{images[0].name} SIMPLE_PINHOLE {right}\n{images[1]} SIMPLE_PINHOLE {right}\n",
        f"{images[0].name} SIMPLE_PINHOLE {right}\n{images[1].name} SIMPLE_PINHOLE {wrong}\n",
    ):
        cameras.write_text(text)
        code, out, err = run("localize", corner / "corner.dsac", *images, "--camera", cameras, "--json")
        assert code == 0, err
        centers[text] = [json.loads(line)["center"] for line in out.splitlines()]
    for_all, for_each, other = centers.values()
    assert for_all == for_each
    assert other[0] == for_all[0] is not None and other[1] != for_all[1]
    cameras.write_text(f"{images[0].name} SIMPLE_PINHOLE {right}\nanother.jpg SIMPLE_PINHOLE {right}\n")
    line = fails("localize", corner / "corner.dsac", *images, "--camera", cameras)
    assert f"camera: none for {images[1]} (photos without: 1 of 2), but for {images[0].name}, another" in line
    cameras.write_text("a.jpg 525\n")
    line = fails("localize", corner / "corner.dsac", *images, "--camera", cameras)
    assert f"{cameras}, line 1: expected `NAME MODEL WIDTH HEIGHT PARAMS...`" in line


def test_an_interrupt_leaves_the_frames_that_were_written(
    wall_walk: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dsac.datasets.video

    written: list[Path] = []

    def write(path: Path, data: bytes) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        path.write_bytes(data)
        written.append(path)

    monkeypatch.setattr(dsac.datasets.video, "write_atomically", write)
    code, _, _ = run("frames", wall_walk, tmp_path / "frames")
    assert code == 130 and sorted((tmp_path / "frames").iterdir()) == written
