"""The simulated queue does what the real one would."""

from __future__ import annotations

import pytest
from workers import Costs, simulated

NOTHING = Costs(start=0.0, look=0.0, collect=0.0, begin=0.0, fetch=0.0)


def test_workers_share_the_regions_and_the_last_one_ends_it() -> None:
    assert simulated([10.0] * 30, 1, NOTHING) == pytest.approx(300, abs=0.5)
    assert simulated([10.0] * 30, 16, NOTHING) == pytest.approx(20, abs=0.5)  # 14 and 16 at once
    assert simulated([10.0] * 30, 256, NOTHING) == pytest.approx(10, abs=0.5)
    assert simulated([10.0, 50.0], 2, NOTHING) == pytest.approx(50, abs=0.5)


def test_each_cost_is_paid_by_whom_it_is_of() -> None:
    costs = Costs(start=0.0, look=0.0, collect=0.0, begin=3.0, fetch=2.0)
    assert simulated([10.0] * 4, 2, costs) == pytest.approx(2 * (10 + 2) + 3, abs=1)  # each worker begins once
    driver = Costs(start=1.0, look=0.0, collect=0.0, begin=0.0, fetch=0.0)
    assert simulated([0.1] * 100, 100, driver) == pytest.approx(100, abs=1)  # hands out one after another
