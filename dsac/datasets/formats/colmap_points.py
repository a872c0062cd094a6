"""The points of a COLMAP model tell how depth that lies beside it fits: photos alone give a model no scale."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from dsac.datasets.frame import Frames
from dsac.datasets.storage import open_file, read_lines, unpack
from dsac.errors import DatasetError

logger = logging.getLogger(__name__)

_MOST_POINTS = 100_000  # of the file that are looked at
_IMAGES = 12
_LEAST = 30  # pairs of depths below which nothing is known
_WITHIN = 0.1  # of the middling ratio; half of the pairs must be
_SAME = 0.02  # a ratio so near to 1 is 1

Seen = Mapping[int, list[tuple[float, float, float]]]  # points by the id of an image that sees them


def metres_per_unit(path: str, frames: Frames, image_ids: list[int]) -> float | None:
    """Metres of the frames' depth for one unit of the model; 1 where they agree or nothing can be told.

    None = they do not fit together. `path` is that of `points3D.bin` or `.txt`, `image_ids` are the frames'.
    """
    rows = np.unique(np.linspace(0, len(frames) - 1, _IMAGES).round().astype(int)).tolist()
    try:
        seen = _seen(path, {image_ids[row] for row in rows})
    except (DatasetError, ValueError):  # nobody needs the points for anything else
        seen = {}
    ratios = np.concatenate(
        [np.zeros(0), *(_ratios(frames, row, seen.get(image_ids[row], [])) for row in rows)]
    )
    if len(ratios) < _LEAST:
        logger.warning(
            "%s: too few points to tell whether depth is of the model's scale, it is taken to be", path
        )
        return 1.0
    ratio = float(np.median(ratios))
    if np.mean(np.abs(ratios / ratio - 1) < _WITHIN) < 0.5:
        return None
    return 1.0 if abs(ratio - 1) < _SAME else ratio


def _ratios(frames: Frames, row: int, points: list[tuple[float, float, float]]) -> np.ndarray:
    """Depth of the image over depth of the model, at points that the image shows."""
    poses, camera = frames.cam_from_world, frames.camera(row)
    if not points or poses is None:
        return np.zeros(0)
    try:
        depth = frames.reader.read_depth(frames.names[row], camera)
    except DatasetError:  # a damaged file is named when it is used
        return np.zeros(0)
    points_cam = poses[row] @ torch.tensor(points, dtype=torch.float64)
    pixels = np.floor(camera.project(points_cam).numpy())
    shown = (points_cam[:, 2].numpy() > 1e-6) & (pixels >= 0).all(1) & (pixels < np.array(camera.size)).all(1)
    column, line = pixels[shown].astype(int).T
    measured, of_model = depth[line, column], points_cam[:, 2].numpy()[shown]
    return measured[measured > 0] / of_model[measured > 0]


def _seen(path: str, image_ids: set[int]) -> Seen:
    seen: dict[int, list[tuple[float, float, float]]] = {}
    for point, track in _points_text(path) if path.endswith(".txt") else _points_binary(path):
        for image_id in image_ids.intersection(track):
            seen.setdefault(image_id, []).append(point)
    return seen


def _points_text(path: str) -> Iterator[tuple[tuple[float, float, float], list[int]]]:
    lines = [line for line in read_lines(path) if line and not line.startswith("#")]
    for line in lines[:_MOST_POINTS]:
        _, x, y, z, _, _, _, _, *track = line.split()
        yield (float(x), float(y), float(z)), [int(image_id) for image_id in track[::2]]


def _points_binary(path: str) -> Iterator[tuple[tuple[float, float, float], list[int]]]:
    with open_file(path) as file:
        (count,) = unpack(file, "<Q", path)
        for _ in range(min(count, _MOST_POINTS)):
            _, x, y, z, _, _, _, _, length = unpack(file, "<Q3d3BdQ", path)
            track = np.frombuffer(file.read(8 * length), "<u4")
            yield (x, y, z), track[::2].tolist()
