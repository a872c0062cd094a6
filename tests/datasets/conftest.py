"""Small scenes on disk."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Writes a picture of noise; its folders are made."""

    def write(path: Path, size: tuple[int, int] = (8, 6), dtype: type = np.uint8, channels: int = 3) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
        noise = np.random.default_rng(0).integers(1, np.iinfo(dtype).max, shape, dtype=dtype)
        assert cv2.imwrite(str(path), noise)
        return path

    return write


@pytest.fixture
def write_phone_photo() -> Callable[..., Path]:
    """Writes a JPEG of 40×24 stored pixels that its EXIF data tell viewers to turn."""

    def write(path: Path, orientation: int = 6, equivalent_mm: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
        data = cv2.imencode(".jpg", noise)[1].tobytes()
        head = b"II" + struct.pack("<HIH", 42, 8, 2)
        orientation_entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
        exif_directory = struct.pack("<HHII", 0x8769, 4, 1, 38) + struct.pack("<H", 1)
        focal_entry = struct.pack("<HHIHH", 0xA405, 3, 1, equivalent_mm, 0)
        exif = b"Exif\0\0" + head + orientation_entry + exif_directory[:12] + bytes(4) + exif_directory[12:]
        exif += focal_entry + bytes(4)
        path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
        return path

    return write


@pytest.fixture
def image_folder(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    """A plain folder scene of four images with a focal length each, `poses.txt` and nothing else."""
    for i in range(4):
        write_image(tmp_path / f"{i}.png")
    lines = [f"{i}.png 1 0 0 0 {i} 0 0 10\n" for i in range(4)]
    (tmp_path / "poses.txt").write_text("".join(lines))
    return tmp_path
