"""Preemptive RANSAC: many hypotheses, judged by ever more pixels; the better half is refined and goes on.

    E(h) = number of pixels of which a mode lies within the threshold

(Shotton et al., CVPR 2013; Nistér, ICCV 2003). Every round asks a batch of other pixels, until one hypothesis
is left. With camera points they are refined by Kabsch on their inliers in the batch, else by the robust cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dsac.geometry import Pose
from dsac.kernels import full_precision, reference
from dsac.ransac.implicit import where_pose
from dsac.ransac.minimal import P3P, Kabsch, MinimalSolver
from dsac.ransac.point_distance import PointDistance
from dsac.ransac.refinement import Refinement, RobustRefinement
from dsac.ransac.reprojection import ReprojectionError
from dsac.ransac.residual import PoseResidual, inliers, likeliest_rows, of_pixels, row_subset, weights_of
from dsac.ransac.sampling import WeightedSampling
from dsac.ransac.types import Correspondences, PoseEstimate, check_positive
from dsac.ransac.uncertainty import pose_estimate


@dataclass(frozen=True)
class PreemptiveSolver:
    """A pose for each image by the published search; `DenseSolver` asks all pixels of every pose."""

    residual: PoseResidual
    minimal: MinimalSolver
    refinement: Refinement  # of hypotheses, each an image with its inliers
    num_hypotheses: int = 256  # of eight times as many those whose minimal sets agree best with themselves
    batch: int = 500  # pixels

    def __post_init__(self) -> None:
        check_positive(num_hypotheses=self.num_hypotheses, batch=self.batch)

    @staticmethod
    def rgb(threshold_px: float | int = 4.0, num_hypotheses: int = 256) -> PreemptiveSolver:
        """P3P on pixels; inliers reproject within `threshold_px`."""
        residual = ReprojectionError(threshold_px)
        refinement = RobustRefinement(residual, iterations=3)
        return PreemptiveSolver(residual, P3P(residual), refinement, num_hypotheses)

    @staticmethod
    def rgbd(threshold_m: float | int = 0.1, num_hypotheses: int = 256) -> PreemptiveSolver:
        """Kabsch on camera points; inliers lie within `threshold_m` of theirs."""
        residual = PointDistance(threshold_m)
        return PreemptiveSolver(residual, Kabsch(residual), KabschRefinement(), num_hypotheses)

    def __call__(
        self, correspondences: Correspondences, generator: torch.Generator | None = None
    ) -> PoseEstimate:
        """The pose of each image; no gradient. Without a generator the same input has the same answer."""
        if generator is None:
            generator = torch.Generator().manual_seed(0)
        with torch.no_grad(), full_precision(correspondences.pixels.device.type):
            clean = self.residual.sanitise(correspondences)
            poses = [self._last(clean[i : i + 1], generator) for i in range(len(clean))]
            estimate = pose_estimate(Pose.cat(poses), self.residual, clean)
        return replace(estimate, inliers=estimate.inliers[:, : correspondences.pixels.shape[1]])

    def inliers(self, cam_from_world: Pose, correspondences: Correspondences) -> Bool[Tensor, "B N"]:
        """Which correspondences agree with a pose (batch (B,)) within the threshold."""
        return inliers(self.residual, cam_from_world, correspondences)

    def _last(self, clean: Correspondences, generator: torch.Generator) -> Pose:
        """The hypothesis (batch (1,)) that is left of one image (B = 1)."""
        size = self.minimal.sample_size
        drawn = self.minimal(clean, WeightedSampling()(clean, 8 * self.num_hypotheses, size, generator))
        poses = drawn.cam_from_world[:, drawn.sample_error[0].argsort(stable=True)[: self.num_hypotheses]]
        energy = torch.zeros(1, self.num_hypotheses).to(clean.pixels)
        pixels = torch.randperm(clean.pixels.shape[1] // clean.modes, generator=generator).to(energy.device)
        while True:
            rows = of_pixels(clean, pixels[: self.batch])
            pixels = pixels.roll(-self.batch)  # after the last of them the first is asked again
            errors = self.residual.errors(poses, rows)
            energy = energy + energies(self.residual, errors, rows)
            if len(energy[0]) == 1:
                break
            kept = energy[0].topk((len(energy[0]) + 1) // 2).indices
            poses, energy, errors = poses[:, kept], energy[:, kept], errors[:, kept]
            poses = self._refined(poses, rows, errors)
        for _ in range(_LAST):
            poses = self._refined(poses, clean, self.residual.errors(poses, clean))
        return poses[:, 0]

    def _refined(self, poses: Pose, rows: Correspondences, errors: Float[Tensor, "1 H n"]) -> Pose:
        nearest = likeliest_rows(errors, rows)
        weights = weights_of(rows)[:, None].expand(errors.shape).gather(-1, nearest)
        agree = (errors.gather(-1, nearest) < self.residual.threshold) & (weights > 0)
        sets = row_subset(rows, nearest, agree.to(errors))
        return self.refinement(poses.reshape(-1, 1), sets).reshape(*poses.shape)


_LAST = 3  # refinements on the inliers of all pixels


@dataclass(frozen=True)
class KabschRefinement:
    """The pose by all rows of positive weight with a camera point, if there are three (a `Refinement`)."""

    def __call__(
        self, poses: Pose, correspondences: Correspondences, generator: torch.Generator | None = None
    ) -> Pose:
        points, scene_points = correspondences.camera_points, correspondences.scene_points
        assert points is not None
        used = ((weights_of(correspondences) > 0) & (points[..., 2] > 0))[..., None]
        count = used.sum(1, keepdim=True)

        def others_in_the_middle(values: Float[Tensor, "B N 3"]) -> Tensor:
            middle = (values * used).sum(1, keepdim=True) / count.clamp_min(1)
            return torch.where(used, values, middle)  # where they have no pull

        rotation, translation, valid = reference.kabsch(*map(others_in_the_middle, (points, scene_points)))
        valid = valid & (count[:, 0, 0] >= 3)
        return where_pose(valid[:, None], Pose(rotation, translation)[:, None], poses)


def energies(
    residual: PoseResidual, errors: Float[Tensor, "1 H n"], rows: Correspondences
) -> Float[Tensor, "1 H"]:
    """How many pixels have a mode that counts within the threshold of each pose."""
    agree = (errors < residual.threshold) & (weights_of(rows) > 0)[:, None]
    return agree.unflatten(-1, (-1, rows.modes)).any(-1).sum(-1).to(errors)
