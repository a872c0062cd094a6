"""The map file: whole or not at all, small, and clear about what it is."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from ball_world import ColorEncoder, ball_frames, exact_map

from dsac.datasets import Scene
from dsac.datasets.storage import write_atomically
from dsac.errors import MapFormatError
from dsac.mapping import MappingSettings
from dsac.networks.encoder import load_encoder
from dsac.networks.heads import HeadArchitecture, SceneHead
from dsac.scene_map import SceneMap


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


def test_maps_that_still_hold_a_camera_spacing_are_read(scene_map: SceneMap, tmp_path: Path) -> None:
    scene_map.save(tmp_path / "a.dsac")
    with safetensors.safe_open(tmp_path / "a.dsac", framework="pt") as file:
        info = {**json.loads(file.metadata()["dsac"]), "camera_spacing": 0.3}
    tensors = safetensors.torch.load_file(tmp_path / "a.dsac")
    safetensors.torch.save_file(tensors, tmp_path / "old.dsac", {"dsac": json.dumps(info)})
    assert SceneMap.load(tmp_path / "old.dsac").info == scene_map.info


def test_a_map_knows_what_its_recording_said(scene_map: SceneMap, tmp_path: Path) -> None:
    assert scene_map.info.metric is None  # frames alone do not say
    frames = ball_frames(2)
    scene = Scene("ball", "photos", frames, frames[:0], metric=False, stores_turned=True)
    scene_map.recorded_in(scene).save(tmp_path / "a.dsac")
    info = SceneMap.load(tmp_path / "a.dsac").info
    assert info.metric is False and info.as_stored is True


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
    tensors = safetensors.torch.load(path.read_bytes())
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
    _refused(_rewritten(scene_map, tmp_path / "a.dsac", network=network), "weights do not fit the architecture")


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
