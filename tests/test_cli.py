"""The command line: results where they were asked for, and one clear line for every mistake."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from ball_world import exact_map

import dsac
from dsac.cli import main
from dsac.datasets import load_scene, read_poses
from dsac.datasets.synthetic import synthetic_scene, write_scene
from dsac.mapping import MappingSettings, NetworkSettings, head_learner
from dsac.mapping.settings import FineTuningSettings
from dsac.networks.encoder import load_encoder
from dsac.networks.heads import HeadArchitecture, SceneHead
from dsac.scene_map import SceneMap

Run = Callable[..., tuple[int, str, str]]
Fails = Callable[..., str]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output and errors, without line breaks in the latter."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit:  # the parser's own mistakes
            assert isinstance(exit.code, int)
            code = exit.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run_command


@pytest.fixture
def fails(run: Run, tmp_path: Path) -> Fails:
    """The one line of a command that is a mistake and leaves everything in `tmp_path` as it was."""

    def run_command(*arguments: object) -> str:
        before = _content(tmp_path)
        code, _, err = run(*arguments)
        assert code == 2, err
        (line,) = [line for line in err.splitlines() if line.startswith("dsac: ")]
        assert "Traceback" not in err
        assert _content(tmp_path) == before
        return line

    return run_command


def _content(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A plain folder of three noisy photos with depth: enough to be mapped, not to be learned."""
    folder = tmp_path / "room"
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        cv2.imwrite(str(folder / "images" / f"{i}.jpg"), rng.integers(0, 256, (64, 96, 3), np.uint8))
        cv2.imwrite(str(folder / "depth" / f"{i}.png"), np.full((64, 96), 2000, np.uint16))
    _write_poses(folder, ["1 0 0 0 0 0 0", "1 0 0 0 0.1 0 0", "1 0 0 0 0.2 0 0"])
    return folder


def _write_poses(folder: Path, poses: list[str], focal: str = " 100") -> None:
    (folder / "poses.txt").write_text("".join(f"{i}.jpg {pose}{focal}\n" for i, pose in enumerate(poses)))


@pytest.fixture
def blank_map(tmp_path: Path) -> Path:
    """The map of a head that learned nothing."""
    encoder = load_encoder()
    torch.manual_seed(0)
    head = SceneHead(HeadArchitecture(encoder.num_features, 16, 1))
    info = replace(
        exact_map(480).info, encoder_id=encoder.id, encoder_digest=encoder.digest, head=head.architecture
    )
    SceneMap(head.requires_grad_(False), info).save(tmp_path / "blank.dsac")
    return tmp_path / "blank.dsac"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    noise = np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.jpg"), noise)
    return tmp_path / "photo.jpg"


# ---- from frames to poses ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corner of the synthetic room, every second frame of a short walk for mapping, and its map."""
    folder = tmp_path_factory.mktemp("corner")
    scene = synthetic_scene(num_mapping=240, num_query=1, size=(320, 240))
    walk = range(12)
    exact = scene.truths["exact"].take(np.array(walk))
    scene = replace(
        scene, mapping=scene.mapping[walk[::2]], query=scene.mapping[walk[1::2]], truths={"exact": exact}
    )
    write_scene(scene, folder / "scene")
    torch.set_num_threads(1)
    assert (
        main(["map", str(folder / "scene"), str(folder / "corner.dsac"), "--steps", "60", "--views", "18"]) == 0
    )
    return folder


def test_mapping_writes_a_map_and_its_log_and_nothing_else(corner: Path, run: Run) -> None:
    assert {path.name for path in corner.iterdir()} >= {"scene", "corner.dsac", "corner.dsac.jsonl"}
    assert not list(corner.glob("*.checkpoint")) and not list(corner.glob(".*"))
    log = [json.loads(line) for line in (corner / "corner.dsac.jsonl").read_text().splitlines()]
    assert [entry["phase"] for entry in log] == sorted(
        (entry["phase"] for entry in log), key="features training".find
    )
    assert log[-1]["step"] == 60 and log[-1]["fraction"] == 1.0
    code, out, _ = run("info", corner / "corner.dsac")
    assert code == 0
    assert "60 steps" in out and "dsac-lite0" in out and "6 frames" in out


def test_localize_tells_and_writes_poses(corner: Path, run: Run, tmp_path: Path) -> None:
    images = sorted((corner / "scene" / "images").iterdir())[1::2]
    code, out, _ = run(
        "localize",
        corner / "corner.dsac",
        *images,
        "--focal-px",
        262.5,
        "--output",
        tmp_path / "poses.txt",
        "--json",
    )
    assert code == 0
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["name"] for answer in answers] == [str(path) for path in images]
    found = {answer["name"]: answer for answer in answers if answer["success"]}
    assert len(found) >= 4
    written = read_poses(tmp_path / "poses.txt")
    assert written.names == list(found)
    truth = load_scene(corner / "scene").truths["poses"]
    for name, pose in zip(written.names, written.cam_from_world, strict=True):
        said = found[name]["cam_from_world"]
        assert pose.quaternion_wxyz.tolist() == pytest.approx(said["quaternion_wxyz"], abs=1e-6)
        assert pose.translation.tolist() == pytest.approx(said["translation"], abs=1e-6)
        assert found[name]["center"] == pytest.approx(pose.center.tolist(), abs=1e-5)
        assert np.shape(found[name]["covariance"]) == (6, 6)
        assert 0 <= found[name]["confidence"] <= 1 and found[name]["inliers"] > 0
        assert set(found[name]["timing_ms"]) == {"decode", "encode", "head", "solve", "align"}
        # of a map that was made in seconds
        assert pose.center_distance(truth.cam_from_world[truth.index[Path(name).name]]) < 0.5


def test_localize_says_a_line_for_each_photo(corner: Path, run: Run, tmp_path: Path) -> None:
    grey = np.full((240, 320), 128, np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    image = corner / "scene" / "images" / "mapping-005.jpg"
    camera = "PINHOLE,320,240,262.5,262.5,160,120"
    code, out, _ = run("localize", corner / "corner.dsac", image, tmp_path / "grey.png", "--camera", camera)
    assert code == 0
    first, second, total = out.splitlines()
    assert re.match(rf"{re.escape(str(image))}  at \(\S+ \S+ \S+\) m  ", first) and "inliers" in first
    assert second.startswith(f"{tmp_path / 'grey.png'}  not localized")
    assert total == "1 of 2 localized"


def test_photos_that_are_not_localized_have_no_line_in_the_poses_file(
    blank_map: Path, run: Run, tmp_path: Path, photo: Path
) -> None:
    code, out, _ = run(
        "localize", blank_map, photo, "--focal-px", 100, "--output", tmp_path / "poses.txt", "--json"
    )
    assert code == 0
    answer = json.loads(out)
    assert answer["success"] is False
    assert answer["cam_from_world"] is answer["center"] is answer["covariance"] is None
    assert (tmp_path / "poses.txt").read_text() == ""


@pytest.mark.parametrize(
    ("dtype", "channels"), [(np.uint8, 1), (np.uint8, 4), (np.uint16, 1), (np.uint16, 3)], ids=str
)
def test_a_grey_transparent_or_16_bit_photo_is_localized_like_any_other(
    corner: Path, run: Run, tmp_path: Path, dtype: type, channels: int
) -> None:
    image = cv2.imread(str(corner / "scene" / "images" / "mapping-005.jpg"))
    assert image is not None
    if channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if channels == 4:
        image = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), image.astype(dtype) * (257 if dtype == np.uint16 else 1))
    code, out, _ = run("localize", corner / "corner.dsac", path, "--focal-px", 262.5)
    assert code == 0
    assert out.startswith(f"{path}  ")
    if channels > 1:
        assert "1 of 1 localized" in out


def test_evaluate_writes_table_report_and_csv(corner: Path, run: Run, tmp_path: Path) -> None:
    report, csv = tmp_path / "report.html", tmp_path / "report.csv"
    code, out, _ = run("evaluate", corner / "corner.dsac", corner / "scene", "--report", report, "--csv", csv)
    assert code == 0
    assert "ms an image" in out and str(report) in out
    assert report.read_text().startswith("<!doctype html>".upper()) or "<html" in report.read_text()
    rows = csv.read_text().splitlines()
    assert len(rows) == 1 + 6


def test_evaluate_draws_the_evidence(corner: Path, run: Run, tmp_path: Path) -> None:
    report, table, figures = tmp_path / "report.html", tmp_path / "report.csv", tmp_path / "new" / "figures"
    options = ("--report", report, "--csv", table, "--figures", figures)
    code, out, _ = run("evaluate", corner / "corner.dsac", corner / "scene", *options)
    assert code == 0 and "evidence.html" in "".join(out.split())
    expected = {"inlier_ratios.svg", "accuracy.svg", "times.svg", "evidence.csv", "evidence.html"}
    assert {path.name for path in figures.iterdir()} == expected
    rows = list(csv.DictReader((figures / "evidence.csv").read_text().splitlines()))
    assert len(rows) == 6
    # a map that was made in seconds has inliers, and outliers that spoil the naive fit
    assert all(0.1 < float(row["inlier_ratio"]) < 1 for row in rows)
    worse = [float(row["naive_fit_translation_cm"]) > float(row["argmax_translation_cm"]) for row in rows]
    assert sum(worse) >= 5


def test_figures_need_depth(corner: Path, fails: Fails, tmp_path: Path) -> None:
    scene = tmp_path / "scene"
    shutil.copytree(corner / "scene", scene, ignore=shutil.ignore_patterns("depth*"))
    report, table = tmp_path / "a.html", tmp_path / "a.csv"
    files = ("--report", report, "--csv", table, "--figures", tmp_path / "figures")
    line = fails("evaluate", corner / "corner.dsac", scene, *files)
    assert "figures need query images with poses and depth" in line


def test_evaluate_scores_a_poses_file(corner: Path, run: Run, tmp_path: Path) -> None:
    truth = corner / "scene" / "poses.txt"
    lines = truth.read_text().splitlines()
    broken = lines[1].split()
    broken[5] = "nan"
    (tmp_path / "estimates.txt").write_text("\n".join([lines[0], " ".join(broken), *lines[2:]]) + "\n")
    code, out, err = run("evaluate", "--poses", tmp_path / "estimates.txt", "--truth", truth)
    assert code == 0
    assert "91.7" in out  # 11 of 12
    assert f"1 of 12 poses are NaN or infinite, left out: {broken[0]}" in " ".join(err.split())


def test_exif_focal_lengths_are_told(blank_map: Path, run: Run, tmp_path: Path, photo: Path) -> None:
    data = photo.read_bytes()
    tiff = b"II" + struct.pack("<HIHHHIIIHHHIHHI", 42, 8, 1, 0x8769, 4, 1, 26, 0, 1, 0xA405, 3, 1, 28, 0, 0)
    exif = b"Exif\0\0" + tiff
    photo.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    code, _, err = run("localize", blank_map, photo)
    assert code == 0
    assert "focal length from EXIF data" in " ".join(err.split())


# ---- networks of the papers ----------------------------------------------------------------------


def test_lengths_are_metres_where_the_recording_says_so(blank_map: Path, run: Run, corner: Path) -> None:
    image = corner / "scene" / "images" / "mapping-005.jpg"
    told = {}
    for metric in (True, False, None):
        scene_map = SceneMap.load(corner / "corner.dsac")
        path = blank_map.with_name("told.dsac")
        replace(scene_map, info=replace(scene_map.info, metric=metric)).save(path)
        _, info, _ = run("info", path)
        _, line, _ = run("localize", path, image)
        _, answer, _ = run("localize", path, image, "--json")
        assert json.loads(answer)["metric"] is metric
        assert (") m  " in line) == bool(metric)
        told[metric] = re.findall(r"in (.*)", info)[0], re.findall(r"positions are in (.*)", line)
    assert told == {
        True: ("metres", []),
        False: (_OWN, [_OWN]),
        None: ("the unit of the recording's poses", ["the unit of the recording's poses"]),
    }


_OWN = "a unit of the recording's own, not metres"


def test_photos_of_the_mapping_cameras_shape_need_no_focal_length(corner: Path, run: Run) -> None:
    _, info, _ = run("info", corner / "corner.dsac")
    (camera,) = re.findall(r"camera +(\S+)", info)
    assert camera == "SIMPLE_PINHOLE,320,240,262.5,160,120"
    image = corner / "scene" / "images" / "mapping-005.jpg"
    _, guessed, err = run("localize", corner / "corner.dsac", image, "--json")
    _, given, _ = run("localize", corner / "corner.dsac", image, "--json", "--camera", camera)
    assert json.loads(guessed)["cam_from_world"] == json.loads(given)["cam_from_world"] is not None
    assert f"the mapping images' is taken: {camera} (photos of its shape: 1)" in " ".join(err.split())


def test_a_photo_that_a_phone_stored_turned_is_localized_like_any_other(
    corner: Path, run: Run, tmp_path: Path
) -> None:
    image = cv2.imread(str(corner / "scene" / "images" / "mapping-005.jpg"))
    assert image is not None
    data = cv2.imencode(".jpg", cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE))[1].tobytes()
    exif = b"Exif\0\0II" + struct.pack("<HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    path = tmp_path / "phone.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    code, out, _ = run("localize", corner / "corner.dsac", path, "--json")
    answer = json.loads(out)
    assert code == 0 and answer["success"]
    scene = load_scene(corner / "scene")
    truth = scene.truths["poses"]
    center = truth.cam_from_world[truth.index["mapping-005.jpg"]].center
    assert (torch.tensor(answer["center"]) - center).norm() < 0.5


def test_a_network_of_the_papers_goes_through_the_same_commands(corner: Path, run: Run, tmp_path: Path) -> None:
    path, scene = tmp_path / "star.dsac", corner / "scene"
    code, _, _ = run("map", scene, path, "--regressor", "dsac-star", "--width", 0.03125, "--steps", 2)
    assert code == 0
    log = [json.loads(line) for line in path.with_name("star.dsac.jsonl").read_text().splitlines()]
    assert {entry["phase"] for entry in log} == {"features", "training"} and log[-1]["step"] == 2
    code, out, _ = run("info", path)
    assert code == 0
    assert "dsac-star on grey images" in " ".join(out.split()) and "2 steps" in out
    code, out, _ = run("localize", path, scene / "images" / "mapping-005.jpg", "--focal-px", 262.5)
    assert code == 0 and "0 of 1 localized" in out
    code, out, _ = run("evaluate", path, scene, "--report", tmp_path / "r.html", "--csv", tmp_path / "r.csv")
    assert code == 0 and "ms an image" in out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--width", 0.5), "width: expected with --regressor dsac or dsac-star only"),
        (("--regressor", "dsac", "--views", 5), "views: expected with the shared encoder only, got dsac"),
        (("--regressor", "dsac", "--width", 0), "width: expected more than 0, got 0"),
        (("--regressor", "dsac-star", "--steps", 0), "steps: expected more than 0, got 0"),
    ],
)
def test_options_that_mean_nothing_to_a_regressor_are_refused(
    room: Path, fails: Fails, options: tuple, expected: str
) -> None:
    assert expected in fails("map", room, room.parent / "a.dsac", *options)


# ---- interrupts ----------------------------------------------------------------------------------


def _interrupt_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, once."""
    update, calls = head_learner.HeadLearner.update, []

    def interrupted(*arguments: Any) -> object:
        calls.append(None)
        if len(calls) == steps + 1:
            raise KeyboardInterrupt
        return update(*arguments)

    monkeypatch.setattr(head_learner.HeadLearner, "update", interrupted)


def test_ctrl_c_while_training_leaves_a_map_and_resume_goes_on(
    room: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = room.parent / "room.dsac"
    command = ("map", room, path, "--steps", 6, "--views", 3, "--buffer-size", 2000)
    with monkeypatch.context() as patch:
        _interrupt_after(4, patch)
        code, out, err = run(*command)
    assert code == 130
    assert "after 4 steps: usable as it is, --resume goes on" in " ".join(out.split())
    assert err.splitlines()[-1] == "interrupted"
    assert SceneMap.load(path).info.training["steps"] == 4
    assert path.with_name("room.dsac.checkpoint").is_file()

    code, _, _ = run(*command, "--resume")
    assert code == 0
    assert SceneMap.load(path).info.training["steps"] == 6
    assert {p.name for p in room.parent.iterdir()} == {"room", "room.dsac", "room.dsac.jsonl"}
    log = [json.loads(line) for line in path.with_name("room.dsac.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if entry["phase"] == "training"][-1] == 6
    assert 4 in [entry["step"] for entry in log]  # of the first part


def test_a_map_that_cannot_be_saved_is_not_lost(room: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = room.parent / "room.dsac"
    checkpoint = path.with_name("room.dsac.checkpoint")
    command = ("map", room, path, "--steps", 6, "--views", 3, "--buffer-size", 2000)
    with monkeypatch.context() as patch:
        _interrupt_after(4, patch)
        run(*command)

    def full(scene_map: SceneMap, path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(SceneMap, "save", full)
        code, _, err = run(*command, "--resume")
    assert code == 2 and "No space left on device" in " ".join(err.split())
    assert checkpoint.is_file()
    assert run(*command, "--resume")[0] == 0
    assert SceneMap.load(path).info.training["steps"] == 6
    assert not checkpoint.exists()


def test_ctrl_c_before_training_leaves_nothing(room: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(head_learner, "collect", interrupt)
    before = _content(room.parent)
    code, _, err = run("map", room, room.parent / "room.dsac")
    assert code == 130 and err.splitlines()[-1] == "interrupted"
    assert _content(room.parent) == before


# ---- bad scenes ----------------------------------------------------------------------------------


def test_a_missing_or_empty_folder_is_named(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    for name in ("none", "empty", "file"):
        line = fails("map", tmp_path / name, tmp_path / "a.dsac")
        assert f"{tmp_path / name}: expected a folder with images and poses" in line


def test_images_without_poses_and_poses_without_images_are_named(room: Path, fails: Fails) -> None:
    target = room.parent / "a.dsac"
    poses = (room / "poses.txt").read_text()
    (room / "poses.txt").unlink()
    assert f"{room}: found 3 images but no poses" in fails("map", room, target)
    (room / "poses.txt").write_text(poses)
    for image in (room / "images").iterdir():
        image.unlink()
    line = fails("map", room, target)
    assert "none of the 3 images" in line and "0.jpg" in line


def test_a_pose_that_is_no_rigid_motion_is_named(room: Path, fails: Fails) -> None:
    _write_poses(room, ["1 0 0 0 0 0 0", "2 0 0 0 0 0 0", "1 0 0 0 0 0 0"])
    line = fails("map", room, room.parent / "a.dsac")
    assert "poses.txt, line 2: expected a unit quaternion" in line and "length 2" in line


def test_only_nan_poses_leave_nothing_to_map(room: Path, run: Run, fails: Fails) -> None:
    _write_poses(room, ["1 0 0 0 nan 0 0"] * 3)
    assert "poses.txt" in fails("map", room, room.parent / "a.dsac")
    _, _, err = run("map", room, room.parent / "a.dsac")
    assert "0.jpg, 1.jpg, 2.jpg" in " ".join(err.split())


def test_no_intrinsics_anywhere_is_told_with_what_to_do(room: Path, fails: Fails) -> None:
    _write_poses(room, ["1 0 0 0 0 0 0"] * 3, focal="")
    line = fails("map", room, room.parent / "a.dsac")
    assert f"{room}: no intrinsics; add the focal length" in line


@pytest.mark.parametrize("size", [0, 400])
def test_a_damaged_image_is_named(room: Path, fails: Fails, size: int) -> None:
    image = room / "images" / "1.jpg"
    image.write_bytes(image.read_bytes()[:size])
    line = fails("map", room, room.parent / "a.dsac", "--views", 3)
    assert str(image) in line and ("empty" if size == 0 else "truncated") in line


def test_depth_of_another_size_names_both(room: Path, fails: Fails) -> None:
    depth = room / "depth" / "2.png"
    cv2.imwrite(str(depth), np.full((32, 48), 2000, np.uint16))
    line = fails("map", room, room.parent / "a.dsac", "--views", 3)
    assert f"{depth}: expected depth of the image's size 96x64, got 48x32" in line


def test_an_image_of_another_size_names_both(room: Path, fails: Fails) -> None:
    cv2.imwrite(str(room / "images" / "2.jpg"), np.zeros((32, 48, 3), np.uint8))
    line = fails("map", room, room.parent / "a.dsac", "--views", 3)
    assert "2.jpg: the image is 48x32, but its intrinsics are for 96x64" in line


def test_a_truth_that_the_scene_does_not_have_is_named(room: Path, fails: Fails) -> None:
    assert "expected a truth among poses, got slam" in fails("map", room, room.parent / "a", "--truth", "slam")


def test_a_scene_without_queries_cannot_be_evaluated(room: Path, blank_map: Path, fails: Fails) -> None:
    assert f"{room}: expected query images, found none" in fails("evaluate", blank_map, room)


# ---- bad outputs ---------------------------------------------------------------------------------


def test_a_full_disk_leaves_nothing_and_names_the_map(
    room: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    path = room.parent / "room.dsac"
    line = fails("map", room, path, "--steps", 1, "--views", 3, "--buffer-size", 1000)
    assert line == f"dsac: {path}: No space left on device"


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a scene, a map or photos would be work."""

    def work(*_: object, **__: object) -> None:
        raise AssertionError("the output was not checked first")

    for name in ("dsac.datasets.load_scene", "dsac.datasets.load_photos", "dsac.scene_map.SceneMap.load"):
        monkeypatch.setattr(name, work)


@pytest.mark.parametrize("command", ["map", "localize", "evaluate"])
def test_an_output_that_cannot_be_written_is_found_before_the_work(
    command: str, fails: Fails, tmp_path: Path, no_work: None
) -> None:
    (tmp_path / "file").write_text("no folder")
    before = {
        "map": ["map", "scene"],
        "localize": ["localize", "a.dsac", "a.jpg", "--focal-px", 100, "--output"],
    }
    before["evaluate"] = ["evaluate", "a.dsac", "scene", "--report"]
    for output, expected in [
        (tmp_path / "none" / "out", "its folder does not exist"),
        (tmp_path / "file" / "out", "its folder does not exist"),
        (tmp_path, "expected a file to write, got a folder"),
    ]:
        line = fails(*before[command], output)
        assert str(output) in line and expected in line


@pytest.mark.parametrize("kind", ["photo.jpg", "notes.txt", "blank.dsac"])
def test_nothing_but_an_older_result_is_replaced(
    blank_map: Path, photo: Path, fails: Fails, tmp_path: Path, no_work: None, kind: str
) -> None:
    (tmp_path / "notes.txt").write_text("remember the milk")
    other = tmp_path / kind
    commands = [
        ["localize", "a.dsac", photo, "--focal-px", 100, "--output", other],
        ["evaluate", "a.dsac", "scene", "--report", other],
        ["evaluate", "a.dsac", "scene", "--csv", other],
    ]
    if kind != "blank.dsac":
        commands += [["map", "scene", other], ["fine-tune", "a.dsac", "scene", "--output", other]]
    for command in commands:
        assert f"{other}: is there already and is something else" in fails(*command)


def test_a_result_replaces_an_older_one(corner: Path, run: Run, tmp_path: Path) -> None:
    image = corner / "scene" / "images" / "mapping-005.jpg"
    for _ in range(2):
        assert run("localize", corner / "corner.dsac", image, "--output", tmp_path / "poses.txt")[0] == 0
        outputs = ["--report", tmp_path / "a.html", "--csv", tmp_path / "a.csv"]
        assert run("evaluate", corner / "corner.dsac", corner / "scene", *outputs)[0] == 0
        new = ["--steps", 2, "--views", 6, "--landmarks", 0]
        assert run("map", corner / "scene", tmp_path / "new map.dsac", *new)[0] == 0


def test_the_next_command_can_be_pasted(corner: Path, run: Run, tmp_path: Path) -> None:
    _, out, _ = run(
        "map", corner / "scene", tmp_path / "ä b.dsac", "--steps", 2, "--views", 6, "--landmarks", 0
    )
    assert f"Next: dsac evaluate '{tmp_path / 'ä b.dsac'}' {corner / 'scene'}\n" in out


def test_fine_tuning_that_fails_leaves_no_log(room: Path, blank_map: Path, fails: Fails) -> None:
    _write_poses(room, ["1 0 0 0 0 0 0"])  # too few frames
    output = room / "a.dsac"
    assert "four or more frames" in fails("fine-tune", blank_map, room, "--output", output)
    assert "seed: expected 0 or more" in fails("fine-tune", blank_map, room, "--output", output, "--seed", -1)


def test_fine_tuning_names_a_map_of_another_encoder(room: Path, blank_map: Path, fails: Fails) -> None:
    scene_map = SceneMap.load(blank_map)
    replace(scene_map, info=replace(scene_map.info, encoder_id="other")).save(blank_map)
    assert f"{blank_map}: the map was made with encoder other" in fails("fine-tune", blank_map, room)


# ---- bad maps and photos -------------------------------------------------------------------------


def test_a_bad_map_is_named(blank_map: Path, fails: Fails, photo: Path, tmp_path: Path) -> None:
    good = blank_map.read_bytes()
    bad = {
        "none": (None, "found nothing"),
        "half": (good[: len(good) // 2], "half of one"),
        "empty": (b"", "half of one"),
        "text": (b"dear diary", "something else"),
        "old": (
            good.replace(b'\\"format_version\\": 1', b'\\"format_version\\": 0'),
            "expected map format 1, got 0",
        ),
        "foreign": (good.replace(load_encoder().digest.encode(), b"0123456789abcdef"), "0123456789abcdef"),
    }
    for name, (content, expected) in bad.items():
        path = tmp_path / f"{name}.dsac"
        if content is not None:
            assert content != good
            path.write_bytes(content)
        line = fails("localize", path, photo, "--focal-px", 100)
        assert str(path) in line and expected in line


def test_a_photo_of_one_colour_is_not_localized(corner: Path, run: Run, tmp_path: Path) -> None:
    for value in (0, 128, 255):
        cv2.imwrite(str(tmp_path / "plain.png"), np.full((240, 320, 3), value, np.uint8))
        code, out, _ = run("localize", corner / "corner.dsac", tmp_path / "plain.png", "--focal-px", 262.5)
        assert code == 0
        assert "not localized" in out


def test_bad_photos_are_named(blank_map: Path, fails: Fails, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "zero.jpg").write_bytes(b"")
    (tmp_path / "half.jpg").write_bytes(photo.read_bytes()[:2000])
    (tmp_path / "text.jpg").write_text("no image")
    for name, expected in [
        ("none.jpg", "found nothing"),
        ("empty", "found none in it"),
        ("zero.jpg", "empty"),
        ("half.jpg", "truncated"),
        ("text.jpg", "expected an image"),
    ]:
        line = fails(
            "localize", blank_map, tmp_path / name, "--focal-px", 100, "--output", tmp_path / "out.txt"
        )
        assert str(tmp_path / name) in line and expected in line


def test_photos_behind_a_url_are_refused_by_that_name(blank_map: Path, fails: Fails) -> None:
    url = "https://example.org/a.jpg"
    assert f"{url}: expected photos on this machine, got a URL" in fails("localize", blank_map, url)


def test_a_map_that_hardly_learned_says_so(corner: Path, run: Run, tmp_path: Path) -> None:
    options = ("--steps", 1, "--views", 6, "--landmarks", 0)
    code, _, error = run("map", corner / "scene", tmp_path / "a.dsac", *options)
    assert code == 0 and "photos will hardly be localized" in error


def test_photos_that_cannot_be_used_are_named_and_the_others_are_localized(
    corner: Path, run: Run, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(corner / "scene" / "images", photos)
    names = sorted(path.name for path in photos.iterdir())
    damaged, text, turned = photos / names[1], photos / "a text.jpg", photos / "turned.png"
    cv2.imwrite(str(turned), cv2.rotate(cv2.imread(str(photos / names[0])), cv2.ROTATE_90_CLOCKWISE))
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    text.write_text("no photo")
    code, out, error = run("localize", corner / "corner.dsac", photos, "--output", tmp_path / "out.txt")
    assert code == 2
    for path in (damaged, text, turned):
        assert f"{path}: " in error
    assert "turned.png: no focal length" in error
    assert f"3 of {len(names) + 2} photos could not be used" in error
    assert [line.split()[0] for line in out.splitlines()[:-1]] == [names[0], *names[2:]]
    assert (tmp_path / "out.txt").is_file()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "photo.jpg: no focal length in its EXIF data; give it in pixels (--focal-px) or the --camera"),
        (["--focal-px", "-5"], "positive focal"),
        (["--focal-px", "nan"], "positive focal"),
        (
            ["--focal-px", "9", "--camera", "SIMPLE_PINHOLE,128,96,9,64,48"],
            "either camera or focal_px, got both",
        ),
        (["--camera", "SIMPLE_PINHOLE"], "--camera SIMPLE_PINHOLE: expected MODEL,WIDTH,HEIGHT,PARAMS..."),
        (["--camera", "SIMPLE_PINHOLE,128,96,9,64"], "expected 3 parameters, got 2"),
        (["--camera", "SIMPLE_PINHOLE,128,96,0,64,48"], "positive focal"),
        (["--camera", "SIMPLE_PINHOLE,128,96,nine,64,48"], "expected MODEL,WIDTH,HEIGHT,PARAMS..."),
        (["--camera", "SIMPLE_PINHOLE,inf,96,9,64,48"], "expected MODEL,WIDTH,HEIGHT,PARAMS..."),
        (["--camera", "LENS,128,96,9,64,48"], "expected one of SIMPLE_PINHOLE, PINHOLE"),
        (
            ["--camera", "SIMPLE_PINHOLE,96,128,9,64,48"],
            "the image is 128x96, but its intrinsics are for 96x128",
        ),
    ],
    ids=str,
)
def test_a_photo_without_a_usable_camera_is_told_what_is_missing(
    blank_map: Path, fails: Fails, photo: Path, options: list[str], expected: str
) -> None:
    assert expected in fails("localize", blank_map, photo, *options)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["map", "ROOM", "OUT", "--steps", "0"], "steps: expected more than 0, got 0"),
        (["map", "ROOM", "OUT", "--minutes", "-1"], "minutes: expected more than 0, got -1"),
        (["map", "ROOM", "OUT", "--views", "0"], "num_views: expected more than 0, got 0"),
        (["map", "ROOM", "OUT", "--buffer-size", "0"], "buffer_size: expected more than 0, got 0"),
        (["map", "ROOM", "OUT", "--landmarks", "-1"], "num_landmarks: expected 0 or more, got -1"),
        (["map", "ROOM", "OUT", "--seed", "-1"], "seed: expected 0 or more, got -1"),
        (["map", "ROOM", "OUT", "--resume"], "OUT.checkpoint: nothing to resume"),
        (["localize", "MAP"], "no images given"),
        (["evaluate"], "evaluate needs MAP and SCENE, or --poses FILE --truth FILE"),
        (["evaluate", "MAP"], "evaluate needs MAP and SCENE"),
        (["evaluate", "--poses", "none.txt"], "needs --truth FILE"),
        (["evaluate", "--poses", "none.txt", "--truth", "none.txt"], "none.txt: no such file"),
    ],
    ids=str,
)
def test_a_command_that_means_nothing_is_told_what_is_expected(
    room: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(room.parent)
    assert expected in fails(*("room" if argument == "ROOM" else argument for argument in arguments))


def test_a_damaged_checkpoint_is_named(room: Path, fails: Fails) -> None:
    checkpoint = room.parent / "a.dsac.checkpoint"
    checkpoint.write_text("no checkpoint")
    line = fails("map", room, room.parent / "a.dsac", "--resume")
    assert f"{checkpoint}: expected the checkpoint of a mapping" in line


@pytest.mark.parametrize("arguments", [["fly"], ["map"], ["localize", "a.dsac", "b.jpg", "--focal-px", "long"]])
def test_the_parser_answers_with_2_too(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert code == 2 and err and not out


def test_help_has_a_line_for_each_verb_and_the_verbs_help_the_whole_story(run: Run) -> None:
    code, brief, _ = run("--help")
    assert code == 0 and run()[1] == brief
    assert "Learn a map from a folder of posed images." in brief and "transforms.json" not in brief
    _, whole, _ = run("map", "--help")
    assert "transforms.json" in whole and "$ dsac map 7scenes/redkitchen kitchen.dsac\n" in whole
    assert "SCENE MAP" in whole and "None" not in whole
    assert run("--version")[:2] == (0, f"dsac {dsac.__version__}\n")


@pytest.mark.parametrize(
    ("option", "default"),
    [
        ("map --steps", f"{MappingSettings.steps}; a network of the papers {NetworkSettings.steps}"),
        ("map --views", MappingSettings.num_views),
        ("map --buffer-size", MappingSettings.buffer_size),
        ("map --landmarks", MappingSettings.num_landmarks),
        ("fine-tune --steps", FineTuningSettings.steps),
        ("fine-tune --learning-rate", FineTuningSettings.learning_rate),
        ("fine-tune --views-per-frame", FineTuningSettings.views_per_frame),
    ],
)
def test_the_help_tells_the_defaults_of_the_settings(run: Run, option: str, default: object) -> None:
    verb, name = option.split()
    text = re.sub(r"[│\s]+", " ", run(verb, "--help")[1])
    (told,) = re.findall(rf"{name} [A-Z]+ .*?default: (.*?)\)", text)
    assert told == str(default)


def test_the_module_is_the_command() -> None:
    called = subprocess.run([sys.executable, "-m", "dsac", "--version"], capture_output=True, text=True)
    assert (called.returncode, called.stdout) == (0, f"dsac {dsac.__version__}\n")


def test_a_missing_accelerator_is_told(room: Path, fails: Fails) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert "PyTorch sees no CUDA device" in fails("map", room, room.parent / "a.dsac", "--device", "cuda")


def test_names_with_brackets_are_printed_as_they_are(blank_map: Path, run: Run, photo: Path) -> None:
    folder = photo.parent / "[bold]"
    folder.mkdir()
    odd = photo.rename(folder / "[red].jpg")
    code, out, _ = run("localize", blank_map, odd, "--focal-px", 100)
    assert code == 0 and str(odd) in out
    moved = blank_map.rename(folder / "map[1].dsac")
    code, out, _ = run("info", moved)
    assert code == 0 and "map[1].dsac" in out
    (folder / "[x]").mkdir()
    code, _, err = run("map", folder / "[x]", folder / "new.dsac")
    assert code == 2 and str(folder / "[x]") in err


def test_solvers_are_timed_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    from dsac.evaluation import solver_benchmark

    monkeypatch.setattr(solver_benchmark, "peers", lambda data: {"nobody": lambda *arguments: None})
    assert main(["bench", "solver", "--frames", "1", "--repeats", "1", "--output", str(tmp_path / "new")]) == 0
    printed = capsys.readouterr().out
    assert "CPU ms an image" in printed and "r05_blob" in printed
    rows = json.loads((tmp_path / "new" / "solver.json").read_text())["rows"]
    found = {(row["solver"], row["input"]): row["found_percent"] for row in rows}
    assert found["dsac", "r40"] == found["dsac, RGB-D", "r40"] == 100 and found["nobody", "r40"] == 0
    error = {row["solver"]: row["median_cm"] for row in rows if row["input"] == "r40"}
    assert error["dsac, RGB-D"] < error["dsac"]
    assert "| nobody |" in (tmp_path / "new" / "solver.md").read_text()
    assert "images a second" in printed and "| 1 thread |" in (tmp_path / "new" / "solver.md").read_text()


def test_wrong_solver_inputs_are_told_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    empty, file, broken = tmp_path / "empty", tmp_path / "file", tmp_path / "broken"
    empty.mkdir()
    file.touch()
    broken.mkdir()
    (broken / "input_r05.npz").write_bytes(b"PK\x03\x04 not a zip")
    for folder, told in (
        (empty, "found none"),
        (file, "found a file"),
        (tmp_path / "missing", "found no such folder"),
        (broken, "input_r05.npz: expected an .npz file"),
    ):
        assert main(["bench", "solver", "--inputs", str(folder)]) == 2
        err = capsys.readouterr().err
        assert str(folder) in err.replace("\n", "") and told in err.replace("\n", " ")
        assert "Traceback" not in err
    np.savez(broken / "input_r05.npz", coords=np.zeros((1, 6, 8, 3)))
    assert main(["bench", "solver", "--inputs", str(broken)]) == 2
    assert "coords, u, v, K, gt_pose" in capsys.readouterr().err.replace("\n", " ")
    rest = {"u": np.zeros((6, 8)), "v": np.zeros((6, 8)), "K": np.ones(3), "gt_pose": np.eye(4)[None]}
    np.savez(broken / "input_r05.npz", coords=np.zeros((1, 6, 8, 3)), cam=np.zeros((1, 6, 7, 3)), **rest)
    assert main(["bench", "solver", "--inputs", str(broken)]) == 2
    assert "cam: expected" in capsys.readouterr().err.replace("\n", " ")


def test_results_that_could_not_be_written_are_told_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dsac.evaluation import solver_benchmark

    monkeypatch.setattr(solver_benchmark, "benchmark_solvers", lambda *_: pytest.fail("worked"))
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "solver.json").mkdir(parents=True)
    for output in ("file", "folder"):
        assert main(["bench", "solver", "--output", str(tmp_path / output)]) == 2
        assert str(tmp_path / output) in capsys.readouterr().err.replace("\n", "")
