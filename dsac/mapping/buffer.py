"""The feature buffer: encoded cells of many augmented views, shuffled over the whole recording while training.

Encoding is the dear part of mapping, so it is done once: every view's features go into one bounded array
(bfloat16), each row with the scene point it shows where that is known, and its pixel and view otherwise.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dsac.datasets import Frame, Frames
from dsac.errors import DatasetError
from dsac.mapping.views import Augmentation, View, plain_view, random_view
from dsac.networks.encoder import Encoder, cell_centers, working_size

_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Cells:
    """Rows of the buffer, or a batch of them, with what their losses need."""

    features: Tensor  # (M, C)
    scene_points: Float[Tensor, "M 3"]  # metres; NaN where unknown
    pixels: Float[Tensor, "M 2"]  # of the cell's centre in its view
    view: Int[Tensor, " M"]

    def repeated(self, times: int) -> Cells:
        """Each row so many times, one after another, without its features."""
        others = (x.repeat_interleave(times, 0) for x in (self.scene_points, self.pixels, self.view))
        return Cells(self.features[:0], *others)


@dataclass(frozen=True)
class FeatureBuffer:
    """All rows, and the views they come from."""

    cells: Cells
    cam_from_world: Float[Tensor, "V 3 4"]  # of each view
    focal_px: Float[Tensor, "V 2"]
    center_px: Float[Tensor, "V 2"]

    def __len__(self) -> int:
        return len(self.cells.features)

    def take(self, rows: Int[Tensor, " M"]) -> Cells:
        c = self.cells
        return Cells(c.features[rows], c.scene_points[rows], c.pixels[rows], c.view[rows])


def collect(
    frames: Frames,
    encoder: Encoder,
    *,
    short_side_px: int,
    num_views: int,
    buffer_size: int,
    augmentation: Augmentation,
    seed: int,
    device: torch.device,
    seconds: float | None = None,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> FeatureBuffer:
    """Encode `num_views` views, spread over the frames, and keep `buffer_size` random cells of them.

    With `seconds`, only as many views a frame as fit into about that time (at least one).
    """
    views_per_frame = max(1, round(num_views / len(frames)))
    if seconds is not None:
        fitting = seconds / (len(frames) * _seconds_per_view(frames[0], encoder, short_side_px, device))
        views_per_frame = max(1, min(views_per_frame, int(fitting)))

    features: Tensor | None = None
    points, pixels, view_index, poses, focals, centers = [], [], [], [], [], []
    filled = 0
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(frames))
    total = len(frames) * views_per_frame
    quota = max(1, buffer_size // total)
    for views in _views(frames, order, encoder, short_side_px, views_per_frame, augmentation, seed):
        for view in views:
            with torch.inference_mode():
                grid = encoder(view.image[None].to(device))[0]
            of_view = cells_of_view(view, grid, encoder.stride)
            count = min(quota, buffer_size - filled)
            cells = of_view.take(torch.from_numpy(rng.permutation(len(of_view))[:count]).to(device))
            if features is None:
                features = torch.empty(buffer_size, len(grid), dtype=grid.dtype, device=device)
            features[filled : filled + len(cells.features)] = cells.features
            filled += len(cells.features)
            points.append(cells.scene_points)
            pixels.append(cells.pixels)
            view_index.append(cells.view + len(poses))
            poses.append(of_view.cam_from_world)
            focals.append(of_view.focal_px)
            centers.append(of_view.center_px)
        on_progress(len(poses) / total)
    if features is None or filled == 0:
        raise DatasetError(
            "no cell of any mapping frame could be used: are the images larger than a few pixels?"
        )
    cells = Cells(features[:filled], *(torch.cat(x) for x in (points, pixels, view_index)))
    return FeatureBuffer(cells, *(torch.cat(x) for x in (poses, focals, centers)))


def cells_of_view(view: View, features: Float[Tensor, "C h w"], stride: int) -> FeatureBuffer:
    """The cells of one encoded view that show the photo, row by row, on the device of the features."""
    rows = view.inside.flatten().nonzero()[:, 0]
    pixels = cell_centers(view.camera.size, stride).reshape(-1, 2)[rows].float()
    points = view.scene_points.reshape(-1, 3)[rows]
    to = features.device
    cells = Cells(
        features.flatten(1).T[rows.to(to)],
        points.to(to),
        pixels.to(to),
        torch.zeros(len(rows), dtype=torch.int32, device=to),
    )
    pose, camera = view.cam_from_world.matrix[None, :3], view.camera
    return FeatureBuffer(
        cells, *(x.to(to, torch.float32) for x in (pose, camera.focal_px[None], camera.center_px[None]))
    )


def evenly_spread(frames: Frames, count: int) -> Frames:
    """At most `count` of the frames, at even steps."""
    if len(frames) <= count:
        return frames
    _log.info("%d of %d frames are used, evenly spread", count, len(frames))
    return frames[np.linspace(0, len(frames) - 1, count).round().astype(int).tolist()]


def _seconds_per_view(frame: Frame, encoder: Encoder, short_side_px: int, device: torch.device) -> float:
    """Time to make and encode one view, after a first one that warms up."""
    size = working_size(frame.camera.size, short_side_px, encoder.size_multiple)
    started = 0.0
    for _ in range(2):
        started = time.monotonic()
        with torch.inference_mode():
            encoder(plain_view(frame, size, encoder.stride).image[None].to(device)).sum().item()
    return time.monotonic() - started


def _views(
    frames: Frames,
    order: np.ndarray,
    encoder: Encoder,
    short_side_px: int,
    views_per_frame: int,
    augmentation: Augmentation,
    seed: int,
) -> Iterator[list[View]]:
    """Some views of one frame after the other."""

    def make(number: int, first: int) -> list[View]:
        frame: Frame = frames[number]
        size = working_size(frame.camera.size, short_side_px, encoder.size_multiple)
        rng = np.random.default_rng([seed, number, first])
        return [
            plain_view(frame, size, encoder.stride)
            if k == 0 and views_per_frame > 1
            else random_view(frame, size, encoder.stride, augmentation, rng)
            for k in range(first, min(first + _VIEWS_AT_ONCE, views_per_frame))
        ]

    # few frames have many views each, which would not all fit into memory
    jobs = [(int(number), first) for number in order for first in range(0, views_per_frame, _VIEWS_AT_ONCE)]
    return prefetched(make, jobs)


_VIEWS_AT_ONCE = 8


def prefetched(make: Callable[..., T], jobs: Iterable[tuple], workers: int = 1) -> Iterator[T]:
    """`make(*job)` of one job after the other, the next ones made in threads meanwhile; jobs may be endless."""
    rest = iter(jobs)
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(make, *job) for job in islice(rest, workers + 1))
        try:
            while waiting:
                ready = waiting.popleft().result()
                waiting.extend(pool.submit(make, *job) for job in islice(rest, 1))
                yield ready
        finally:
            for future in waiting:
                future.cancel()
