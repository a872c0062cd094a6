"""Few levels: what is packed comes back about as it was, and a compact map answers as the map that it is of."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from ball_world import ColorEncoder
from textured_ball import LENS, places, textured
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from dsac.atlas import Atlas
from dsac.errors import MapFormatError
from dsac.localizer import Localizer
from dsac.packing import packed, unpacked
from dsac.scene_map import SceneMap, read_map_file

NEAREST = 0.4


def _tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(40, 20, 20, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise[:, None], 6, 1)[:, 0]
    contrast = torch.logspace(0, 1.8, 40)[:, None, None]
    patches = 128 + contrast * smooth / smooth.std((1, 2), keepdim=True)
    return {
        "feature_whitening": torch.randn(30, 30, generator=generator) * torch.logspace(-2, 1, 30),
        "lift.weight": torch.randn(64, 30, generator=generator),
        "lift.bias": torch.randn(64, generator=generator),
        "blocks.0.first.weight": torch.cat(
            [torch.randn(64, 63, generator=generator), torch.zeros(64, 1)], dim=1
        ),
        "landmark.points": 5 * torch.randn(40, 3, generator=generator),
        "landmark.patches": patches.clamp(0, 255).round().to(torch.uint8),
        "landmark.colors": torch.randint(0, 256, (40, 3), generator=generator).to(torch.uint8),
        "landmark.view": torch.arange(40, dtype=torch.int32),
        "described.points": 5 * torch.randn(50, 3, generator=generator),
        "described.descriptors": _units(50, 64, generator),
        "visual.words": _units(20, 152, generator),
        "visual.centers": torch.randn(7, 3, generator=generator),
    }


def _units(count: int, width: int, generator: torch.Generator) -> Tensor:
    rows = normalize(torch.randn(count, width, generator=generator), dim=1)
    return (254 * rows).round().clamp(-127, 127).to(torch.int8)


def test_what_is_packed_comes_back_about_as_it_was() -> None:
    before = _tensors()
    after = unpacked(packed(before, NEAREST))
    assert set(after) == set(before)
    for name, value in before.items():
        assert after[name].dtype == value.dtype and after[name].shape == value.shape, name
        assert after[name].is_contiguous(), name
    for name in ("lift.bias", "landmark.view", "visual.centers"):
        assert torch.equal(after[name], before[name]), name
    for name in ("feature_whitening", "lift.weight", "blocks.0.first.weight"):
        step = before[name].abs().amax(0) / 127  # of eight digits: half a percent more
        assert ((after[name] - before[name]).abs() <= 0.55 * step).all(), name
    for name in ("landmark.points", "described.points"):
        assert (after[name] - before[name]).abs().max() <= 0.5 * NEAREST / 4096 + 1e-6
    for name, least in (("described.descriptors", 0.95), ("visual.words", 0.98)):
        assert cosine_similarity(after[name].float(), before[name].float()).min() > least, name
    assert (after["landmark.colors"].int() - before["landmark.colors"].int()).abs().max() <= 8


def test_patches_of_any_contrast_correlate_with_what_they_were() -> None:
    before = _tensors()["landmark.patches"]
    after = unpacked(packed({"landmark.patches": before}, NEAREST))["landmark.patches"]
    a, b = (patches.flatten(1).float() for patches in (before, after))
    correlation = cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True))
    clear = a.std(1) > 4  # fainter ones are not searched for
    assert clear.sum() > 20 and correlation[clear].min() > 0.97
    assert (a.mean(1) - b.mean(1)).abs().max() < 1
    flat = torch.stack([torch.full((15, 15), level, dtype=torch.uint8) for level in (0, 128, 255)])
    after = unpacked(packed({"landmark.patches": flat}, NEAREST))["landmark.patches"]
    assert (after.int() - flat.int()).abs().max() <= 9  # the brightest and the darkest, by which none is found


def test_what_was_unpacked_packs_as_it_was() -> None:
    once = unpacked(packed(_tensors(), NEAREST))
    twice = unpacked(packed(once, NEAREST))
    for name, value in once.items():
        if name == "landmark.patches":
            assert (twice[name].float() - value.float()).abs().mean() < 0.3
        else:
            assert torch.equal(twice[name], value), name


def test_far_points_and_none_are_packed_too() -> None:
    far = {"landmark.points": torch.tensor([[1e6, -2e6, 3.0]]), "described.points": torch.zeros(0, 3)}
    after = unpacked(packed(far, 1e-9))
    assert torch.allclose(after["landmark.points"], far["landmark.points"], rtol=0, atol=2e6 / 2**30)
    assert after["described.points"].shape == (0, 3)
    nowhere = {"landmark.points": torch.zeros(2, 3)}
    assert torch.equal(unpacked(packed(nowhere, 0.0))["landmark.points"], nowhere["landmark.points"])


# ---- compact maps ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compact(textured_ball_map: SceneMap) -> SceneMap:
    return SceneMap.from_bytes(textured_ball_map.compact().to_bytes(), "compact")


def test_a_compact_file_is_a_third_of_the_map_and_holds_as_much(
    textured_ball_map: SceneMap, compact: SceneMap
) -> None:
    whole = textured_ball_map.to_bytes()
    assert len(compact.to_bytes()) < 0.4 * len(whole) < 0.4 * 1.6e6
    assert compact.holds == textured_ball_map.holds
    assert compact.info == textured_ball_map.compact().info != textured_ball_map.info


def test_a_compact_map_answers_as_the_map_that_it_is_of(textured_ball_map: SceneMap, compact: SceneMap) -> None:
    poses = places(4, seed=5)
    for i in range(4):
        photo = textured(LENS, poses[i])
        full, few = (
            Localizer(each, encoder=ColorEncoder()).localize(photo.image, LENS)
            for each in (textured_ball_map, compact)
        )
        assert full.success and few.success
        assert few.cam_from_world.center_distance(full.cam_from_world) < 0.004
        assert few.cam_from_world.center_distance(poses[i]) < 0.02


def test_regions_are_compact_words_and_all(
    textured_ball_map: SceneMap, compact: SceneMap, tmp_path: Path
) -> None:
    both = Atlas.of({"a": textured_ball_map, "b": textured_ball_map})
    both.save(tmp_path / "both.dsac")
    Atlas.load(tmp_path / "both.dsac").compact().save(tmp_path / "few.dsac")
    size, less = ((tmp_path / name).stat().st_size for name in ("both.dsac", "few.dsac"))
    assert less < 0.4 * size
    few = Atlas.load(tmp_path / "few.dsac")
    assert few.info.compact and few.holds == both.holds
    for region in few.regions:
        read = region.read()
        assert region.words is not None and read.words is not None and compact.words is not None
        assert torch.equal(region.words.words, compact.words.words)
        assert torch.equal(read.words.words, compact.words.words)
        assert region.to_bytes() == compact_bytes(textured_ball_map)
    few.save(tmp_path / "again.dsac")
    assert (tmp_path / "again.dsac").read_bytes() == (tmp_path / "few.dsac").read_bytes()


def compact_bytes(scene_map: SceneMap) -> bytes:
    return SceneMap.from_bytes(scene_map.to_bytes(), "whole").compact().to_bytes()


# ---- damaged files -----------------------------------------------------------------------------------

_PATCHES = "landmark.patches.levels"
DAMAGE = {
    "levels without a step": lambda x: x.pop("landmark.patches.step"),
    "a step without levels": lambda x: x.pop("landmark.patches.levels"),
    "levels of something else": lambda x: x.update({"lift.bias.levels": torch.zeros(3)}),
    "patches that are not square": lambda x: x.update({_PATCHES: torch.zeros(224, 9, dtype=torch.int8)}),
    "more patches than steps": lambda x: x.update({"landmark.patches.step": torch.zeros(9).byte()}),
    "points of three bytes": lambda x: x.update({"landmark.points.levels": torch.zeros(3, 3, 9).byte()}),
    "endless steps": lambda x: x.update({"lift.weight.step": x["lift.weight.step"] * torch.inf}),
    "a point at infinity": lambda x: x.update({"landmark.points.step": torch.tensor(torch.inf)}),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_compact_maps_are_refused_in_one_line(compact: SceneMap, name: str) -> None:
    _, tensors = read_map_file(compact.to_bytes(), "")
    DAMAGE[name](tensors)
    data = safetensors.torch.save(tensors, {"dsac": json.dumps(asdict(compact.info))})
    with pytest.raises(MapFormatError, match="a.dsac: the weights do not fit") as caught:
        SceneMap.from_bytes(data, "a.dsac")
    assert "\n" not in str(caught.value)


def test_maps_from_before_files_were_deflated_load(textured_ball_map: SceneMap, tmp_path: Path) -> None:
    data = textured_ball_map.to_bytes()
    (tmp_path / "before.dsac").write_bytes(gzip.decompress(data))  # as a safetensors file
    assert len(data) < 0.9 * (tmp_path / "before.dsac").stat().st_size
    assert SceneMap.load(tmp_path / "before.dsac").to_bytes() == data


@pytest.mark.parametrize("damage", ["a byte", "a tail", "another file", "too much"])
def test_damaged_archives_are_refused(
    scene_map_bytes: bytes, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(scene_map_bytes)
    if damage == "a byte":
        data[len(data) // 2] ^= 1
    elif damage == "a tail":
        data += b"dear diary"
    elif damage == "another file":
        data = bytearray(gzip.compress(b"dear diary" * 9))
    else:  # a small file that would fill the memory
        monkeypatch.setattr("dsac.scene_map._MOST_INFLATED", 1000)
        data = bytearray(gzip.compress(bytes(1_000_000)))
    (tmp_path / "a.dsac").write_bytes(data)
    with pytest.raises(MapFormatError, match="a.dsac: expected a map file, got something else or half of one"):
        SceneMap.load(tmp_path / "a.dsac")


@pytest.fixture
def scene_map_bytes(textured_ball_map: SceneMap) -> bytes:
    return textured_ball_map.to_bytes()
