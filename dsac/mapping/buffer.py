"""The feature buffer: encoded cells of many augmented views, shuffled over the whole recording while training.

Encoding is the dear part of mapping, so it is done once: every view's features go into one bounded array
(bfloat16), each row with the scene point it shows where that is known, and its pixel and view otherwise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dsac.datasets import Frame, Frames
from dsac.errors import DatasetError
from dsac.mapping.views import Augmentation, View, plain_view, random_view
from dsac.networks.encoder import Encoder, cell_centers, working_size

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cells:
    """Rows of the buffer, or a batch of them, with what their losses need."""

    features: Tensor  # (M, C)
    scene_points: Float[Tensor, "M 3"]  # metres; NaN where unknown
    pixels: Float[Tensor, "M 2"]  # of the cell's centre in its view
    view: Int[Tensor, " M"]


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
    for views in _prefetched(frames, order, encoder, short_side_px, views_per_frame, augmentation, seed):
        for view in views:
            with torch.inference_mode():
                grid = encoder(view.image[None].to(device))[0]
            rows = np.flatnonzero(view.inside.reshape(-1).numpy() > 0)
            rows = torch.from_numpy(rng.permutation(rows)[: min(quota, buffer_size - filled)])
            if features is None:
                features = torch.empty(buffer_size, len(grid), dtype=grid.dtype, device=device)
            features[filled : filled + len(rows)] = grid.flatten(1).T[rows.to(device)]
            filled += len(rows)
            points.append(view.scene_points.reshape(-1, 3)[rows])
            pixels.append(cell_centers(view.camera.size, encoder.stride).reshape(-1, 2)[rows].float())
            view_index.append(torch.full((len(rows),), len(poses), dtype=torch.int32))
            poses.append(view.cam_from_world.matrix[:3].float())
            focals.append(view.camera.focal_px.float())
            centers.append(view.camera.center_px.float())
        on_progress(len(poses) / total)
    if features is None or filled == 0:
        raise DatasetError(
            "no cell of any mapping frame could be used: are the images larger than a few pixels?"
        )
    cells = Cells(features[:filled], *(torch.cat(x).to(device) for x in (points, pixels, view_index)))
    return FeatureBuffer(cells, *(torch.stack(x).to(device) for x in (poses, focals, centers)))


_VIEWS_AT_ONCE = 8


def evenly_spread(frames: Frames, count: int) -> Frames:
    """At most `count` of the frames."""
    if len(frames) <= count:
        return frames
    _log.info("mapping with %d of %d frames, evenly spread", count, len(frames))
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


def _prefetched(
    frames: Frames,
    order: np.ndarray,
    encoder: Encoder,
    short_side_px: int,
    views_per_frame: int,
    augmentation: Augmentation,
    seed: int,
) -> Iterator[list[View]]:
    """Some views of one frame after the other, the next ones made in a thread while the last are encoded."""

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
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(make, *job) for job in jobs[:2]]
        try:
            for i in range(len(jobs)):
                ready = waiting.pop(0).result()
                if i + 2 < len(jobs):
                    waiting.append(pool.submit(make, *jobs[i + 2]))
                yield ready
        finally:
            for future in waiting:
                future.cancel()
