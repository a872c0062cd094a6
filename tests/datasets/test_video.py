"""Videos: which frames are chosen, that they are the right ones, and what is said of damaged files."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from videos import SIZE, seen, turned_by_its_head, wall, write_video

from dsac.datasets.video import (
    choose_frames,
    is_video,
    read_frames,
    read_video_size,
    video_frames,
    write_frames,
)
from dsac.errors import DatasetError

WALL = wall()
STEP_PX = 0.05 * SIZE[0]
WALK = [4.0 * i for i in range(120)]  # where the picture's left edge is


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("Küche 1") / "ein Gang.mp4", (seen(WALL, x) for x in WALK))


def _place(image: np.ndarray) -> float:
    """Where on the wall an RGB picture was taken."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    found = cv2.matchTemplate(WALL, bgr, cv2.TM_SQDIFF)
    return float(cv2.minMaxLoc(found)[2][0])


def test_chosen_frames_lie_a_step_apart_from_beginning_to_end(walk: Path) -> None:
    chosen = choose_frames(walk)
    places = [WALK[number] for number in chosen]
    gaps = np.diff(places)
    assert places[0] <= STEP_PX and places[-1] >= WALK[-1] - 1.5 * STEP_PX
    assert gaps.max() <= 1.75 * STEP_PX  # the window ends at 1.5, a frame more is needed to see that
    assert 0.8 * STEP_PX < gaps.mean() < 1.2 * STEP_PX


@pytest.mark.parametrize(("ending", "codec"), [(".mp4", "mp4v"), (".avi", "MJPG"), (".mkv", "mp4v")])
def test_a_frame_is_the_one_of_its_number(tmp_path: Path, ending: str, codec: str) -> None:
    """Key frames are some tens of frames apart in such a video; each has to be what was written there."""
    path = write_video(tmp_path / f"a{ending}", (seen(WALL, x) for x in WALK), codec)
    frames = list(video_frames(path))
    assert [frame.number for frame in frames] == choose_frames(path)
    for number, image in frames:
        assert image.shape == (SIZE[1], SIZE[0], 3) and _place(image) == WALK[number]
    some = [7, 8, 61, 119]
    assert [(frame.number, _place(frame.image)) for frame in read_frames(path, some)] == [
        (number, WALK[number]) for number in some
    ]
    assert [frame.number for frame in read_frames(path)] == list(range(len(WALK)))


def test_a_camera_that_trembles_on_the_spot_gives_one_frame(tmp_path: Path) -> None:
    trembling = np.random.default_rng(0).uniform(0, 3, 90)
    chosen = choose_frames(write_video(tmp_path / "a.mp4", (seen(WALL, 100 + x) for x in trembling)))
    assert len(chosen) == 1
    there = [4.0 * i for i in range(40)] + [160.0] * 60 + [160 + 4.0 * i for i in range(40)]
    chosen = choose_frames(write_video(tmp_path / "b.mp4", (seen(WALL, x) for x in there)))
    assert sum(40 <= number < 100 for number in chosen) <= 1
    assert len(chosen) >= 15


def test_blurred_frames_are_passed_over(tmp_path: Path) -> None:
    """Of every four frames three are blurred; and a second of blur, in which most of a step is made."""
    blurs = [0 if i % 4 == 1 else 9 for i in range(60)] + [9] * 12 + [0] * 60
    places = [3.0 * i for i in range(len(blurs))]
    images = (seen(WALL, x, b) for x, b in zip(places, blurs, strict=True))
    path = write_video(tmp_path / "a.avi", images, "MJPG")
    chosen = choose_frames(path)
    assert [blurs[number] for number in chosen] == [0] * len(chosen)
    # and no more is lost than what was blurred
    gaps = np.diff([places[number] for number in chosen])
    assert len(chosen) >= 18 and gaps.max() < 3 * 12 + 1.75 * STEP_PX


def test_after_seconds_of_nothing_sharp_blurred_frames_are_better_than_none(tmp_path: Path) -> None:
    images = [seen(WALL, 3.0 * i, 0 if i < 30 else 9) for i in range(150)]
    slowly, quickly = (
        choose_frames(write_video(tmp_path / f"{rate}.avi", images, "MJPG", rate)) for rate in (5.0, 60.0)
    )
    assert max(quickly) < 30 < max(slowly)


def test_a_cut_and_a_picture_of_nothing_are_no_trouble(tmp_path: Path) -> None:
    black = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    images = (
        [black] * 10 + [seen(WALL, x) for x in (100, 101, 102)] + [seen(WALL, x) for x in (2000, 2001, 2002)]
    )
    chosen = choose_frames(write_video(tmp_path / "a.avi", images + [black] * 5, "MJPG"))
    assert len(chosen) == 2
    assert chosen[0] in (10, 11, 12) and chosen[1] in (13, 14, 15)
    assert choose_frames(write_video(tmp_path / "b.avi", [black] * 10, "MJPG")) == []


def test_no_more_frames_than_asked_for_and_these_of_the_whole_video(walk: Path) -> None:
    every = choose_frames(walk)
    assert choose_frames(walk, 1000) == every
    few = choose_frames(walk, 5)
    assert len(few) == 5 and set(few) <= set(every)
    gaps = np.diff([0, *few, len(WALK) - 1])
    assert gaps.max() < 30
    assert [frame.number for frame in video_frames(walk, 5)] == few
    assert len(choose_frames(walk, 1)) == 1
    with pytest.raises(ValueError, match="count: expected 1 or more frames, got 0"):
        choose_frames(walk, 0)


def test_progress_goes_from_nothing_to_all(walk: Path) -> None:
    for count in (None, 4):
        told: list[float] = []
        assert list(video_frames(walk, count, on_progress=told.append))
        assert 0 <= told[0] < 0.1 and told[-1] == 1
        assert all(a <= b for a, b in itertools.pairwise(told))


def test_a_phones_video_is_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", (seen(WALL, x) for x in WALK[:5]))
    turned = turned_by_its_head(path)
    assert read_video_size(path) == SIZE and read_video_size(turned) == SIZE[::-1]
    (first,), (upright,) = (list(read_frames(p, [3])) for p in (path, turned))
    assert np.array_equal(np.rot90(first.image, -1), upright.image)


# ---- what is wrong with it -------------------------------------------------------------------------


def test_a_video_that_is_cut_off_gives_what_can_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_video(tmp_path / "a.avi", (seen(WALL, x) for x in WALK), "MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        frames = list(video_frames(path))
    assert len(frames) > 10 and all(_place(image) == WALK[number] for number, image in frames)
    (record,) = caplog.records
    assert f"{path}: the video is damaged or cut off, " in record.getMessage()
    assert record.getMessage().endswith(" of 4.0 seconds")


def test_what_stands_behind_damage_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video(tmp_path / "a.avi", (seen(WALL, x) for x in WALK), "MJPG")
    data = bytearray(path.read_bytes())
    one = data.index(b"00dc", len(data) // 2) + 8  # behind the mark and the length of a frame
    data[one : one + 1000] = bytes(1000)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        numbers = choose_frames(path)
    assert numbers[0] < 5 and numbers[-1] > 100
    assert "damaged or cut off" in caplog.text


def test_what_is_no_video_says_so(tmp_path: Path, walk: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video at all " * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "half.mp4").write_bytes(walk.read_bytes()[: walk.stat().st_size // 2])
    (tmp_path / "folder.mp4").mkdir()
    for name, said in [
        ("text", "expected a video, got a file that is no video, or damaged"),
        ("empty", "expected a video, got an empty file"),
        ("half", "list of frames is missing or damaged; was it cut off"),
        ("none", "expected a video, found nothing there"),
        ("folder", "expected a video, found a folder"),
    ]:
        with pytest.raises(DatasetError, match=f"{name}.mp4: .*{said}"):
            choose_frames(tmp_path / f"{name}.mp4")


def test_videos_are_told_by_their_endings() -> None:
    assert all(is_video(name) for name in ("a.mp4", "b.MOV", Path("c/d e.mkv")))
    assert not any(is_video(name) for name in ("a.jpg", "mp4", "a.mp4.txt"))


# ---- as images -------------------------------------------------------------------------------------


def test_frames_are_written_as_images_named_by_their_number(walk: Path, tmp_path: Path) -> None:
    names = write_frames(walk, tmp_path / "some" / "frames", 6)
    numbers = choose_frames(walk, 6)
    assert names == [f"{number:06}.jpg" for number in numbers]
    assert sorted(path.name for path in (tmp_path / "some" / "frames").iterdir()) == names
    for number, name in zip(numbers, names, strict=True):
        image = cv2.imread(str(tmp_path / "some" / "frames" / name))
        assert _place(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)) == WALK[number]


def test_a_folder_with_files_in_it_stays_as_it_is(walk: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match="expected an empty or a new folder for the frames"):
        write_frames(walk, tmp_path)
    with pytest.raises(DatasetError, match="notes.txt: cannot be written"):
        write_frames(walk, tmp_path / "notes.txt")
    with pytest.raises(DatasetError, match="none.mp4: expected a video"):
        write_frames(tmp_path / "none.mp4", tmp_path / "frames")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
