"""What is known of photos before their poses are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dsac.datasets import load_scene
from dsac.sfm import load_unposed


def write(path: Path, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))


def test_photos_of_one_size_share_a_camera(tmp_path: Path) -> None:
    for name in ("b.png", "tag 1/a.png", "tag 1/ü.jpg"):
        write(tmp_path / name, (40, 30))
    write(tmp_path / "tall.png", (30, 40))
    photos = load_unposed(tmp_path)
    assert photos.frames.names == ["b.png", "tag 1/a.png", "tag 1/ü.jpg", "tall.png"]
    assert [camera.size for camera in photos.frames.cameras] == [(40, 30), (30, 40)]
    assert photos.frames.camera_index.tolist() == [0, 0, 0, 1]
    assert photos.knows_focal == [False, False] and photos.frames.cam_from_world is None
    assert load_unposed(tmp_path, focal_px=35).knows_focal == [True, True]
    assert load_unposed(tmp_path, focal_px=35).frames.cameras[1].focal_px.tolist() == [35, 35]


@pytest.mark.parametrize("focal_px", [0, -1, float("nan"), float("inf")])
def test_a_focal_length_that_is_none_is_refused(tmp_path: Path, focal_px: float) -> None:
    write(tmp_path / "a.png", (40, 30))
    with pytest.raises(ValueError, match="focal_px: expected a positive focal length in pixels"):
        load_unposed(tmp_path, focal_px=focal_px)


def test_of_a_recording_only_the_mapping_images_are_looked_at(tmp_path: Path) -> None:
    for i in range(5):
        write(tmp_path / f"images/{i}.png", (40, 30))
    write(tmp_path / "depth" / "0.png", (40, 30))
    lines = [f"{i}.png 1 0 0 0 {i} 0 0 77\n" for i in range(5)]
    (tmp_path / "poses.txt").write_text("".join(lines))
    (tmp_path / "query.txt").write_text("3.png\n")
    photos = load_unposed(tmp_path)
    assert photos.frames.names == load_scene(tmp_path).mapping.names == ["0.png", "1.png", "2.png", "4.png"]
    assert photos.frames.cam_from_world is None and not photos.frames.has_depth
    assert photos.knows_focal == [False] and photos.frames.cameras[0].focal_px[0].item() == 32
