# candidate: solver_candidate:solve
"""Thin adapter: our fused CPU solver as a function of one image, as neutral harnesses want it."""

from __future__ import annotations

import functools

import numpy as np

from dsac.kernels import cpu


def solve(
    coords: np.ndarray,  # (h, w, 3) float32 scene points
    u: np.ndarray,  # (h, w) float32 pixels
    v: np.ndarray,
    f: float,
    cx: float,
    cy: float,
    seed: int,
) -> np.ndarray:
    """`world_from_cam` as a 4x4 matrix."""
    solution = cpu.solve_rgb(
        np.stack([u, v], axis=-1).reshape(1, -1, 2),
        coords.reshape(1, -1, 3),
        *_camera(f, cx, cy),
        threshold_px=10.0,
        seed=seed,
    )
    rotation, translation = solution.rotation[0], solution.translation[0]
    matrix = np.eye(4)
    matrix[:3, :3] = rotation.T
    matrix[:3, 3] = -rotation.T @ translation
    return matrix


@functools.cache
def _camera(f: float, cx: float, cy: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[f, f]]), np.array([[cx, cy]])
