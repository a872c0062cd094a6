"""Mapping is tested on one thread, with shapes checked."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import install_import_hook

_hook = install_import_hook("dsac.mapping", "beartype.beartype")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
