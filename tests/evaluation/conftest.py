from __future__ import annotations

from collections.abc import Set

import pytest
import torch
from made_up_wall import FakeLocalizer, localization, wall_scene

from dsac.datasets import Scene


@pytest.fixture(scope="session")
def scene() -> Scene:
    return wall_scene()


@pytest.fixture(scope="session")
def make_localizer():
    """A localizer whose camera centres are off by so many centimetres, image by image."""

    def make(errors_cm: list[float], failing: Set[int] = frozenset()) -> FakeLocalizer:
        increments = torch.zeros(len(errors_cm), 6, dtype=torch.float64)
        increments[:, 4] = torch.tensor(errors_cm, dtype=torch.float64) / 100
        return FakeLocalizer(increments, frozenset(failing))

    return make


@pytest.fixture(scope="session")
def make_localization():
    return localization
