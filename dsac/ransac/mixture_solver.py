"""The solver of forests: another solver's pose, taken to where mixtures of scene points make it likeliest.

    solver = MixtureSolver.rgb()
    estimate = solver(correspondences)          # with covariances

The likelihood (`mixture.py`) is climbed by Levenberg-Marquardt (Brachmann et al., CVPR 2016).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from dsac.geometry import Pose
from dsac.kernels import full_precision, is_at_once
from dsac.ransac.dense import DenseSolver
from dsac.ransac.mixture import Mixtures, slope
from dsac.ransac.point_distance import PointDistance
from dsac.ransac.reprojection import ReprojectionError
from dsac.ransac.residual import PoseResidual, inliers, of_pixels, weights_of
from dsac.ransac.types import Correspondences, PoseEstimate, Solver, check_positive
from dsac.ransac.uncertainty import pose_estimate


@dataclass(frozen=True)
class MixtureSolver:
    """Another solver's poses, taken to where the mixtures of their pixels are likeliest.

    `first` finds them; `residual` tells which pixels count, those with a mode within three thresholds, and then
    inliers, covariance and confidence.
    """

    first: Solver
    residual: PoseResidual
    background: float | int = 3.5  # b is the density so many deviations from a typical mode
    iterations: int = 20  # at most

    def __post_init__(self) -> None:
        check_positive(background=self.background, iterations=self.iterations)

    @staticmethod
    def rgb(
        first: Solver = DenseSolver.rgb(4.0),  # noqa: B008 -- frozen
        threshold_px: float | int = 6.0,
    ) -> MixtureSolver:
        """From pixels: modes are projected along their rays."""
        return MixtureSolver(first, ReprojectionError(threshold_px))

    @staticmethod
    def rgbd(
        first: Solver = DenseSolver.rgbd(),  # noqa: B008
        threshold_m: float | int = 0.1,
    ) -> MixtureSolver:
        """With camera points; pixels without count by their rays."""
        return MixtureSolver(first, PointDistance(threshold_m))

    def __call__(
        self, correspondences: Correspondences, generator: torch.Generator | None = None
    ) -> PoseEstimate:
        """The pose of each image; no gradient. What `first` does not find is not found.

        Raises: `ValueError` for correspondences without covariances.
        """
        if correspondences.covariances is None:
            raise ValueError("covariances: expected (B, N, 6), as maps of forests tell them, got None")
        found = self.first(correspondences, generator)
        some = found.success.nonzero()[:, 0]
        if not len(some):
            return found
        with torch.no_grad(), full_precision(correspondences.pixels.device.type):
            clean = self.residual.sanitise(correspondences[some])
            poses = found.cam_from_world[some]
            poses = Pose.cat([self._likeliest(poses[i : i + 1], clean[i : i + 1]) for i in range(len(clean))])
            likeliest = pose_estimate(poses, self.residual, clean)
        agree = likeliest.inliers[:, : correspondences.pixels.shape[1]]
        return found.with_images(some, replace(likeliest, inliers=agree))

    def inliers(self, cam_from_world: Pose, correspondences: Correspondences) -> Bool[Tensor, "B N"]:
        """Which correspondences agree with a pose (batch (B,)) within the threshold."""
        return inliers(self.residual, cam_from_world, correspondences)

    def _likeliest(self, cam_from_world: Pose, clean: Correspondences) -> Pose:
        """Of one image, sanitised (B = 1)."""
        errors = self.residual.errors(cam_from_world[:, None], clean)[0, 0]
        near = (errors < 3 * self.residual.threshold) & (weights_of(clean)[0] > 0)
        pixels = near.view(-1, clean.modes).any(-1).nonzero()[:, 0]
        if not len(pixels):
            return cam_from_world
        mixtures = Mixtures.of(of_pixels(clean, pixels), self.background)
        world_from_cam = cam_from_world[0].to(torch.float64).inverse()
        return climbed(mixtures, world_from_cam, self.iterations).inverse().to(clean.pixels)[None]


def climbed(mixtures: Mixtures, world_from_cam: Pose, iterations: int) -> Pose:
    """The likeliest pose near one (no batch), after at most so many steps."""
    at = slope
    if mixtures.means.device.type == "cpu" and not is_at_once():
        from dsac.ransac.mixture_numba import slope as at  # Numba: a second to load
    here, damping = at(mixtures, world_from_cam), 1e-3
    for _ in range(iterations):
        damped = here.matrix + damping * torch.diag(here.matrix.diagonal())
        step, singular = torch.linalg.solve_ex(damped, here.gradient)
        pose = Pose.exp(step) @ world_from_cam
        higher = at(mixtures, pose)
        if singular or not higher.value > here.value:
            damping *= 10.0
            continue
        gain = higher.value - here.value
        world_from_cam, here, damping = pose, higher, max(damping / 10.0, 1e-9)
        if gain < _LEAST_GAIN:
            break
    return world_from_cam


_LEAST_GAIN = 0.1  # in the logarithm: under half a standard deviation even if pixels erred apart
