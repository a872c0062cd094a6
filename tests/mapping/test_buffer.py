"""The feature buffer: bounded, repeatable, and every row belongs to its view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ball_world import RADIUS, ColorEncoder, FramesInMemory, ball_frames

from dsac.datasets import Frames
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose
from dsac.mapping import buffer
from dsac.mapping.buffer import FeatureBuffer, collect, evenly_spread
from dsac.mapping.views import Augmentation

SHORT_SIDE_PX = 96


@pytest.fixture(scope="module")
def frames() -> Frames:
    return ball_frames()


def _collect(frames: Frames, encoder: ColorEncoder = ColorEncoder(), **changes) -> FeatureBuffer:  # noqa: B008
    settings = {
        "short_side_px": SHORT_SIDE_PX,
        "num_views": 18,
        "buffer_size": 100_000,
        "augmentation": Augmentation(max_brightness=0.0, max_gamma=1.0, max_blur_px=0.0),
        "seed": 0,
        "device": torch.device("cpu"),
    }
    return collect(frames, encoder, **(settings | changes))


def test_every_row_reprojects_onto_its_pixel_in_its_view(frames: Frames) -> None:
    collected = _collect(frames)
    cells, view = collected.cells, collected.cells.view.long()
    known = torch.isfinite(cells.scene_points[:, 0])
    assert known.float().mean() > 0.95
    points_cam = Pose.from_matrix(collected.cam_from_world)[view] @ cells.scene_points[:, None]
    pixels = Camera(collected.focal_px[view], collected.center_px[view], (1, 1)).project(points_cam)[:, 0]
    assert (pixels - cells.pixels)[known].abs().max() < 0.01  # poses and points are float32
    assert torch.equal(cells.pixels % 8, torch.full_like(cells.pixels, 4.0))


def test_every_row_has_the_features_of_its_scene_point(frames: Frames) -> None:
    cells = _collect(frames).cells
    known = torch.isfinite(cells.scene_points[:, 0])
    shown = (2 * cells.features - 1) * RADIUS
    # cells at the photo's border average in what is reflected there
    error = (shown - cells.scene_points)[known].abs().amax(-1)
    assert error.quantile(0.9) < 0.06 and error.median() < 0.03


def test_all_cells_of_all_views_are_kept_when_there_is_room(frames: Frames) -> None:
    collected = _collect(frames, num_views=6, augmentation=Augmentation(min_scale=1.0, max_roll_deg=0.0))
    assert len(collected.cam_from_world) == 6
    # zoomed-in views lie within their photo: 12 x 16 and 20 x 12 cells
    inside = torch.bincount(collected.cells.view.long())
    assert (inside <= torch.tensor([192, 240] * 3).sort().values.max()).all() and inside.sum() > 0.8 * 3 * 432


@pytest.mark.parametrize("buffer_size", [18, 100, 1000])
def test_the_buffer_is_bounded_and_every_view_has_its_share(frames: Frames, buffer_size: int) -> None:
    collected = _collect(frames, buffer_size=buffer_size)
    assert len(collected) == buffer_size // 18 * 18 <= buffer_size
    assert torch.equal(torch.bincount(collected.cells.view.long()), torch.full((18,), buffer_size // 18))


def test_a_buffer_smaller_than_the_number_of_views_is_still_filled(frames: Frames) -> None:
    collected = _collect(frames, buffer_size=5)
    assert len(collected) == 5


def test_the_same_seed_gives_the_same_buffer_and_another_seed_another(frames: Frames) -> None:
    first, again, other = (_collect(frames, seed=seed, buffer_size=900) for seed in (3, 3, 4))
    for name in ("features", "scene_points", "pixels", "view"):
        assert torch.equal(getattr(first.cells, name).nan_to_num(), getattr(again.cells, name).nan_to_num())
    assert torch.equal(first.cam_from_world, again.cam_from_world)
    assert not torch.equal(first.cells.features, other.cells.features)


def test_frames_are_thinned_out_evenly(frames: Frames) -> None:
    assert evenly_spread(frames, 3).names == ["0", "2", "5"]
    assert evenly_spread(frames, 1).names == ["0"]
    assert evenly_spread(frames, 6) is frames


def test_take_gives_the_rows_asked_for(frames: Frames) -> None:
    collected = _collect(frames)
    rows = torch.tensor([5, 0, 5])
    taken = collected.take(rows)
    assert torch.equal(taken.features, collected.cells.features[rows])
    assert torch.equal(taken.pixels, collected.cells.pixels[rows])
    assert torch.equal(taken.view, collected.cells.view[rows])


def test_a_time_budget_of_nothing_still_uses_every_frame_once(frames: Frames) -> None:
    collected = _collect(frames, num_views=60, seconds=0.0)
    assert len(collected.cam_from_world) == 6


def test_many_views_of_few_frames_are_made_a_few_at_a_time(
    frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    random_view = buffer.random_view

    def counted(*arguments: object) -> object:
        made.append(None)
        return random_view(*arguments)

    monkeypatch.setattr(buffer, "random_view", counted)
    ahead = []
    encoded = []

    class Encoder(ColorEncoder):
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            encoded.append(None)
            ahead.append(len(made) + 2 - len(encoded))  # the two plain views were made too
            return super().__call__(images)

    answer = _collect(frames[:2], Encoder(), num_views=100)
    assert len(answer.cam_from_world) == len(encoded) == 100 and len(made) == 98
    assert max(ahead) < 30
    # no view comes twice
    assert len(answer.cam_from_world.flatten(1).unique(dim=0)) == 100


def test_progress_ends_at_one(frames: Frames) -> None:
    reports: list[float] = []
    _collect(frames, on_progress=reports.append)
    assert reports == sorted(reports) and reports[-1] == 1.0 and len(reports) == 6


def test_an_image_that_cannot_be_read_ends_it_with_its_name(frames: Frames) -> None:
    def fail(name: str) -> np.ndarray:
        raise DatasetError(f"{name}: truncated")

    broken = replace(frames, reader=FramesInMemory(frames.reader.frames))  # type: ignore[attr-defined]
    object.__setattr__(broken.reader, "read_image", fail)
    with pytest.raises(DatasetError, match="truncated"):
        _collect(broken)
