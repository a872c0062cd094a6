from __future__ import annotations

import logging
import shutil

import cv2
import numpy as np
import pytest
import torch
from known_cameras import FOCALS_AND_CENTER, expect_camera, numbers, quaternion_xyzw, world_from_cams

from dsac.datasets import load_scene
from dsac.errors import DatasetError

CAMERAS = "1 PINHOLE 8 6 10 11 3.5 2.5\n"
START = 1305031102.0


@pytest.fixture
def recording(tmp_path, write_image):
    """Writes four images at 30 Hz, depth 8 ms later, and poses at 100 Hz that include the images' own."""

    def write(matrices: np.ndarray, start: float = START, unit: float = 1.0, folder: str = "lab"):
        path = tmp_path / folder
        rgb, depth, poses = [], [], []
        for i, matrix in enumerate(matrices):
            time = start + i / 32  # exact in float64
            write_image(path / "rgb" / f"{i}.png")
            write_image(path / "depth" / f"{i}.png", dtype=np.uint16, channels=1)
            rgb.append(f"{time / unit!r} rgb/{i}.png")
            depth.append(f"{(time + 1 / 128) / unit!r} depth/{i}.png")
            poses.append(f"{time / unit!r} {numbers(matrix[:3, 3])} {numbers(quaternion_xyzw(matrix))}")
        (path / "rgb.txt").write_text("# color images\n# timestamp filename\n" + "\n".join(rgb))
        (path / "depth.txt").write_text("\ufeff# depth maps\r\n" + "\r\n".join(depth) + "\r\n")
        (path / "groundtruth.txt").write_text("# ground truth\n" + "\n".join(poses) + "\n")
        (path / "cameras.txt").write_text(CAMERAS)
        return path

    return write


def test_images_poses_and_depth_are_read_exactly(recording):
    matrices = world_from_cams()
    scene = load_scene(recording(matrices))
    assert scene.format == "TUM RGB-D" and scene.metric and list(scene.truths) == ["groundtruth"]
    assert scene.mapping.names == [f"rgb/{i}.png" for i in range(4)] and not len(scene.query)
    for frame, matrix in zip(scene.mapping, matrices, strict=True):
        expect_camera(frame, matrix)
        units = cv2.imread(f"{scene.path}/{frame.name.replace('rgb', 'depth')}", cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(frame.depth, units * np.float32(1 / 5000))


def test_depth_scale_of_a_file_wins(recording):
    path = recording(world_from_cams())
    (path / "depth_scale.txt").write_text("0.001\n")
    depth = load_scene(path).mapping[0].depth
    units = cv2.imread(str(path / "depth" / "0.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(depth, units * np.float32(0.001))


@pytest.mark.parametrize(("start", "unit"), [(START, 1e-9), (START, 1e-3), (0.0, 1.0)])
def test_timestamps_may_be_nanoseconds_milliseconds_or_count_from_zero(recording, start, unit):
    matrices = world_from_cams()
    scene = load_scene(recording(matrices, start, unit))
    assert len(scene.mapping) == 4
    expect_camera(scene.mapping[3], matrices[3], tolerance_px=1e-2)  # 1.3e18 ns leave 0.2 µs


def rewrite(path, change):
    lines = (path / "groundtruth.txt").read_text().splitlines()
    (path / "groundtruth.txt").write_text("\n".join(change(i, line) for i, line in enumerate(lines)))


@pytest.mark.parametrize(
    "change",
    [
        lambda i, line: f"frame_{i} {line}" if i else line,
        lambda i, line: f"{i} {line}" if i else line,
        lambda i, line: line.replace(" ", ","),
        lambda i, line: line.replace(" ", "\t") + "\t0.5\t7" if i else "timestamp\ttx\tty\ttz",
        lambda i, line: line + "  # as tracked\r",
    ],
    ids=["name first", "number first", "commas", "tabs, headings, more columns", "comments, CRLF"],
)
def test_lines_of_poses_as_others_write_them(recording, change):
    matrices = world_from_cams()
    path = recording(matrices)
    rewrite(path, change)
    for frame, matrix in zip(load_scene(path).mapping, matrices, strict=True):
        expect_camera(frame, matrix)


def test_pose_between_two_poses_is_interpolated(recording):
    first, last = np.eye(4), np.eye(4)
    last[:3, 3] = [0.2, 0.0, -0.4]
    turned = np.radians(10)
    last[:3, :3] = [[np.cos(turned), -np.sin(turned), 0], [np.sin(turned), np.cos(turned), 0], [0, 0, 1]]
    path = recording(np.stack([first, first]))
    poses = [
        f"{START + time!r} {numbers(matrix[:3, 3])} {numbers(quaternion_xyzw(matrix))}"
        for time, matrix in ((1 / 64, last), (-1 / 64, first))  # in any order
    ]
    (path / "groundtruth.txt").write_text("\n".join(poses))
    expected = np.eye(4)
    middle = np.radians(5)
    expected[:3, :3] = [[np.cos(middle), -np.sin(middle), 0], [np.sin(middle), np.cos(middle), 0], [0, 0, 1]]
    expected[:3, 3] = [0.1, 0.0, -0.2]
    frames = load_scene(path).mapping
    expect_camera(frames[0], expected)
    expect_camera(frames[1], last)  # later than all poses, by 16 ms


def test_images_without_pose_in_time_are_counted_and_the_gap_can_be_set(recording, caplog):
    path = recording(world_from_cams())
    rewrite(path, lambda i, line: line if i != 2 else "")
    with caplog.at_level(logging.INFO):
        assert load_scene(path).mapping.names == ["rgb/0.png", "rgb/2.png", "rgb/3.png"]
    assert "3 of 4 images have a pose within 0.02 s, 1 do not and are left out: rgb/1.png" in caplog.text
    assert len(load_scene(path, max_gap=0.04).mapping) == 4


def test_depth_that_is_too_late_or_another_images_is_unknown(recording, caplog):
    path = recording(world_from_cams())
    lines = (path / "depth.txt").read_text().splitlines()
    (path / "depth.txt").write_text("\n".join(lines[:3]))
    with caplog.at_level(logging.INFO):
        frames = load_scene(path, max_gap=0.05).mapping
    assert [bool(frame.depth.any()) for frame in frames] == [True, True, False, False]
    assert "2 of 4 images have depth within 0.05 s" in caplog.text


def test_no_image_in_time_is_an_error_with_both_spans(recording):
    path = recording(world_from_cams())
    rewrite(path, lambda i, line: line.replace("1305031102", "1305039999"))
    with pytest.raises(
        DatasetError, match=r"no image has a pose within 0.02 s; .* 1305031102.000 to .* 1305039999.000"
    ):
        load_scene(path)


def test_a_gap_is_of_no_use_where_nothing_is_found_by_time(recording, image_folder):
    with pytest.raises(DatasetError, match="max_gap is for poses that are found by time"):
        load_scene(image_folder, max_gap=0.1)
    with pytest.raises(DatasetError, match="max_gap: expected seconds, got nan"):
        load_scene(recording(world_from_cams()), max_gap=float("nan"))


def test_associations_and_names_by_time_stand_in_for_lists(recording):
    matrices = world_from_cams()
    path = recording(matrices)
    pairs = zip(
        (path / "depth.txt").read_text(encoding="utf-8-sig").splitlines()[1:],
        (path / "rgb.txt").read_text().splitlines()[2:],
        strict=True,
    )
    (path / "associations.txt").write_text("\n".join(f"{depth} {rgb}" for depth, rgb in pairs))
    (path / "rgb.txt").unlink(), (path / "depth.txt").unlink()
    frames = load_scene(path).mapping
    assert frames.names == [f"rgb/{i}.png" for i in range(4)] and frames.has_depth
    expect_camera(frames[3], matrices[3])

    (path / "associations.txt").unlink()
    for i in range(4):
        for folder in ("rgb", "depth"):
            (path / folder / f"{i}.png").rename(path / folder / f"{START + i / 32:.6f}.png")
    frames = load_scene(path).mapping
    assert frames.names[1] == "rgb/1305031102.031250.png" and frames.has_depth
    expect_camera(frames[1], matrices[1])


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("10 11 3 2\n", [10, 11, 3.5, 2.5]),
        ("10 0 3\n0 11 2\n0 0 1\n", [10, 11, 3.5, 2.5]),
        ("8 6\n10, 0, 3\n0, 11, 2\n0, 0, 1\n0.1 0.2 0.3 0.4 0.0", [10, 11, 3.5, 2.5, 0.1, 0.2, 0.3, 0.4]),
        ("8 6\n10 0 3\n0 11 2\n0 0 1", [10, 11, 3.5, 2.5]),
        ("8 6 10 11 3 2", [10, 11, 3.5, 2.5]),
        ("8 6\n10 11 3 2\n0.1 0.2 0.3 0.4", [10, 11, 3.5, 2.5, 0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_calibration_as_opencv_has_it_counts_from_the_first_pixels_centre(recording, text, params):
    path = recording(world_from_cams())
    (path / "cameras.txt").unlink()
    (path / "intrinsics_lab.txt").write_text(text)
    assert load_scene(path).mapping.camera(0).params.tolist() == pytest.approx(params, abs=1e-12)


@pytest.mark.parametrize("text", ["10 11 3", "10 x 3 2", "-10 0 3 0 11 2 0 0 1", "10 -11 3 2 0.1 0 0 0"])
def test_calibration_that_is_none_is_an_error_that_names_the_file(recording, text):
    path = recording(world_from_cams())
    (path / "cameras.txt").unlink()
    (path / "calibration.txt").write_text(text)
    with pytest.raises(DatasetError, match="calibration.txt: .*expected"):
        load_scene(path)


def test_published_intrinsics_go_by_the_folders_name(recording):
    for name, focal in (("rgbd_dataset_freiburg1_xyz", 517.3), ("fr2", 520.9), ("x_freiburg3_y", 535.4)):
        path = recording(world_from_cams(), folder=name)
        (path / "cameras.txt").unlink()
        camera = load_scene(path).mapping.camera(0)
        assert camera.size == (640, 480) and camera.focal_px[0].item() == focal


def test_unknown_intrinsics_are_an_error_that_says_what_to_write(recording):
    path = recording(world_from_cams(), folder="afr1ca")
    (path / "cameras.txt").unlink()
    with pytest.raises(DatasetError, match="no intrinsics; add a cameras.txt with the line `1 PINHOLE WIDTH"):
        load_scene(path)


def test_negative_fy_mirrors_camera_and_world(recording):
    """ICL-NUIM: what is up in the file's camera is up in the image."""
    matrices = world_from_cams()
    path = recording(matrices)
    (path / "cameras.txt").unlink()
    (path / "camera.txt").write_text("10 -11 3 2")
    mirror = np.diag([1, -1, 1, 1])
    frames = load_scene(path).mapping
    for frame, matrix in zip(frames, matrices, strict=True):
        expect_camera(frame, mirror @ matrix @ mirror, FOCALS_AND_CENTER)
        assert torch.linalg.det(frame.cam_from_world.rotation).item() == pytest.approx(1)
    # by the file: v = fy Y/Z + cy, in pixels from the centre of the first
    point = np.array([0.3, 0.4, 2.0, 1.0])
    expected = [10 * 0.3 / 2 + 3.5, -11 * 0.4 / 2 + 2.5]
    in_our_world = torch.from_numpy((mirror @ matrices[2] @ point)[None, :3])
    seen = frames[2].camera.project(frames[2].cam_from_world @ in_our_world)
    np.testing.assert_allclose(seen[0], expected, atol=1e-9)


def reprojection_px(frames, first: int, second: int) -> float:
    """Median distance between SIFT matches and where depth and poses put them."""
    a, b = frames[first], frames[second]
    grey = [cv2.cvtColor((f.image.permute(1, 2, 0).numpy() * 255).astype(np.uint8), 7) for f in (a, b)]
    sift = cv2.SIFT_create(2000)
    (points_a, of_a), (points_b, of_b) = (sift.detectAndCompute(image, None) for image in grey)
    matches = [m for m, n in cv2.BFMatcher().knnMatch(of_a, of_b, k=2) if m.distance < 0.7 * n.distance]
    pixels_a = torch.tensor([points_a[m.queryIdx].pt for m in matches]).double() + 0.5
    pixels_b = torch.tensor([points_b[m.trainIdx].pt for m in matches]).double() + 0.5
    column, row = pixels_a.long().unbind(-1)
    depth = a.depth[row, column].double()
    points_world = a.cam_from_world.inverse() @ (a.camera.unproject(pixels_a) * depth[:, None])
    error = (b.camera.project(b.cam_from_world @ points_world) - pixels_b).norm(dim=-1)
    assert len(matches) > 50
    return error[depth > 0].median().item()


def test_icl_nuim_reprojects(recordings):
    frames = load_scene(recordings / "formats" / "icl-nuim").mapping
    assert len(frames) == 5 and frames.has_depth
    assert max(reprojection_px(frames, i, i + 1) for i in range(4)) < 2.5  # 23 to 34 with fy = +480


def test_freiburg1_reprojects_though_names_stand_before_its_times(recordings, tmp_path):
    path = tmp_path / "fr1"
    shutil.copytree(recordings / "formats" / "tum-mini", path)
    stamps = [line.split() for line in (path / "timestamps.txt").read_text().splitlines()]
    for kind, file in (("rgb", "rgb.txt"), ("depth", "depth.txt")):
        (path / file).write_text("".join(f"{time} {name}_{kind}.png\n" for name, time in stamps))
    frames = load_scene(path).mapping
    assert frames.camera(0).focal_px.tolist() == [517.3, 516.5]
    first_from_second = frames.cam_from_world[0] @ frames.cam_from_world[1].inverse()
    row = (path / "groundtruth_relative.txt").read_text().splitlines()[1].split()
    x, y, z, w = map(float, row[4:8])
    # the quaternions have four decimals, and positions are a metre off the origin
    np.testing.assert_allclose(first_from_second.translation, np.array(row[1:4], float), atol=3e-4)
    np.testing.assert_allclose(first_from_second.quaternion_wxyz, [w, x, y, z], atol=1e-4)
    assert reprojection_px(frames, 0, 1) < 6  # a fast motion; 11 with the poses inverted
