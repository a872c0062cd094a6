"""How the CPU kernels are compiled: Numba, cached on disk, with the fast-math rules that keep NaN honest."""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import config, njit

# Sums may be reordered (that is what vectorises them); NaN and infinity keep their meaning.
_FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


def kernel(function: Callable[..., Any], **more: Any) -> Callable[..., Any]:
    """Compile at the first call and release the GIL while running.

    The machine code is kept beside the source or in the user's cache folder; where neither can be written
    (a read-only installation without a home) it is kept for this process alone.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": _FASTMATH, **more}
    try:
        compiled = njit(cache=True, **options)(function)
    except RuntimeError:  # Numba found no folder to write its cache to
        config.CACHE_DIR = cache_of_process.make()  # pyright: ignore[reportAttributeAccessIssue]
        compiled = njit(cache=True, **options)(function)
    _notice_other_sources(compiled)
    return compiled


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel for the body of a loop: put into its caller, so that the loop is vectorised with it."""
    return kernel(function, forceinline=True)


def entry(function: Callable[..., Any], *types: Any) -> Callable[..., Any]:
    """A kernel compiled for some types, to be called with such alone: it does not look at what it is given.

    Numba takes longer to look at the types of tuples of arrays than of arrays one by one, and on a processor
    whose caches are cold, as after an encoder, that is a third of a query's way into the kernel. Named tuples
    may be given as plain ones.
    """
    if not hasattr(function, "compile"):  # NUMBA_DISABLE_JIT
        return function
    function.compile(types)  # type: ignore[attr-defined]
    return function.get_overload(types)  # type: ignore[attr-defined]


# ---- the cache on disk -------------------------------------------------------------------------------


def _notice_other_sources(compiled: Any) -> None:
    """Make machine code stale when a source changes that it may have been put together from.

    Numba compares the date and size of the file that defines a kernel; what that file imports is compiled into
    the kernel too. With a digest of all sources in Numba's stamp an old file is not read but overwritten.
    """
    try:
        cached = compiled._cache._cache_file
        folder = str(Path(compiled.py_func.__code__.co_filename).parent)
        cached._source_stamp = (cached._source_stamp, digest(str(Path(__file__).parent)), digest(folder))
    except AttributeError:  # another Numba, or NUMBA_DISABLE_JIT: as Numba does it
        pass


@functools.cache
def digest(folder: str) -> str:
    """Of the Python files in a folder and below."""
    found = hashlib.sha1(usedforsecurity=False)
    for path in sorted(Path(folder).rglob("*.py")):
        found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()


class _CacheOfProcess:
    """A folder that goes with this process, where none that stays can be written; only this user may use it."""

    folder: str = ""  # empty: not needed

    def make(self) -> str:
        if not self.folder:
            self.folder = tempfile.mkdtemp(prefix="dsac-kernels-")
            atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        return self.folder


cache_of_process = _CacheOfProcess()
