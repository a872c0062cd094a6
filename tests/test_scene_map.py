"""The map file: whole or not at all, small, and clear about what it is."""

from __future__ import annotations

import errno
import gzip
import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from ball_world import ColorEncoder, exact_map

from dsac.datasets.storage import write_atomically
from dsac.errors import MapFormatError
from dsac.geometry import Pose
from dsac.landmarks import Landmarks, LookAlikes
from dsac.mapping import MappingSettings
from dsac.networks.encoder import load_encoder
from dsac.networks.heads import HeadArchitecture, SceneHead
from dsac.scene_map import SceneMap, read_map_file


@pytest.fixture
def scene_map() -> SceneMap:
    torch.manual_seed(0)
    head = SceneHead(HeadArchitecture(num_features=10, width=24, num_blocks=1))
    head.fit_normalisation(torch.randn(200, 10))
    head.scene_center.copy_(torch.tensor([10.0, -3.0, 0.123456]))
    info = exact_map(96).info
    settings = {**asdict(MappingSettings()), "seed": 3}
    return SceneMap(
        head.requires_grad_(False),
        replace(info, head=head.architecture, settings=settings, training={"loss": 1.5, "interrupted": False}),
    )


def test_a_map_survives_its_file(scene_map: SceneMap, tmp_path: Path) -> None:
    scene_map.save(tmp_path / "a.dsac")
    loaded = SceneMap.load(tmp_path / "a.dsac")
    assert loaded.info == scene_map.info
    features = torch.randn(50, 10)
    before, after = scene_map.head(features), loaded.head(features)
    # weights are stored in half precision: eleven bits
    assert torch.allclose(after.points, before.points, rtol=1e-2, atol=1e-2)
    assert torch.equal(loaded.head.scene_center, scene_map.head.scene_center)
    assert torch.equal(loaded.head.feature_whitening, scene_map.head.feature_whitening)
    assert not loaded.head.training and not any(p.requires_grad for p in loaded.head.parameters())


def test_weights_of_its_own_for_the_encoder_survive_the_file(scene_map: SceneMap, tmp_path: Path) -> None:
    shipped = load_encoder()
    encoder = load_encoder().float()
    with torch.no_grad():
        encoder.stem.weight += 0.01
    encoder.digest = "0123"
    info = replace(scene_map.info, encoder_id=encoder.id, encoder_digest="0123", own_encoder=True)
    replace(scene_map, info=info, encoder=encoder).save(tmp_path / "a.dsac")
    loaded = SceneMap.load(tmp_path / "a.dsac")
    assert loaded.info == info
    own = loaded.load_encoder()
    loaded.check_encoder(own)
    for (name, value), used in zip(encoder.named_parameters(), own.parameters(), strict=True):
        assert torch.equal(used, value.half().to(used.dtype)), name
    assert not torch.equal(own.stem.weight, shipped.stem.weight)
    assert own(torch.rand(1, 3, 32, 48)).shape == (1, encoder.num_features, 4, 6)
    with pytest.raises(MapFormatError, match=r"\(0123\)"):
        loaded.check_encoder(shipped)
    SceneMap.load(tmp_path / "a.dsac").save(tmp_path / "b.dsac")
    assert (tmp_path / "a.dsac").read_bytes() == (tmp_path / "b.dsac").read_bytes()


def test_what_looks_alike_survives_the_file_and_must_belong_to_views(tmp_path: Path) -> None:
    views = 4
    patches = torch.zeros(2, 15, 15, dtype=torch.uint8)
    focal = torch.full((views, 2), 100.0)
    landmarks = Landmarks(torch.zeros(2, 3), patches, torch.tensor([0, 3]), Pose.identity(views), focal)
    whole = replace(exact_map(96), landmarks=landmarks)
    assert whole.share_repeated == 0
    motion = Pose.exp(torch.randn(2, 6, dtype=torch.float64))
    repeated = replace(whole, look_alikes=LookAlikes(torch.tensor([0, views - 1]), motion))
    repeated.save(tmp_path / "a.dsac")
    loaded = SceneMap.load(tmp_path / "a.dsac")
    assert loaded.look_alikes is not None and loaded.look_alikes.view.tolist() == [0, views - 1]
    assert loaded.share_repeated == 0.5
    with pytest.raises(ValueError, match=f"look-alikes: expected views below {views}"):
        replace(whole, look_alikes=LookAlikes(torch.tensor([views]), motion[:1]))
    tensors = {"look_alike.view": torch.tensor([0]), "look_alike.there_from_here": torch.eye(4)[None]}
    _with_tensors(tmp_path / "a.dsac", tensors)
    with pytest.raises(MapFormatError, match="damaged|do not fit"):
        SceneMap.load(tmp_path / "a.dsac")


def _with_tensors(path: Path, changed: dict[str, torch.Tensor]) -> None:
    metadata, tensors = read_map_file(path.read_bytes(), "")
    path.write_bytes(safetensors.torch.save(tensors | changed, {"dsac": metadata}))


def test_a_second_save_changes_nothing(scene_map: SceneMap, tmp_path: Path) -> None:
    scene_map.save(tmp_path / "a.dsac")
    SceneMap.load(tmp_path / "a.dsac").save(tmp_path / "b.dsac")
    assert (tmp_path / "a.dsac").read_bytes() == (tmp_path / "b.dsac").read_bytes()


def test_a_map_with_the_default_settings_takes_at_most_4_mb(scene_map: SceneMap, tmp_path: Path) -> None:
    settings = MappingSettings()
    encoder = load_encoder()
    head = SceneHead(HeadArchitecture(encoder.num_features, settings.width, settings.num_blocks))
    SceneMap(head, replace(scene_map.info, head=head.architecture)).save(tmp_path / "a.dsac")
    assert (tmp_path / "a.dsac").stat().st_size <= 4e6


# ---- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_map_and_nothing_else(
    scene_map: SceneMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a.dsac"
    path.write_bytes(b"the old map")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left") as caught:
        scene_map.save(path)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"the old map"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", b"data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are of POSIX systems")
def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", b"data")
    assert os.read(reader, 10) == b"data"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_a_folder_that_is_not_there_is_named(scene_map: SceneMap, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No such file.*'.*nowhere/a.dsac'"):
        scene_map.save(tmp_path / "nowhere" / "a.dsac")


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_written_file_has_the_rights_that_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a", b"data")
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_bytes() == b"data"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


# ---- reading -------------------------------------------------------------------------------------


def _refused(path: Path, expected: str) -> None:
    with pytest.raises(MapFormatError, match=expected) as caught:
        SceneMap.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    _refused(tmp_path / "none.dsac", "expected a map file, found nothing")
    _refused(tmp_path, "expected a map file, found a folder")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.5, 0.99])
def test_a_truncated_map_is_refused(scene_map: SceneMap, tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.dsac"
    scene_map.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    _refused(path, "expected a map file, got something else or half of one")


@pytest.mark.parametrize("content", [b"dear diary\n" * 100, b"\x00" * 1000, b"\xff" * 1000, b"PK\x03\x04" * 99])
def test_another_file_named_like_a_map_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "diary.dsac"
    path.write_bytes(content)
    _refused(path, "expected a map file, got something else or half of one")


def _rewritten(scene_map: SceneMap, path: Path, **changes: object) -> Path:
    """The map's file with other metadata."""
    scene_map.save(path)
    _, tensors = read_map_file(path.read_bytes(), "")
    fields = {**asdict(scene_map.info), **changes}
    fields = {name: value for name, value in fields.items() if value is not None}
    path.write_bytes(safetensors.torch.save(tensors, {"dsac": json.dumps(fields)}))
    return path


@pytest.mark.parametrize("version", [0, 2, "1"])
def test_a_map_of_another_format_names_the_version_that_wrote_it(
    scene_map: SceneMap, tmp_path: Path, version: object
) -> None:
    # a later version may have other fields
    path = _rewritten(scene_map, tmp_path / "a.dsac", format_version=version, dsac_version="7.1", sky="blue")
    _refused(path, r"expected map format 1, got \d \(written by dsac 7.1\)")


@pytest.mark.parametrize(
    "changes",
    [{"head": None}, {"head": [1]}, {"sky": "blue"}, {"bounds_min": None}, {"bounds_min": 3}, {"stride": None}],
    ids=str,
)
def test_damaged_metadata_are_refused(scene_map: SceneMap, tmp_path: Path, changes: dict) -> None:
    _refused(_rewritten(scene_map, tmp_path / "a.dsac", **changes), "damaged map metadata")


def test_a_map_of_an_unknown_network_is_refused(scene_map: SceneMap, tmp_path: Path) -> None:
    for network in ({"name": "resnet", "grey": False}, {"name": "dsac", "grey": False, "width": 0}, {}):
        _refused(_rewritten(scene_map, tmp_path / "a.dsac", network=network), "damaged map metadata")
    network = {"name": "dsac-star", "grey": True, "width": 0.0625}
    _refused(
        _rewritten(scene_map, tmp_path / "a.dsac", network=network), "either a head, a network or a forest"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3"])
def test_metadata_that_are_no_json_object_are_refused(scene_map: SceneMap, tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.dsac"
    path.write_bytes(safetensors.torch.save(scene_map.head.state_dict(), {"dsac": text}))
    _refused(path, "damaged map metadata")


def test_a_safetensors_file_that_is_no_map_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.dsac"
    path.write_bytes(safetensors.torch.save({"weights": torch.zeros(3)}))
    _refused(path, "without its metadata")


def test_weights_of_another_architecture_are_refused(scene_map: SceneMap, tmp_path: Path) -> None:
    wider = asdict(replace(scene_map.info.head, width=32))
    _refused(_rewritten(scene_map, tmp_path / "a.dsac", head=wider), "weights do not fit the architecture")


# ---- encoders ------------------------------------------------------------------------------------


def test_the_encoder_must_be_the_maps_own(scene_map: SceneMap) -> None:
    encoder = ColorEncoder()
    scene_map.check_encoder(encoder)
    for other in ({"encoder_digest": "1"}, {"encoder_id": "shapes"}):
        changed = replace(scene_map, info=replace(scene_map.info, **other))
        with pytest.raises(MapFormatError, match=r"made with encoder .*, got colors \(0\)"):
            changed.check_encoder(encoder)


def test_a_shipped_encoder_of_another_digest_is_refused(scene_map: SceneMap) -> None:
    shipped = load_encoder()
    own = replace(scene_map.info, encoder_id=shipped.id, encoder_digest=shipped.digest)
    assert replace(scene_map, info=own).load_encoder().digest == shipped.digest
    with pytest.raises(MapFormatError, match=f"0123456789abcdef.*{shipped.digest}"):
        replace(scene_map, info=replace(own, encoder_digest="0123456789abcdef")).load_encoder()


def test_an_encoder_that_does_not_ship_is_asked_for(scene_map: SceneMap) -> None:
    with pytest.raises(MapFormatError, match="made with encoder colors, which does not ship"):
        scene_map.load_encoder()


# ---- files from somebody else ------------------------------------------------------------------------


def _changed(path: Path, change: dict[str, object], tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """The map file with some of its metadata, and tensors, replaced."""
    metadata, state = read_map_file(path.read_bytes(), "")
    info = json.loads(metadata)
    for name, value in change.items():
        *outer, last = name.split(".")
        place = info
        for part in outer:
            place = place[part]
        place[last] = value
    safetensors.torch.save_file(state | (tensors or {}), str(path), {"dsac": json.dumps(info)})
    return path


DAMAGED = {
    "a size of nothing": {"short_side_px": 0},
    "a negative size": {"short_side_px": -5},
    "a size in words": {"short_side_px": "240"},
    "a stride in words": {"stride": "8"},
    "no stride": {"stride": 0},
    "half a focal range": {"focal_range": [1.0]},
    "a focal range of text": {"focal_range": "12"},
    "an endless focal range": {"focal_range": [1.0, math.inf]},
    "a focal range upside down": {"focal_range": [2.0, 1.0]},
    "bounds of one number": {"bounds_min": [1.0]},
    "bounds that are none": {"bounds_max": [0.0, math.nan, 0.0]},
    "an origin in words": {"origin": ["a", "b", "c"]},
    "an infinite camera": {"camera": "PINHOLE,inf,480,500,500,320,240"},
    "a camera of words": {"camera": "PINHOLE,a,b"},
    "a camera that is a number": {"camera": 5},
    "a negative width": {"head.width": -1},
    "a width in words": {"head.width": "24"},
    "a fraction of a width": {"head.width": 24.5},
    "a billion blocks": {"head.num_blocks": 10**9},
    "a head for other features": {"head.num_features": 11},
    "an unknown field of the head": {"head.depth": 3},
    "no head": {"head": None},
    "a head of text": {"head": "abc"},
    "an unknown rule of scoring": {"scoring": {"name": "darts"}},
    "scoring in a word": {"scoring": "soft-count"},
    "a score network of text": {"score_network": {"max_error": 100.0, "widths": "abc", "hidden": 8}},
    "a score network that has no weights": {"score_network": {"max_error": 100.0, "widths": [4], "hidden": 8}},
    "an unknown network": {"network": {"name": "resnet", "grey": True, "width": 1.0}, "head": None},
    "a network without weights": {
        "network": {"name": "dsac-star", "grey": True, "width": 0.0625},
        "head": None,
    },
    "a network as wide as an ocean": {"network": {"name": "dsac", "grey": True, "width": 1e9}, "head": None},
    "an unknown field": {"colour": "red"},
    "settings of text": {"settings": "abc"},
    "an encoder that is a number": {"encoder_id": 3},
    "an own encoder that does not ship": {"own_encoder": True, "encoder_id": "resnet"},
    "metric perhaps": {"metric": "perhaps"},
    "a place beyond the pole": {"geo": [91.0, 8.5, 400.0]},
    "a place in words": {"geo": "Zurich"},
    "frames without names": {"frames": ["a.jpg"]},
    "a frame with a number": {"frames": {"a.jpg": 5}},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_metadata_that_no_map_can_have_are_refused(scene_map: SceneMap, tmp_path: Path, name: str) -> None:
    scene_map.save(tmp_path / "a.dsac")
    with pytest.raises(MapFormatError, match="a.dsac: ") as caught:
        SceneMap.load(_changed(tmp_path / "a.dsac", DAMAGED[name]))
    assert "\n" not in str(caught.value)


def test_metadata_that_are_no_object_are_refused(scene_map: SceneMap, tmp_path: Path) -> None:
    for text in ("[]", "3", '"abc"', "{", "null", "[" * 100_000):
        safetensors.torch.save_file({"a": torch.zeros(1)}, str(tmp_path / "a.dsac"), {"dsac": text})
        with pytest.raises(MapFormatError, match="a.dsac: damaged map metadata"):
            SceneMap.load(tmp_path / "a.dsac")


WRONG_TENSORS = {
    "a bias of another length": {"lift.bias": torch.zeros(25)},
    "whole numbers for weights": {"lift.bias": torch.zeros(24, dtype=torch.int64)},
    "a weight at infinity": {"lift.bias": torch.full((24,), torch.inf)},
    "a tensor too many": {"another": torch.zeros(3)},
    "landmarks without patches": {"landmark.points": torch.zeros(3, 3)},
    "more landmarks than patches": {
        "landmark.points": torch.zeros(400_000, 3),
        "landmark.patches": torch.zeros(1, 15, 15, dtype=torch.uint8),
        "landmark.view": torch.zeros(400_000, dtype=torch.int32),
        "landmark.cam_from_world": torch.eye(3, 4)[None],
        "landmark.focal_px": torch.ones(1, 2),
    },
    "landmarks of a pose in the plane": {
        "landmark.points": torch.zeros(1, 3),
        "landmark.patches": torch.zeros(1, 15, 15, dtype=torch.uint8),
        "landmark.view": torch.zeros(1, dtype=torch.int32),
        "landmark.cam_from_world": torch.eye(3)[None],
        "landmark.focal_px": torch.ones(1, 2),
    },
}


@pytest.mark.parametrize("name", WRONG_TENSORS)
def test_tensors_that_do_not_fit_are_refused(scene_map: SceneMap, tmp_path: Path, name: str) -> None:
    scene_map.save(tmp_path / "a.dsac")
    with pytest.raises(MapFormatError, match="a.dsac: "):
        SceneMap.load(_changed(tmp_path / "a.dsac", {}, WRONG_TENSORS[name]))


def test_a_map_asks_for_no_memory_before_its_weights_are_there(scene_map: SceneMap, tmp_path: Path) -> None:
    scene_map.save(tmp_path / "a.dsac")
    path = _changed(tmp_path / "a.dsac", {"head.width": 60_000, "head.num_blocks": 64})  # 1.8 TB
    with pytest.raises(MapFormatError, match="a.dsac: "):
        SceneMap.load(path)


def test_maps_from_before_load(scene_map: SceneMap, tmp_path: Path) -> None:
    scene_map.save(tmp_path / "a.dsac")
    fields: dict[str, object] = {"camera_spacing": 0.1, "score_network": None}
    assert SceneMap.load(_changed(tmp_path / "a.dsac", fields)).info == scene_map.info


def test_a_map_from_before_frames_were_kept_knows_none(scene_map: SceneMap, tmp_path: Path) -> None:
    info = replace(scene_map.info, frames={"ä b.jpg": "0123456789abcdef", "c": ""})
    replace(scene_map, info=info).save(tmp_path / "a.dsac")
    assert SceneMap.load(tmp_path / "a.dsac").info == info
    fields = asdict(info)
    del fields["frames"]
    _, tensors = read_map_file((tmp_path / "a.dsac").read_bytes(), "")
    (tmp_path / "b.dsac").write_bytes(safetensors.torch.save(tensors, {"dsac": json.dumps(fields)}))
    assert SceneMap.load(tmp_path / "b.dsac").info == replace(info, frames={})


def test_a_map_loads_whatever_the_default_type(scene_map: SceneMap, tmp_path: Path) -> None:
    scene_map.save(tmp_path / "a.dsac")
    features = torch.randn(50, 10)
    points = SceneMap.load(tmp_path / "a.dsac").head(features).points
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(SceneMap.load(tmp_path / "a.dsac").head(features).points, points)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.wrong_input
def test_a_map_whose_points_another_network_described_is_refused(tmp_path: Path) -> None:
    scene_map = exact_map(120)
    scene_map.save(tmp_path / "a.dsac")
    data = gzip.decompress((tmp_path / "a.dsac").read_bytes())
    other = data.replace(b'\\"described_by\\": \\"\\"', b'\\"described_by\\": \\"x\\"')
    assert other != data
    length = int.from_bytes(data[:8], "little") + len(other) - len(data)
    (tmp_path / "b.dsac").write_bytes(length.to_bytes(8, "little") + other[8:])
    with pytest.raises(MapFormatError, match="described_by: expected xfeat"):
        SceneMap.load(tmp_path / "b.dsac")
