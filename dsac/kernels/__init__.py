"""The solver's inner loops: `reference` says what each computes, the others compute the same faster."""

from dsac.kernels.dispatch import Backend, kernels

__all__ = ["Backend", "kernels"]
