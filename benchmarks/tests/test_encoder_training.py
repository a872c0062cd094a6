"""The encoder's recipe: views with exact scene points, heads that learn, a loss that falls, resuming."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from encoder_training.pack import SIZE, Pack, gallery_pack, joined, load_pack, place_pack, room_pack
from encoder_training.runs import train
from encoder_training.training import Trainer, TrainingSettings
from encoder_training.views import JUDGED, LEARNED, draw_views

import dsac.networks
from dsac.errors import DatasetError, MapFormatError
from dsac.networks.encoder import EfficientNetLite, load_encoder, read_encoder

SHIPPED = Path(dsac.networks.__file__).parent / "weights" / "efficientnet-lite0.safetensors"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Smooth coloured noise: every place looks different, and interpolation changes little."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i, size in enumerate([(700, 520), (480, 640), (640, 480)]):  # one portrait
        image = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i}.jpg"), cv2.resize(image, size, interpolation=cv2.INTER_CUBIC))
    return sorted(folder.glob("*.jpg"))


@pytest.fixture(scope="module")
def pack(photos: list[Path]) -> Pack:
    return joined([gallery_pack(photos), room_pack(7, 12), place_pack(photos, 1, 12)])


@pytest.fixture(scope="module")
def start() -> EfficientNetLite:
    torch.set_num_threads(1)
    return load_encoder("efficientnet-lite0", dtype=torch.float32)


def small(pack: Pack, start: EfficientNetLite, **settings) -> Trainer:
    sizes = {
        name: replace(limits, size=(160, 128)) for name, limits in (("learned", LEARNED), ("judged", JUDGED))
    }
    quick = {"remembered_views": 8, "cells": 100, "first_lessons": 40, "batch_size": 256, "width": 64}
    return Trainer(pack, start, TrainingSettings(**{**quick, **sizes, "judged_views": 2, **settings}))


def test_a_scene_has_images_to_learn_from_and_to_be_judged_by(pack: Pack) -> None:
    assert pack.scene.tolist() == [0] * 3 + [1] * 12 + [2] * 12
    assert (pack.learned | pack.judged).all()
    assert ((pack.learned & pack.judged) == pack.planar).all() and pack.planar.sum() == 3
    for scene in range(3):
        assert pack.learned[pack.scene == scene].any() and pack.judged[pack.scene == scene].any()


def test_the_scene_points_of_a_view_are_what_its_cells_show(pack: Pack) -> None:
    """Carried back into the source they lie where the source looks like the view."""
    limits = replace(LEARNED, light=0, max_blur_px=1e-3, max_noise=0)
    sources = torch.arange(len(pack))
    views = draw_views(pack, sources, limits, torch.Generator().manual_seed(1))
    pose = pack.cam_from_world
    points = views.points @ pose[:, :, :3].mT + pose[:, None, :, 3]
    pixels = points[..., :2] / points[..., 2:].clamp_min(1e-6) * 525 + torch.tensor(SIZE) / 2
    grid = (pixels * 2 / torch.tensor(SIZE) - 1)[:, :, None]
    there = torch.nn.functional.grid_sample(pack.images.float() / 255, grid, align_corners=False)[..., 0].mT
    here = torch.nn.functional.avg_pool2d(views.images[..., 3:, 3:], 2, stride=8).flatten(2).mT
    difference, other = (there - here).abs().mean(-1), (there.roll(1, 1) - here).abs().mean(-1)
    for kind in (pack.planar, ~pack.planar):
        known = views.known[kind]
        assert 0.2 < known.float().mean() < 1
        assert difference[kind][known].median() < 0.05 and other[kind][known].mean() > 0.05


def test_images_judged_show_what_the_learned_ones_show(pack: Pack) -> None:
    for scene in range(3):
        of = pack.scene == scene
        generator = torch.Generator().manual_seed(2)
        points = []
        for part in (pack.learned, pack.judged):
            views = draw_views(pack, (of & part).nonzero()[:, 0], LEARNED, generator)
            points.append(views.points[views.known][::7])
        distance = torch.cdist(points[1], points[0]).amin(1)
        assert (distance < 0.15).float().mean() > 0.3


def test_the_encoder_learns_what_its_heads_need(pack: Pack, start: EfficientNetLite) -> None:
    run, untrained = (small(pack, start, learning_rate=1e-3, lessons=0, averaging=0.5) for _ in range(2))
    for _ in range(30):
        run.train_step(0.05)
    with torch.no_grad():
        before, after = (
            [
                learner.judge(16, trainer.encode, torch.Generator().manual_seed(1))[0]
                for learner in run.learners.values()
            ]
            for trainer in (untrained, run)
        )
    assert sum(after) < 0.97 * sum(before)
    moved = {name for name, value in run.average.items() if not torch.equal(value, start.state_dict()[name])}
    assert {name.split(".")[1] for name in moved} == {str(block) for block in range(3, 9)}
    assert not any("depthwise.weight" in name for name in moved)


def test_a_resumed_training_ends_like_an_uninterrupted_one(
    pack: Pack, start: EfficientNetLite, tmp_path: Path
) -> None:
    whole, first = small(pack, start), small(pack, start)
    for step in range(4):
        whole.train_step(step / 4)
    for step in range(2):
        first.train_step(step / 4)
    torch.save(first.state(), tmp_path / "state.pt")
    second = small(pack, start)
    second.resume(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(2, 4):
        second.train_step(step / 4)
    assert second.step == whole.step == 4
    for name, value in whole.average.items():
        assert torch.equal(second.average[name], value), name


def test_what_training_leaves_is_an_encoder(pack: Pack, start: EfficientNetLite, tmp_path: Path) -> None:
    train(small(pack, start, steps=2), tmp_path, None)
    with pytest.raises(MapFormatError, match="of other images or settings"):
        train(small(pack, start, steps=3), tmp_path, None)
    written = read_encoder("mine", (tmp_path / "encoder.safetensors").read_bytes(), dtype=torch.float32)
    assert len(written.blocks) == TrainingSettings.num_blocks
    shipped = safetensors.torch.load_file(SHIPPED)
    for name, value in written.state_dict().items():
        if name.startswith(("stem.", "blocks.0.", "blocks.1.", "blocks.2.")) or "depthwise.weight" in name:
            assert torch.equal(value, shipped[name]), name
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0]["scenes"] == 3 and lines[1]["step"] == 2 and math.isfinite(lines[1]["loss"])


def test_the_pack_of_the_same_images_is_read_from_its_cache(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = load_pack(photos, 0, 0, 1, 2, tmp_path)
    monkeypatch.setattr("encoder_training.pack.place_pack", None)
    again = load_pack(photos, 0, 0, 1, 2, tmp_path)
    assert torch.equal(made.images, again.images)
    assert made.images.shape == (2, 3, SIZE[1], SIZE[0])
    with pytest.raises(DatasetError, match="photos: expected 24 or more for 1 galleries, got 3"):
        load_pack(photos, 1, 0, 0, 0, tmp_path)


def test_a_photo_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"no image")
    with pytest.raises(DatasetError, match="no.jpg: expected an image"):
        gallery_pack([tmp_path / "no.jpg"])


def test_an_interrupted_training_keeps_what_it_learned(
    pack: Pack, start: EfficientNetLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step, made = Trainer.train_step, []

    def step(self: Trainer, progress: float) -> dict[str, float]:
        if self.step == 2 and not made.count("interrupt"):
            made.append("interrupt")
            raise KeyboardInterrupt
        made.append(self.step)
        return train_step(self, progress)

    monkeypatch.setattr(Trainer, "train_step", step)
    with pytest.raises(KeyboardInterrupt):
        train(small(pack, start, steps=4), tmp_path, None)
    assert (tmp_path / "encoder.safetensors").is_file()
    train(small(pack, start, steps=4), tmp_path, None)
    assert made == [0, 1, "interrupt", 2, 3]


def test_a_damaged_checkpoint_is_named(pack: Pack, start: EfficientNetLite, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(MapFormatError, match="checkpoint.pt"):
        train(small(pack, start, steps=2), tmp_path, None)
