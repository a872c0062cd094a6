"""The solver's inner loops: `reference` says what each computes, the others compute the same faster."""

from dsac.kernels.arrays import PosedRows
from dsac.kernels.dispatch import Backend
from dsac.kernels.engine import Engine, ImageRows, p3p, point_engine, reprojection_engine
from dsac.kernels.precision import full_precision
from dsac.kernels.readiness import at_once, compile_beside, compiled, is_at_once, wait_until_compiled

__all__ = [
    "Backend",
    "Engine",
    "ImageRows",
    "PosedRows",
    "at_once",
    "compile_beside",
    "compiled",
    "compiled",
    "full_precision",
    "is_at_once",
    "p3p",
    "point_engine",
    "reprojection_engine",
    "wait_until_compiled",
]
