"""The table of forests counts what is not localized as wrong."""

from __future__ import annotations

import math

from forests import line


def test_a_line_counts_photos_within_thresholds() -> None:
    errors = [(0.005, 0.5), (0.015, 0.5), (0.015, 3.0), (0.2, 0.1), (math.inf, math.inf)]
    assert line("here", errors, [10.0, 20.0, 30.0]) == "| here | 60.0 | 40.0 | 20.0 | 1.50 | 0.50 | 20 |"
