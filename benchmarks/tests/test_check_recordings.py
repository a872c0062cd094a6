"""What counts as named, and which frames right recordings are cut into."""

from __future__ import annotations

from dataclasses import replace

import check_recordings
import numpy as np
import pytest
from recording_mistakes import MISTAKES

from dsac.checking import SceneCheck
from dsac.checking.check import check_shared
from dsac.checking.sample import SharedCorners
from dsac.datasets import Frames
from dsac.rooms import synthetic_scene


@pytest.fixture(scope="module")
def room() -> Frames:
    return synthetic_scene(num_mapping=8, num_query=1, size=(320, 240), light_cell=0.5).mapping.without_depth()


@pytest.fixture(scope="module")
def shared(room: Frames) -> SharedCorners:
    return SharedCorners.of(room)


@pytest.mark.parametrize("mistake", ["OpenGL and inverted", "focal length × 2", "K of the turned image"])
def test_mistakes_are_made_and_named(mistake: str, room: Frames, shared: SharedCorners) -> None:
    made = MISTAKES[mistake]
    found = check_shared(*made.made(room, shared))
    assert check_recordings.verdict(made, found) == "named" and check_recordings.is_blamed(found)
    other = MISTAKES["robot's axes"]
    assert check_recordings.verdict(other, found) == "named otherwise"


def test_what_is_right_is_not_blamed(room: Frames, shared: SharedCorners) -> None:
    found = check_shared(room, shared)
    assert check_recordings.verdict(MISTAKES["OpenGL"], found) == "fine"
    assert not check_recordings.is_blamed(found)
    assert not check_recordings.is_blamed(_too_few(found))


def _too_few(found: SceneCheck) -> SceneCheck:
    return replace(found, agreed=float("nan"))


def test_parts_are_rows_and_draws_of_different_frames() -> None:
    parts = list(check_recordings.parts(250, 20, 0))
    assert len(parts) == 20 and all(4 <= len(set(rows)) == len(rows) <= 60 for rows in parts)
    assert all(np.diff(rows).max() == 1 for rows in parts[::2])
    assert parts == list(check_recordings.parts(250, 20, 0)) != list(check_recordings.parts(250, 20, 1))
    assert all(max(rows) < 5 for rows in check_recordings.parts(5, 8, 0))


def test_a_thousand_frames_are_those_that_there_are(room: Frames) -> None:
    frames = check_recordings.thousand(room)
    assert len(frames) == 1000 and frames.names[8:16] == room.names
    assert frames.cam_from_world is not None and len(frames.cam_from_world) == 1000
