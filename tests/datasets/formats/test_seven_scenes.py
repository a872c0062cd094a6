from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
import torch

from dsac.datasets import load_scene
from dsac.datasets.formats.seven_scenes import COLOR_FROM_DEPTH, DEPTH_CENTER_PX, DEPTH_FOCAL_PX, register_depth
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose

SIZE = (640, 480)
COLOR = Camera.simple(525, SIZE)
DEPTH = Camera.from_params("SIMPLE_PINHOLE", [DEPTH_FOCAL_PX, *DEPTH_CENTER_PX], SIZE)


@pytest.fixture
def official(tmp_path):
    """Three sequences of two frames as the original release lays them out; the poses are identities."""
    for sequence in ("seq-01", "seq-02", "seq-10"):
        (tmp_path / sequence).mkdir()
        for i in range(2):
            stem = tmp_path / sequence / f"frame-{i:06d}"
            cv2.imwrite(f"{stem}.color.png", np.full((480, 640, 3), 100, np.uint8))
            cv2.imwrite(f"{stem}.depth.png", np.full((480, 640), 2000, np.uint16))
            np.savetxt(f"{stem}.pose.txt", np.eye(4))
    (tmp_path / "TrainSplit.txt").write_text("sequence1\nsequence10\n")
    (tmp_path / "TestSplit.txt").write_text("sequence2\r\n")
    return tmp_path


def test_official_split_and_pose_files(official):
    scene = load_scene(official)
    assert scene.format == "7-Scenes (D-SLAM truth)" and list(scene.truths) == ["dslam"]
    assert scene.mapping.names == [f"seq-{s}/frame-00000{i}.color.png" for s in ("01", "10") for i in (0, 1)]
    assert scene.query.names == ["seq-02/frame-000000.color.png", "seq-02/frame-000001.color.png"]
    frame = scene.query[0]
    assert frame.camera.params.tolist() == [525, 320, 240]
    # an identity of the depth camera is the offset of the colour camera
    assert frame.cam_from_world is not None
    torch.testing.assert_close(frame.cam_from_world.matrix, COLOR_FROM_DEPTH.matrix, atol=1e-12, rtol=0)
    assert frame.depth is not None and frame.depth.shape == (480, 640)


@pytest.mark.parametrize("line", ["sequence" + "1" * 5000, "seq-0", "sequence3"])
def test_sequences_that_are_not_there_have_no_frames(official, line):
    (official / "TestSplit.txt").write_text(line)
    assert len(load_scene(official).query) == 0


def test_pose_files_with_other_separators_and_decimal_marks(official):
    path = official / "seq-02" / "frame-000001.pose.txt"
    for text in (
        "1,0,0,4.5\n0,1,0,5\n0,0,1,6\n0,0,0,1\n",
        "1\t0\t0\t4,5\r\n0 1 0 5,0\r\n0;0;1;6\r\n0, 0, 0, 1",
    ):
        path.write_text(text)
        pose = load_scene(official).query[1].cam_from_world
        assert pose is not None
        expected = COLOR_FROM_DEPTH.center + torch.tensor([4.5, 5, 6], dtype=torch.float64)
        torch.testing.assert_close(pose.center, expected)


def test_focal_lengths_belong_to_the_size_of_the_release(official):
    for path in official.glob("seq-*/*.color.png"):
        cv2.imwrite(str(path), np.full((240, 320, 3), 100, np.uint8))
    camera = load_scene(official).mapping.camera(0)
    assert camera.size == (320, 240) and camera.params.tolist() == [262.5, 160, 120]


def test_single_sequence_is_a_scene(official):
    scene = load_scene(official / "seq-01")
    assert scene.mapping.names == ["frame-000000.color.png", "frame-000001.color.png"]


def test_split_files_of_images_win_over_the_official_ones(official):
    (official / "query.txt").write_text("seq-01/frame-000001.color.png\n")
    scene = load_scene(official)
    assert scene.query.names == ["seq-01/frame-000001.color.png"] and len(scene.mapping) == 5


def test_sfm_truth_is_preferred_and_all_truths_are_kept(official):
    names = [f"seq-{s}/frame-00000{i}.color.png" for s in ("01", "02", "10") for i in (0, 1)]
    (official / "poses_sfm.txt").write_text("".join(f"{name} 1 0 0 0 5 0 0 526.25\n" for name in names))
    scene = load_scene(official)
    assert scene.format == "7-Scenes (SfM truth)" and list(scene.truths) == ["sfm", "dslam"]
    assert scene.mapping.camera(0).params.tolist() == [526.25, 320, 240]
    assert scene.mapping[0].cam_from_world.translation.tolist() == [5, 0, 0]
    assert load_scene(official, "dslam").mapping.camera(0).focal_px.tolist() == [525, 525]
    with pytest.raises(DatasetError, match="expected a truth among sfm, dslam, got SfM"):
        load_scene(official, "SfM")


def test_dslam_poses_file_is_of_the_colour_camera_already(official):
    (official / "poses_dslam.txt").write_text("seq-01/frame-000000.color.png 1 0 0 0 7 0 0 525\n")
    truth = load_scene(official).truths["dslam"]
    assert truth.cam_from_world.translation.tolist() == [[7, 0, 0]]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("TestSplit.txt", "sequence2\nkitchen\n", "TestSplit.txt, line 2: expected a line like `sequence1`"),
        ("TestSplit.txt", "sequence10", "2 frames are both for mapping and for query.*seq-10/frame-000000"),
        ("seq-02/frame-000001.pose.txt", "1 0 0", "000001.pose.txt: expected a 4x4 matrix as 16 numbers"),
        ("seq-02/frame-000001.pose.txt", "a b c", "000001.pose.txt: expected a 4x4 matrix as 16 numbers"),
        (
            "seq-02/frame-000001.pose.txt",
            "-1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1",
            "000001.pose.txt: expected a rigid motion, got a matrix where a reflection",
        ),
    ],
)
def test_bad_text_is_an_error_that_names_the_file(official, file, text, message):
    (official / file).write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_scene(official)


def test_pose_file_that_is_not_finite_leaves_its_frame_out(official, caplog):
    np.savetxt(official / "seq-02/frame-000001.pose.txt", np.full((4, 4), np.nan))
    with caplog.at_level(logging.WARNING):
        assert load_scene(official).query.names == ["seq-02/frame-000000.color.png"]
    assert "1 of 6 poses" in caplog.text and "seq-02/frame-000001.color.png" in caplog.text


def test_split_without_any_pose_is_an_error(tmp_path):
    (tmp_path / "TrainSplit.txt").write_text("sequence1\n")
    with pytest.raises(DatasetError, match="7-Scenes without poses; looked for poses_sfm.txt"):
        load_scene(tmp_path)


def test_each_depth_pixel_arrives_where_the_colour_camera_sees_its_point():
    generator = np.random.default_rng(0)
    units = np.zeros((480, 640), np.uint16)
    rows, columns = generator.integers(60, 420, 40), generator.integers(60, 580, 40)
    units[rows, columns] = generator.integers(500, 5000, 40)
    pixels = torch.tensor(np.stack([columns, rows], 1) + 0.5)
    depth = torch.tensor(units[rows, columns] / 1000.0)
    points_color = COLOR_FROM_DEPTH @ (DEPTH.unproject(pixels) * depth[:, None])
    target = COLOR.project(points_color).floor().long()
    registered = register_depth(units, COLOR)
    np.testing.assert_allclose(registered[target[:, 1], target[:, 0]], points_color[:, 2], rtol=1e-5)
    assert np.count_nonzero(registered) == len(target.unique(dim=0))


def test_nearest_point_wins_where_several_meet():
    near_stripes = np.broadcast_to(np.arange(640) // 40 % 2 * 1000, (480, 640)).astype(np.uint16)
    with_far_between = np.where(near_stripes > 0, near_stripes, 3000).astype(np.uint16)
    near, both = register_depth(near_stripes, COLOR), register_depth(with_far_between, COLOR)
    assert (near > 0).mean() > 0.3
    np.testing.assert_array_equal(both[near > 0], near[near > 0])  # the stripes overlap by 9 px in the image


def test_unknown_depth_stays_unknown():
    for unknown in (0, 65535):
        assert register_depth(np.full((480, 640), unknown, np.uint16), COLOR).max() == 0


def test_flat_wall_has_no_cracks():
    registered = register_depth(np.full((480, 640), 1500, np.uint16), COLOR)
    assert registered.dtype == np.float32
    assert (registered[40:440, 60:560] > 0).mean() > 0.995


def test_dslam_file_of_red_kitchen_equals_its_moved_pose_files(recordings, tmp_path):
    folder = recordings / "7scenes/redkitchen"
    written = load_scene(folder).truths["dslam"]
    (tmp_path / "seq-01").symlink_to(folder / "seq-01")
    moved = load_scene(tmp_path).truths["dslam"]
    rows = [written.index[name] for name in moved.names]
    assert len(rows) == 500
    truth: Pose = written.cam_from_world[torch.tensor(rows)]
    assert (
        float(moved.cam_from_world.rotation_error_deg(truth).max()) < 0.01
    )  # pose files: 4 digits orthonormal
    assert float(moved.cam_from_world.center_distance(truth).max()) < 1e-3


def test_registered_depth_of_red_kitchen_agrees_between_frames(recordings):
    frames = load_scene(recordings / "7scenes/redkitchen").mapping
    differences = []
    for i in (0, 60, 120):
        first, second = frames[i], frames[i + 10]
        rows, columns = torch.meshgrid(torch.arange(0, 480, 6), torch.arange(0, 640, 6), indexing="ij")
        depth = first.depth[rows, columns].double()
        pixels = torch.stack([columns, rows], -1)[depth > 0] + 0.5
        points = first.camera.unproject(pixels) * depth[depth > 0][:, None]
        points_second = second.cam_from_world @ (first.cam_from_world.inverse() @ points)
        at = second.camera.project(points_second).floor().long()
        inside = (at >= 0).all(-1) & (at[:, 0] < 640) & (at[:, 1] < 480)
        seen = second.depth[at[inside][:, 1], at[inside][:, 0]].double()
        differences.append((seen - points_second[inside][:, 2])[seen > 0])
    difference = torch.cat(differences)
    visible = difference.abs() < 0.15  # the rest is hidden in the second frame
    assert float(visible.double().mean()) > 0.9
    assert float(difference[visible].abs().median()) < 0.012  # 0.8 cm; 1.1 cm without registration
