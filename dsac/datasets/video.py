"""Videos: their frames in order, all or those worth having.

Compressed videos are made to be read in order, and seeking in them lands beside the frame that was asked for:
here every frame is passed, and none but the last is held.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dsac.datasets.frame_choice import FrameChoice, VideoFrame
from dsac.datasets.image_header import DecodedPhoto, Header
from dsac.datasets.storage import write_atomically
from dsac.errors import DatasetError

logger = logging.getLogger(__name__)

VIDEO_ENDINGS = (
    ".mp4",
    ".mov",
    ".m4v",
    ".avi",
    ".mkv",
    ".webm",
    ".3gp",
    ".mts",
    ".m2ts",
    ".mpg",
    ".mpeg",
    ".wmv",
)
_FAILURES = 100  # frames in a row that cannot be decoded: the end
_NOTHING = "no frame of this video shows anything"
Progress = Callable[[float], None]  # of a number in [0, 1]


def is_video(path: str | Path) -> bool:
    """By the ending of its name."""
    return str(path).lower().endswith(VIDEO_ENDINGS)


def video_frames(
    path: str | Path, count: int | None = None, *, on_progress: Progress = lambda fraction: None
) -> Iterator[VideoFrame]:
    """The sharp frames of a video that each show something new, in order; of the whole video `count` at most.

    With `count` the video is read twice. One that is damaged or cut off gives what can be read, and a warning
    says how much that is.
    Raises: `DatasetError` when it is no video, or one of which nothing can be read; `ValueError` for a count
    below 1.
    """
    if count is None:
        yield from _chosen(path, on_progress)
        return
    numbers = choose_frames(path, count, on_progress=lambda fraction: on_progress(0.5 * fraction))
    yield from read_frames(path, numbers, on_progress=lambda fraction: on_progress(0.5 + 0.5 * fraction))


def choose_frames(
    path: str | Path, count: int | None = None, *, on_progress: Progress = lambda fraction: None
) -> list[int]:
    """The numbers of the frames that `video_frames` gives. Raises: like it."""
    if count is not None and count < 1:
        raise ValueError(f"count: expected 1 or more frames, got {count}")
    numbers = [frame.number for frame in _chosen(path, on_progress)]
    if count is None or len(numbers) <= count:
        return numbers
    return [numbers[(2 * i + 1) * len(numbers) // (2 * count)] for i in range(count)]


def read_frames(
    path: str | Path, wanted: Collection[int] | None = None, *, on_progress: Progress = lambda fraction: None
) -> Iterator[VideoFrame]:
    """The frames of those numbers, or all; in order. Raises: `DatasetError` like `video_frames`."""
    chosen, end = (None, None) if wanted is None else (frozenset(wanted), max(wanted, default=-1))
    with _Video(path) as video:
        for number in video.numbers():
            on_progress(video.progress)
            if end is not None and number > end:
                break
            if chosen is None or number in chosen:
                yield VideoFrame(number, video.decoded())
    on_progress(1.0)


def write_frames(
    path: str | Path,
    folder: str | Path,
    count: int | None = None,
    *,
    on_progress: Progress = lambda fraction: None,
) -> list[str]:
    """Write `video_frames` as JPEG images into a folder, which is made; their names, `000123.jpg`.

    Raises: like `video_frames`, and `DatasetError` when the folder has anything in it or cannot be written, and
    when no frame shows anything.
    """
    import cv2  # here, because importing the package should not load it

    folder, names = Path(folder), []
    frames = video_frames(path, count, on_progress=on_progress)
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise DatasetError(
                f"{folder}: expected an empty or a new folder for the frames, it has files in it"
            )
        for number, image in frames:
            folder.mkdir(parents=True, exist_ok=True)
            names.append(f"{number:06}.jpg")
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
            write_atomically(folder / names[-1], data.tobytes())
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be written: {error.strerror or error}") from error
    if not names:
        raise DatasetError(f"{path}: {_NOTHING}")
    return names


def read_video_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of the upright frames. Raises: `DatasetError` like `video_frames`."""
    with _Video(path) as video:
        for _ in video.numbers():
            return video.decoded().shape[1::-1]
    raise AssertionError("a video has a frame, or says why not")


def read_video_rate(path: str | Path) -> float:
    """Frames a second, 30 where the video does not say. Raises: `DatasetError` when it is no video."""
    with _Video(path) as video:
        return video.frames_per_second


# ---- as photos -------------------------------------------------------------------------------------


def video_photos(
    path: str | Path, every: int | None = None, *, on_progress: Progress = lambda fraction: None
) -> dict[str, DecodedPhoto]:
    """The frames of `video_frames`, or one of `every` so many, as photos by name: `video.mp4#000123`.

    Their pixels are read when they are asked for, in order without reading anything twice.
    Raises: `DatasetError` like `video_frames`, `ValueError` for `every` below 1.
    """
    if every is not None and every < 1:
        raise ValueError(f"every: expected 1 or more, got {every}")
    if every is None:
        numbers = choose_frames(path, on_progress=on_progress)
    else:
        with _Video(path) as video:
            numbers = []
            for number in video.numbers():
                on_progress(video.progress)
                numbers += [number] if number % every == 0 else []
    if not numbers:
        raise DatasetError(f"{path}: {_NOTHING}")
    header, pages = Header(read_video_size(path)), _Pages(path, numbers)
    return {(name := f"{path}#{number:06}"): _VideoPhoto(name, header, pages, number) for number in numbers}


@dataclass(frozen=True, eq=False)
class _VideoPhoto:
    name: str
    header: Header
    pages: _Pages
    number: int

    def __str__(self) -> str:
        return self.name

    def pixels(self) -> UInt8[np.ndarray, "H W 3"]:
        return self.pages.turn_to(self.number)


@dataclass(eq=False)
class _Pages:
    """Some frames of a video, read forward as they are asked for, and from the beginning where that is back."""

    path: str | Path
    numbers: list[int]
    _ahead: Iterator[VideoFrame] = field(default_factory=lambda: iter(()))
    _open: VideoFrame | None = None

    def turn_to(self, number: int) -> UInt8[np.ndarray, "H W 3"]:
        if self._open is None or self._open.number > number:
            self._ahead, self._open = read_frames(self.path, self.numbers), None
        while self._open is None or self._open.number < number:
            self._open = next(self._ahead, None)
            if self._open is None:
                raise DatasetError(f"{self.path}: frame {number} cannot be read any more")
        return self._open.image


# ---- reading ---------------------------------------------------------------------------------------


def _chosen(path: str | Path, on_progress: Progress) -> Iterator[VideoFrame]:
    with _Video(path) as video:
        choice = FrameChoice(video.frames_per_second)
        for number in video.numbers():
            on_progress(video.progress)
            if (kept := choice.next(VideoFrame(number, video.decoded()))) is not None:
                yield kept
    if (kept := choice.last()) is not None:
        yield kept
    on_progress(1.0)


class _Video:
    """An open video, to be read once from its beginning."""

    def __init__(self, path: str | Path) -> None:
        import cv2

        self.path = path
        if not os.path.isfile(path):
            found = "a folder" if os.path.isdir(path) else "nothing there"
            raise DatasetError(f"{path}: expected a video, found {found}")
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # what it says is said below
        try:
            # as a whole path, since FFmpeg takes what stands before a colon for a protocol
            self._capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not self._capture.isOpened():
            raise DatasetError(f"{path}: expected a video, got {_what_else(path)}")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.frames_per_second = rate if 1 <= rate <= 1000 else 30.0
        seconds = self._capture.get(cv2.CAP_PROP_FRAME_COUNT) / self.frames_per_second
        self._seconds = max(0.0, seconds)  # 0 = unknown
        self._reached = 0.0

    @property
    def progress(self) -> float:
        """In [0, 1]."""
        return min(1.0, self._reached / self._seconds) if self._seconds else 0.0

    def __enter__(self) -> _Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def numbers(self) -> Iterator[int]:
        """Of the frames that can be decoded, one after the other; `decoded` is the picture of the last."""
        import cv2

        number, read, lost, failures = -1, 0, 0, 0
        while failures < _FAILURES:
            number += 1
            if not self._capture.grab():
                failures += 1
                continue
            lost, failures, read = lost + failures, 0, read + 1
            self._reached = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 + 1 / self.frames_per_second
            yield number
        if read == 0:
            raise DatasetError(f"{self.path}: no frame of this video can be decoded")
        # not by the number of frames: that is a guess where these come at varying intervals
        if lost or self._reached < 0.98 * self._seconds - 0.5:
            logger.warning(
                "%s: the video is damaged or cut off, %d frames can be read, up to %.1f of %.1f seconds",
                self.path, read, self._reached, max(self._seconds, self._reached),
            )  # fmt: skip

    def decoded(self) -> UInt8[np.ndarray, "H W 3"]:
        """RGB, upright."""
        import cv2

        whole, image = self._capture.retrieve()
        if not whole:
            raise DatasetError(f"{self.path}: a frame of this video cannot be decoded")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _what_else(path: str | Path) -> str:
    with open(path, "rb") as file:
        head = file.read(12)
    if not head:
        return "an empty file"
    if head[4:8] == b"ftyp":  # MP4 and QuickTime keep the list of their frames, often at the end
        return "one whose list of frames is missing or damaged; was it cut off? Copy or export it again"
    return "a file that is no video, or damaged"
