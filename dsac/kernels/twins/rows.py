"""Correspondences and poses of a caller, as the loops of the twins want them."""

from __future__ import annotations

import numpy as np

from dsac.kernels.arrays import PosedRows, numpy_array, real_array
from dsac.kernels.twins.poses import fill_rows


class Rows:
    """Correspondences as the loops want them: (B, 5, N), centred points and pixels from the principal point.

    In float64 if the scene points are, else in float32; poses (B, H, 3, 4) are float64 and may be changed.
    """

    def __init__(self, posed: PosedRows) -> None:
        self.dtype = np.float64 if numpy_array(posed.scene_points).dtype.char == "d" else np.float32
        scene, pixels = real_array(posed.scene_points, self.dtype), real_array(posed.pixels, self.dtype)
        self.focal, middle = real_array(posed.focal_px, np.float64), real_array(posed.center_px, np.float64)
        turns, moves = real_array(posed.rotation, np.float64), real_array(posed.translation, np.float64)
        self.points = np.empty((len(scene), 5, scene.shape[1]), self.dtype)  # rows contiguous for the loops
        self.shift = np.empty((len(scene), 3))
        self.poses = np.empty((*moves.shape[:2], 3, 4))
        fill_rows(pixels, scene, middle, turns, moves, self.points, self.shift, self.poses)
        if posed.weights is None:
            self.weights = np.ones(scene.shape[:2], self.dtype)
        else:
            self.weights = real_array(posed.weights, self.dtype)

    def __getitem__(self, image: int) -> tuple[np.ndarray, ...]:
        """What the loops over the hypotheses of an image begin with."""
        return self.poses[image], self.points[image], self.weights[image], self.focal[image]

    def uncentred_poses(self) -> np.ndarray:
        """The poses (B, H, 3, 4) as the loops left them, of the points before they were centred."""
        moved = self.poses.copy()
        moved[..., 3] -= (self.poses[..., :3] @ self.shift[:, None, :, None])[..., 0]
        return moved
