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
    order = np.random.default_rng(seed).permutation(len(frames))
    quota = max(1, buffer_size // (len(frames) * views_per_frame))
    for done, (number, views) in enumerate(
        _prefetched(frames, order, encoder, short_side_px, views_per_frame, augmentation, seed)
    ):
        images = torch.stack([view.image for view in views]).to(device)
        with torch.inference_mode():
            encoded = torch.cat([encoder(image[None]) for image in images])
        rng = np.random.default_rng([seed, number, 1])
        for view, grid in zip(views, encoded, strict=True):
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
        on_progress((done + 1) / len(frames))
    if features is None or filled == 0:
        raise DatasetError(
            "no cell of any mapping frame could be used: are the images larger than a few pixels?"
        )
    cells = Cells(features[:filled], *(torch.cat(x).to(device) for x in (points, pixels, view_index)))
    return FeatureBuffer(cells, *(torch.stack(x).to(device) for x in (poses, focals, centers)))


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
) -> Iterator[tuple[int, list[View]]]:
    """Frame numbers with their views, the next frames' made in a thread while the last one is encoded."""

    def make(number: int) -> tuple[int, list[View]]:
        frame: Frame = frames[number]
        size = working_size(frame.camera.size, short_side_px, encoder.size_multiple)
        rng = np.random.default_rng([seed, number])
        plain = [plain_view(frame, size, encoder.stride)] if views_per_frame > 1 else []
        augmented = views_per_frame - len(plain)
        return number, plain + [
            random_view(frame, size, encoder.stride, augmentation, rng) for _ in range(augmented)
        ]

    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(make, int(number)) for number in order[:2]]
        try:
            for i in range(len(order)):
                ready = waiting.pop(0).result()
                if i + 2 < len(order):
                    waiting.append(pool.submit(make, int(order[i + 2])))
                yield ready
        finally:
            for future in waiting:
                future.cancel()
