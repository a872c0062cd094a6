"""Which frames of a video are worth having: sharp ones that each show something new.

A frame is kept when the picture has moved on by a twentieth of its longer side since the last one kept: the
median way of corners that are tracked from that frame on, so that a camera that trembles on the spot goes
nowhere. Around there the sharpest is taken. All is decided in one pass that holds one frame.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

_STEP = 0.05  # of the longer side that the picture moves from one kept frame to the next
_SHORT_SIDE_PX = 480  # at which sharpness counts: what mapping looks at
_TRACKED_PX = 240  # longer side at which corners are tracked
_SHARP_ENOUGH = (
    0.3  # of the last kept frames' sharpness; a blur of three pixels leaves that, one of five a tenth
)
_PATIENCE_S = 5.0  # in which that bar halves while nothing reaches it


class VideoFrame(NamedTuple):
    number: int  # in the video, from 0
    image: UInt8[np.ndarray, "H W 3"]  # RGB, upright


@dataclass
class FrameChoice:
    """Frames come in, and those that are kept come out as soon as no sharper one can take their place.

    The place of a kept frame is a window, from half a step to one and a half steps of motion from the last one.
    """

    frames_per_second: float
    _tracks: _Tracks | None = None  # from the frame kept last
    _head_start: float = 0.0  # in steps, where the tracks do not begin at that frame
    _best: VideoFrame | None = None  # in the window that is open
    _best_sharpness: float = 0.0
    _best_tracks: _Tracks | None = None  # from it
    _waited: int = 0  # frames for which the window has been open
    _kept: deque[float] = field(default_factory=lambda: deque(maxlen=9))  # sharpness of the last

    def next(self, frame: VideoFrame) -> VideoFrame | None:
        grey = _grey(frame.image)
        small = _resized(grey, _TRACKED_PX / max(grey.shape))
        for tracks in filter(None, (self._tracks, self._best_tracks)):
            tracks.follow(small)
        done = self.last() if self._steps > 1.5 else None
        if self._steps == np.inf:  # at the beginning, after a cut, after a blur: a window is open from here on
            self._tracks, self._head_start = _Tracks.of(small), 0.5
        if self._steps >= 0.5:
            self._waited += 1
            sharpness = _sharpness(grey)
            if sharpness > max(self._best_sharpness, self._bar) and (tracks := _Tracks.of(small)):
                self._best, self._best_sharpness, self._best_tracks = frame, sharpness, tracks
        return done

    def last(self) -> VideoFrame | None:
        """The best frame of the window that is open, which is closed."""
        if (kept := self._best) is not None:
            self._kept.append(self._best_sharpness)
            self._tracks, self._head_start, self._waited = self._best_tracks, 0.0, 0
            self._best, self._best_sharpness, self._best_tracks = None, 0.0, None
        return kept

    @property
    def _steps(self) -> float:
        """From the frame kept last; infinite where that is out of sight."""
        return np.inf if self._tracks is None else self._head_start + self._tracks.way / _STEP

    @property
    def _bar(self) -> float:
        """What a frame must be as sharp as."""
        halved = self._waited / (_PATIENCE_S * self.frames_per_second)
        return _SHARP_ENOUGH * median(self._kept) * 0.5**halved if self._kept else 0.0


@dataclass
class _Tracks:
    """Corners of one frame, followed from frame to frame."""

    start: Float32[np.ndarray, "N 2"]
    now: Float32[np.ndarray, "N 2"]
    image: UInt8[np.ndarray, "h w"]  # the last one
    count: int  # in the beginning

    @staticmethod
    def of(image: UInt8[np.ndarray, "h w"]) -> _Tracks | None:
        """None where there are hardly any: a picture of nothing."""
        import cv2  # here, because importing the package should not load it

        corners = cv2.goodFeaturesToTrack(image, 120, 0.01, 6)
        if corners is None or len(corners) < 12:
            return None
        return _Tracks(corners[:, 0], corners[:, 0], image, len(corners))

    def follow(self, image: UInt8[np.ndarray, "h w"]) -> None:
        """To the next frame."""
        import cv2

        if len(self.now):
            before = self.now[:, None]
            now, found, _ = cv2.calcOpticalFlowPyrLK(
                self.image, image, before, before.copy(), winSize=(15, 15), maxLevel=3
            )
            inside = ((now[:, 0] >= 0) & (now[:, 0] < image.shape[::-1])).all(axis=1)
            alive = found[:, 0].astype(bool) & inside
            self.start, self.now, self.image = self.start[alive], now[alive, 0], image

    @property
    def way(self) -> float:
        """The median from the first frame to the last, in longer sides; infinite when most are lost."""
        if 3 * len(self.now) < self.count:
            return np.inf
        return float(np.median(np.linalg.norm(self.now - self.start, axis=1))) / max(self.image.shape)


def _grey(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w"]:
    """Of a short side of 480 to 959 pixels, if it was larger: to halve is quick, to take other parts is not."""
    import cv2

    while min(image.shape[:2]) >= 2 * _SHORT_SIDE_PX:
        image = _resized(image, 0.5)
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    import cv2

    if scale >= 1:
        return image
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _sharpness(grey: UInt8[np.ndarray, "h w"]) -> float:
    """Along the direction in which it is less: a camera that moves blurs along its way."""
    import cv2

    along = ((2, 0), (0, 2))
    return min(cv2.meanStdDev(cv2.Sobel(grey, cv2.CV_32F, *orders))[1].item() ** 2 for orders in along)
