"""The table of places that repeat themselves counts what it says."""

from __future__ import annotations

import numpy as np
from repeats import Told, line


def test_a_line_counts_photos_that_are_localized_wrong_and_named() -> None:
    told = [
        Told(localized=True, right=True, named=True, probability=0.9, ms=10.0),
        Told(localized=True, right=False, named=True, probability=0.8, ms=20.0),
        Told(localized=False, right=False, named=True, probability=0.4, ms=30.0),
        Told(localized=False, right=False, named=False, probability=0.3, ms=40.0),
    ]
    telling = np.array([True, True, False, False])
    assert line("here", told, telling) == "| here | 50 | 25 | 50 | 25 | 60 | 75 | 25 |"
    assert "| nan |" in line("here", told, np.zeros(4, bool))
