"""`dsac merge` and `dsac crop`: files of several maps, and parts of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import Fails, Run

from dsac.atlas import Atlas
from dsac.geometry import Pose, Similarity
from dsac.scene_map import SceneMap
from dsac.worlds import Alignment

FIRST_FROM_SECOND = Similarity(Pose.exp(torch.tensor([0.1, 0.2, 0.3, 4.0, -5.0, 2.0]).double()), 2.0)
POINTS = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def maps(blank_map: Path) -> tuple[Path, Path]:
    """Two, the second in an odd folder and in a unit of its own."""
    scene_map = SceneMap.load(blank_map)
    (blank_map.parent / "größer und").mkdir()
    second = blank_map.parent / "größer und" / "blank.dsac"
    replace(scene_map, info=replace(scene_map.info, metric=True)).save(blank_map)
    replace(scene_map, info=replace(scene_map.info, metric=False)).save(second)
    return blank_map, second


def _matrix(path: Path, similarity: Similarity) -> Path:
    matrix = similarity.motion.matrix.clone()
    matrix[:3, :3] *= similarity.scale
    path.write_text(json.dumps(matrix.tolist()))
    return path


def test_maps_become_compact_whole_or_in_part(maps: tuple[Path, Path], run: Run, tmp_path: Path) -> None:
    few = tmp_path / "große few.dsac"
    code, out, _ = run("crop", maps[0], few, "--compact")
    assert code == 0 and f"{few}: 1 of 1 regions" in out
    assert ", compact" in run("info", few)[1] and ", compact" not in run("info", maps[0])[1]
    assert run("merge", few, maps[1], tmp_path / "both.dsac", "--apart")[0] == 0
    assert [region.info.compact for region in Atlas.load(tmp_path / "both.dsac").regions] == [True, False]
    assert run("crop", tmp_path / "both.dsac", few, "--regions", "blank", "--compact")[0] == 0  # over itself
    (region,) = Atlas.load(few).regions
    assert region.name == "blank" and region.info.compact


def test_maps_become_one_file_and_a_part_of_it_one_again(
    maps: tuple[Path, Path], run: Run, tmp_path: Path
) -> None:
    both = tmp_path / "both maps.dsac"
    code, out, _ = run("merge", *maps, both, "--apart")
    assert code == 0 and f"{both}: 2 regions, blank, blank-2, worlds blank, blank-2" in out
    assert Atlas.load(both).worlds == ["blank", "blank-2"]
    code, out, _ = run("crop", both, tmp_path / "one.dsac", "--regions", "blank-2")
    assert code == 0 and "1 of 2 regions" in out
    table = run("info", both)[1]
    assert "region   frames  size       landmarks  MB    world\n" in table
    assert "  blank-2  0       6 × 6 × 6  0          0.01  blank-2\n" in table
    told = json.loads(run("info", both, "--json")[1])["regions"]
    assert [(each["name"], each["metric"]) for each in told] == [("blank", True), ("blank-2", False)]
    (region,) = Atlas.load(tmp_path / "one.dsac").regions
    assert region.name == "blank-2" and region.info.metric is False
    # another, in place
    assert run("merge", both, maps[0], both, "--apart")[0] == 0
    assert Atlas.load(both).worlds == ["blank", "blank-2", "blank-3"]


def test_a_matrix_brings_the_second_map_into_the_world_of_the_first(
    maps: tuple[Path, Path], run: Run, tmp_path: Path
) -> None:
    matrix = _matrix(tmp_path / "m.json", FIRST_FROM_SECOND)
    code, out, _ = run("merge", *maps, tmp_path / "both.dsac", "--transform", matrix)
    assert code == 0 and "lengths × 2, turned by" in out
    first, second = Atlas.load(tmp_path / "both.dsac").regions
    assert first.info.world_from_map.is_identity and second.info.metric is True
    torch.testing.assert_close(second.info.world_from_map @ POINTS, FIRST_FROM_SECOND @ POINTS)


def test_a_recording_does_the_same_from_its_frames_in_the_first_map(
    maps: tuple[Path, Path], room: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Alignment(
        FIRST_FROM_SECOND.inverse(),
        None,
        None,
        ["a", "b"],
        torch.tensor([0.5, 1.0]),
        torch.tensor([True, True]),
    )
    monkeypatch.setattr("dsac.worlds.by_recording", lambda *given, **options: found)
    code, out, _ = run("merge", *maps, tmp_path / "both.dsac", "--recording", room)
    assert code == 0 and "2 of 2 agree, off by 1 m (median); the worst is b, by 2 m" in out
    second = Atlas.load(tmp_path / "both.dsac").regions[1]
    torch.testing.assert_close(second.info.world_from_map @ POINTS, FIRST_FROM_SECOND @ POINTS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            "merge A B new.dsac",
            "merge needs one of --same-world (all poses are in one world), --transform FILE",
        ),
        ("merge A B new.dsac --apart --same-world", "merge needs one of"),
        ("merge A B --apart", "expected two maps or more and the file to write, got 2 names"),
        ("merge A B new.dsac --same-world", "blank: expected a map in the world of blank, which has metres"),
        ("merge A B new.dsac --transform same.json", "got one with a unit that is not the metre"),
        (
            "merge A B B new.dsac --transform same.json",
            "expected two maps with --transform and --recording, got 3",
        ),
        (
            "merge A B new.dsac --recording room",
            "room: expected 3 frames or more that the map localizes, found 0",
        ),
        (
            "merge A B old.dsac --apart",
            "old.dsac: already exists, and the last name is that of the file to write",
        ),
        ("merge A none.dsac new.dsac --apart", "none.dsac: expected a map file, found nothing"),
        ("merge A B none/new.dsac --apart", "its folder does not exist"),
        ("crop A new.dsac", "crop needs --regions NAMES..., --box X0 Y0 Z0 X1 Y1 Z1 or --compact"),
        ("crop A new.dsac --regions a --box 0 0 0 1 1 1", "crop: expected either --regions or --box, got both"),
        ("crop A none/new.dsac --compact", "its folder does not exist"),
        ("crop A new.dsac --regions", "--regions: expected one name or more, got none"),
        ("crop A new.dsac --regions attic", "names of regions, which are one without a name, got attic"),
        ("crop A new.dsac --box 0 0 0 1 1 1", "box: no region has a mapping camera or a landmark"),
        ("crop A new.dsac --box 0 0 0 -1 1 1", "box: expected x, y, z and higher x, y, z"),
        ("crop apart.dsac new.dsac --box 0 0 0 1 1 1", "expected regions in one world, got blank, blank-2"),
        ("info A --picture new.png", "blank.dsac: expected a map with landmarks, this one has none"),
        ("info A --picture old.dsac", "old.dsac: already exists and is something else"),
        ("align apart.dsac --transform same.json", "expected regions in one world, got blank, blank-2"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    maps: tuple[Path, Path], room: Path, run: Run, fails: Fails, monkeypatch: pytest.MonkeyPatch,
    arguments: str, expected: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(room.parent)
    Path("old.dsac").write_bytes(maps[0].read_bytes())
    if "apart.dsac" in arguments:
        assert run("merge", *maps, "apart.dsac", "--apart")[0] == 0
    _matrix(Path("same.json"), Similarity(FIRST_FROM_SECOND.motion))
    by_letter = {"A": maps[0], "B": maps[1]}
    assert expected in fails(*(by_letter.get(word, word) for word in arguments.split()))
