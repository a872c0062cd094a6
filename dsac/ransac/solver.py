"""The robust pose solver: sample, solve, score, select, refine.

    solver = PoseSolver.rgb(num_hypotheses=64, threshold_px=10.0, selection=Argmax())
    estimate = solver(correspondences)
    loss = solver.expected_loss(correspondences, cam_from_world, MaxError()).mean()

The five steps are its fields (DSAC, Brachmann et al. 2017), and it takes no others: to train end to end, to
score by a network, to fit something else. Plain queries are answered faster, and with fewer right
correspondences, by `DenseSolver`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dsac.geometry import Pose
from dsac.kernels import Backend, full_precision, reference
from dsac.ransac.losses import PoseLoss
from dsac.ransac.minimal import P3P, Kabsch, MinimalSolver
from dsac.ransac.point_distance import PointDistance
from dsac.ransac.refinement import Refinement, RobustRefinement
from dsac.ransac.reprojection import ReprojectionError
from dsac.ransac.residual import PoseResidual, Residual, check_batch, inliers
from dsac.ransac.sampling import Sampling, UniformSampling
from dsac.ransac.scoring import Scoring, SoftInlierCount
from dsac.ransac.selection import Argmax, Selected, Selection
from dsac.ransac.types import Correspondences, Hypotheses, PoseEstimate, check_order, check_positive
from dsac.ransac.uncertainty import pose_estimate

# Candidate sets drawn in each round, times H, as long as hypotheses that agree with their own set are missing.
_ROUNDS = (1, 4, 16, 16, 16, 32)


@dataclass(frozen=True)
class PoseSolver:
    """A pose for each image from its correspondences; `rgb` and `rgbd` put the usual parts together."""

    num_hypotheses: int
    residual: Residual
    sampling: Sampling
    minimal: MinimalSolver
    scoring: Scoring
    selection: Selection
    refinement: Refinement

    def __post_init__(self) -> None:
        check_positive(num_hypotheses=self.num_hypotheses)
        check_order(threshold=self.residual.threshold, max_error=self.residual.max_error)

    @staticmethod
    def rgb(
        num_hypotheses: int = 64,
        threshold_px: float | int = 10.0,
        selection: Selection = Argmax(),  # noqa: B008 -- frozen
        sampling: Sampling = UniformSampling(),  # noqa: B008
        scoring: Scoring | None = None,
        refinement: Refinement | None = None,
        backend: Backend = "auto",
        window_px: float | int | None = None,
    ) -> PoseSolver:
        """P3P on pixels; inliers reproject within `threshold_px`.

        `scoring` and `refinement` default to the soft inlier count and the robust refinement at that
        threshold. Where pixels were searched for in windows of side `window_px`, chance finds more inliers:
        success and confidence take account of it.
        """
        residual = ReprojectionError(threshold_px, backend=backend, window_px=window_px)
        return PoseSolver(
            num_hypotheses,
            residual,
            sampling,
            P3P(residual),
            scoring or SoftInlierCount(residual),
            selection,
            refinement or RobustRefinement(residual),
        )

    @staticmethod
    def rgbd(
        num_hypotheses: int = 64,
        threshold_m: float | int = 0.1,
        selection: Selection = Argmax(),  # noqa: B008 -- frozen
        sampling: Sampling = UniformSampling(),  # noqa: B008
        scoring: Scoring | None = None,
        refinement: Refinement | None = None,
        backend: Backend = "auto",
    ) -> PoseSolver:
        """Kabsch on camera points; inliers lie within `threshold_m` of their camera point or, without, ray."""
        residual = PointDistance(threshold_m, backend=backend)
        return PoseSolver(
            num_hypotheses,
            residual,
            sampling,
            Kabsch(residual),
            scoring or SoftInlierCount(residual),
            selection,
            refinement or RobustRefinement(residual),
        )

    def __call__(
        self, correspondences: Correspondences, generator: torch.Generator | None = None
    ) -> PoseEstimate:
        """The pose of each image; no gradient.

        Without a generator the draws come from a fixed seed: the same input has the same answer.
        Raises: `TypeError` when the residual is none of camera poses.
        """
        residual = self._pose_residual
        with torch.no_grad(), full_precision(correspondences.pixels.device.type):
            clean = residual.sanitise(correspondences)
            estimate = pose_estimate(self._likeliest(clean, generator), residual, clean)
        return replace(estimate, inliers=estimate.inliers[:, : correspondences.pixels.shape[1]])

    def inliers(self, cam_from_world: Pose, correspondences: Correspondences) -> Bool[Tensor, "B N"]:
        """Which correspondences agree with a pose (batch (B,)) within the threshold."""
        return inliers(self.residual, cam_from_world, correspondences)

    def hypotheses(
        self, correspondences: Correspondences, generator: torch.Generator | None = None
    ) -> Hypotheses:
        """The scored pool; differentiable.

        A set whose own points do not agree within the threshold is redrawn, a bounded number of times; what
        is then still missing is filled with the sets that disagree least.
        """
        with full_precision(correspondences.pixels.device.type):
            return self._hypotheses(self.residual.sanitise(correspondences), generator)

    def expected_loss(
        self,
        correspondences: Correspondences,
        cam_from_world: Pose,  # batch (B,), the truth
        pose_loss: PoseLoss,
        generator: torch.Generator | None = None,
        hypotheses: Hypotheses | None = None,
    ) -> Float[Tensor, " B"]:
        """Σ_K weight · pose_loss(refined pose): differentiable in scene points, pixels, weights and the score.

        Argmax and SoftAM: the loss of their one pose; DSAC: the expectation over hypotheses. `hypotheses` is a
        pool of this solver to go on with; otherwise one is drawn.
        """
        check_batch(cam_from_world, correspondences)
        with full_precision(correspondences.pixels.device.type):
            clean = self.residual.sanitise(correspondences)
            pool = self._hypotheses(clean, generator) if hypotheses is None else hypotheses
            refined = self._refined(pool, clean, generator)
            truth = cam_from_world.to(correspondences.pixels)[:, None]
            return (refined.weights * pose_loss(refined.cam_from_world, truth)).sum(-1)

    def refined(
        self,
        hypotheses: Hypotheses,
        correspondences: Correspondences,
        generator: torch.Generator | None = None,
    ) -> Selected:
        """What the selection keeps of a scored pool, refined."""
        with full_precision(correspondences.pixels.device.type):
            return self._refined(hypotheses, self.residual.sanitise(correspondences), generator)

    # ---- steps, of sanitised correspondences -----------------------------------------------------

    def _hypotheses(self, clean: Correspondences, generator: torch.Generator | None) -> Hypotheses:
        hypotheses = self.minimal(clean, self._draw_consistent(clean, generator))
        return replace(hypotheses, scores=self.scoring(hypotheses, clean))

    def _refined(
        self, hypotheses: Hypotheses, clean: Correspondences, generator: torch.Generator | None
    ) -> Selected:
        selected = self.selection(hypotheses, generator)
        return replace(selected, cam_from_world=self.refinement(selected.cam_from_world, clean, generator))

    def _likeliest(self, clean: Correspondences, generator: torch.Generator | None) -> Pose:
        """The heaviest of the refined poses."""
        if generator is None:
            generator = torch.Generator().manual_seed(0)
        refined = self._refined(self._hypotheses(clean, generator), clean, generator)
        heaviest = refined.weights.argmax(-1)
        return refined.cam_from_world[torch.arange(len(heaviest), device=heaviest.device), heaviest]

    @torch.no_grad()
    def _draw_consistent(
        self, clean: Correspondences, generator: torch.Generator | None
    ) -> Int[Tensor, "B H k"]:
        """Samples (B, H, k), those that agree with themselves first."""
        size = self.minimal.sample_size
        samples = self.sampling(clean, _ROUNDS[0] * self.num_hypotheses, size, generator)
        errors = self.minimal(clean, samples).sample_error
        for factor in _ROUNDS[1:]:
            if reference.settled(errors <= self.residual.threshold):
                break
            more = self.sampling(clean, factor * self.num_hypotheses, size, generator)
            errors = torch.cat([errors, self.minimal(clean, more).sample_error], dim=1)
            # all that agree are equal, and a stable sort keeps them in the order they were drawn
            order = errors.clamp_min(self.residual.threshold).argsort(dim=-1, stable=True)
            order = order[:, : self.num_hypotheses]
            errors = errors.gather(1, order)
            samples = torch.cat([samples, more], dim=1).gather(1, order[..., None].expand(-1, -1, size))
        return samples

    @cached_property
    def _pose_residual(self) -> PoseResidual:
        if not isinstance(self.residual, PoseResidual):  # slow: it looks at every member
            raise TypeError(f"residual: expected one of camera poses, got {type(self.residual).__name__}")
        return self.residual
