"""The solver's inner loops: `reference` says what each computes, the others compute the same faster."""

from dsac.kernels.arrays import PosedRows
from dsac.kernels.dispatch import Backend
from dsac.kernels.engine import Engine, ImageRows, p3p, point_engine, reprojection_engine
from dsac.kernels.precision import full_precision

__all__ = [
    "Backend",
    "Engine",
    "ImageRows",
    "PosedRows",
    "full_precision",
    "p3p",
    "point_engine",
    "reprojection_engine",
]
