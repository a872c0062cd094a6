"""Poses in the precision of what comes in, also inside `torch.autocast`.

By half-precision products a pose is off by metres, so autocast is for networks and must end where poses begin.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(device_type: str) -> AbstractContextManager[Any]:
    """A block without autocast on a device."""
    if torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def without_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """The function in `full_precision` on the device of the tensors that come first, alone or in a tuple."""

    @functools.wraps(function)
    def wrapped(*arguments: P.args, **options: P.kwargs) -> R:
        first = arguments[0] if isinstance(arguments[0], tuple) else arguments
        devices = [x.device.type for x in first if isinstance(x, torch.Tensor)]
        with full_precision(devices[0] if devices else "cpu"):
            return function(*arguments, **options)

    return wrapped
