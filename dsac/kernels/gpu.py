"""What the backend "gpu" offers, on a CUDA device: the reference's functions, and the search in torch."""

from dsac.kernels.reference import (
    kabsch,
    p3p,
    point_distance,
    refine,
    refine_points,
    reprojection_error,
    soft_count,
    soft_inlier_count,
)
from dsac.kernels.search_torch.solver import solve_rgb, solve_rgbd
from dsac.kernels.solution import Solution

__all__ = [
    "Solution",
    "kabsch",
    "p3p",
    "point_distance",
    "refine",
    "refine_points",
    "reprojection_error",
    "soft_count",
    "soft_inlier_count",
    "solve_rgb",
    "solve_rgbd",
]
