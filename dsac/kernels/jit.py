"""How the CPU kernels are compiled: Numba, cached on disk, with the fast-math rules that keep NaN honest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit, typeof

# Sums may be reordered (that is what vectorises them); NaN and infinity keep their meaning.
_FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


def kernel(function: Callable[..., Any], **more: Any) -> Callable[..., Any]:
    """Compile at the first call and release the GIL while running.

    The machine code is kept beside the source or in the user's cache folder; where neither can be written
    (a read-only installation without a home) every process compiles anew.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": _FASTMATH, **more}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # Numba found no folder to write its cache to
        return njit(**options)(function)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel for the body of a loop: put into its caller, so that the loop is vectorised with it."""
    return kernel(function, forceinline=True)


def entry(function: Callable[..., Any], *examples: Any) -> Callable[..., Any]:
    """A kernel compiled for the types of some arguments, to be called with such alone: types are not looked at.

    Numba takes longer to look at the types of tuples of arrays than of arrays one by one, and on a processor
    whose caches are cold, as after an encoder, that is a third of a query's way into the kernel.
    """
    if not hasattr(function, "compile"):  # NUMBA_DISABLE_JIT
        return function
    types = tuple(typeof(x) for x in examples)
    function.compile(types)
    return function.get_overload(types)
