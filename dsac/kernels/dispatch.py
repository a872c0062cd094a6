"""Which implementation of the kernels a call takes.

"auto"       "cpu" or "gpu" for tensors of float32 or float64, unless a gradient is needed that it does not
             have; else "reference". "gpu" in place of "cpu" where kernels may not be waited for (`readiness`)
"reference"  torch, on any device, differentiable as often as one likes
"cpu"        Numba
"gpu"        torch with the search for batches, on CUDA tensors
"""

from __future__ import annotations

import functools
import importlib
from typing import Literal, get_args

import torch
from torch import Tensor

from dsac.errors import BackendError
from dsac.kernels.readiness import is_at_once

Name = Literal["reference", "cpu", "gpu"]
Backend = Literal["auto", Name]

_BACKENDS = get_args(Backend)
_FAST: tuple[Name, ...] = ("cpu", "gpu")
_FLOATS = {torch.float32, torch.float64}


def choose(backend: Backend, *inputs: Tensor, differentiable: tuple[Tensor, ...] = ()) -> Name:
    """The implementation that these inputs get.

    By the `differentiable` ones the function to be called has a derivative in every backend.

    Raises: `BackendError` when the backend asked for by name cannot run here or not with these inputs.
    """
    if backend not in _BACKENDS:
        raise BackendError(f"backend: expected one of {', '.join(_BACKENDS)}, got {backend!r}")
    every = (*inputs, *differentiable)
    if backend == "auto":
        if {x.dtype for x in every} <= _FLOATS:
            for name in _FAST:
                if _obstacle(name, inputs, every) is None:
                    return "gpu" if is_at_once() else name
        return "reference"
    if _obstacle(backend, inputs, every) is not None:
        states = {name: _obstacle(name, inputs, every) or "available" for name in get_args(Name)}
        listing = "; ".join(f"{name}: {state}" for name, state in states.items())
        raise BackendError(f"backend {backend!r} cannot be used here ({listing})")
    return backend


def _obstacle(name: Name, constants: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> str | None:
    """Why a backend cannot take these inputs, of which the constants must need no gradient, or None."""
    if name == "reference":
        return None
    if torch.is_grad_enabled() and any(x.requires_grad for x in constants):
        return "has no gradient, and an input needs one"
    if name == "cpu":
        return _missing(name) if all([x.is_cpu for x in inputs]) else "takes cpu tensors"
    if not torch.cuda.is_available():
        return "no CUDA device"
    return _missing(name) if all([x.is_cuda for x in inputs]) else "takes cuda tensors"


@functools.cache
def _missing(name: Name) -> str | None:
    """Why a module cannot be imported, or None."""
    try:
        importlib.import_module(f"dsac.kernels.{name}")
    except ImportError as error:
        return str(error)
    return None
