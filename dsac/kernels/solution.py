"""What the fused solvers answer, whichever of them."""

from __future__ import annotations

from typing import NamedTuple

from dsac.kernels.arrays import Array


class Solution(NamedTuple):
    """Poses of a batch, `cam_from_world`. Where none was found: identity, no inliers, information 0."""

    rotation: Array  # (B, 3, 3) float64
    translation: Array  # (B, 3) float64
    inliers: Array  # (B, N) bool: reprojection error below the threshold, in front of the camera
    information: Array  # (B, 6, 6) float64, inverse covariance of the increment from the left
    num_hypotheses: Array  # (B,) int64, seeds of minimal sets drawn
    num_usable: Array  # (B,) int64, rows that count: no NaN, infinity or weight 0
