"""What the backend "cpu" offers: the twins of the reference's functions, and the search, in Numba."""

from dsac.kernels.search.face import Effort, solve_rgb, solve_rgbd
from dsac.kernels.solution import Solution
from dsac.kernels.twins.face import (
    optimum_increment,
    p3p,
    pose_trust,
    refine,
    refine_gradient,
    reprojection_error,
    soft_inlier_count,
    soft_inlier_count_gradient,
)

__all__ = [
    "Effort",
    "Solution",
    "optimum_increment",
    "p3p",
    "pose_trust",
    "refine",
    "refine_gradient",
    "reprojection_error",
    "soft_inlier_count",
    "soft_inlier_count_gradient",
    "solve_rgb",
    "solve_rgbd",
]
