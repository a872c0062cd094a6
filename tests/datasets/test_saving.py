"""A scene that is saved in any format is read back as it was."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ball_world import POSE, FramesInMemory, photograph

from dsac.datasets import Conventions, Frames, Scene, load_scene, read_as, read_image, save_scene
from dsac.datasets.saving import WRITERS, finest_unit
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose
from dsac.geometry.camera_models import MODELS

NAMES = ["a/0.png", "b/0.png", "Küche, 2. Bild #3.png", "deep/er/x.y.png", "zum Schluß 7.png", "q/1.png"]
BENT = Camera.from_params("OPENCV", [75, 78, 42, 25, -0.1, 0.02, 0.002, -0.001], (80, 60))
WIDE = Camera.from_params("SIMPLE_RADIAL_FISHEYE", [50, 31, 40, 0.02], (60, 80))
PINHOLE = Camera.from_params("PINHOLE", [75, 78, 42, 25], (80, 60))
SIMPLE = Camera.simple(90, (60, 80))
CAMERAS = {
    "plain": [BENT],
    "colmap": [BENT, WIDE],
    "nerfstudio": [BENT, WIDE],
    "tum": [BENT],
    "ace": [PINHOLE, SIMPLE],
}
FOLDER = {"plain": "", "colmap": "", "nerfstudio": "images/", "tum": "rgb/"}  # in the names read back
assert set(CAMERAS) == set(WRITERS)


def ball_scene(
    cameras: list[Camera], names: list[str] = NAMES, num_query: int = 2, depth: bool = True
) -> Scene:
    """Photos from inside the ball; where they are not from files, they are saved as PNG."""
    steps = 0.3 * torch.randn(len(names), 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    poses = Pose.exp(steps) @ POSE.expand(len(names))
    index = np.arange(len(names)) % len(cameras)
    photos = {name: photograph(cameras[index[i]], poses[i], name) for i, name in enumerate(names)}
    frames = Frames(names, cameras, index, poses, FramesInMemory(photos))
    frames = frames if depth else frames.without_depth()
    rows, count = np.arange(len(names)), len(names) - num_query
    return Scene("ball", "ball", frames[rows[:count]], frames[rows[count:]])


def expect_same(read: Scene, saved: Scene, depth_unit: float = 0.0) -> None:
    """Frames in the same order, with the same pixels, poses and cameras, whatever these are called."""
    for part, of in ((read.mapping, saved.mapping), (read.query, saved.query)):
        assert len(part) == len(of) and part.has_depth == of.has_depth | (depth_unit > 0)
        for frame, expected in zip(part, of, strict=True):
            assert expected.cam_from_world is not None and frame.cam_from_world is not None
            np.testing.assert_array_equal((frame.image * 255).round(), (expected.image * 255).round())
            torch.testing.assert_close(
                frame.cam_from_world.matrix, expected.cam_from_world.matrix, rtol=0, atol=1e-10
            )
            expect_same_camera(frame.camera, expected.camera)
            if frame.depth is not None and expected.depth is not None:
                torch.testing.assert_close(frame.depth, expected.depth, rtol=1e-6, atol=depth_unit / 2)
                assert ((frame.depth > 0) == (expected.depth > 0)).all()


def expect_same_camera(camera: Camera, expected: Camera) -> None:
    assert camera.size == expected.size
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    points = points * torch.tensor([0.8, 0.8, 1.0]) + torch.tensor([-0.4, -0.4, 1.0])
    torch.testing.assert_close(camera.project(points), expected.project(points), rtol=0, atol=1e-9)


@pytest.mark.parametrize("format", WRITERS)
def test_a_scene_comes_back_as_it_was(tmp_path, format, caplog):
    scene = ball_scene(CAMERAS[format])
    saved = save_scene(scene, tmp_path / "out", format)
    assert saved.num_copied == 0 and saved.num_mapping == 4
    caplog.clear()
    read = load_scene(tmp_path / "out")
    assert read.metric and not caplog.messages
    assert 0 < saved.depth_unit <= 0.001
    expect_same(read, scene, saved.depth_unit)
    if format in FOLDER:
        expected = [FOLDER[format] + name for name in NAMES]
        if format == "tum":
            expected[2] = "rgb/Küche_ 2. Bild _3.png"  # a TUM list cannot say what it separates words by
        assert read.mapping.names + read.query.names == expected


@pytest.mark.parametrize("format", WRITERS)
def test_a_scene_without_depth_or_split_comes_back_as_it_was(tmp_path, format):
    scene = ball_scene(CAMERAS[format], num_query=0, depth=False)
    assert save_scene(scene, tmp_path / "out", format).depth_unit == 0
    expect_same(load_scene(tmp_path / "out"), scene)


@pytest.mark.parametrize("format", WRITERS)
def test_a_scene_of_queries_alone_comes_back_as_it_was(tmp_path, format):
    scene = ball_scene(CAMERAS[format], num_query=len(NAMES))
    expect_same(load_scene((save_scene(scene, tmp_path / "out", format), tmp_path / "out")[1]), scene, 0.001)


@pytest.mark.parametrize("format", WRITERS)
def test_what_was_saved_can_be_saved_again(tmp_path, format):
    scene = ball_scene(CAMERAS[format])
    save_scene(scene, tmp_path / "first", format)
    first = load_scene(tmp_path / "first")
    again = save_scene(first, tmp_path / "again", format)
    assert again.num_copied == len(NAMES)
    read = load_scene(tmp_path / "again")
    expect_same(read, first, 1e-9)
    if format != "ace":
        assert read.mapping.names == first.mapping.names


def test_pinholes_of_different_focal_lengths_fit_into_a_plain_folder(tmp_path):
    cameras = [Camera.simple(90, (60, 80)), Camera.simple(70, (80, 60))]
    scene = ball_scene(cameras)
    save_scene(scene, tmp_path / "out")
    expect_same(load_scene(tmp_path / "out"), scene, 0.0001)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("format", ["plain", "tum", "colmap", "nerfstudio"])
def test_every_camera_model_is_kept(tmp_path, model, format):
    coefficients = {"alpha": 0.6, "beta": 1.1, "omega": 0.9}
    distortion = [coefficients.get(name, 0.002 * (i + 1)) for i, name in enumerate(model.distortion)]
    focals = [70.0] if model.one_focal else [70.0, 72.0]
    camera = Camera.from_params(model.name, [*focals, 41, 29, *distortion], (80, 60))
    scene = ball_scene([camera], NAMES[:2], 0, depth=False)
    if format == "colmap" and model.colmap_id is None:
        with pytest.raises(
            DatasetError, match="ball: colmap has no radial distortion up to k4.*nerfstudio, plain"
        ):
            save_scene(scene, tmp_path / "out", format)
        camera = Camera.from_params(model.name, [*focals, 41, 29, *distortion[:-1], 0.0], (80, 60))
        scene = replace(scene, mapping=replace(scene.mapping, cameras=[camera]))
    save_scene(scene, tmp_path / "out", format)
    expect_same_camera(load_scene(tmp_path / "out").mapping.cameras[0], camera)


@pytest.mark.parametrize("kind", ["txt", "bin"])
def test_colmap_itself_sees_the_same_pixels(tmp_path, kind):
    pytest.importorskip("PIL")
    pycolmap = pytest.importorskip("pycolmap")
    # COLMAP's texts cannot say spaces
    names = NAMES if kind == "bin" else [name.replace(" ", "_") for name in NAMES]
    scene = ball_scene([BENT, WIDE], names)
    save_scene(scene, tmp_path / "out", "colmap")
    assert len(list((tmp_path / "out" / "sparse" / "0").glob(f"*.{kind}"))) == 3
    model = pycolmap.Reconstruction(str(tmp_path / "out" / "sparse" / "0"))
    read = {image.name: image for image in model.images.values()}
    assert set(read) == set(names) and len(model.points3D) > 1000
    points = torch.rand(40, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 0.5
    for frame in [*scene.mapping, *scene.query]:
        assert frame.cam_from_world is not None
        points_world = frame.cam_from_world.inverse() @ (points + torch.tensor([0.0, 0.0, 2.0]))
        ours = frame.camera.project(frame.cam_from_world @ points_world)
        image = read[frame.name]
        theirs = [image.project_point(point) for point in points_world.numpy()]
        np.testing.assert_allclose(np.array(theirs), ours, rtol=0, atol=1e-9)
    for point in list(model.points3D.values())[::50]:
        (element,) = point.track.elements
        image = model.images[element.image_id]
        seen = image.points2D[element.point2D_idx].xy
        np.testing.assert_allclose(image.project_point(point.xyz), seen, rtol=0, atol=1e-6)
        x, y = np.floor(seen).astype(int)
        pixels = read_image(tmp_path / "out" / "images" / image.name)
        np.testing.assert_array_equal(point.color, pixels[y, x])


# ---- pixels --------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path, write_image) -> Path:
    """A plain folder of two JPEGs and a PNG, one of them in a folder."""
    folder = tmp_path / "photos"
    for name in ("a.jpg", "b/ä.jpg", "c.png"):
        write_image(folder / "images" / name)
    lines = [f"{name} 1 0 0 0 {i} 0 0\n" for i, name in enumerate(("a.jpg", "b/ä.jpg", "c.png"))]
    (folder / "poses.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "cameras.txt").write_text("1 PINHOLE 8 6 10 11 4 3\n")
    return folder


def test_a_recording_behind_a_url_is_copied_too(photos, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    for file in filter(Path.is_file, photos.rglob("*")):
        memory.pipe(f"/photos/{file.relative_to(photos).as_posix()}", file.read_bytes())
    assert save_scene(load_scene("memory://photos"), tmp_path / "out").num_copied == 3
    expect_same(load_scene(tmp_path / "out"), load_scene(photos))


@pytest.mark.parametrize("format", WRITERS)
def test_image_files_are_copied_byte_for_byte(photos, tmp_path, format):
    saved = save_scene(load_scene(photos), tmp_path / "out", format)
    assert saved.num_copied == 3
    for name, new in zip(("a.jpg", "b/ä.jpg", "c.png"), saved.names, strict=True):
        original, copy = photos / "images" / name, tmp_path / "out" / new
        assert copy.read_bytes() == original.read_bytes() and not copy.samefile(original)


def test_a_photo_taken_as_stored_is_copied_where_sizes_are_named(tmp_path, write_phone_photo):
    write_phone_photo(tmp_path / "in" / "images" / "a.jpg", orientation=6)
    (tmp_path / "in" / "poses.txt").write_text("a.jpg 1 0 0 0 0 0 0\n")
    (tmp_path / "in" / "cameras.txt").write_text("1 PINHOLE 40 24 10 11 20 12\n")
    scene = load_scene(tmp_path / "in")
    assert scene.stores_turned
    for format in WRITERS:
        saved = save_scene(scene, tmp_path / format, format)
        assert saved.num_copied == (format != "ace")
        expect_same(load_scene(tmp_path / format), scene)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_photo_taken_upright_is_stored_upright(tmp_path, write_phone_photo, orientation):
    write_phone_photo(tmp_path / "in" / "a.jpg", orientation)
    (tmp_path / "in" / "poses.txt").write_text("a.jpg 1 0 0 0 0 0 0 50\n")
    scene = load_scene(tmp_path / "in")
    for format in WRITERS:
        saved = save_scene(scene, tmp_path / format, format)
        assert saved.num_copied == 0 and saved.names[0].endswith(".png")
        expect_same(load_scene(tmp_path / format), scene)


def test_large_photos_that_have_to_be_turned_keep_their_size(tmp_path, write_phone_photo):
    photo = write_phone_photo(tmp_path / "in" / "a.jpg")
    small = photo.read_bytes()
    exif = small[2 : 4 + int.from_bytes(small[4:6], "big")]
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    large = cv2.imencode(".jpg", cv2.resize(noise, (2048, 1536)))[1].tobytes()
    photo.write_bytes(large[:2] + exif + large[2:])
    (tmp_path / "in" / "poses.txt").write_text("a.jpg 1 0 0 0 0 0 0 900\n")
    scene = load_scene(tmp_path / "in")
    assert scene.mapping[0].image.shape == (3, 1024, 768)  # decoded at a half
    save_scene(scene, tmp_path / "out", "colmap")
    assert read_image(tmp_path / "out" / "images" / "a.png").shape == (2048, 1536, 3)


def test_images_that_share_a_stem_keep_their_own_depth(tmp_path, write_image, caplog):
    write_image(tmp_path / "in" / "images" / "a.jpg")
    write_image(tmp_path / "in" / "images" / "a.png")
    matrix = np.eye(4).tolist()
    frames = [
        {"file_path": f"images/a.{ending}", "depth_file_path": f"{ending}.png", "transform_matrix": matrix}
        for ending in ("jpg", "png")
    ]
    for i, ending in enumerate(("jpg", "png")):
        cv2.imwrite(str(tmp_path / "in" / f"{ending}.png"), np.full((6, 8), 1000 * (i + 1), np.uint16))
    (tmp_path / "in" / "transforms.json").write_text(json.dumps({"fl_x": 10, "w": 8, "h": 6, "frames": frames}))
    scene = load_scene(tmp_path / "in")
    for format in WRITERS:
        save_scene(scene, tmp_path / format, format)
        expect_same(load_scene(tmp_path / format), scene, 1e-9)
    assert "1 images have other names there: a.png is images/a-2.png" in caplog.text


def test_names_stay_below_the_new_folder(tmp_path):
    names = ["../up.png", "/root.png", "no ending", "# comment.png", "line\nbreak.png", "x/1234.567"]
    scene = ball_scene([BENT], names, 1)
    for format in ("plain", "colmap", "nerfstudio", "tum"):
        save_scene(scene, tmp_path / format, format)
        read = load_scene(tmp_path / format)
        expect_same(read, scene, 0.001)
        stems = {name.removeprefix(FOLDER[format]) for name in read.mapping.names + read.query.names}
        assert {"up.png", "root.png", "no ending.png", "line_break.png", "x/1234.567.png"} < stems
    assert sorted(path.name for path in tmp_path.iterdir()) == ["colmap", "nerfstudio", "plain", "tum"]


@pytest.mark.parametrize("conventions", [Conventions(), Conventions(depth_scale=2.0)])
def test_a_damaged_image_is_named_and_left_out(photos, write_image, tmp_path, caplog, conventions):
    image = photos / "images" / "a.jpg"
    image.write_bytes(image.read_bytes()[:100])
    write_image(photos / "depth" / "c.png", dtype=np.uint16, channels=1)
    save_scene(read_as(load_scene(photos), conventions), tmp_path / "out")
    assert "1 of 3 images are damaged, left out: a.jpg" in caplog.text
    assert load_scene(tmp_path / "out").mapping.names == ["b/ä.jpg", "c.png"]


def test_an_image_of_another_size_is_refused(photos, tmp_path, write_image):
    write_image(photos / "images" / "c.png", (9, 6))
    with pytest.raises(DatasetError, match="c.png: the image is 9x6, but its intrinsics are for 8x6"):
        save_scene(load_scene(photos), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- depth ---------------------------------------------------------------------------------------


def test_millimetres_and_fifths_stay_as_they_are():
    for unit, reach in ((0.001, 65.0), (0.001, 30.0), (0.001, 5.0), (0.0002, 13.0), (0.0002, 1.0)):
        assert abs(unit / finest_unit(reach) - round(unit / finest_unit(reach))) < 1e-9
    for reach in np.geomspace(1e-6, 1e6, 500).tolist():
        assert reach / 65535 <= finest_unit(reach) <= 2.5 * reach / 65535 * (1 + 1e-12)


@pytest.mark.parametrize(("times", "format"), [(20, "tum"), (50, "nerfstudio"), (50, "ace"), (50, "plain")])
def test_depth_from_afar_has_a_unit_that_reaches_it(tmp_path, times, format, caplog):
    scene = read_as(ball_scene([PINHOLE]), Conventions(depth_scale=times))
    saved = save_scene(scene, tmp_path / "out", format)
    expect_same(load_scene(tmp_path / "out"), scene, saved.depth_unit)
    usual = WRITERS[format].DEPTH_UNIT
    assert ("other programs have to be told" in caplog.text) == (usual is not None)


def test_frames_without_depth_among_others_have_no_file(tmp_path, write_image):
    for i in range(3):
        write_image(tmp_path / "in" / "images" / f"{i}.png")
    write_image(tmp_path / "in" / "depth" / "1.png", dtype=np.uint16, channels=1)
    lines = [f"{i}.png 1 0 0 0 {i} 0 0 10\n" for i in range(3)]
    (tmp_path / "in" / "poses.txt").write_text("".join(lines))
    scene = load_scene(tmp_path / "in")
    for format in WRITERS:
        save_scene(scene, tmp_path / format, format)
        assert len([path for path in (tmp_path / format).rglob("*.png") if "depth" in path.parts[-2]]) == 1
        expect_same(load_scene(tmp_path / format), scene, 1e-6)


# ---- what formats mean ---------------------------------------------------------------------------


def test_what_conventions_mend_is_right_afterwards(tmp_path):
    right = ball_scene([PINHOLE])
    meant = Conventions("inverted", "xyzw", axes="RUB", depth_scale=0.5, focal_scale=1.25)
    scene = read_as(right, meant)
    for format in WRITERS:
        save_scene(scene, tmp_path / format, format)
        expect_same(load_scene(tmp_path / format), scene, 0.001)


def test_times_are_those_of_the_names_or_made_up(tmp_path):
    def times(names: list[str], folder: str) -> list[str]:
        save_scene(ball_scene([BENT], names, 0, depth=False), tmp_path / folder, "tum")
        lines = (tmp_path / folder / "rgb.txt").read_text().splitlines()
        return [line.split()[0] for line in lines[1:]]

    stamps = ["1305031102.175304", "1305031102.211214"]
    assert times([f"rgb/{stamp}.png" for stamp in stamps], "seconds") == stamps
    too_near = [f"cam0/14036365797635555{i}4.png" for i in (1, 9)]
    assert times(too_near, "less than a microsecond apart") == ["0.000000", "0.033333"]
    assert times(["1403636579763555584.png", "1403636579813555456.png"], "euroc")[1] == "1403636579.813555"
    assert times(["000000.png", "000001.png"], "counted") == ["0.000000", "0.033333"]
    assert times(["0.5.png", "1.5.png"], "small") == ["0.500000", "1.500000"]


def test_a_scale_of_its_own_is_told(tmp_path, caplog):
    scene = replace(ball_scene([BENT], depth=False), metric=False)
    for format, told in (("plain", True), ("tum", True), ("colmap", False), ("nerfstudio", False)):
        caplog.clear()
        save_scene(scene, tmp_path / format, format)
        assert ("will take them for metres" in caplog.text) == told
        assert load_scene(tmp_path / format).metric == told
    caplog.clear()
    save_scene(ball_scene([BENT], depth=False), tmp_path / "metric", "colmap")
    assert "colmap cannot say that lengths are metres, without depth" in caplog.text


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "cameras", "message"),
    [
        (
            "plain",
            [BENT, WIDE],
            "ball: plain has one camera .* here are 2 others; colmap and nerfstudio have any",
        ),
        ("plain", [Camera.simple(9, (8, 6)), Camera.simple(9, (6, 8))], "ball: plain has one camera"),
        (
            "tum",
            [PINHOLE, SIMPLE],
            "ball: tum has one camera for all images, here are 2; colmap and nerfstudio",
        ),
        (
            "ace",
            [BENT],
            "ball: ace has pinhole cameras only, here is OPENCV,80,60.*; colmap and nerfstudio have any",
        ),
    ],
)
def test_cameras_that_a_format_lacks_are_refused_with_one_that_has_them(tmp_path, format, cameras, message):
    with pytest.raises(DatasetError, match=message):
        save_scene(ball_scene(cameras, depth=False), tmp_path / "out", format)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_stays_as_it_is(tmp_path, monkeypatch):
    scene = ball_scene([BENT], NAMES[:2], 0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("dear diary")
    (tmp_path / "empty").mkdir()
    for name in ("full", "full/diary.txt"):
        with pytest.raises(DatasetError, match="expected a new or an empty folder to write into"):
            save_scene(scene, tmp_path / name)
    with pytest.raises(DatasetError, match="none/out: its folder does not exist"):
        save_scene(scene, tmp_path / "none" / "out")
    with pytest.raises(DatasetError, match="s3://x/y: expected a folder on this machine"):
        save_scene(scene, "s3://x/y")
    monkeypatch.chdir(tmp_path / "empty")
    save_scene(scene, ".")
    assert (
        len(load_scene(tmp_path / "empty").mapping) == 2 and Path("poses.txt").is_file()
    )  # where we still are
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["diary.txt"]


def test_a_format_that_there_is_not_is_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(ValueError, match="format: expected one of plain, colmap, .*, got 7scenes"):
        save_scene(ball_scene([BENT]), tmp_path / "out", "7scenes")


def test_a_scene_needs_frames_with_poses(tmp_path):
    scene = ball_scene([BENT])
    without = replace(scene, query=replace(scene.query, cam_from_world=None))
    for wrong in (without, replace(scene, mapping=scene.mapping[[]], query=scene.query[[]])):
        with pytest.raises(ValueError, match="scene: expected frames with poses"):
            save_scene(wrong, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, DatasetError, OSError(28, "No space left on device")])
def test_an_interrupt_leaves_nothing(tmp_path, error):
    def stop(fraction: float) -> None:
        if fraction > 0.7:
            raise error

    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(DatasetError if isinstance(error, OSError) else error):
            save_scene(ball_scene([BENT]), tmp_path / name, "colmap", stop)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_progress_only_grows_and_ends_at_one(tmp_path):
    for depth in (False, True):
        told: list[float] = []
        save_scene(ball_scene([BENT], depth=depth), tmp_path / str(depth), "plain", told.append)
        assert told == sorted(told) and told[-1] == 1


def test_the_files_of_queries_are_not_lost_in_the_log(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    save_scene(ball_scene([PINHOLE]), tmp_path / "out", "ace")
    assert "6 images have other names there: a/0.png is train/rgb/000000.png" in caplog.text
