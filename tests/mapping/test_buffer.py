"""The feature buffer: bounded, repeatable, and every row belongs to its view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dsac.datasets import Frame, Frames
from dsac.errors import DatasetError
from dsac.geometry import Camera, Pose
from dsac.mapping.buffer import FeatureBuffer, collect, evenly_spread
from dsac.mapping.views import Augmentation

SHORT_SIDE_PX = 96
RADIUS = 3.0
CAMERAS = [
    Camera.from_params("OPENCV", [150, 155, 85, 51, -0.1, 0.02, 0.002, -0.001], (160, 120)),
    Camera.simple(200, (120, 200)),
]


class ColorEncoder:
    """The mean colour of each cell."""

    id = "colors"
    digest = "0"
    stride = 8
    size_multiple = 8
    num_features = 3

    def __call__(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images, self.stride)


@dataclass(frozen=True)
class FramesInMemory:
    """A reader of frames that are there."""

    frames: dict[str, Frame]
    has_depth: bool = True

    def read_image(self, name: str) -> np.ndarray:
        return (self.frames[name].image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        depth = self.frames[name].depth
        assert depth is not None
        return depth.numpy()


@pytest.fixture(scope="session")
def ball_frames(ball_frame: Callable[..., Frame]) -> Frames:
    """Six photos of two sizes."""
    photos = [ball_frame(CAMERAS[i % 2], f"{i}") for i in range(6)]
    poses = [photo.cam_from_world for photo in photos if photo.cam_from_world is not None]
    reader = FramesInMemory({photo.name: photo for photo in photos})
    names = [photo.name for photo in photos]
    return Frames(names, CAMERAS, np.arange(6) % 2, Pose.stack(poses), reader)


def _collect(frames: Frames, **changes) -> FeatureBuffer:
    settings = {
        "short_side_px": SHORT_SIDE_PX,
        "num_views": 18,
        "buffer_size": 100_000,
        "augmentation": Augmentation(max_brightness=0.0, max_gamma=1.0, max_blur_px=0.0),
        "seed": 0,
        "device": torch.device("cpu"),
    }
    return collect(frames, ColorEncoder(), **(settings | changes))


def test_every_row_reprojects_onto_its_pixel_in_its_view(ball_frames: Frames) -> None:
    buffer = _collect(ball_frames)
    cells, view = buffer.cells, buffer.cells.view.long()
    known = torch.isfinite(cells.scene_points[:, 0])
    assert known.float().mean() > 0.95
    points_cam = Pose.from_matrix(buffer.cam_from_world)[view] @ cells.scene_points[:, None]
    pixels = Camera(buffer.focal_px[view], buffer.center_px[view], (1, 1)).project(points_cam)[:, 0]
    assert (pixels - cells.pixels)[known].abs().max() < 0.01  # poses and points are float32
    assert torch.equal(cells.pixels % 8, torch.full_like(cells.pixels, 4.0))


def test_every_row_has_the_features_of_its_scene_point(ball_frames: Frames) -> None:
    cells = _collect(ball_frames).cells
    known = torch.isfinite(cells.scene_points[:, 0])
    shown = (2 * cells.features - 1) * RADIUS
    # cells at the photo's border average in what is reflected there
    error = (shown - cells.scene_points)[known].abs().amax(-1)
    assert error.quantile(0.9) < 0.06 and error.median() < 0.03


def test_all_cells_of_all_views_are_kept_when_there_is_room(ball_frames: Frames) -> None:
    buffer = _collect(ball_frames, num_views=6, augmentation=Augmentation(min_scale=1.0, max_roll_deg=0.0))
    assert len(buffer.cam_from_world) == 6
    # zoomed-in views lie within their photo: 12 x 16 and 20 x 12 cells
    inside = torch.bincount(buffer.cells.view.long())
    assert (inside <= torch.tensor([192, 240] * 3).sort().values.max()).all() and inside.sum() > 0.8 * 3 * 432


@pytest.mark.parametrize("buffer_size", [18, 100, 1000])
def test_the_buffer_is_bounded_and_every_view_has_its_share(ball_frames: Frames, buffer_size: int) -> None:
    buffer = _collect(ball_frames, buffer_size=buffer_size)
    assert len(buffer) == buffer_size // 18 * 18 <= buffer_size
    assert torch.equal(torch.bincount(buffer.cells.view.long()), torch.full((18,), buffer_size // 18))


def test_a_buffer_smaller_than_the_number_of_views_is_still_filled(ball_frames: Frames) -> None:
    buffer = _collect(ball_frames, buffer_size=5)
    assert len(buffer) == 5


def test_the_same_seed_gives_the_same_buffer_and_another_seed_another(ball_frames: Frames) -> None:
    first, again, other = (_collect(ball_frames, seed=seed, buffer_size=900) for seed in (3, 3, 4))
    for name in ("features", "scene_points", "pixels", "view"):
        assert torch.equal(getattr(first.cells, name).nan_to_num(), getattr(again.cells, name).nan_to_num())
    assert torch.equal(first.cam_from_world, again.cam_from_world)
    assert not torch.equal(first.cells.features, other.cells.features)


def test_frames_are_thinned_out_evenly(ball_frames: Frames) -> None:
    assert evenly_spread(ball_frames, 3).names == ["0", "2", "5"]
    assert evenly_spread(ball_frames, 1).names == ["0"]
    assert evenly_spread(ball_frames, 6) is ball_frames


def test_take_gives_the_rows_asked_for(ball_frames: Frames) -> None:
    buffer = _collect(ball_frames)
    rows = torch.tensor([5, 0, 5])
    taken = buffer.take(rows)
    assert torch.equal(taken.features, buffer.cells.features[rows])
    assert torch.equal(taken.pixels, buffer.cells.pixels[rows])
    assert torch.equal(taken.view, buffer.cells.view[rows])


def test_a_time_budget_of_nothing_still_uses_every_frame_once(ball_frames: Frames) -> None:
    buffer = _collect(ball_frames, num_views=60, seconds=0.0)
    assert len(buffer.cam_from_world) == 6


def test_progress_ends_at_one(ball_frames: Frames) -> None:
    told: list[float] = []
    _collect(ball_frames, on_progress=told.append)
    assert told == sorted(told) and told[-1] == 1.0 and len(told) == 6


def test_an_image_that_cannot_be_read_ends_it_with_its_name(ball_frames: Frames) -> None:
    def fail(name: str) -> np.ndarray:
        raise DatasetError(f"{name}: truncated")

    broken = replace(ball_frames, reader=FramesInMemory(ball_frames.reader.frames))  # type: ignore[attr-defined]
    object.__setattr__(broken.reader, "read_image", fail)
    with pytest.raises(DatasetError, match="truncated"):
        _collect(broken)
