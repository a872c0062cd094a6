"""A robust pose from correspondences, differentiable: sample, solve, score, select, refine."""

from dsac.ransac.losses import MaxError, PoseLoss, WeightedError
from dsac.ransac.minimal import P3P, Kabsch
from dsac.ransac.refinement import RobustRefinement
from dsac.ransac.residuals import PointDistance, PoseResidual, ReprojectionError, Residual
from dsac.ransac.sampling import UniformSampling, WeightedSampling
from dsac.ransac.scoring import LearnedScore, SoftInlierCount, noisy_poses
from dsac.ransac.selection import DSAC, Argmax, SampledDSAC, SoftAM, Temperature, entropy_bits, probabilities
from dsac.ransac.solver import PoseSolver
from dsac.ransac.types import Correspondences, Hypotheses, PoseEstimate

__all__ = [
    "DSAC",
    "P3P",
    "Argmax",
    "Correspondences",
    "Hypotheses",
    "Kabsch",
    "LearnedScore",
    "MaxError",
    "PointDistance",
    "PoseEstimate",
    "PoseLoss",
    "PoseResidual",
    "PoseSolver",
    "ReprojectionError",
    "Residual",
    "RobustRefinement",
    "SampledDSAC",
    "SoftAM",
    "SoftInlierCount",
    "Temperature",
    "UniformSampling",
    "WeightedError",
    "WeightedSampling",
    "entropy_bits",
    "noisy_poses",
    "probabilities",
]
