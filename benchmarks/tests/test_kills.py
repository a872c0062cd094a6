"""A few kills, on a little: what is counted, and that nothing is lost."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from kills import KINDS, Kept, Kill, Mapping, disturb

from dsac.rooms import synthetic_scene, write_scene


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two regions, by the folders of the frames' names."""
    place = tmp_path / "place"
    write_scene(synthetic_scene(num_mapping=6, num_query=1, size=(160, 120)), place)
    for kind in ("images", "depth"):
        for i, path in enumerate(sorted((place / kind).glob("mapping-*"))):
            room = place / kind / "ab"[i // 3]
            room.mkdir(exist_ok=True)
            path.rename(room / path.name)
    for path in place.glob("*.txt"):
        text = path.read_text()
        for i in range(6):
            text = text.replace(f"mapping-{i:03}", f"{'ab'[i // 3]}/mapping-{i:03}")
        path.write_text(text)
    return place


def test_nothing_is_lost_by_a_few_kills(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kills.KINDS", KINDS[:2])  # a disk to fill up takes root
    (tmp_path / "disk").mkdir()
    counted = disturb(place, tmp_path / "disk", 3, random.Random(0), 15.0)
    assert counted.kills.total() == 3 and counted.mappings >= 1
    assert counted.lost.total() == 0 and counted.other_maps == 0


def test_a_region_that_begins_again_below_its_checkpoint_is_counted(tmp_path: Path) -> None:
    mapping = Mapping.__new__(Mapping)
    mapping.place, mapping.folder = tmp_path / "place", tmp_path / "mapping-1"
    kill = Kill("a worker", 100.0, Kept({}, {"1": 50, "2": 50, "3": 50}), 0)
    for name, begun in (("1", [[90.0, 0], [110.0, 50]]), ("2", [[110.0, 60], [120.0, 49]])):
        lines = "".join(f"{json.dumps(entry)}\n" for entry in begun)
        (tmp_path / f"mapping-1.{name}.log").write_text(lines)
    assert mapping.begun_below(kill) == 1  # the third was finished and not begun again
