"""Annotations are checked while testing, at the first calls of a function in a test."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from annotations import CHECKED_CALLS

from dsac.geometry import Camera, Pose


@pytest.mark.parametrize("times", [0, 1])
def test_what_annotations_exclude_is_an_error_at_first(times: int) -> None:
    poses = (Pose.identity(), Pose.identity())  # expected in a list
    for _ in range(CHECKED_CALLS):
        with pytest.raises(jaxtyping.TypeCheckError, match="Pose.stack"):
            Pose.stack(poses)  # type: ignore[arg-type]
    assert len(Pose.stack(poses).rotation) == 2  # type: ignore[arg-type]


def test_fields_are_checked_too() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="focal_px"):
        Camera(torch.ones(3), torch.ones(2), (48, 36))


@pytest.mark.wrong_input
def test_what_the_library_says_itself_is_heard() -> None:
    assert len(Pose.stack((Pose.identity(), Pose.identity())).rotation) == 2  # type: ignore[arg-type]
