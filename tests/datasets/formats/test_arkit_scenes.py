from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
from known_cameras import axis_angle, expect_camera, numbers, world_from_cams

from dsac.datasets import load_scene
from dsac.errors import DatasetError

MATRICES = world_from_cams(3)
TIMES = ["6845.125", "6845.225", "6845.325"]


@pytest.fixture(params=[".", "41069021_frames"])
def recording(tmp_path, write_image, request):
    folder = tmp_path / request.param
    (folder / "lowres_wide_intrinsics").mkdir(parents=True)
    lines = []
    for i, (time, matrix) in enumerate(zip(TIMES, MATRICES, strict=True)):
        write_image(folder / "lowres_wide" / f"41069021_{time}.png")
        write_image(folder / "lowres_depth" / f"41069021_{time}.png", dtype=np.uint16, channels=1)
        pincam = folder / "lowres_wide_intrinsics" / f"41069021_{float(time) + 0.001:.3f}.pincam"
        pincam.write_text(f"8 6 {10 + i} 11 3.5 2.5")
        cam_from_world = np.linalg.inv(matrix)
        lines.append(f"{time} {numbers(axis_angle(cam_from_world))} {numbers(cam_from_world[:3, 3])}")
    (folder / "lowres_wide.traj").write_text("\r\n".join(lines[::-1]))
    return folder


def test_trajectory_is_camera_from_world_by_axis_and_angle(recording):
    scene = load_scene(recording)
    assert scene.format == "ARKitScenes" and scene.metric
    assert [name.rpartition("_")[2] for name in scene.mapping.names] == [f"{time}.png" for time in TIMES]
    for i, (frame, matrix) in enumerate(zip(scene.mapping, MATRICES, strict=True)):
        expect_camera(frame, matrix, (10 + i, 11, 3.5, 2.5))  # the intrinsics nearest in time
        file = recording / "lowres_depth" / f"41069021_{TIMES[i]}.png"
        units = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(frame.depth, units * np.float32(0.001))


def test_images_before_the_trajectory_are_left_out_and_counted(recording, caplog):
    first = recording / "lowres_wide" / f"41069021_{TIMES[0]}.png"
    first.rename(first.with_name("41069021_6840.000.png"))
    with caplog.at_level(logging.WARNING):
        assert len(load_scene(recording).mapping) == 2
    assert "2 of 3 images have a pose within 0.15 s, 1 do not" in caplog.text


def test_missing_or_bad_intrinsics_are_an_error(recording):
    files = sorted((recording / "lowres_wide_intrinsics").iterdir())
    files[0].write_text("8 6 10 11")
    with pytest.raises(DatasetError, match="pincam: expected `width height fx fy cx cy`, got 4 numbers"):
        load_scene(recording)
    for file in files:
        file.unlink()
    with pytest.raises(DatasetError, match=r"lowres_wide_intrinsics: expected intrinsics, `\*.pincam`"):
        load_scene(recording)
