"""Depth that people give with photos: by name, in its unit, turned as they are; or a line that says why not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dsac.datasets import Frames, load_photos, read_image
from dsac.errors import DatasetError

WriteImage = Callable[..., Path]
UNITS = np.arange(1, 49, dtype=np.uint16).reshape(6, 8) * 100


def _depth(frames: Frames, index: int = 0) -> np.ndarray:
    depth = frames[index].depth
    assert depth is not None
    return depth.numpy()


def _write(path: Path, units: np.ndarray = UNITS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, units)
    else:
        path.write_bytes(cv2.imencode(path.suffix, units)[1].tobytes())
    return path


def test_a_folder_has_depth_under_the_photos_names(
    tmp_path: Path, write_image: WriteImage, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("küche 1.jpg", "flur/b.c.png", "none.jpg"):
        write_image(tmp_path / "photos" / name)
    _write(tmp_path / "depth" / "küche 1.png")
    _write(tmp_path / "depth" / "flur" / "b.c.npy", UNITS.astype(np.float32) / 1000)
    photos = load_photos(tmp_path / "photos", focal_px=10, depth=tmp_path / "depth")
    assert photos.names == ["flur/b.c.png", "küche 1.jpg", "none.jpg"] and photos.has_depth
    assert np.allclose(_depth(photos, 0), UNITS / 1000) and np.allclose(_depth(photos, 1), UNITS / 1000)
    assert not _depth(photos, 2).any()
    assert "1 of 3 photos have no depth there, they are localized without: none.jpg" in caplog.text
    one = load_photos(tmp_path / "photos" / "küche 1.jpg", focal_px=10, depth=tmp_path / "depth")
    assert np.allclose(_depth(one), UNITS / 1000)


@pytest.mark.parametrize("place", ["depth", "."])
def test_the_unit_is_what_the_caller_says_else_what_stands_beside(
    tmp_path: Path, write_image: WriteImage, place: str
) -> None:
    photo, folder = write_image(tmp_path / "a.jpg"), tmp_path / "depth"
    file = _write(folder / "a.png")
    assert np.allclose(_depth(load_photos(photo, focal_px=10, depth=file)), UNITS * 0.001)
    (tmp_path / place / "depth_scale.txt").write_text("0.0002\n")
    assert np.allclose(_depth(load_photos(photo, focal_px=10, depth=folder)), UNITS * 0.0002)
    assert np.allclose(_depth(load_photos(photo, focal_px=10, depth=folder, depth_scale=0.01)), UNITS * 0.01)
    with pytest.raises(ValueError, match="depth_scale: expected metres per unit, more than 0, got -1"):
        load_photos(photo, focal_px=10, depth=folder, depth_scale=-1)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_depth_is_turned_as_its_photo_is(
    tmp_path: Path, write_phone_photo: WriteImage, orientation: int
) -> None:
    """Stored alike, in a quarter of the pixels; or turned by who made it."""
    photo = write_phone_photo(tmp_path / "a.jpg", orientation)
    stored = cv2.resize(read_image(photo, (40, 24))[..., 0], (20, 12), interpolation=cv2.INTER_NEAREST)
    seen = load_photos(photo, focal_px=10, depth=stored + np.float32(1))
    shown = np.float32(read_image(photo)[..., 0])
    expected = cv2.resize(shown, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST)
    assert seen[0].image.shape[1:] == shown.shape == _depth(seen).shape
    rows, columns = expected.shape
    at = _depth(seen).reshape(rows, 2, columns, 2)
    assert (at == at[:, :1, :, :1]).all()
    turns = {1: lambda x: x, 3: lambda x: x[::-1, ::-1], 6: lambda x: x.T[:, ::-1], 8: lambda x: x.T[::-1]}
    assert (at[:, 0, :, 0] - 1 == turns[orientation](stored)).all()
    if orientation > 4:
        turned = load_photos(photo, focal_px=10, depth=np.ascontiguousarray(at[:, 0, :, 0]))
        assert (_depth(turned) == _depth(seen)).all()


def test_what_is_no_distance_is_unknown(write_image: WriteImage, tmp_path: Path) -> None:
    depth = np.full((6, 8), 2.0)
    depth[0, :4] = np.nan, np.inf, -np.inf, -1
    for given in (depth, torch.from_numpy(depth), [depth]):
        found = _depth(load_photos(write_image(tmp_path / "a.png"), focal_px=10, depth=given))
        assert not found[0, :4].any() and (found[1:] == 2).all()


def test_each_of_several_photos_may_have_its_own(write_image: WriteImage, tmp_path: Path) -> None:
    names = [str(write_image(tmp_path / name)) for name in ("a.png", "b.png")]
    metres = np.float32(UNITS) / 1000
    for given in (np.stack([metres, 2 * metres]), [metres, 2 * metres], {"b.png": 2 * metres, "a.png": metres}):
        photos = load_photos(names, focal_px=10, depth=given)
        assert (_depth(photos, 0) == metres).all() and (_depth(photos, 1) == 2 * metres).all()
    partly = load_photos(names, focal_px=10, depth=[None, metres])
    assert not _depth(partly, 0).any() and _depth(partly, 1).all()


def test_mistakes_are_one_line(write_image: WriteImage, tmp_path: Path) -> None:
    photo, other = write_image(tmp_path / "a.png"), write_image(tmp_path / "b.png")
    metres = np.ones((6, 8), np.float32)
    (tmp_path / "empty").mkdir()

    def mistake(kind: type[Exception], depth: object, photos: object = photo) -> str:
        with pytest.raises(kind) as error:
            _depth(load_photos(photos, focal_px=10, depth=depth))
        return str(error.value)

    assert "expected depth under the photos' names, a.png for" in mistake(DatasetError, tmp_path / "empty")
    assert "expected a depth image or a folder" in mistake(DatasetError, tmp_path / "nothing.png")
    assert "got uint8, 1 channels" in mistake(DatasetError, _write(tmp_path / "8 bits.png", np.uint8(UNITS)))
    assert "expected depth of the image's size 8x6, got 8x5" in mistake(DatasetError, metres[:5])
    (tmp_path / "damaged.png").write_bytes(_write(tmp_path / "whole.png").read_bytes()[:-20])
    assert "damaged.png: the image is truncated" in mistake(DatasetError, tmp_path / "damaged.png")
    assert "depth_scale=0.001 for millimetres" in mistake(ValueError, UNITS)
    assert "got float32 (2, 3, 6, 8)" in mistake(ValueError, np.zeros((2, 3, 6, 8), np.float32))
    assert "expected one for each of 2 photos, got 1" in mistake(ValueError, [metres], [photo, other])
    assert "depth for each of 2 photos, got one" in mistake(ValueError, metres, [photo, other])
    assert "depth: none for" in mistake(ValueError, {"c.png": metres})


@pytest.mark.wrong_input
def test_what_is_no_depth_is_refused(write_image: WriteImage, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="depth: expected a file, a folder, or an array"):
        load_photos(write_image(tmp_path / "a.png"), focal_px=10, depth=3.5)


def test_a_whole_number_array_with_its_unit_is_read(write_image: WriteImage, tmp_path: Path) -> None:
    photos = load_photos(write_image(tmp_path / "a.png"), focal_px=10, depth=UNITS, depth_scale=0.001)
    assert np.allclose(_depth(photos), UNITS / 1000)


def test_of_the_photos_of_a_folder_that_have_none_only_some_are_named(
    write_image: WriteImage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(23):
        write_image(tmp_path / "photos" / f"{i:02}.png")
    _write(tmp_path / "depth" / "00.png")
    with caplog.at_level(logging.WARNING):
        load_photos(tmp_path / "photos", focal_px=10, depth=tmp_path / "depth")
    assert "22 of 23 photos" in caplog.text and "and 2 more" in caplog.text
