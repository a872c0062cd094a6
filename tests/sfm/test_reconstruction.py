"""Photos without poses find their places: as they were, or said why not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ball_world import POSE
from photo_walk import Walk, turned_jpeg
from textured_ball import LENS, textured
from videos import write_video

from dsac.datasets import Scene, load_scene
from dsac.errors import DatasetError
from dsac.geometry import Pose
from dsac.sfm import colmap, reconstruct_scene
from dsac.sfm import reconstruction as module

COUNT = 10
Said = Callable[[], str]


def test_photos_find_their_places_and_their_focal_length(walk: Walk, placed: tuple[Scene, Path]) -> None:
    scene, _ = placed
    assert scene.mapping.names == [f"{i:02}.png" for i in range(COUNT)]
    off, degrees = walk.errors(scene.mapping)
    assert off < 0.01 and degrees < 0.5
    (camera,) = scene.mapping.cameras
    assert camera.size == LENS.size
    assert camera.focal_px[0].item() == pytest.approx(400, rel=0.01)
    assert not scene.metric and len(scene.query) == 0
    assert scene.mapping[3].image.shape == (3, 324, 432)


def test_what_was_found_is_kept_until_a_photo_changes(
    walk: Walk, placed: tuple[Scene, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, kept = placed
    photos, folder = tmp_path / "photos", tmp_path / "kept"
    shutil.copytree(walk.photos, photos)
    shutil.copytree(kept, folder)
    monkeypatch.setattr(colmap, "find_spec", lambda name: None)  # nothing can be found anew
    again = reconstruct_scene(photos, folder)
    assert again.mapping.names == scene.mapping.names
    assert again.mapping.cam_from_world is not None and scene.mapping.cam_from_world is not None
    torch.testing.assert_close(again.mapping.cam_from_world.matrix, scene.mapping.cam_from_world.matrix)

    (photos / "05.png").write_bytes((photos / "04.png").read_bytes())
    with pytest.raises(DatasetError, match=r"pip install 'dsac\[colmap\]'"):
        reconstruct_scene(photos, folder)
    shutil.copy(walk.photos / "05.png", photos)
    (folder / "photos.json").write_text('{"version": ')
    with pytest.raises(DatasetError, match=r"pip install 'dsac\[colmap\]'"):
        reconstruct_scene(photos, folder)


def test_photos_that_are_damaged_or_show_something_else_are_named(
    walk: Walk, tmp_path: Path, said: Said
) -> None:
    pytest.importorskip("pycolmap")
    photos = tmp_path / "photos"
    shutil.copytree(walk.photos, photos)
    (photos / "99.png").write_bytes((photos / "03.png").read_bytes()[:5000])
    noise = np.random.default_rng(0).integers(0, 256, (324, 432, 3), np.uint8)
    cv2.imwrite(str(photos / "snow in mühl.png"), noise)
    scene = reconstruct_scene(photos, tmp_path / "kept", threads=1)
    assert scene.mapping.names == [f"{i:02}.png" for i in range(COUNT)]
    assert walk.errors(scene.mapping)[0] < 0.01
    assert f"1 of {COUNT + 2} photos are damaged, left out: 99.png" in said()
    assert f"1 of {COUNT + 1} photos found no place among the others, left out: snow in mühl.png" in said()
    assert "may be wrong" not in said()


def test_of_two_places_the_larger_is_taken_and_both_are_counted(walk: Walk, tmp_path: Path, said: Said) -> None:
    pytest.importorskip("pycolmap")
    shutil.copytree(walk.photos, tmp_path / "photos" / "this way")
    shutil.copytree(walk.others, tmp_path / "photos" / "that way")
    scene = reconstruct_scene(tmp_path / "photos", tmp_path / "kept", threads=1)
    assert scene.mapping.names == [f"this way/{i:02}.png" for i in range(COUNT)]
    assert walk.errors(scene.mapping)[0] < 0.01
    assert "fall into 2 pieces, the largest is taken; photos in each: 10, 4" in said()
    assert "4 of 14 photos found no place among the others, left out: that way/00.png" in said()
    assert "where so many do not, the poses of others may be wrong, too" in said()


def test_photos_stored_turned_are_placed_as_viewers_show_them(walk: Walk, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    (tmp_path / "photos").mkdir()
    for i, orientation in enumerate([1, 6, 3, 8, 6, 1, 3, 8]):
        image = cv2.imread(str(walk.photos / f"{i:02}.png"))
        (tmp_path / "photos" / f"{i:02}.jpg").write_bytes(turned_jpeg(image, orientation))
    scene = reconstruct_scene(tmp_path / "photos", tmp_path / "kept", threads=1)
    assert len(scene.mapping) == 8 and [camera.size for camera in scene.mapping.cameras] == [LENS.size]
    off, degrees = walk.errors(scene.mapping)
    assert off < 0.01 and degrees < 0.5
    assert all(frame.image.shape == (3, 324, 432) for frame in scene.mapping)
    assert not scene.stores_turned


def test_the_same_seed_gives_the_same_poses(walk: Walk, placed: tuple[Scene, Path], tmp_path: Path) -> None:
    scene, kept = placed
    reconstruct_scene(walk.photos, tmp_path / "again", threads=1)
    for file in ("cameras.bin", "images.bin"):
        assert (tmp_path / "again/sparse/0" / file).read_bytes() == (kept / "sparse/0" / file).read_bytes()


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_photos_are_refused(walk: Walk, tmp_path: Path, count: int) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(count):
        shutil.copy(walk.photos / f"{i:02}.png", tmp_path / "photos")
    with pytest.raises(
        DatasetError, match="expected (3 photos or more, got 2; what helps|a folder with images)"
    ):
        reconstruct_scene(tmp_path / "photos", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_photos_that_share_nothing_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    (tmp_path / "photos").mkdir()
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 256, (120, 160, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), cv2.GaussianBlur(noise, (0, 0), 1.5))
    with pytest.raises(
        DatasetError, match="none of 4 photos found its place; what helps is more photos that overlap"
    ):
        reconstruct_scene(tmp_path / "photos", tmp_path / "kept", threads=1)
    assert not (tmp_path / "kept").exists()


def test_ctrl_c_leaves_nothing_half_made(walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycolmap")

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    for step in ("two_views", "models"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, step, interrupted)
            reconstruct_scene(walk.photos, tmp_path / "kept", threads=1)
        assert not (tmp_path / "kept").exists()


def test_a_folder_that_cannot_be_written_is_an_os_error(placed: tuple[Scene, Path], tmp_path: Path) -> None:
    class Model:
        def write_binary(self, folder: str) -> None:
            raise AssertionError("nothing to write to")

    (tmp_path / "kept").write_text("a file")
    with pytest.raises(OSError, match="kept"):
        module._keep(Model(), tmp_path / "kept", {})


def test_frames_of_a_video_are_written_and_placed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycolmap")
    step = torch.tensor([0.001, -0.002, 0.001, -0.02, 0.005, 0.004], dtype=torch.float64)
    images = []
    for i in range(61):
        frame = textured(LENS, Pose.exp(i * step) @ POSE)
        bgr = frame.image.permute(1, 2, 0).numpy()[..., ::-1]
        images.append(np.ascontiguousarray((255 * bgr).round().astype(np.uint8)))
    video, folder = write_video(tmp_path / "ein Gang.mp4", images), tmp_path / "kept"
    scene = reconstruct_scene(video, folder, threads=1)
    names = sorted(path.name for path in (folder / "images").iterdir())
    assert len(names) >= 4 and set(scene.mapping.names) <= set(names) and len(scene.mapping) >= 4
    assert sorted(load_scene(folder).mapping.names) == scene.mapping.names  # a recording by itself

    monkeypatch.setattr(colmap, "find_spec", lambda name: None)
    assert reconstruct_scene(video, folder).mapping.names == scene.mapping.names


def test_a_video_that_is_none_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    for name in ("a.mp4", "b.mp4"):
        with pytest.raises(DatasetError, match="expected a video"):
            reconstruct_scene(tmp_path / name, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
