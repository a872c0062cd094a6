"""The solver of queries: search a robust pose, refine it, say how far to trust it; what is lost is tried again.

    solver = DenseSolver.rgb(threshold_px=10.0)
    estimate = solver(correspondences)

The search (`dsac.kernels`) is one call for a batch, made for the thousands of correspondences that a network
predicts; it has no options but the threshold and no gradient. To train, or to choose the steps, there is
`PoseSolver`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from dsac.errors import BackendError
from dsac.geometry import Pose
from dsac.kernels import Backend, ImageRows, full_precision
from dsac.ransac.point_distance import PointDistance
from dsac.ransac.refinement import RobustRefinement
from dsac.ransac.reprojection import ReprojectionError
from dsac.ransac.residual import PoseResidual, inliers
from dsac.ransac.solver import PoseSolver
from dsac.ransac.types import Correspondences, PoseEstimate, check_order
from dsac.ransac.uncertainty import pose_estimate


@dataclass(frozen=True)
class DenseSolver:
    """A pose for each image by the residual's search; by `fallback` where that finds none or there is none."""

    residual: PoseResidual
    fallback: PoseSolver | None
    iterations: int = RobustRefinement.iterations  # of refinement after the search, at most

    def __post_init__(self) -> None:
        check_order(threshold=self.residual.threshold, max_error=self.residual.max_error)

    @staticmethod
    def rgb(
        threshold_px: float | int = 10.0, *, backend: Backend = "auto", window_px: float | int | None = None
    ) -> DenseSolver:
        """From pixels; inliers reproject within `threshold_px`.

        Where pixels were searched for in windows of side `window_px`, chance finds more inliers: success and
        confidence take account of it.
        """
        residual = ReprojectionError(threshold_px, backend=backend, window_px=window_px)
        fallback = PoseSolver.rgb(threshold_px=threshold_px, backend=backend, window_px=window_px)
        return DenseSolver(residual, fallback)

    @staticmethod
    def rgbd(threshold_m: float | int = 0.1, *, backend: Backend = "auto") -> DenseSolver:
        """With camera points; inliers lie within `threshold_m` of their camera point or, without, ray."""
        residual = PointDistance(threshold_m, backend=backend)
        # the search's likelihood knows how a depth camera errs, which the distance in space does not
        return DenseSolver(residual, PoseSolver.rgbd(threshold_m=threshold_m, backend=backend), iterations=0)

    def __call__(
        self, correspondences: Correspondences, generator: torch.Generator | None = None
    ) -> PoseEstimate:
        """The pose of each image; no gradient.

        Without a generator the draws come from a fixed seed: the same input has the same answer.
        Raises: `BackendError` when the backend has no search and there is no fallback.
        """
        with torch.no_grad(), full_precision(correspondences.pixels.device.type):
            estimate = self._estimate(self.residual.sanitise(correspondences), generator)
        return replace(estimate, inliers=estimate.inliers[:, : correspondences.pixels.shape[1]])

    def inliers(self, cam_from_world: Pose, correspondences: Correspondences) -> Bool[Tensor, "B N"]:
        """Which correspondences agree with a pose (batch (B,)) within the threshold."""
        return inliers(self.residual, cam_from_world, correspondences)

    def _estimate(self, clean: Correspondences, generator: torch.Generator | None) -> PoseEstimate:
        seed = _seed(generator)
        search = self.residual.engine(clean.pixels, clean.scene_points).search
        if search is None:
            return self._fallback()(clean, generator)
        found = search(_image_rows(clean), self.residual.threshold, seed)
        pose = Pose(found.rotation, found.translation).to(clean.pixels)
        # Without depth the search ends at the likeliest pose under isotropic noise in space. A network's
        # predictions are not like that: the robust cost, from there, is nearer to the truth on real images.
        estimate = pose_estimate(pose, self.residual, clean, self.iterations)
        if self.fallback is None or estimate.success.all():
            return estimate
        # Before an image counts as lost, the other path is asked: the search gives up earlier, above all on a
        # few hundred correspondences of hardly any relief.
        lost = (~estimate.success).nonzero()[:, 0]
        return estimate.with_images(lost, self.fallback(clean[lost], generator))

    def _fallback(self) -> PoseSolver:
        if self.fallback is None:
            name = type(self.residual).__name__
            raise BackendError(f"{name}: its backend has no search here, and the solver has no fallback")
        return self.fallback


def _seed(generator: torch.Generator | None) -> int:
    if generator is None:
        return 0
    return int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))


def _image_rows(c: Correspondences) -> ImageRows:
    depths = None if c.camera_points is None else c.camera_points[..., 2]
    return ImageRows(c.pixels, c.scene_points, depths, c.camera.focal_px, c.camera.center_px, c.weights)
