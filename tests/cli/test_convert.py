"""`dsac convert`: every recording that is read can be written, and what was wrong with it is mended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from command_line import Fails, Run
from small_recordings import FORMATS, OTHERS, write_recording

from dsac.cli.convert import Convert
from dsac.datasets import load_scene, read_poses, write_poses
from dsac.datasets.saving import WRITERS


@pytest.mark.parametrize("format", [*FORMATS, *OTHERS])
def test_a_recording_of_every_format_becomes_another(format, tmp_path: Path, run: Run) -> None:
    write_recording(format, tmp_path / "in")
    before = load_scene(tmp_path / "in")
    to = "plain" if len(before.mapping.cameras) == 1 else "colmap"
    code, out, error = run("convert", tmp_path / "in", tmp_path / "out", "--to", to)
    assert code == 0, error
    count = len(before.mapping) + len(before.query)
    assert f"images copied: {count}, written as PNG: 0" in out and f"Next: dsac check {tmp_path / 'out'}" in out
    after = load_scene(tmp_path / "out")
    assert after.format == ("image folder with poses.txt" if to == "plain" else "COLMAP model (sparse/0, text)")
    for old, new in ((before.mapping, after.mapping), (before.query, after.query)):
        assert len(new) == len(old)
        for frame, expected in zip(new, old, strict=True):
            assert expected.name.endswith(frame.name)
            assert frame.cam_from_world is not None and expected.cam_from_world is not None
            torch.testing.assert_close(
                frame.cam_from_world.matrix, expected.cam_from_world.matrix, rtol=0, atol=1e-8
            )
            torch.testing.assert_close(frame.camera.params, expected.camera.params, rtol=0, atol=1e-9)
            torch.testing.assert_close(frame.image, expected.image, rtol=0, atol=0)
            if expected.depth is not None:
                torch.testing.assert_close(frame.depth, expected.depth, rtol=1e-6, atol=1e-6)


def test_the_rendered_room_converts_too(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from dsac import rooms

    scene = rooms.synthetic_scene(num_mapping=2, num_query=1, size=(64, 48), light_cell=0.5)
    monkeypatch.setattr(rooms, "synthetic_scene", lambda: scene)
    code, out, error = run("convert", "synthetic", tmp_path / "out", "--to", "nerfstudio")
    assert code == 0, error
    assert (
        "2 mapping frames, 1 query frames; images copied: 0, written as PNG: 3, depth in units of 0.001 m"
        in out
    )
    read = load_scene(tmp_path / "out")
    assert len(read.mapping) == 2 and read.metric and read.mapping.has_depth


@pytest.mark.parametrize("to", ["plain", "colmap", "nerfstudio", "tum", "ace"])
def test_what_options_mend_is_right_without_them(room: Path, tmp_path: Path, run: Run, to: str) -> None:
    right = load_scene(room).mapping
    poses = read_poses(room / "poses.txt")
    assert right.cam_from_world is not None
    write_poses(room / "poses.txt", replace(poses, cam_from_world=poses.cam_from_world.inverse()))
    code, _, error = run(
        "convert", room, tmp_path / "out", "--to", to, "--poses", "inverted", "--depth-scale", 0.5
    )
    assert code == 0, error
    mended = load_scene(tmp_path / "out").mapping
    assert mended.cam_from_world is not None
    torch.testing.assert_close(mended.cam_from_world.matrix, right.cam_from_world.matrix, rtol=0, atol=1e-10)
    torch.testing.assert_close(mended[0].depth, torch.full((64, 96), 1.0))


def test_mistakes_are_one_line_and_leave_everything_as_it_was(room: Path, fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for target in (room, tmp_path / "file"):
        line = fails("convert", room, target, "--to", "colmap")
        assert f"{target}: expected a new or an empty folder to write into" in line
    assert "none/out: its folder does not exist" in fails(
        "convert", room, tmp_path / "none" / "out", "--to", "colmap"
    )
    assert "expected a folder with images and poses" in fails(
        "convert", tmp_path / "nowhere", tmp_path / "out", "--to", "tum"
    )
    lines = "".join(f"{i}.jpg 1 0 0 0 {i} 0 0 {100 + i}\n" for i in range(3))
    (room / "poses.txt").write_text(lines)
    line = fails("convert", room, tmp_path / "out", "--to", "tum")
    assert "tum has one camera for all images, here are 3; colmap and nerfstudio have any number" in line
    image = room / "images" / "1.jpg"
    for other in (room / "images").iterdir():
        other.write_bytes(image.read_bytes()[:100])
    assert "the image is truncated" in fails("convert", room, tmp_path / "out", "--to", "plain")


def test_the_command_offers_every_format_that_is_written() -> None:
    assert get_args(get_type_hints(Convert)["to"]) == tuple(WRITERS)


def test_an_unknown_format_names_those_there_are(room: Path, tmp_path: Path, run: Run) -> None:
    code, _, error = run("convert", room, tmp_path / "out", "--to", "7scenes")
    assert code == 2 and all(name in error for name in ("plain", "colmap", "nerfstudio", "tum", "ace"))
    code, _, error = run("convert", room, tmp_path / "out")
    assert code == 2 and "--to" in error and not (tmp_path / "out").exists()


def test_an_interrupt_leaves_nothing(
    room: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dsac.datasets.writers import plain

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plain, "write", interrupted)
    before = sorted(tmp_path.rglob("*"))
    code, _, error = run("convert", room, tmp_path / "out", "--to", "plain")
    assert code == 130 and "interrupted" in error
    assert sorted(tmp_path.rglob("*")) == before
