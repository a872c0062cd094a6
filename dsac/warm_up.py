"""Compiles what a photo needs, once after an install: `python -m dsac.warm_up`, or the verb `dsac warm-up`."""

from __future__ import annotations

import os
import sys

import numpy as np
import torch

from dsac.geometry import Camera, Pose
from dsac.kernels.readiness import alone, compiled, note_compiled
from dsac.landmarks import DescribedPoints, GreyView, Landmarks, Matcher, align
from dsac.landmarks.keypoints import Keypoints
from dsac.landmarks.landmarks import PATCH_RADIUS
from dsac.ransac import Correspondences, DenseSolver, PoseSolver


def compile_kernels() -> None:
    """About a minute of one core, nothing where it was done."""
    with alone():
        if not compiled():
            ask_everything()
            note_compiled()


def ask_everything() -> None:
    """Ask a small photo all that a photo can be asked: a noisy poster two metres before the camera."""
    camera = Camera.simple(600.0, (640, 480))
    noise = np.random.default_rng(0).uniform(0, 1, (1, 3, 80, 107))
    image = torch.nn.functional.interpolate(torch.from_numpy(noise).float(), (480, 640), mode="bicubic")
    view, start = GreyView.of(image[0].clamp(0, 1), camera), Pose.identity(dtype=torch.float64)
    keypoints = Keypoints.of(view.pixels, 400)
    pixels = torch.from_numpy(keypoints.pixels).double()
    points = 2.0 * camera.unproject(pixels)
    rows = Correspondences(pixels[None].float(), points[None].float(), camera[None].to(torch.float32))
    solver = DenseSolver.rgb()
    solver.inliers(solver(rows).cam_from_world, rows)
    PoseSolver.rgb()(rows)  # whom it asks before a photo counts as lost
    matcher = Matcher(DescribedPoints.of(points.numpy(), keypoints.descriptors), keypoints)
    found = align(_landmarks(view, pixels, points), view, start, matcher).estimate
    assert found.success.item()  # so nothing was left out


def _landmarks(view: GreyView, pixels: torch.Tensor, points: torch.Tensor) -> Landmarks:
    """The patches of one view at some of its pixels (N, 2), of points (N, 3)."""
    side = 2 * PATCH_RADIUS + 1
    windows = np.lib.stride_tricks.sliding_window_view(view.pixels, (side, side))
    corners = pixels.long() - PATCH_RADIUS
    inside = ((corners >= 0) & (corners < torch.tensor(windows.shape[1::-1]))).all(1)
    column, row = corners[inside].numpy().T
    return Landmarks(
        points[inside].float(),
        torch.from_numpy(windows[row, column].copy()),
        torch.zeros(len(row), dtype=torch.long),
        Pose.identity(1, dtype=torch.float64),
        view.camera.focal_px[None].double(),
    )


if __name__ == "__main__":
    if "--gently" in sys.argv and hasattr(os, "nice"):
        os.nice(10)
    compile_kernels()
