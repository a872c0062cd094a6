"""The encoder's recipe: exact correspondences, a start near the teacher, a loss that falls, resuming."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from encoder_training.narrowing import narrow
from encoder_training.pack import SIZE, Pack, joined, load_pack, photo_pack, room_pack
from encoder_training.pairs import ViewLimits, draw_pairs
from encoder_training.training import Trainee, Trainer, TrainingSettings, contrast_loss

from dsac.networks.encoder import CompactEncoder, EfficientNetLite, load_encoder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Smooth coloured noise: every place looks different, and interpolation changes little."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    paths = []
    for i, size in enumerate([(700, 520), (480, 640), (640, 480)]):  # one portrait
        image = cv2.resize(
            rng.integers(0, 256, (24, 24, 3), dtype=np.uint8), size, interpolation=cv2.INTER_CUBIC
        )
        paths.append(folder / f"{i}.png")
        cv2.imwrite(str(paths[-1]), image)
    return paths


@pytest.fixture(scope="module")
def pack(photos: list[Path]) -> Pack:
    return joined([photo_pack(photos), room_pack(7, 12)])


@pytest.fixture(scope="module")
def teacher() -> EfficientNetLite:
    torch.set_num_threads(1)
    encoder = load_encoder("efficientnet-lite0").float()
    assert isinstance(encoder, EfficientNetLite)
    return encoder


class ColorTeacher(torch.nn.Module):
    """In XFeat's place, whose weights do not ship."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images, 8).repeat(1, 22, 1, 1)[:, :64]


SMALL = ViewLimits(size=(128, 96))
UNCHANGED_LIGHT = ViewLimits(size=(128, 96), light=0, max_blur_px=1e-3, max_noise=0)


def trainer(pack: Pack, teacher: EfficientNetLite) -> Trainer:
    return Trainer(pack, teacher, ColorTeacher(), TrainingSettings(batch_size=2, cells=64, views=SMALL))


def test_a_cell_and_its_place_in_the_other_view_show_the_same(pack: Pack) -> None:
    generator = torch.Generator().manual_seed(1)
    sources = torch.arange(len(pack))
    differences, others, seen = [], [], []
    for _ in range(3):
        pairs = draw_pairs(pack, sources, UNCHANGED_LIGHT, generator)
        grid = pairs.pixels_b * 2 / torch.tensor(SMALL.size) - 1
        a = torch.nn.functional.avg_pool2d(
            pairs.clean_a[..., 3:, 3:], 2, stride=8
        )  # the pixels at a cell's centre
        b = torch.nn.functional.grid_sample(pairs.images_b, grid, align_corners=False)
        wrong = torch.nn.functional.grid_sample(pairs.images_b, -grid, align_corners=False)
        differences.append((a - b).abs().mean(1))
        others.append((a - wrong).abs().mean(1))
        seen.append(pairs.visible)
    visible = torch.cat(seen)
    assert visible.float().mean() > 0.2
    assert torch.cat(differences)[visible].median() < 0.25 * torch.cat(others)[visible].median()


def test_narrowing_keeps_most_of_the_features(pack: Pack, teacher: EfficientNetLite) -> None:
    pairs = draw_pairs(
        pack, torch.arange(len(pack)), ViewLimits(size=(320, 256)), torch.Generator().manual_seed(2)
    )
    narrowed = CompactEncoder().trunk
    narrow(teacher, narrowed, pairs.clean_a)
    with torch.no_grad():
        wanted, got = teacher(pairs.clean_a), narrowed(pairs.clean_a)
    assert (wanted - got).var() < 0.35 * wanted.var()
    assert sum(p.numel() for p in narrowed.parameters()) < 0.6 * sum(p.numel() for p in teacher.parameters())


def test_the_start_gives_the_teachers_strongest_whitened_directions(
    pack: Pack, teacher: EfficientNetLite
) -> None:
    images = draw_pairs(pack, torch.arange(len(pack)), SMALL, torch.Generator().manual_seed(3)).clean_a
    start = Trainee(teacher, images)
    with torch.no_grad():
        given = start.encoder(images).permute(0, 2, 3, 1)
        taught = (teacher(images).permute(0, 2, 3, 1) - start.mean) @ start.whitening[:, -128:]
    assert given.shape == (len(pack), 12, 16, 128)
    assert (given - taught).square().mean() < 0.5 * taught.square().mean()


def test_narrowing_to_the_same_width_changes_nothing(pack: Pack, teacher: EfficientNetLite) -> None:
    images = draw_pairs(pack, torch.arange(4), SMALL, torch.Generator().manual_seed(2)).clean_a
    same = EfficientNetLite()
    narrow(teacher, same, torch.cat([images] * 8))
    with torch.no_grad():
        wanted, got = teacher(images), same(images)
    assert (wanted - got).norm() < 0.05 * wanted.norm()  # least squares with a ridge


def test_the_contrast_is_least_where_each_finds_its_own() -> None:
    rows = torch.nn.functional.normalize(
        torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    usable = torch.ones(2, 16, dtype=torch.bool)
    usable[1, 3] = False
    place = 100 * torch.arange(16.0)[:, None].expand(2, 16, 2)
    sharpness = torch.tensor(20.0)
    right, found = contrast_loss(rows, rows, usable, place, sharpness)
    wrong, lost = contrast_loss(rows, rows.roll(1, dims=1), usable, place, sharpness)
    assert found == 1 and lost == 0
    assert right < 0.1 < wrong
    # places that are the same are no mistake
    near, _ = contrast_loss(rows, rows, usable, torch.zeros_like(place), sharpness)
    assert near < right


def test_training_lowers_the_loss(pack: Pack, teacher: EfficientNetLite) -> None:
    run = trainer(pack, teacher)
    losses = [run.train_step(min(0.3, step / 20))["loss"] for step in range(30)]
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])


def test_a_resumed_training_ends_like_an_uninterrupted_one(
    pack: Pack, teacher: EfficientNetLite, tmp_path: Path
) -> None:
    whole, first = trainer(pack, teacher), trainer(pack, teacher)
    for step in range(4):
        whole.train_step(step / 4)
    for step in range(2):
        first.train_step(step / 4)
    torch.save(first.state(), tmp_path / "state.pt")
    second = trainer(pack, teacher)
    second.resume(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(2, 4):
        second.train_step(step / 4)
    assert second.step == whole.step == 4
    for name, value in whole.average.items():
        assert torch.equal(second.average[name], value), name


def test_the_pack_of_the_same_images_is_read_from_its_cache(photos: list[Path], tmp_path: Path) -> None:
    made = load_pack(photos, [], 0, tmp_path)
    again = load_pack(photos, [], 0, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert torch.equal(made.images, again.images)
    assert made.images.shape == (3, 3, SIZE[1], SIZE[0])


def test_a_photo_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="no.jpg: expected an image"):
        photo_pack([tmp_path / "no.jpg"])
