"""Landmarks that do not fit together are refused before machine code reads them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dsac.geometry import Pose
from dsac.landmarks import Landmarks


def _landmarks(count: int = 5, views: int = 2) -> Landmarks:
    return Landmarks(
        torch.rand(count, 3),
        torch.zeros(count, 15, 15, dtype=torch.uint8),
        torch.zeros(count, dtype=torch.int32),
        Pose.identity(views),
        torch.full((views, 2), 500.0),
    )


WRONG = {
    "more points than patches": dict(points=torch.rand(400_000, 3)),
    "points in the plane": dict(points=torch.rand(5, 2)),
    "a point at infinity": dict(points=torch.full((5, 3), torch.inf)),
    "whole numbers for points": dict(points=torch.zeros(5, 3, dtype=torch.int64)),
    "patches that are no squares": dict(patches=torch.zeros(5, 15, 13, dtype=torch.uint8)),
    "patches of an even side": dict(patches=torch.zeros(5, 16, 16, dtype=torch.uint8)),
    "patches too small to compare": dict(patches=torch.zeros(5, 7, 7, dtype=torch.uint8)),
    "patches of another type": dict(patches=torch.zeros(5, 15, 15)),
    "colours of fewer": dict(colors=torch.zeros(4, 3, dtype=torch.uint8)),
    "colours of one channel": dict(colors=torch.zeros(5, 1, dtype=torch.uint8)),
    "colours as fractions": dict(colors=torch.zeros(5, 3)),
    "a view that is not there": dict(view=torch.full((5,), 2, dtype=torch.int32)),
    "a view before the first": dict(view=torch.full((5,), -1, dtype=torch.int32)),
    "fractions of views": dict(view=torch.zeros(5)),
    "fewer focal lengths than views": dict(focal_px=torch.ones(1, 2)),
    "a focal length of nothing": dict(focal_px=torch.zeros(2, 2)),
    "a pose that is none": dict(cam_from_world=Pose(torch.full((2, 3, 3), torch.nan), torch.zeros(2, 3))),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.wrong_input
def test_parts_that_do_not_fit_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="landmarks' .*: expected"):
        replace(_landmarks(), **WRONG[name])


def test_colours_are_kept_where_they_are_known() -> None:
    plain = _landmarks()
    assert Landmarks.from_tensors(plain.tensors()).colors is None
    colors = torch.randint(256, (5, 3)).to(torch.uint8)
    kept = Landmarks.from_tensors(replace(plain, colors=colors).tensors()).colors
    assert kept is not None and torch.equal(kept, colors)


def test_there_may_be_none() -> None:
    assert len(_landmarks(0)) == 0
    assert len(Landmarks.from_tensors(_landmarks(0).tensors())) == 0
