"""Maps of many regions in one file: what is kept, what is read, and what is refused."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dsac.atlas import Atlas, Region, unused_name
from dsac.errors import MapFormatError
from dsac.geometry import Pose, Similarity
from dsac.scene_map import SceneMap

AWAY = Similarity(Pose.exp(torch.tensor([0.1, 0.2, 0.3, 40.0, -5.0, 2.0], dtype=torch.float64)), 2.0)


@pytest.fixture
def two(textured_ball_map: SceneMap) -> Atlas:
    away = replace(textured_ball_map, info=textured_ball_map.info.in_world_of(AWAY))
    return Atlas.of({"here": textured_ball_map, "over there": away})


def test_a_saved_atlas_holds_the_same_map_files(two: Atlas, tmp_path: Path) -> None:
    two.save(tmp_path / "two.dsac")
    loaded = Atlas.load(tmp_path / "two.dsac")
    assert loaded.names == two.names == ["here", "over there"]
    for ours, theirs in zip(two.regions, loaded.regions, strict=True):
        assert isinstance(theirs.source, Path)
        assert theirs.to_bytes() == ours.to_bytes() == theirs.read().to_bytes()
        assert theirs.info == ours.info and theirs.holds == ours.holds
        assert theirs.words is not None and ours.words is not None
        assert (theirs.words.words == ours.words.words).all()
    assert loaded.info == two.info and loaded.holds == two.holds


def test_the_same_maps_make_the_same_file(two: Atlas, tmp_path: Path) -> None:
    two.save(tmp_path / "a.dsac")
    Atlas.load(tmp_path / "a.dsac").save(tmp_path / "b.dsac")
    assert (tmp_path / "a.dsac").read_bytes() == (tmp_path / "b.dsac").read_bytes()


def test_an_atlas_can_be_written_over_itself(two: Atlas, tmp_path: Path) -> None:
    path = tmp_path / "two.dsac"
    two.save(path)
    loaded = Atlas.load(path)
    Atlas(loaded.regions[1:]).save(path)
    assert Atlas.load(path).names == ["over there"]


def test_words_may_change_what_they_are_worth_without_a_region_being_read(two: Atlas, tmp_path: Path) -> None:
    two.save(tmp_path / "two.dsac")
    loaded = Atlas.load(tmp_path / "two.dsac")
    words = loaded.regions[0].words
    assert words is not None and words.worth is None
    taught = replace(words, worth=torch.linspace(-0.1, 0.1, len(words)))
    Atlas((loaded.regions[0].with_words(taught), loaded.regions[1])).save(tmp_path / "taught.dsac")
    first, second = Atlas.load(tmp_path / "taught.dsac").regions
    of_map = first.read().words
    for known in (first.words, of_map):
        assert known is not None and known.worth is not None and torch.equal(known.worth, taught.worths)
    assert second.to_bytes() == two.regions[1].to_bytes()


def test_a_map_file_is_an_atlas_of_one_region(textured_ball_map: SceneMap, tmp_path: Path) -> None:
    textured_ball_map.save(tmp_path / "one.dsac")
    atlas = Atlas.load(tmp_path / "one.dsac")
    assert atlas.names == [""] and atlas.info == textured_ball_map.info
    atlas.save(tmp_path / "again.dsac")
    assert (tmp_path / "again.dsac").read_bytes() == (tmp_path / "one.dsac").read_bytes()


def test_what_it_says_of_itself_is_in_the_world(two: Atlas, textured_ball_map: SceneMap) -> None:
    one, whole = textured_ball_map.info, two.info
    corners = torch.tensor([one.bounds_min, one.bounds_max], dtype=torch.float64)
    inside = torch.cat([corners, AWAY @ corners])
    low, high = torch.tensor(whole.bounds_min), torch.tensor(whole.bounds_max)
    assert (inside >= low - 1e-6).all() and (inside <= high + 1e-6).all()
    assert whole.depth_range == (one.depth_range[0], 2 * one.depth_range[1])
    assert whole.frames == one.frames and whole.world_from_map.is_identity


def test_a_damaged_region_is_named_when_it_is_read_and_the_others_are_as_they_were(
    two: Atlas, tmp_path: Path
) -> None:
    path = tmp_path / "two.dsac"
    two.save(path)
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("regions/over there.dsac").header_offset + 2000
    data = bytearray(path.read_bytes())
    data[place : place + 100] = bytes(100)
    path.write_bytes(data)
    atlas = Atlas.load(path)
    assert atlas["here"].to_bytes() == two["here"].to_bytes()
    with pytest.raises(MapFormatError, match="region over there is damaged"):
        atlas["over there"].read()


def _zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_other_archives_and_damaged_ones_are_refused(two: Atlas, tmp_path: Path) -> None:
    path = tmp_path / "two.dsac"
    two.save(path)
    with pytest.raises(MapFormatError, match="another archive"):
        Atlas.load(_zipped(tmp_path / "other.zip", letter=b"dear"))
    with pytest.raises(MapFormatError, match="expected a map file"):
        Atlas.load(_zipped(tmp_path / "index.zip", **{"index.safetensors": b"nothing"}))
    (tmp_path / "half.dsac").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MapFormatError, match="expected a map file"):
        Atlas.load(tmp_path / "half.dsac")
    with pytest.raises(MapFormatError, match="found nothing"):
        Atlas.load(tmp_path / "none.dsac")
    with zipfile.ZipFile(path) as archive:
        index = archive.read("index.safetensors")
    with pytest.raises(MapFormatError, match="holds no region here"):
        Atlas.load(_zipped(tmp_path / "empty.zip", **{"index.safetensors": index}))
    later = index.replace(b'atlas_version\\": 1', b'atlas_version\\": 7')
    assert later != index
    with pytest.raises(MapFormatError, match="format 1, got 7"):
        Atlas.load(_zipped(tmp_path / "later.zip", **{"index.safetensors": later}))


@pytest.mark.parametrize("names", [[], ["a", "a"], ["a/b", "c"], ["", "c"], ["a\nb", "c"]])
def test_names_are_different_and_plain(textured_ball_map: SceneMap, names: list[str]) -> None:
    with pytest.raises(ValueError, match="regions: expected"):
        Atlas(tuple(Region.of(name, textured_ball_map) for name in names))


def test_unused_names_count_on() -> None:
    assert unused_name("a", ["b"]) == "a"
    assert unused_name("a", ["a", "a-2"]) == "a-3"
