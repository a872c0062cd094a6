"""A robust pose from correspondences, differentiable: sample, solve, score, select, refine."""

from dsac.ransac.alternatives import alternatives, are_same
from dsac.ransac.dense import DenseSolver
from dsac.ransac.focal import FocalFit, fit_focal, refocused
from dsac.ransac.fusion import fused
from dsac.ransac.losses import MaxError, PoseLoss, WeightedError
from dsac.ransac.minimal import P3P, Kabsch
from dsac.ransac.mixture_solver import MixtureSolver
from dsac.ransac.point_distance import PointDistance
from dsac.ransac.preemptive import PreemptiveSolver
from dsac.ransac.refinement import RobustRefinement
from dsac.ransac.reprojection import ReprojectionError
from dsac.ransac.residual import PoseResidual, Residual
from dsac.ransac.sampling import UniformSampling, WeightedSampling
from dsac.ransac.scoring import LearnedScore, Scoring, SoftInlierCount, noisy_poses
from dsac.ransac.selection import DSAC, Argmax, SampledDSAC, SoftAM, Temperature, entropy_bits, probabilities
from dsac.ransac.solver import PoseSolver
from dsac.ransac.types import Correspondences, Hypotheses, PoseEstimate, Solver

__all__ = [
    "DSAC",
    "P3P",
    "Argmax",
    "Correspondences",
    "DenseSolver",
    "FocalFit",
    "Hypotheses",
    "Kabsch",
    "LearnedScore",
    "MaxError",
    "MixtureSolver",
    "PointDistance",
    "PoseEstimate",
    "PoseLoss",
    "PoseResidual",
    "PoseSolver",
    "PreemptiveSolver",
    "ReprojectionError",
    "Residual",
    "RobustRefinement",
    "SampledDSAC",
    "Scoring",
    "SoftAM",
    "SoftInlierCount",
    "Solver",
    "Temperature",
    "UniformSampling",
    "WeightedError",
    "WeightedSampling",
    "alternatives",
    "are_same",
    "entropy_bits",
    "fit_focal",
    "fused",
    "noisy_poses",
    "probabilities",
    "refocused",
]
