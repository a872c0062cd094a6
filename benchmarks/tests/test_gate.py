"""The table of gates: which regions are right, and what is said of a gate that cannot tell."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ball_world import ColorEncoder, ball_frames, exact_map
from gate import judged, right_regions, row, views_of

from dsac.atlas import Atlas
from dsac.mapping.region_learner import LOST
from dsac.visual_words import VisualWords


@pytest.fixture
def two() -> Atlas:
    """The ball, and one that knows nothing of it but looks the same to the gate; each knows a folder."""
    words = VisualWords.of(torch.randn(40, 152, generator=torch.Generator().manual_seed(0)), torch.zeros(0, 3))
    exact, wrong = (
        replace(exact_map(96), words=words, info=replace(exact_map(96).info, frames={f"{name}/0": ""}))
        for name in ("here", "there")
    )
    with torch.no_grad():
        wrong.head.point.bias[:3] += 9.0
    return Atlas.of({"here": exact, "there": wrong})


def test_right_are_the_regions_that_know_frames_of_the_folder(two: Atlas) -> None:
    assert right_regions(two, [0, 1], "there/7") == [1]
    assert right_regions(two, [0, 1], "nowhere/7") == right_regions(two, [0, 1], "7") == [0, 1]


def test_a_gate_that_cannot_tell_two_regions_expects_half_of_what_is_lost(two: Atlas) -> None:
    views = [replace(view, name="here/1") for view in views_of(ball_frames(2), two, ColorEncoder())]
    told = judged(two, [0, 1], views)
    assert told.first in (0.0, 1.0) and told.two == 1.0 and told.looked_at == 2.0
    assert told.chance == pytest.approx(0.5, abs=1e-4)
    assert told.expected == pytest.approx(LOST / 2, abs=1)
    assert row("ball", told).count("|") == 7
