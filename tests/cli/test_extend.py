"""`dsac extend`: a map file and a recording."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Fails, Run, content, write_noise

from dsac.atlas import Atlas
from dsac.datasets import load_scene
from dsac.mapping import MappingSettings, build_map


@pytest.fixture
def room_map(room: Path, tmp_path: Path) -> Path:
    """Of three noisy photos: hardly learned, but with landmarks, since depth makes them certain."""
    settings = MappingSettings(steps=2, num_views=3, batch_size=64, width=16, num_blocks=1, num_landmarks=300)
    path = tmp_path / "room.dsac"
    build_map(load_scene(room), settings).save(path)
    return path


def _turned_away(folder: Path) -> Path:
    """A recording of the other half of the room: poses turned by a half about y."""
    write_noise(folder, 3)
    lines = [f"{i}.jpg 0 0 1 0 {0.1 * i} 0 0 100\n" for i in range(3)]
    (folder / "poses.txt").write_text("".join(lines))
    for i in range(3):  # other files
        path = folder / "images" / f"{i}.jpg"
        path.write_bytes(path.read_bytes() + b"\0")
    return folder


def test_new_ground_is_a_region_named_after_its_folder_and_known_frames_are_told(
    room_map: Path, room: Path, run: Run, fails: Fails, tmp_path: Path
) -> None:
    assert "expected new frames, the map was made from all 3 of them" in fails("extend", room_map, room)
    other = _turned_away(tmp_path / "über dem Dach")
    before = room_map.read_bytes()
    code, out, err = run(
        "extend", room_map, other, "--output", tmp_path / "larger.dsac", "--steps", 2, "--views", 3
    )
    assert code == 0, err
    assert "über dem Dach: a new region of 3 frames" in out and "larger.dsac: 2 regions" in out
    assert Atlas.load(tmp_path / "larger.dsac").names == ["room", "über dem Dach"]
    assert room_map.read_bytes() == before
    assert not list(tmp_path.glob(".dsac-*"))


def test_interrupted_it_leaves_the_map_as_it_was(
    room_map: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object, **options: object) -> None:
        raise KeyboardInterrupt

    other = _turned_away(tmp_path / "other")
    monkeypatch.setattr("dsac.mapping.extending.build_regions", interrupted)
    before = content(tmp_path)
    code, _, err = run("extend", room_map, other)
    assert code == 130 and "interrupted" in err
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("extend none.dsac room", "none.dsac: expected a map file, found nothing"),
        ("extend blank.dsac nowhere", "nowhere: expected a folder with images and poses"),
        ("extend blank.dsac room --output none/new.dsac", "its folder does not exist"),
        ("extend blank.dsac room --output room/poses.txt", "poses.txt: already exists and is something else"),
        ("extend blank.dsac room --steps 0", "steps: expected"),
        ("extend blank.dsac room --seed -1", "seed: expected 0 or more"),
    ],
)
def test_mistakes_are_one_line_and_leave_the_map(
    blank_map: Path, room: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch, arguments: str, expected: str
) -> None:
    monkeypatch.chdir(room.parent)
    assert blank_map.is_file()
    assert expected in fails(*arguments.split())
