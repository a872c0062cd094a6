"""Correspondences and poses of a caller, as the loops of the twins want them."""

from __future__ import annotations

import numpy as np

from dsac.kernels.arrays import Array, numpy_array, real_array
from dsac.kernels.twins.poses import fill_rows


class Rows:
    """Correspondences as the loops want them: (B, 5, N), centred points and pixels from the principal point."""

    def __init__(
        self,
        rotation: Array,
        translation: Array,
        pixels: Array,
        scene_points: Array,
        focal_px: Array,
        center_px: Array,
        weights: Array | None = None,
    ) -> None:
        self.dtype = np.float64 if numpy_array(scene_points).dtype.char == "d" else np.float32
        scene = real_array(scene_points, self.dtype)
        self.focal, middle = real_array(focal_px, np.float64), real_array(center_px, np.float64)
        self.points = np.empty((len(scene), 5, scene.shape[1]), self.dtype)  # rows contiguous for the loops
        self.shift = np.empty((len(scene), 3))
        turns, moves = real_array(rotation, np.float64), real_array(translation, np.float64)
        if len(moves) != len(scene):  # the loops do not look
            raise ValueError(f"poses: expected batch {len(scene)} like scene_points, got {len(moves)}")
        self.poses = np.empty((*moves.shape[:2], 3, 4))
        flat = real_array(pixels, self.dtype)
        fill_rows(flat, scene, middle, turns, moves, self.points, self.shift, self.poses)
        self.weights = np.ones(scene.shape[:2]) if weights is None else real_array(weights, self.dtype)

    def __getitem__(self, image: int) -> tuple[np.ndarray, ...]:
        """What the loops over the hypotheses of an image begin with."""
        return self.poses[image], self.points[image], self.weights[image], self.focal[image]

    def uncentred_poses(self) -> np.ndarray:
        """The poses (B, H, 3, 4) as the loops left them, of the points before they were centred."""
        moved = self.poses.copy()
        moved[..., 3] -= (self.poses[..., :3] @ self.shift[:, None, :, None])[..., 0]
        return moved
