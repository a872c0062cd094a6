"""Where photos say that they were taken."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from gps_photos import gps_block, in_jpeg, in_png

from dsac.datasets import load_photos
from dsac.datasets.image_gps import GpsFix, gps_fix
from dsac.datasets.image_header import header_of
from dsac.datasets.photos import gps_of_photos

GREY = np.full((24, 40), 128, np.uint8)
JPEG, PNG = (cv2.imencode(ending, GREY)[1].tobytes() for ending in (".jpg", ".png"))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "told",
    [(47.3769, 8.5417, 408.25, 4.5), (-33.9249, 18.4241, None, None), (31.5, -35.5, -430.5, None)],
    ids=["Zurich", "Cape Town", "Dead Sea, mirrored"],
)
def test_place_height_and_deviation_are_read(
    order: str, told: tuple[float, float, float | None, float | None]
) -> None:
    for data in (in_jpeg(JPEG, gps_block(*told, order=order)), in_png(PNG, gps_block(*told, order=order))):
        fix = header_of(data).gps
        assert fix is not None
        assert (fix.latitude, fix.longitude) == pytest.approx(told[:2], abs=1e-9)
        assert (fix.height, fix.sigma) == told[2:]


def test_whoever_does_not_tell_a_place_tells_none() -> None:
    whole = gps_block(47.0, 8.0, 408.0)
    assert header_of(JPEG).gps is None
    assert header_of(in_jpeg(JPEG, gps_block(0.0, 0.0))).gps is None  # no fix
    assert header_of(in_jpeg(JPEG, gps_block(95.0, 8.0))).gps is None
    assert gps_fix(whole, 26) is not None
    zeros = whole.replace((1_000_000).to_bytes(4, "little"), bytes(4))  # 0 / 0
    assert header_of(in_jpeg(JPEG, zeros)).gps is None
    for length in range(26, len(whole) - 16):  # cut off, but for the height at the end
        assert gps_fix(whole[:length], 26) is None


def test_photos_of_a_folder_tell_by_name(tmp_path: Path) -> None:
    (tmp_path / "über all").mkdir()
    (tmp_path / "über all" / "a b.jpg").write_bytes(in_jpeg(JPEG, gps_block(47.5, 8.25, 400.0)))
    (tmp_path / "plain.jpg").write_bytes(JPEG)
    (tmp_path / "empty.jpg").write_bytes(b"")
    photos = load_photos(tmp_path)
    assert gps_of_photos(photos) == {"über all/a b.jpg": GpsFix(47.5, 8.25, 400.0)}
    assert gps_of_photos(photos[[photos.names.index("plain.jpg")]]) == {}
