"""What the tests of the command line share: the types of their fixtures, and folders of photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

Run = Callable[..., tuple[int, str, str]]
Fails = Callable[..., str]


def content(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def write_poses(folder: Path, poses: list[str], focal: str = " 100") -> None:
    (folder / "poses.txt").write_text("".join(f"{i}.jpg {pose}{focal}\n" for i, pose in enumerate(poses)))


def write_noise(folder: Path, count: int) -> Path:
    """A plain folder of noisy photos with depth, a tenth of a metre apart."""
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    rng = np.random.default_rng(0)
    depth = cv2.imencode(".png", np.full((64, 96), 2000, np.uint16))[1].tobytes()
    for i in range(count):
        noise = rng.integers(0, 256, (64, 96, 3), np.uint8)
        (folder / "images" / f"{i}.jpg").write_bytes(cv2.imencode(".jpg", noise)[1].tobytes())
        (folder / "depth" / f"{i}.png").write_bytes(depth)
    write_poses(folder, [f"1 0 0 0 {0.1 * i} 0 0" for i in range(count)])
    return folder
