"""A walk through the textured ball as photos without poses, and what structure from motion makes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from photo_walk import Walk
from textured_ball import places

from dsac.datasets import Scene
from dsac.geometry import Pose
from dsac.sfm import reconstruct_scene


@pytest.fixture(scope="session")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """Ten photos that look one way in the textured ball, and four that look the other way."""
    torch.set_num_threads(1)
    ahead, back = places(10, seed=0), places(4, seed=1)
    about = Pose.exp(torch.tensor([0, torch.pi, 0, 0, 0, 0], dtype=torch.float64))
    return Walk.write(tmp_path_factory.mktemp("walk"), ahead, about.expand(4) @ back)


@pytest.fixture(scope="session")
def placed(walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Path]:
    """The walk's scene, and the folder that keeps it."""
    pytest.importorskip("pycolmap")
    folder = tmp_path_factory.mktemp("placed") / "room.dsac.sfm"
    return reconstruct_scene(walk.photos, folder, threads=1), folder


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """What warnings said so far."""
    caplog.set_level(logging.WARNING)
    return lambda: "\n".join(record.getMessage() for record in caplog.records)
