"""Robust estimation inside `torch.autocast`: poses would be off by metres."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def full_precision(device_type: str) -> AbstractContextManager:
    """A context in which autocast is off for tensors of a device type ("cpu", "cuda")."""
    if not torch.amp.is_autocast_available(device_type) or not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)
