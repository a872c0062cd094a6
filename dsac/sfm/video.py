"""The frames of a video, written once as photos into the folder that keeps what is found of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from dsac.datasets.storage import write_atomically
from dsac.datasets.video import write_frames

_MOST_FRAMES = 200  # of a whole video


def frames_of_video(path: Path, folder: Path, report: Callable[[float], None]) -> Path:
    """The folder of the frames, `folder/images`; it is complete once `folder/video.json` says of which video.

    Raises: `DatasetError` like `write_frames`.
    """
    images, note = folder / "images", folder / "video.json"
    kept = note.read_text() if note.is_file() else ""
    if kept and path.is_file() and kept == _description(path):
        return images
    note.unlink(missing_ok=True)
    shutil.rmtree(images, ignore_errors=True)
    try:
        write_frames(path, images, _MOST_FRAMES, on_progress=report)
    except BaseException:
        shutil.rmtree(images, ignore_errors=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise
    write_atomically(note, _description(path).encode())
    return images


def _description(path: Path) -> str:
    stat = path.stat()
    return json.dumps({"name": path.name, "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns})
