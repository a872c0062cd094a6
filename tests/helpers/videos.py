"""Small videos of a walk along a painted wall: what moves, stands still or is blurred is known."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

SIZE = (320, 240)


def wall() -> np.ndarray:
    """Blotches of all sizes, 4000 × 300 pixels."""
    rng = np.random.default_rng(0)
    layers = [
        cv2.resize(
            rng.integers(0, 256, (300 // cell, 4000 // cell, 3), np.uint8),
            (4000, 300),
            interpolation=cv2.INTER_CUBIC,
        )
        for cell in (2, 4, 10, 30)
    ]
    return np.mean(layers, axis=0).astype(np.uint8)


def seen(wall: np.ndarray, left: float, blur_px: int = 0) -> np.ndarray:
    """What a camera shows of it, blurred as by moving sideways."""
    image = wall[30:270, round(left) : round(left) + SIZE[0]]
    return cv2.blur(image, (blur_px, 1)) if blur_px else np.ascontiguousarray(image)


def write_video(path: Path, images: Iterable[np.ndarray], codec: str = "mp4v", rate: float = 30.0) -> Path:
    images = list(images)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, images[0].shape[1::-1])  # type: ignore
    assert writer.isOpened()
    for image in images:
        writer.write(image)
    writer.release()
    return path


def turned_by_its_head(path: Path) -> Path:
    """The same MP4, of which players are told to show it turned clockwise by a quarter, as phones do."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 16
    height = struct.unpack(">I", data[matrix + 40 : matrix + 44])[0]
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, height, 0, 1 << 30)
    turned = path.with_stem(path.stem + " turned")
    turned.write_bytes(data)
    return turned
