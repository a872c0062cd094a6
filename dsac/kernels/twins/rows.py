"""Correspondences and poses of a caller, as the loops of the twins want them."""

from __future__ import annotations

import numpy as np

from dsac.kernels.arrays import PosedRows
from dsac.kernels.twins.poses import fill_rows


class Rows:
    """Correspondences as the loops want them: (B, 5, N), centred points and pixels from the principal point.

    In float64 if the scene points are, else in float32; poses (B, H, 3, 4) are float64 and may be changed.
    """

    def __init__(self, posed: PosedRows, poses: int | None = None) -> None:
        """Raises: `ValueError` as `PosedRows.check`; `poses` says what H must be."""
        posed = posed.numpy()
        posed.check(poses)
        self.dtype = np.float64 if posed.scene_points.dtype.char == "d" else np.float32
        scene = np.ascontiguousarray(posed.scene_points, self.dtype)
        pixels = np.ascontiguousarray(posed.pixels, self.dtype)
        self.focal, middle = (np.ascontiguousarray(x, np.float64) for x in (posed.focal_px, posed.center_px))
        turns, moves = (np.ascontiguousarray(x, np.float64) for x in (posed.rotation, posed.translation))
        self.points = np.empty((len(scene), 5, scene.shape[1]), self.dtype)  # rows contiguous for the loops
        self.shift = np.empty((len(scene), 3))
        self.poses = np.empty((*moves.shape[:2], 3, 4))
        fill_rows(pixels, scene, middle, turns, moves, self.points, self.shift, self.poses)
        if posed.weights is None:
            self.weights = np.ones(scene.shape[:2], self.dtype)
        else:
            self.weights = np.ascontiguousarray(posed.weights, self.dtype)

    def __getitem__(self, image: int) -> tuple[np.ndarray, ...]:
        """What the loops over the hypotheses of an image begin with."""
        return self.poses[image], self.points[image], self.weights[image], self.focal[image]

    def uncentred_poses(self) -> np.ndarray:
        """The poses (B, H, 3, 4) as the loops left them, of the points before they were centred."""
        moved = self.poses.copy()
        moved[..., 3] -= (self.poses[..., :3] @ self.shift[:, None, :, None])[..., 0]
        return moved
