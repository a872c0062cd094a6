# candidate: solver_candidate:solve
"""Thin adapter: our fused CPU solver as a function of one image, as neutral harnesses want it.

The harness times the adapter too, on caches that the other solvers have emptied: numbers of a pose are turned
by Python itself, as numpy's linear algebra would have to be fetched from memory for nine of them.
"""

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
    pixels = np.empty((1, u.size, 2), np.float32)
    pixels[0, :, 0] = u.reshape(-1)
    pixels[0, :, 1] = v.reshape(-1)
    focal_px, center_px = _camera(f, cx, cy)
    solution = cpu.solve_rgb(
        pixels, coords.reshape(1, -1, 3), focal_px, center_px, threshold_px=10.0, seed=seed
    )
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = solution.rotation[0].tolist()
    x, y, z = solution.translation[0].tolist()
    return np.array(
        [
            (xx, yx, zx, -xx * x - yx * y - zx * z),
            (xy, yy, zy, -xy * x - yy * y - zy * z),
            (xz, yz, zz, -xz * x - yz * y - zz * z),
            (0.0, 0.0, 0.0, 1.0),
        ]
    )


@functools.cache
def _camera(f: float, cx: float, cy: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[f, f]]), np.array([[cx, cy]])
