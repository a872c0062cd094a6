from __future__ import annotations

import logging
import struct

import numpy as np
import pytest
import torch

from dsac.datasets import load_scene, read_image
from dsac.errors import DatasetError
from dsac.geometry.camera_models import MODELS

pycolmap = pytest.importorskip("pycolmap")

PARAMS = {
    "SIMPLE_PINHOLE": [10, 4, 3],
    "PINHOLE": [10, 11, 4, 3],
    "SIMPLE_RADIAL": [10, 4, 3, 0.1],
    "RADIAL": [10, 4, 3, 0.1, 0.01],
    "OPENCV": [10, 11, 4, 3, 0.1, 0.01, 0.001, 0.002],
    "OPENCV_FISHEYE": [10, 11, 4, 3, 0.1, 0.01, 0.001, 0.002],
    "FULL_OPENCV": [10, 11, 4, 3, 0.1, 0.01, 0.001, 0.002, 0.01, 0.02, 0.03, 0.04],
    "SIMPLE_RADIAL_FISHEYE": [10, 4, 3, 0.1],
    "RADIAL_FISHEYE": [10, 4, 3, 0.1, 0.01],
    "SIMPLE_FISHEYE": [10, 4, 3],
    "FISHEYE": [10, 11, 4, 3],
    "THIN_PRISM_FISHEYE": [10, 11, 4, 3, 0.1, 0.01, 0.001, 0.002, 0.01, 0.02, 0.03, 0.04],
    "RAD_TAN_THIN_PRISM_FISHEYE": [10, 11, 4, 3] + [0.01 * i for i in range(12)],
    "FOV": [10, 11, 4, 3, 0.9],
    "SIMPLE_DIVISION": [10, 4, 3, 0.1],
    "DIVISION": [10, 11, 4, 3, 0.1],
    "EUCM": [10, 11, 4, 3, 0.6, 1.1],
}
assert set(PARAMS) == {model.name for model in MODELS.values() if model.colmap_id is not None}


def reconstruction(models=tuple(PARAMS)):
    """A model with a camera and an image each, written by COLMAP itself."""
    model = pycolmap.Reconstruction()
    generator = np.random.default_rng(0)
    for i, name in enumerate(models):
        params = PARAMS.get(name, [8, 6])
        camera = pycolmap.Camera(model=name, width=8, height=6, params=params, camera_id=10 + i)
        model.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(name=f"day 1/{i}.png", camera_id=10 + i, image_id=20 + i)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(generator.random(2)) for _ in range(i)])
        rotation = pycolmap.Rotation3d(generator.standard_normal(3))
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(rotation, generator.standard_normal(3)))
    return model


@pytest.fixture
def images(tmp_path, write_image):
    for i in range(len(PARAMS)):
        write_image(tmp_path / "images" / "day 1" / f"{i}.png")
    return tmp_path


def write(model, folder, kind) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (model.write_binary if kind == "binary" else model.write_text)(str(folder))


@pytest.mark.parametrize("kind", ["binary", "text"])
@pytest.mark.parametrize(
    "place",
    [
        ".",
        "0",
        "sparse",
        "sparse/0",
        "sparse/3",
        "colmap/sparse/0",
        "dense/sparse",
        "dense/0/sparse",
        "dense",
        "sfm",
    ],
)
def test_model_is_read_as_colmap_wrote_it(images, kind, place):
    model = reconstruction()
    write(model, images / place, kind)
    scene = load_scene(images)
    assert scene.format == f"COLMAP model ({place}, {kind})"
    assert not scene.metric  # photos alone know no metres
    frames = scene.mapping
    assert len(frames) == len(PARAMS)
    for image in model.images.values():
        i = frames.names.index(image.name)
        camera = frames.camera(i)
        assert camera.model == image.camera.model.name and camera.size == (8, 6)
        assert camera.params.tolist() == image.camera.params.tolist()
        assert frames.cam_from_world is not None
        expected = torch.from_numpy(image.cam_from_world().matrix())
        torch.testing.assert_close(frames.cam_from_world[i].matrix[:3], expected, atol=1e-12, rtol=0)
    assert frames[0].image.shape == (3, 6, 8)


@pytest.mark.parametrize("size", [(40, 24), (24, 40)], ids=["as stored", "upright"])
def test_a_phones_photos_are_read_in_the_size_of_the_model(tmp_path, write_phone_photo, size):
    path = write_phone_photo(tmp_path / "images" / "a.jpg")
    (tmp_path / "cameras.txt").write_text(f"1 SIMPLE_PINHOLE {size[0]} {size[1]} 30 20 12\n")
    (tmp_path / "images.txt").write_text("1 1 0 0 0 0 0 0 1 a.jpg\n\n")
    scene = load_scene(tmp_path)
    assert scene.stores_turned == (size == (40, 24))
    shown = torch.from_numpy(read_image(path, size)).permute(2, 0, 1).float() / 255
    assert torch.equal(scene.mapping[0].image, shown) and shown.shape == (3, *size[::-1])


def test_binary_wins_over_text(images):
    model = reconstruction()
    write(model, images / "sparse", "text")
    write(model, images / "sparse", "binary")
    assert load_scene(images).format == "COLMAP model (sparse, binary)"


def test_images_may_lie_beside_the_model(tmp_path, write_image):
    write(reconstruction(["PINHOLE"]), tmp_path / "sparse", "binary")
    write_image(tmp_path / "day 1" / "0.png")
    assert load_scene(tmp_path).mapping[0].name == "day 1/0.png"


@pytest.mark.parametrize("kind", ["binary", "text"])
def test_a_panorama_is_an_error_that_names_it(images, kind):
    write(reconstruction(["EQUIRECTANGULAR"]), images, kind)
    with pytest.raises(DatasetError, match="cameras.*: camera 10 is EQUIRECTANGULAR, a panorama"):
        load_scene(images)


def test_unknown_camera_model_is_an_error_that_lists_the_known(images):
    write(reconstruction(["PINHOLE"]), images, "binary")
    path = images / "cameras.bin"
    path.write_bytes(path.read_bytes().replace(struct.pack("<Ii", 10, 1), struct.pack("<Ii", 10, 99)))
    message = "cameras.bin: camera 10 has COLMAP's model number 99; expected one of SIMPLE_PINHOLE"
    with pytest.raises(DatasetError, match=message):
        load_scene(images)
    path.unlink()
    write(reconstruction(["PINHOLE"]), images, "text")
    path = images / "cameras.txt"
    path.write_text(path.read_text().replace("PINHOLE", "FISHY"))
    with pytest.raises(DatasetError, match=r"cameras.txt, line 4: camera model: expected one of .*, got FISHY"):
        load_scene(images)


@pytest.mark.parametrize("file", ["cameras.bin", "images.bin"])
@pytest.mark.parametrize("left", [0, 5, 60])
def test_truncated_model_is_an_error(images, file, left):
    write(reconstruction(), images, "binary")
    path = images / file
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DatasetError, match=f"{file}: the file is truncated"):
        load_scene(images)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 1 0 0 0 0 0 0 10", "line 2: expected `IMAGE_ID QW"),
        ("1 1 0 0 0 x 0 0 10 day 1/0.png", "line 2: expected `IMAGE_ID QW"),
        ("1 1 0 0 0 0 0 0 99 day 1/0.png", "has camera 99, which .*cameras.txt lacks"),
        ("1 3 0 0 0 0 0 0 10 day 1/0.png", "image day 1/0.png: expected a unit quaternion"),
    ],
)
def test_bad_line_is_an_error_that_names_it(images, line, message):
    write(reconstruction(["PINHOLE"]), images, "text")
    (images / "images.txt").write_text(f"# images\n{line}\n\n")
    with pytest.raises(DatasetError, match=f"images.txt.*{message}"):
        load_scene(images)


def test_image_whose_pose_is_not_finite_is_left_out_and_named(images, caplog):
    write(reconstruction(["PINHOLE"]), images, "text")
    lines = "1 1 0 0 0 nan 0 0 10 day 1/0.png\n\n2 1 0 0 0 0 0 0 10 day 1/1.png\n1 2 -1\n"
    (images / "images.txt").write_text(lines)
    with caplog.at_level(logging.WARNING):
        assert load_scene(images).mapping.names == ["day 1/1.png"]
    assert "day 1/0.png" in caplog.text


POSE = "1 0 0 0 0 0 0 10"


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{i} {POSE} day 1/{i}.png\n\n" for i in range(6)),
        "".join(f"{i} {POSE} day 1/{i}.png\n" for i in range(6)),
        "".join(f"{i} {POSE} day 1/{i}.png\n12.5 3 -1 7 8.25e0 4\n" for i in range(6)),
        "\n".join(f"{i} {POSE} day 1/{i}.png" + "\n# seen: nothing\n" * (i % 2) for i in range(6)),
        "".join(f"\n{i}\t{POSE} day 1/{i}.png\n" + "1 2 3\n" * (i % 3 == 0) for i in range(6)),
    ],
    ids=["empty second lines", "no second lines", "points", "some empty, with comments", "some points"],
)
def test_no_image_is_lost_where_people_leave_second_lines_out(images, text):
    write(reconstruction(["PINHOLE"]), images, "text")
    (images / "images.txt").write_text(text)
    assert load_scene(images).mapping.names == [f"day 1/{i}.png" for i in range(6)]


def test_names_of_digits_are_names(tmp_path, write_image):
    (tmp_path / "cameras.txt").write_text("10 SIMPLE_PINHOLE 8 6 10 4 3\n")
    (tmp_path / "images.txt").write_text(f"1 {POSE} 0001\n2 {POSE} 0002\n1 2 3\n3 {POSE} 0003\n")
    for name in ("0001", "0002", "0003"):
        write_image(tmp_path / "images" / f"{name}.png").rename(tmp_path / "images" / name)
    assert load_scene(tmp_path).mapping.names == ["0001", "0002", "0003"]


def test_a_broken_line_after_an_image_is_no_line_of_points(images):
    write(reconstruction(["PINHOLE"]), images, "text")
    for line in (f"2 {POSE}", f"2 x {POSE[2:]} day 1/1.png", "1 2", f"2.5 {POSE} day 1/1.png"):
        (images / "images.txt").write_text(f"1 {POSE} day 1/0.png\n{line}\n")
        if len(line.split()) % 3 == 0:  # as many numbers as three points: nothing tells them apart
            assert load_scene(images).mapping.names == ["day 1/0.png"]
        else:
            with pytest.raises(DatasetError, match="images.txt, line 2: expected `IMAGE_ID QW"):
                load_scene(images)


@pytest.mark.parametrize("kind", ["binary", "text"])
def test_an_image_or_a_camera_twice_is_an_error_that_names_it(images, kind):
    write(reconstruction(["PINHOLE"]), images, kind)
    for file, message in (("images", "day 1/0.png has 2 poses"), ("cameras", "camera 10 is there already")):
        path = images / f"{file}.{'bin' if kind == 'binary' else 'txt'}"
        whole = path.read_bytes()
        if kind == "binary":
            path.write_bytes((2).to_bytes(8, "little") + whole[8:] * 2)
        else:
            path.write_bytes(whole + b"\n" + whole)
        with pytest.raises(DatasetError, match=f"{path}.*{message}"):
            load_scene(images)
        path.write_bytes(whole)


@pytest.mark.parametrize("num_points", [1, 2**32, 2**63, 2**64 - 1])
def test_more_points_than_the_file_holds_are_an_error(images, num_points):
    write(reconstruction(["PINHOLE"]), images, "binary")
    path = images / "images.bin"
    path.write_bytes(path.read_bytes()[:-8] + num_points.to_bytes(8, "little"))
    with pytest.raises(DatasetError, match="images.bin: the file is truncated"):
        load_scene(images)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("10 PINHOLE 8 6 inf 11 4 3", "finite values"),
        ("10 PINHOLE 8 6 10 1e999 4 3", "finite values"),
        ("10 PINHOLE 0 6 10 11 4 3", "width and height"),
        ("10 PINHOLE -8 6 10 11 4 3", "width and height"),
        (f"10 PINHOLE {10**30} 6 10 11 4 3", "width and height"),
        ("10 PINHOLE 8", "expected `CAMERA_ID MODEL WIDTH HEIGHT PARAMS"),
    ],
)
def test_bad_camera_is_an_error_that_names_its_line(images, line, message):
    write(reconstruction(["PINHOLE"]), images, "text")
    (images / "cameras.txt").write_text(f"# cameras\n{line}\n")
    with pytest.raises(DatasetError, match=f"cameras.txt, line 2: .*{message}"):
        load_scene(images)


def test_south_building_is_what_colmap_reads(recordings):
    scene = load_scene(recordings / "south-building")
    assert len(scene.mapping) == 96 and len(scene.query) == 32
    truth = scene.truths["colmap"]
    model = pycolmap.Reconstruction(str(recordings / "south-building/sparse/0"))
    by_name = {image.name: image for image in model.images.values()}
    expected = np.stack([by_name[name].cam_from_world().matrix() for name in truth.names])
    np.testing.assert_allclose(truth.cam_from_world.matrix[:, :3].numpy(), expected, atol=1e-12)


def test_points_of_south_building_project_onto_their_observations(recordings):
    frames = load_scene(recordings / "south-building").mapping
    model = pycolmap.Reconstruction(str(recordings / "south-building/sparse/0"))
    by_name = {image.name: image for image in model.images.values()}
    for i in range(0, len(frames), 12):
        seen = [point for point in by_name[frames.names[i]].points2D if point.has_point3D()]
        pixels = torch.tensor(np.stack([point.xy for point in seen]))
        points = torch.tensor(np.stack([model.points3D[point.point3D_id].xyz for point in seen]))
        assert frames.cam_from_world is not None and len(pixels) > 300
        error_px = (frames.camera(i).project(frames.cam_from_world[i] @ points) - pixels).norm(dim=-1)
        assert float(error_px.median()) < 0.6 and float(error_px.mean()) < 0.8
