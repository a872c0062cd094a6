"""COLMAP models where and how tools and people leave them."""

from __future__ import annotations

import json
import logging
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dsac.datasets import load_scene
from dsac.errors import DatasetError

CAMERA = "1 PINHOLE 8 6 10 11 4 3\n"


def write_model(folder: Path, names: list[str], camera: str = CAMERA) -> None:
    """COLMAP's text format."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.txt").write_text(camera)
    lines = [f"{i} 1 0 0 0 {i} 0 0 1 {name}\n\n" for i, name in enumerate(names)]
    (folder / "images.txt").write_text("".join(lines))


@pytest.fixture
def room(tmp_path, write_image):
    for i in range(4):
        write_image(tmp_path / "images" / f"{i}.png")
    return tmp_path


def test_of_several_models_the_largest_is_taken_and_said(room, caplog):
    write_model(room / "sparse" / "0", ["0.png"])
    write_model(room / "sparse" / "1", ["1.png", "2.png", "3.png"])
    write_model(room / "sparse" / "10", ["0.png", "2.png"])
    with caplog.at_level(logging.WARNING):
        scene = load_scene(room)
    assert scene.format == "COLMAP model (sparse/1, text)" and len(scene.mapping) == 3
    [record] = caplog.records
    assert "sparse/1 is taken; images in each: sparse/0 1, sparse/1 3, sparse/10 2" in record.message


def test_the_model_that_nerfstudio_began_with_does_not_hide_its_own_file(room):
    write_model(room / "colmap" / "sparse" / "0", ["0.png"])
    assert load_scene(room).format == "COLMAP model (colmap/sparse/0, text)"
    frames = [{"file_path": "images/0.png", "transform_matrix": np.eye(4).tolist()}]
    (room / "transforms.json").write_text(json.dumps({"fl_x": 10, "frames": frames}))
    assert load_scene(room).format == "nerfstudio transforms.json"


@pytest.mark.parametrize("model", ["sparse/0", "sparse", "colmap/sparse/1", "sfm_sift+nn", "."])
def test_the_model_may_be_what_the_scene_is_called(room, model, monkeypatch):
    write_model(room / "sparse" / "7", ["2.png"])  # another, which is not asked for
    write_model(room / model, ["0.png", "1.png"])
    (room / "query.txt").write_text("1.png\n")  # counts, so that queries do not get into the map
    scene = load_scene(room / model)
    assert scene.mapping.names == ["0.png"] and scene.query.names == ["1.png"]
    assert scene.mapping[0].image.shape == (3, 6, 8)
    monkeypatch.chdir(room / model)
    assert {*load_scene(".").mapping.names} >= {"0.png"}
    (room / "transforms.json").write_text("{}")
    assert load_scene(room / model).query.names == (["1.png"])


@pytest.mark.parametrize("scene", ["2024", "dense/0", "models"])
@pytest.mark.parametrize("given", ["sparse", "sparse/0"])
def test_a_scene_of_a_models_name_is_found_from_its_model(tmp_path, write_image, scene, given):
    for i in range(2):
        write_image(tmp_path / scene / "images" / f"{i}.png")
    write_model(tmp_path / scene / "sparse" / "0", ["0.png", "1.png"])
    (tmp_path / scene / "query.txt").write_text("1.png\n")
    read = load_scene(tmp_path / scene / given)
    assert (read.mapping.names, read.query.names) == (["0.png"], ["1.png"])
    assert read.format == "COLMAP model (sparse/0, text)"


@pytest.mark.parametrize("images", ["5/images", "5"])
def test_a_scene_with_images_in_it_is_no_model_of_another(tmp_path, write_image, images):
    """Though its name looks like one."""
    write_image(tmp_path / images / "0.png")
    write_image(tmp_path / "images" / "0.png", (16, 16))
    write_model(tmp_path / "5", ["0.png"])
    assert load_scene(tmp_path / "5").mapping[0].image.shape == (3, 6, 8)


@pytest.mark.parametrize("folder", ["dense/images", "dense/0/images"])
def test_undistorted_images_belong_to_the_undistorted_model(room, write_image, folder):
    write_model(room / folder.replace("images", "sparse"), ["0.png"])
    path = write_image(room / folder / "0.png")
    cv2.imwrite(str(path), np.full((6, 8, 3), 7, np.uint8))
    assert float(load_scene(room).mapping[0].image.max()) == pytest.approx(7 / 255)


def test_names_of_windows_and_of_other_folders_are_found(room):
    write_model(room, ["images\\0.png", "/home/me/room/images/1.png", "2.PNG", "3"])
    assert load_scene(room).mapping.names == ["0.png", "1.png", "2.png", "3.png"]
    (room / "images" / "day").mkdir()
    (room / "images" / "0.png").rename(room / "images" / "day" / "0.png")
    write_model(room, ["day\\0.png", "1.png"])
    assert load_scene(room).mapping.names == ["day/0.png", "1.png"]


@pytest.mark.parametrize(
    ("camera", "image"),
    [
        ("1\tPINHOLE\t8\t6\t10\t11\t4\t3", "7\t1\t0\t0\t0\t1.5\t2\t3\t1\ta b.png"),
        ("1,PINHOLE,8,6,10,11,4,3", "7,1,0,0,0,1.5,2,3,1,a b.png"),
        ("1, PINHOLE, 8, 6, 10, 11, 4, 3", "7, 1, 0, 0, 0, 1.5, 2, 3, 1, a b.png"),
        ("1;PINHOLE;8;6;10,0;11,0;4,0;3,0", "7;1,0;0,0;0;0;1,5;2;3;1;a b.png"),
        ("1 pinhole 8.0 6.0 1e1 11 4 3  # the phone's", "7  1 0 -0 0   1.5e0 2 3 1   a b.png"),
        ("1 PINHOLE 8 6 10,0 11,0 4,0 3,0", '7 1,0 0 0 0 1,5 2 3 1 "a b.png"'),
    ],
)
@pytest.mark.parametrize(("encoding", "newline"), [("utf-8-sig", "\r\n"), ("utf-16", "\r"), ("cp1252", "\n")])
def test_text_as_others_write_it(tmp_path, write_image, camera, image, encoding, newline):
    write_image(tmp_path / "images" / "a b.png")
    for name, line in (("cameras", camera), ("images", image)):
        text = newline.join([f"# für {name}", line, ""])
        (tmp_path / f"{name}.txt").write_bytes(text.encode(encoding))
    frames = load_scene(tmp_path).mapping
    assert frames.names == ["a b.png"] and frames.camera(0).params.tolist() == [10, 11, 4, 3]
    assert frames.cam_from_world is not None
    assert frames.cam_from_world.translation.tolist() == [[1.5, 2, 3]]


def test_points_in_any_separators_are_no_images(room):
    for points in ("1.5,2.5,-1,3,4,7", "1,5;2,5;-1", "1.5 2.5 -1", "1,5 2,5 -1"):
        (room / "cameras.txt").write_text(CAMERA)
        pose = "1 0 0 0 0 0 0 1"
        (room / "images.txt").write_text(f"1 {pose} 0.png\n{points}\n2 {pose} 1.png\n3 {pose} 2.png\n")
        assert load_scene(room).mapping.names == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("folder", ["depth", "depths"])
@pytest.mark.parametrize("ending", [".png", ".npy", ".tiff"])
def test_depth_beside_a_model_is_read(room, folder, ending, caplog):
    write_model(room, ["0.png", "1.png"])
    (room / folder).mkdir()
    metres = np.linspace(1, 2, 12, dtype=np.float32).reshape(3, 4)
    metres[0, 0] = 0
    for i in range(2):
        path = str(room / folder / f"{i}{ending}")
        if ending == ".npy":
            np.save(path, metres)
        else:
            cv2.imwrite(path, (metres * 1000).round().astype(np.uint16) if ending == ".png" else metres)
    with caplog.at_level(logging.WARNING):
        scene = load_scene(room)
    assert scene.metric and "depth is 4x3, images are 8x6" in caplog.text
    depth = scene.mapping[1].depth
    assert depth is not None and depth.dtype == torch.float32
    np.testing.assert_allclose(depth.numpy(), metres.repeat(2, 0).repeat(2, 1), atol=5.1e-4)


@pytest.mark.parametrize("ending", ["txt", "bin"])
@pytest.mark.parametrize("metres_per_unit", [1.0, 2.5, 0.3])
def test_depth_is_brought_to_the_scale_of_the_model(room, caplog, ending, metres_per_unit):
    """Photos alone give a model no scale; its points are seen in the depth."""
    write_model(room, ["0.png", "1.png"])
    (room / "depth").mkdir()
    for i in range(2):
        cv2.imwrite(str(room / "depth" / f"{i}.png"), np.full((6, 8), 2000 * metres_per_unit, np.uint16))
    # two units before the cameras, which are at x = 0 and x = -1
    points = np.stack(
        [*np.meshgrid(np.linspace(-0.5, 0.5, 6), np.linspace(-0.2, 0.2, 6)), np.full((6, 6), 2)], -1
    )
    write_points(room / f"points3D.{ending}", points.reshape(-1, 3), [0])
    if ending == "bin":
        write_binary(room)
    with caplog.at_level(logging.WARNING):
        scene = load_scene(room)
    depth = scene.mapping[1].depth
    assert depth is not None
    np.testing.assert_allclose(depth.numpy(), 2, rtol=1e-4)
    assert scene.metric == (metres_per_unit == 1)
    assert ("unit is" in caplog.text) == (metres_per_unit != 1)


def write_points(path: Path, points: np.ndarray, image_ids: list[int]) -> None:
    track = [value for image_id in image_ids for value in (image_id, 0)]
    if path.suffix == ".txt":
        lines = [
            f"{i} {x} {y} {z} 0 0 0 0.1 {' '.join(map(str, track))}\n" for i, (x, y, z) in enumerate(points)
        ]
        path.write_text("# points\n" + "".join(lines))
    else:
        tail = struct.pack(f"<Q{len(track)}I", len(image_ids), *track)
        heads = [struct.pack("<Q3d3Bd", i, *point, 0, 0, 0, 0.1) for i, point in enumerate(points)]
        path.write_bytes(struct.pack("<Q", len(points)) + b"".join(head + tail for head in heads))


def write_binary(room: Path) -> None:
    """The model of `write_model` with the images 0.png and 1.png."""
    (room / "cameras.bin").write_bytes(struct.pack("<QIiQQ4d", 1, 1, 1, 8, 6, 10, 11, 4, 3))
    images = [
        struct.pack("<I7dI", i, 1, 0, 0, 0, i, 0, 0, 1) + f"{i}.png\0".encode() + bytes(8) for i in range(2)
    ]
    (room / "images.bin").write_bytes(struct.pack("<Q", 2) + b"".join(images))


def test_depth_that_does_not_fit_the_model_is_not_used(room, caplog):
    write_model(room, ["0.png"])
    (room / "depth").mkdir()
    noise = np.random.default_rng(0).integers(200, 20000, (6, 8), dtype=np.uint16)
    cv2.imwrite(str(room / "depth" / "0.png"), noise)
    grid = np.stack(
        [*np.meshgrid(np.linspace(-0.5, 0.5, 8), np.linspace(-0.4, 0.4, 8)), np.full((8, 8), 2)], -1
    )
    write_points(room / "points3D.txt", grid.reshape(-1, 3), [0])
    with caplog.at_level(logging.WARNING):
        scene = load_scene(room)
    assert scene.mapping[0].depth is None and not scene.metric
    assert "depth does not fit the COLMAP model's points, it is not used" in caplog.text


def test_depth_that_is_no_number_is_unknown(room):
    write_model(room, ["0.png"])
    (room / "depth").mkdir()
    depth = np.full((6, 8), 2.0)
    depth[0, :4] = np.nan, np.inf, -np.inf, -1
    np.save(room / "depth" / "0.npy", depth)
    read = load_scene(room).mapping[0].depth
    assert read is not None
    assert read[0].tolist() == [0, 0, 0, 0, 2, 2, 2, 2] and read[1:].unique().tolist() == [2]


def test_depth_of_another_shape_is_an_error(room):
    write_model(room, ["0.png"])
    (room / "depth").mkdir()
    np.save(room / "depth" / "0.npy", np.ones((4, 4)))
    with pytest.raises(DatasetError, match=r"depth/0.npy: expected depth of the image's size 8x6, got 4x4"):
        load_scene(room)


@pytest.mark.parametrize("folder", ["images", "images_2"])
def test_smaller_images_have_rescaled_intrinsics(tmp_path, write_image, caplog, folder):
    for i in range(2):
        write_image(tmp_path / folder / f"{i}.png", (8, 6))
    write_model(tmp_path / "sparse" / "0", ["0.png", "1.png"], "1 RADIAL 17 12 20 8 6 0.1 0.01\n")
    with caplog.at_level(logging.WARNING):
        frames = load_scene(tmp_path).mapping
    assert "images are 8x6, their cameras are for 17x12: intrinsics are rescaled" in caplog.text
    assert frames[1].camera.size == (8, 6)
    assert frames[1].camera.focal_px.tolist() == pytest.approx([20 * 8 / 17, 10])


def test_what_systems_leave_behind_is_not_there(room):
    write_model(room / "sparse" / "0", ["0.png"])
    for name in ("._0.png", ".DS_Store", "Thumbs.db"):
        (room / "images" / name).write_bytes(b"x")
    (room / "sparse" / "0" / "._cameras.bin").write_bytes(b"x")
    assert load_scene(room).mapping.names == ["0.png"]


def test_a_model_of_rigs_is_read(recordings, tmp_path, write_image):
    """COLMAP 4 writes rigs and frames beside what was there; of this sample the photos are missing."""
    sample = recordings / "formats" / "colmap4-rigs"
    lines = [line.split() for line in (sample / "sparse_txt" / "images.txt").read_text().splitlines()]
    for line in lines:
        if line[0] != "#" and len(line) > 9 and line[-1].endswith("jpeg"):
            write_image(tmp_path / " ".join(line[9:]), (12, 16))
    poses = []
    for model in ("sparse/0", "sparse_txt"):
        shutil.copytree(sample / model, tmp_path / "sparse", dirs_exist_ok=True)
        frames = load_scene(tmp_path).mapping
        assert len(frames) == 3 and frames[0].camera.size == (12, 16)
        poses.append(sorted(frames.cam_from_world.matrix.tolist()))
        shutil.rmtree(tmp_path / "sparse")
    np.testing.assert_allclose(*poses, atol=1e-12)
