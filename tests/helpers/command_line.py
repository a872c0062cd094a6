"""What the tests of the command line share: the types of their fixtures, and folders of photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]
Fails = Callable[..., str]


def content(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def write_poses(folder: Path, poses: list[str], focal: str = " 100") -> None:
    (folder / "poses.txt").write_text("".join(f"{i}.jpg {pose}{focal}\n" for i, pose in enumerate(poses)))
