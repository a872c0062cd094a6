"""ARKitScenes: `lowres_wide` with `lowres_depth`, `lowres_wide_intrinsics` and `lowres_wide.traj`.

A line of the trajectory is `timestamp`, axis-angle, translation, camera from world; its ten poses a second are
interpolated at the times of the images, which end their names. A `.pincam` is `width height fx fy cx cy`. Depth
is in millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dsac.datasets.format import Recording
from dsac.datasets.listed_files import IMAGE_ENDINGS
from dsac.datasets.posed_files import Lens, PosedImages, image_size, pick
from dsac.datasets.recording import ResampledDepth
from dsac.datasets.rigid import finite_rows, rigid_from_vectors
from dsac.datasets.storage import Storage
from dsac.datasets.tables import read_numbers, read_rows
from dsac.datasets.trajectory import Trajectory, files_by_time, nearest, pair_by_time, seconds
from dsac.errors import DatasetError

LOOKS_FOR = "lowres_wide beside lowres_wide.traj (ARKitScenes)"
MAX_GAP = 0.15
_DEPTH_GAP = 0.01


def recognises(storage: Storage) -> bool:
    return _base(storage) is not None


def read(storage: Storage, truth: str | None, max_gap: float | None = None) -> Recording:
    """Frames in the order of their times; the truth is `arkit`."""
    base = _base(storage)
    assert base is not None
    files, times = _timed(storage, f"{base}/lowres_wide", IMAGE_ENDINGS)
    if not files:
        raise DatasetError(
            f"{storage.join(base, 'lowres_wide')}: expected images named by their time, found none"
        )
    trajectory = _trajectory(storage.join(base, "lowres_wide.traj"))
    rows, world_from_cam = trajectory.at(files, times, MAX_GAP if max_gap is None else max_gap)
    files, times = pick(files, rows), times[rows]
    depth, depth_times = _timed(storage, f"{base}/lowres_depth", [".png"])
    depth_of = pair_by_time(times, depth_times, _DEPTH_GAP)
    images = PosedImages(
        files,
        world_from_cam.inverse(),
        _lenses(storage, f"{base}/lowres_wide_intrinsics", times),
        storage.join(base, "lowres_wide"),
        {files[i]: depth[j] for i, j in depth_of.items()},
        ResampledDepth(0.001),
    )
    return images.recording(storage, "ARKitScenes", "arkit", truth)


def _base(storage: Storage) -> str | None:
    folders = [".", *sorted(name for name in storage.listing() if name.endswith("_frames"))]
    return next((f for f in folders if {"lowres_wide", "lowres_wide.traj"} <= storage.listing(f)), None)


def _timed(storage: Storage, folder: str, endings: Sequence[str]) -> tuple[list[str], np.ndarray]:
    return files_by_time(storage, folder, endings, behind="_")


def _trajectory(path: str) -> Trajectory:
    rows = read_rows(path)
    numbers = [row.numbers("timestamp rx ry rz tx ty tz", 0, 7) for row in rows]
    table = torch.tensor(numbers, dtype=torch.float64).reshape(-1, 7)
    kept = finite_rows(table, [row.place for row in rows], path)
    table = table[torch.from_numpy(kept)]
    if not len(table):
        raise DatasetError(f"{path}: expected lines `timestamp rx ry rz tx ty tz`, found none")
    cam_from_world = rigid_from_vectors(table[:, 1:4], table[:, 4:], lambda i: rows[kept[i]].place)
    return Trajectory.of(path, seconds(table[:, 0].numpy()), cam_from_world.inverse())


def _lenses(storage: Storage, folder: str, times: np.ndarray) -> list[Lens]:
    """The intrinsics nearest in time."""
    files, stamps = _timed(storage, folder, [".pincam"])
    if not files:
        raise DatasetError(f"{storage.join(folder)}: expected intrinsics, `*.pincam`, found none")
    taken = nearest(times, stamps)
    lenses = {i: _read_pincam(storage.join(files[i])) for i in set(taken.tolist())}
    return [lenses[i] for i in taken.tolist()]


def _read_pincam(path: str) -> Lens:
    values = read_numbers(path)
    if len(values) != 6:
        raise DatasetError(f"{path}: expected `width height fx fy cx cy`, got {len(values)} numbers")
    width, height, *pinhole = values
    return Lens("PINHOLE", tuple(pinhole), image_size(width, height, path), path)
