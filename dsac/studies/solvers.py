"""Our CPU solver and those of others that are installed, each given camera and arrays as it wants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from dsac.kernels import cpu
from dsac.studies.solver_inputs import Input

THRESHOLD_PX = 10.0
THRESHOLD_M = 0.1
DEPTH_NOISE = 0.0015  # of a Kinect at 1 m, in metres
OURS = "dsac"
OURS_WITH_DEPTH = "dsac, RGB-D"

# frame, seed -> (rotation, translation) of cam_from_world, or None
Solver = Callable[[int, int], tuple[np.ndarray, np.ndarray] | None]


def ours(data: Input) -> dict[str, Solver]:
    """From scene coordinates alone and, where there is depth, with it too. Both want images in batches."""
    f, cx, cy = data.camera
    focal_px, center_px = np.array([[f, f]]), np.array([[cx, cy]])
    pixels, scene_points = data.pixels[None], list(data.scene_points[:, None])

    def solve(frame, seed):
        return _answer(
            cpu.solve_rgb(
                pixels, scene_points[frame], focal_px, center_px, threshold_px=THRESHOLD_PX, seed=seed
            )
        )

    found: dict[str, Solver] = {OURS: solve}
    if data.depths is not None:
        noise = np.random.default_rng(0).standard_normal(data.depths.shape)
        depths = list((data.depths + DEPTH_NOISE * data.depths**2 * noise).astype(np.float32)[:, None])

        def solve_with_depth(frame, seed):
            return _answer(
                cpu.solve_rgbd(
                    pixels,
                    scene_points[frame],
                    depths[frame],
                    focal_px,
                    center_px,
                    threshold_m=THRESHOLD_M,
                    depth_noise=DEPTH_NOISE,
                    seed=seed,
                )
            )

        found[OURS_WITH_DEPTH] = solve_with_depth
    return found


def _answer(solution: cpu.Solution) -> tuple[np.ndarray, np.ndarray] | None:
    """Of the first image; by one number, since this is timed, too."""
    return (solution.rotation[0], solution.translation[0]) if solution.information[0, 0, 0] > 0 else None


def peers(data: Input) -> dict[str, Solver]:
    """The installed ones, on one thread."""
    f, cx, cy = data.camera.tolist()
    given = _Given(data.pixels.astype(np.float64), list(data.scene_points.astype(np.float64)), f, cx, cy)
    return {**_opencv(given), **_poselib(given), **_pycolmap(given)}


class _Given(NamedTuple):
    """What peers want: float64, and the camera in COLMAP's words."""

    pixels: np.ndarray  # (N, 2)
    points: list[np.ndarray]  # F times (N, 3)
    f: float
    cx: float
    cy: float

    @property
    def camera(self) -> dict[str, Any]:
        f, cx, cy = self.f, self.cx, self.cy
        return {"model": "PINHOLE", "width": int(2 * cx), "height": int(2 * cy), "params": [f, f, cx, cy]}


def _opencv(given: _Given) -> dict[str, Solver]:
    pixels, points = given.pixels, given.points
    matrix = np.array([[given.f, 0, given.cx], [0, given.f, given.cy], [0, 0, 1]])
    cv2.setNumThreads(1)

    def solver(flag: int) -> Solver:
        def solve(frame, seed):
            scene_points = points[frame]
            ok, vector, translation, rows = cv2.solvePnPRansac(
                scene_points,
                pixels,
                matrix,
                None,
                iterationsCount=10_000,
                reprojectionError=THRESHOLD_PX,
                confidence=0.999,
                flags=flag,
            )
            if not ok or rows is None or len(rows) < 4:
                return None
            rows = np.asarray(rows, np.int64).ravel()
            vector, translation = cv2.solvePnPRefineLM(
                scene_points[rows], pixels[rows], matrix, None, vector, translation
            )
            return cv2.Rodrigues(vector)[0], translation.ravel()

        return solve

    return {
        "OpenCV USAC_FAST": solver(cv2.USAC_FAST),
        "OpenCV USAC_ACCURATE": solver(cv2.USAC_ACCURATE),
    }


def _poselib(given: _Given) -> dict[str, Solver]:
    """As it is by default, and tuned for dense scene coordinates."""
    try:
        import poselib
    except ImportError:
        return {}
    pixels, points, camera, f, center = given.pixels, given.points, given.camera, given.f, (given.cx, given.cy)

    def default(frame, seed):
        pose, _ = poselib.estimate_absolute_pose(
            pixels, points[frame], camera, {"max_reproj_error": THRESHOLD_PX, "seed": seed}, {}
        )
        return pose.R, np.asarray(pose.t)

    some = np.random.default_rng(0).permutation(len(pixels))[: len(pixels) // 8]

    def tuned(frame, seed):
        """RANSAC on an eighth of the cells with a generous threshold, then all its inliers."""
        scene_points = points[frame]
        options = {
            "max_reproj_error": 1.5 * THRESHOLD_PX,
            "seed": seed,
            "min_iterations": 20,
            "success_prob": 0.99,
            "dyn_num_trials_mult": 1.0,
        }
        loss = {"max_iterations": 10, "loss_scale": 5.0}
        pose, _ = poselib.estimate_absolute_pose(pixels[some], scene_points[some], camera, options, loss)
        moved = scene_points @ pose.R.T + np.asarray(pose.t)
        offset = f * moved[:, :2] / moved[:, 2:] + center - pixels
        near = ((offset**2).sum(-1) < (2.5 * THRESHOLD_PX) ** 2) & (moved[:, 2] > 0)
        if near.sum() >= 4:
            pose, _ = poselib.refine_absolute_pose(
                pixels[near], scene_points[near], pose, camera, {"max_iterations": 20, "loss_scale": 8.0}
            )
        return pose.R, np.asarray(pose.t)

    return {"PoseLib": default, "PoseLib, tuned": tuned}


def _pycolmap(given: _Given) -> dict[str, Solver]:
    try:
        import pycolmap
    except ImportError:
        return {}
    pixels, points = given.pixels, given.points
    model = pycolmap.Camera(**given.camera)
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.max_error = THRESHOLD_PX
    options.ransac.num_threads = 1
    refinement = pycolmap.AbsolutePoseRefinementOptions()

    def colmap(frame, seed):
        options.ransac.random_seed = seed
        answer = pycolmap.estimate_and_refine_absolute_pose(pixels, points[frame], model, options, refinement)
        if answer is None:
            return None
        matrix = answer["cam_from_world"].matrix()
        return matrix[:, :3], matrix[:, 3]

    return {"pycolmap": colmap}
