from __future__ import annotations

import logging
import math
import tempfile
from pathlib import Path

import fsspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac.datasets import NamedPoses, read_poses, write_poses
from dsac.errors import DatasetError
from dsac.geometry import Pose


def some_poses(count: int, with_focal: bool, seed: int = 0) -> NamedPoses:
    generator = torch.Generator().manual_seed(seed)
    increments = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    focal_px = 500 + torch.rand(count, generator=generator, dtype=torch.float64) if with_focal else None
    return NamedPoses([f"seq-01/frame {i}.png" for i in range(count)], Pose.exp(increments), focal_px)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(0, 5), with_focal=st.booleans(), seed=st.integers(0, 1000))
def test_written_poses_are_read_back(count, with_focal, seed):
    poses = some_poses(count, with_focal, seed)
    with tempfile.TemporaryDirectory() as folder:
        write_poses(f"{folder}/poses.txt", poses)
        back = read_poses(f"{folder}/poses.txt")
        assert [path.name for path in Path(folder).iterdir()] == ["poses.txt"]
    assert back.names == poses.names
    # twelve digits are written
    torch.testing.assert_close(back.cam_from_world.matrix, poses.cam_from_world.matrix, atol=1e-10, rtol=1e-10)
    if with_focal and count:
        assert poses.focal_px is not None and back.focal_px is not None
        torch.testing.assert_close(back.focal_px, poses.focal_px, atol=0, rtol=1e-10)
    else:
        assert back.focal_px is None


def test_poses_are_read_and_written_on_remote_storage():
    poses = some_poses(3, with_focal=True)
    write_poses("memory://estimates/poses.txt", poses)
    assert read_poses("memory://estimates/poses.txt").names == poses.names
    with fsspec.open("memory://estimates/poses.txt", "r") as file:
        assert file.read().count("\n") == 3  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("columns", "focal_px"), [("", None), (" 525.5", [525.5]), (" 0.6 0.03", None), (" 1 2 3", None)]
)
def test_columns_after_the_pose(tmp_path, columns, focal_px):
    (tmp_path / "p.txt").write_text(f"a.png 0 1 0 0 1 2 3{columns}\n")
    poses = read_poses(tmp_path / "p.txt")
    assert poses.names == ["a.png"]
    assert poses.cam_from_world.rotation[0].diagonal().tolist() == [1, -1, -1]
    assert poses.cam_from_world.translation.tolist() == [[1, 2, 3]]
    assert (None if poses.focal_px is None else poses.focal_px.tolist()) == focal_px


def test_comments_blank_lines_carriage_returns_and_byte_order_marks_are_skipped(tmp_path):
    text = "\ufeff# name qw ...\r\n\r\na b.png 1 0 0 0 0 0 0\r\n  # more\r\n2.png 1 0 0 0 0 0 0"
    (tmp_path / "p.txt").write_bytes(text.encode())
    assert read_poses(tmp_path / "p.txt").names == ["a b.png", "2.png"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b.png 1 0 0 0 0 0", "expected `name qw qx qy qz tx ty tz"),
        ("b.png 1 0 0 x 0 0 0", "expected `name qw qx qy qz tx ty tz"),
        ("b.png 2 0 0 0 0 0 0", "unit quaternion.*length 2"),
        ("b.png 0 0 0 0 0 0 0", "unit quaternion.*length 0"),
        ("b.png 1 0 0 0 0 0 0 -525", "positive focal length in pixels, got -525"),
        ("b.png 1 0 0 0 0 0 0 nan", "positive focal length"),
        ("b.png 1 0 0 0 0 0 0 525\nc.png 1 0 0 0 0 0 0", "focal length in every line or in none"),
        ("a.png 1 0 0 0 0 0 0", "a.png has a pose already on line 2"),
    ],
)
def test_errors_name_file_and_line(tmp_path, line, message):
    first = "a.png 1 0 0 0 0 0 0" + (" 525" if line.startswith("b") and len(line.split()) > 8 else "")
    (tmp_path / "p.txt").write_text(f"# poses\n{first}\n{line}\n")
    number = 4 if "\n" in line else 3
    with pytest.raises(DatasetError, match=rf"p\.txt, line {number}: .*{message}"):
        read_poses(tmp_path / "p.txt")


@pytest.mark.parametrize(
    "line",
    [
        "a b.png\t0\t1\t0\t0\t1.5\t2\t-3",
        "a b.png,0,1,0,0,1.5,2,-3",
        "a b.png, 0, 1, 0, 0, 1.5, 2, -3,",
        "a b.png;0;1;0;0;1,5;2;-3;;",
        "a b.png; 0,0; 1,0; 0,0; 0,0; 1,5; 2,0; -3,0",
        "a b.png 0,0 1,0 0,0 0,0 1,5 2,0 -3,0",
        "a b.png, 0,0, 1,0, 0,0, 0,0, 1,5, 2,0, -3,0",
        '"a b.png",0,1,0,0,15e-1,2.,-3E0',
        "  a b.png   0 1 -0 +0 1.5   2 -3  ",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_fields_are_separated_as_people_and_spreadsheets_do(tmp_path, line, encoding):
    head = "name,qw,qx,qy,qz,tx,ty,tz"
    for newline in ("\n", "\r\n", "\r"):
        text = newline.join(["# für alle", head, line, line.replace("a b", "ü"), ""])
        (tmp_path / "p.txt").write_bytes(text.encode(encoding))
        poses = read_poses(tmp_path / "p.txt")
        assert poses.names == ["a b.png", "ü.png"]
        assert poses.cam_from_world.rotation[1].diagonal().tolist() == [1, -1, -1]
        assert poses.cam_from_world.translation.tolist() == [[1.5, 2, -3]] * 2


def test_a_focal_length_may_have_a_decimal_comma_too(tmp_path):
    (tmp_path / "p.txt").write_text("a.png;1;0;0;0;0;0;0;525,5\n")
    focal_px = read_poses(tmp_path / "p.txt").focal_px
    assert focal_px is not None and focal_px.tolist() == [525.5]


def test_rounded_quaternions_become_exact_rotations(tmp_path):
    (tmp_path / "p.txt").write_text("a.png 0.924 0.383 0 0 0 0 0\n")
    rotation = read_poses(tmp_path / "p.txt").cam_from_world.rotation[0]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64), atol=1e-14, rtol=0)


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf", "-nan"])
def test_poses_that_are_not_finite_are_left_out_and_named(tmp_path, caplog, bad):
    (tmp_path / "p.txt").write_text(
        f"a.png 1 0 0 0 0 0 0 9\nb.png 1 0 0 0 0 {bad} 0 9\nc.png 1 0 0 0 1 0 0 8\n"
    )
    with caplog.at_level(logging.WARNING):
        poses = read_poses(tmp_path / "p.txt")
    assert poses.names == ["a.png", "c.png"]
    assert poses.focal_px is not None and poses.focal_px.tolist() == [9, 8]
    assert "1 of 3 poses" in caplog.text and "b.png" in caplog.text


def test_binary_file_is_an_error(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"\xff\xd8\xff\xe0\x00")
    with pytest.raises(DatasetError, match="p.txt: expected a text file"):
        read_poses(tmp_path / "p.txt")


def test_unwritable_place_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="cannot be written: No such file or directory"):
        write_poses(tmp_path / "missing" / "poses.txt", some_poses(2, with_focal=False))


def test_published_files_are_read(recordings):
    files = sorted((recordings / "published").glob("*/*/*/*.txt"))
    assert len(files) > 100
    for path in files[:: len(files) // 20]:
        poses = read_poses(path)
        lines = path.read_text().splitlines()
        assert len(poses.names) == len(lines)
        columns = len(lines[0].split())
        assert (poses.focal_px is not None) == (columns == 9)
        assert all(math.isfinite(x) for x in poses.cam_from_world.center.sum(-1).tolist())


@pytest.mark.parametrize("name", ["#a", " a", "a ", "", "a\nb", "a\u2028b", "IMG 5"])
def test_a_name_that_would_be_read_as_something_else_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="no name for a poses file"):
        write_poses(tmp_path / "poses.txt", NamedPoses([name], Pose.identity(1, dtype=torch.float64)))
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to(tmp_path / "there.txt")
    poses = NamedPoses(["day 2/é #3.jpg"], Pose.identity(1, dtype=torch.float64))
    write_poses(tmp_path / "link.txt", poses)
    assert (tmp_path / "link.txt").is_symlink()
    assert read_poses(tmp_path / "there.txt").names == poses.names
    assert len(list(tmp_path.iterdir())) == 2
