"""Panels are seen where they hang, behind what stands before them, in all frames alike."""

from __future__ import annotations

import numpy as np
import torch
from repainted import Panel, repainted, shares_shown

from dsac.datasets import Frames
from dsac.geometry import Camera, Pose

CAMERA = Camera.from_params("PINHOLE", [80.0, 82.0, 50.0, 30.0], (96, 64))


class _Wall:
    """Grey, three metres away; on the left a post at one metre."""

    has_depth = True

    def read_image(self, name: str) -> np.ndarray:
        return np.full((64, 96, 3), 128, np.uint8)

    def read_depth(self, name: str, camera: Camera) -> np.ndarray:
        depth = np.full((64, 96), 3.0, np.float32)
        depth[:, :20] = 1.0
        return depth


def test_a_panel_is_seen_where_it_hangs_unless_something_stands_before_it() -> None:
    picture = np.zeros((50, 100, 3), np.uint8)
    picture[:, 50:] = (250, 10, 20)
    panel = Panel(np.array([-1.2, -0.5, 2.0]), np.array([2.0, 0, 0]), np.array([0, 1.0, 0]), picture)
    poses = Pose.exp(torch.tensor([[0, 0, 0, 0, 0, 0], [0, 0.1, 0, 0.1, 0, 0]]).double())
    frames = repainted(Frames(["a", "b"], [CAMERA], np.zeros(2, int), poses, _Wall()), [panel])
    frame = frames[0]
    assert frame.depth is not None
    left, right, top, bottom = 80 * -0.6 + 50, 80 * 0.4 + 50, 82 * -0.25 + 30, 82 * 0.25 + 30
    assert (frame.depth[round(top) + 1 : round(bottom), 20 : round(right)] == 2.0).all()
    assert (frame.depth[:, :20] == 1.0).all() and (frame.depth[: round(top) - 1] >= 1.0).all()
    assert left < 20 and frame.depth[30, round(right) + 1] == 3.0
    middle = 80 * -0.1 + 50  # where the picture turns red
    assert (frame.image[0, 30, round(middle) + 2 : round(right) - 2] > 0.9).all()
    assert (frame.image[0, 30, 22 : round(middle) - 3] < 0.1).all()
    shares = shares_shown(frames, [])
    assert shares.shape == (2,) and (shares == 0).all()
    share = ((right - 20) * (bottom - top)) / (96 * 64)
    assert (
        abs(shares_shown(Frames(["a"], [CAMERA], np.zeros(1, int), poses[:1], _Wall()), [panel])[0] - share)
        < 0.02
    )
