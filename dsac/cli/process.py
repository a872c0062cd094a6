"""How this process uses memory and threads; set before the heavy imports."""

from __future__ import annotations

import os
import sys


def keep_freed_memory() -> None:
    """Let glibc keep large freed buffers: page faults would take a tenth to a third of an image's encoding.

    Without glibc nothing happens.
    """
    import ctypes

    trim_threshold, mmap_threshold, largest = -1, -3, 1 << 30  # of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(mmap_threshold, largest)
        mallopt(trim_threshold, largest)


def let_waiting_threads_sleep() -> None:
    """For verbs that train; without effect once torch is imported, or where the user has decided.

    Waiting threads sleep instead of spinning: on a busy machine a training step is 6 times faster that way.
    A query's layers are too short for that: two threads would be slower than one.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def let_decoders_be_silent() -> None:
    """Without effect where the user has decided. What is wrong with a video is said in one line of our own."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
