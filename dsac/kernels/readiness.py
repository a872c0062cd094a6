"""Whether the CPU kernels are compiled, which is done once after an install and takes about a minute.

A photo need not wait for it: inside `at_once` torch and NumPy do what kernels do, in seconds instead of
milliseconds, while a process beside this one compiles and leaves the machine code in Numba's cache.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from dsac.errors import DsacError

logger = logging.getLogger(__name__)

_COMPILE = "dsac.warm_up"  # the module that does it, above this one


def compiled() -> bool:
    """Whether the kernels that a photo needs are in Numba's cache, or can be kept nowhere."""
    stamp = _stamp()
    return stamp is None or stamp.is_file()


@contextmanager
def at_once() -> Iterator[None]:
    """Inside, nothing is compiled that a photo needs: what is not there yet runs in torch and NumPy."""
    compiling = None if compiled() else _compiling(gently=True)
    hurried = compiling is not None and compiling.poll() is None
    if hurried:
        _say()
    token = _HURRIED.set(hurried)
    try:
        yield
    finally:
        _HURRIED.reset(token)


def is_at_once() -> bool:
    """Whether torch and NumPy must do here what kernels do."""
    return _HURRIED.get()


def compile_beside() -> None:
    """Begin it in a process beside this one, where it is not done yet and Python can be started again."""
    if not compiled():
        _compiling(gently=False)


def wait_until_compiled() -> None:
    """Raises: `DsacError` when compiling fails."""
    if compiled() or (compiling := _compiling(gently=False)) is None:
        return
    logger.warning("kernels are being compiled, once after an install: a minute or two")
    compiling.wait()
    if not compiled():
        raise DsacError(f"compiling kernels failed: python -m {_COMPILE} says why")


def kept_in() -> Path | None:
    """The folder with the machine code of the kernels; None where it goes with this process."""
    from dsac.kernels.jit import cache_of_process

    stamp = _stamp()
    return None if stamp is None or cache_of_process.folder else stamp.parent


def note_compiled() -> None:
    """For who compiled them all: the processes to come need not."""
    stamp = _stamp()
    if stamp is not None:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()


@contextmanager
def alone() -> Iterator[None]:
    """One process compiles at a time; the others wait here, where the system has such locks."""
    stamp = _stamp()
    try:
        import fcntl
    except ImportError:  # Windows: some work may be done twice
        stamp = None
    if stamp is None:
        yield
        return
    stamp.parent.mkdir(parents=True, exist_ok=True)
    with open(stamp.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the process ends, however it does
        yield


_HURRIED = ContextVar("hurried", default=False)


@functools.cache
def _say() -> None:
    """Once a process."""
    logger.warning("first answers take seconds: kernels are being compiled beside, once after an install")


def _compiling(gently: bool) -> subprocess.Popen | None:
    """The process that compiles them, begun at the first call; None where Python cannot be started again."""
    if not _BEGUN:
        _BEGUN.append(_begin(gently))
    return _BEGUN[0]


_BEGUN: list[subprocess.Popen | None] = []


def _begin(gently: bool) -> subprocess.Popen | None:
    """`gently`: what else runs goes first."""
    if getattr(sys, "frozen", False) or not Path(sys.executable).name.startswith("python"):
        return None
    from dsac.kernels.jit import cache_of_process

    environment, quiet = dict(os.environ), subprocess.DEVNULL
    if cache_of_process.folder:
        environment["NUMBA_CACHE_DIR"] = cache_of_process.folder
    # with all that this process found its packages by, which may be more than an interpreter has by itself
    code = f"import runpy, sys; sys.path[:] = {sys.path!r}; runpy.run_module({_COMPILE!r}, run_name='__main__')"
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *(["--gently"] if gently else [])],
            stdin=quiet, stdout=quiet, stderr=quiet, env=environment, start_new_session=True,
        )  # fmt: skip
    except OSError:
        return None
    if cache_of_process.folder:  # for nobody else: otherwise it goes on, for the processes to come
        atexit.register(process.kill)
    return process


@functools.cache
def _stamp() -> Path | None:
    """The file that tells that the kernels of these sources are compiled for this machine; None: no cache."""
    from llvmlite import binding
    from numba import __version__

    from dsac.kernels.jit import digest
    from dsac.kernels.search.rgb import solve_images

    folder = getattr(getattr(solve_images, "_cache", None), "cache_path", None)
    if folder is None:  # NUMBA_DISABLE_JIT, or another Numba
        return None
    package = Path(__file__).parents[1]
    of_machine = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    parts = (digest(str(package / "kernels")), digest(str(package / "landmarks")), __version__, *of_machine)
    version = platform.python_version()
    name = hashlib.sha1("|".join((*parts, version)).encode(), usedforsecurity=False).hexdigest()[:16]
    return Path(folder) / f"kernels-{name}.compiled"
