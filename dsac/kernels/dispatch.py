"""Which implementation of the kernels a call takes.

    "auto"       "cpu" or "gpu" for float32 tensors, unless a gradient is needed that it does not have; else
                 "reference"
    "reference"  torch, on any device, differentiable
    "cpu"        Numba
    "gpu"        torch with the fused solver for batches, on CUDA tensors

A module is loaded when it is first chosen: Numba costs a second and importing `dsac` must not pay it.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Literal, get_args

import torch
from torch import Tensor

from dsac.errors import BackendError

Backend = Literal["auto", "reference", "cpu", "gpu"]


def kernels(backend: Backend, *inputs: Tensor, differentiable: tuple[Tensor, ...] = ()) -> ModuleType:
    """The module whose functions to call for these inputs.

    By the `differentiable` ones the function to be called has a derivative in every backend.

    Raises: `BackendError` when the backend asked for by name cannot run here or not with these inputs.
    """
    if backend not in get_args(Backend):
        raise BackendError(f"backend: expected one of {', '.join(get_args(Backend))}, got {backend!r}")
    every = (*inputs, *differentiable)
    if backend == "auto":
        fast = ("cpu", "gpu") if all(x.dtype == torch.float32 for x in every) else ()
        return _module(next(name for name in (*fast, "reference") if _obstacle(name, inputs, every) is None))
    if _obstacle(backend, inputs, every) is not None:
        names = ("reference", "cpu", "gpu")
        states = {name: _obstacle(name, inputs, every) or "available" for name in names}
        listing = "; ".join(f"{name}: {state}" for name, state in states.items())
        raise BackendError(f"backend {backend!r} cannot be used here ({listing})")
    return _module(backend)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"dsac.kernels.{name}")


def _obstacle(name: str, constants: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> str | None:
    """Why a backend cannot take these inputs, of which the constants must need no gradient, or None."""
    if name == "reference":
        return None
    if torch.is_grad_enabled() and any(x.requires_grad for x in constants):
        return "has no gradient, and an input needs one"
    device = "cpu" if name == "cpu" else "cuda"
    if name == "gpu" and not torch.cuda.is_available():
        return "no CUDA device"
    if any(x.device.type != device for x in inputs):
        return f"takes {device} tensors"
    return _missing(name)


@functools.cache
def _missing(name: str) -> str | None:
    """Why a module cannot be imported, or None."""
    try:
        _module(name)
    except ImportError as error:
        return str(error)
    return None
