"""Recordings that mean something else than their format says are read as they are meant."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from ball_world import POSE, FramesInMemory, photograph
from recorded_depth import with_other_depth

from dsac.datasets import Conventions, Frames
from dsac.datasets.conventions import QUATERNIONS, camera_axes, cosines, frames_as
from dsac.geometry import Camera, Pose

CAMERA = Camera.from_params("PINHOLE", [300, 310, 170, 101], (320, 240))
TRUE = Pose.exp(torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
CODES = ["".join(code) for lines in permutations(("RL", "DU", "FB")) for code in product(*lines)]


def _same(a: Pose, b: Pose) -> None:
    torch.testing.assert_close(a.matrix, b.matrix, atol=1e-12, rtol=0)


def test_as_read_changes_nothing() -> None:
    _same(Conventions().mended(TRUE), TRUE)
    assert Conventions().options() == "" and not Conventions().changes_poses


def test_inverted_poses_are_turned_round() -> None:
    _same(Conventions(poses="inverted").mended(TRUE.inverse()), TRUE)


@pytest.mark.parametrize("written", ["cam_from_world", "world_from_cam"])
def test_quaternions_in_the_other_order_are_read_in_theirs(written) -> None:
    stored = TRUE if written == "cam_from_world" else TRUE.inverse()
    w, x, y, z = stored.quaternion_wxyz.unbind(-1)
    for order, misread in zip(QUATERNIONS[1:], ((x, y, z, w), (z, w, x, y)), strict=True):
        wrong = Pose.from_quaternion(torch.stack(misread, dim=-1), stored.translation)
        read = wrong if written == "cam_from_world" else wrong.inverse()
        _same(Conventions(quaternion=order, written=written).mended(read), TRUE)


@pytest.mark.parametrize("code", CODES)
def test_cameras_with_other_axes_see_the_same_pixels(code: str) -> None:
    """A point's coordinates along such axes, put along right, down and forward again, are what they were."""
    axes = camera_axes(code)
    mirrored = torch.linalg.det(axes) < 0
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    world = torch.diag(torch.tensor([1.0, 1.0, -1.0 if mirrored else 1.0], dtype=torch.float64))
    # what a file of such a world and camera says
    as_written = Pose(axes.T @ TRUE[0].rotation @ world, axes.T @ TRUE[0].translation)
    mended = Conventions(axes=code).mended(as_written[None] if as_written.shape else as_written)
    _same(mended if not mended.shape else mended[0], TRUE[0])
    along = {"R": 0, "L": 0, "U": 1, "D": 1, "F": 2, "B": 2}[code[0]]
    sign = -1 if code[0] in "LUB" else 1
    stored = points @ axes  # coordinates in such a camera
    torch.testing.assert_close(stored[:, 0], sign * points[:, along])


def test_named_axes() -> None:
    assert Conventions(axes="opengl") == Conventions(axes="rub") == Conventions(axes="RUB")
    assert Conventions(axes="unity").options() == "--axes unity"
    assert Conventions(axes="LDB").options() == "--axes LDB"


@pytest.mark.wrong_input
@pytest.mark.parametrize("axes", ["", "RUR", "RD", "RDFF", "XYZ", "opengle"])
def test_axes_that_are_none_are_refused(axes: str) -> None:
    with pytest.raises(ValueError, match="axes: expected three of R L, U D, F B"):
        Conventions(axes=axes)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_factors_are_above_zero(value: float) -> None:
    with pytest.raises(ValueError, match="depth_scale: expected more than 0"):
        Conventions(depth_scale=value)
    with pytest.raises(ValueError, match="focal_scale: expected more than 0"):
        Conventions(focal_scale=value)


def test_options_say_what_was_changed() -> None:
    changed = Conventions("inverted", "xyzw", "world_from_cam", "RUB", 0.2, "ray", 1.05, "swapped")
    assert changed.options() == (
        "--quaternion xyzw --written world_from_cam --poses inverted --axes opengl --depth-scale 0.2 "
        "--depth-along ray --focal-scale 1.05 --center swapped"
    )


def test_depth_along_rays_in_other_units_becomes_metres_along_the_axis() -> None:
    photo = photograph(CAMERA)
    reader = FramesInMemory({photo.name: photo})
    exact = Frames([photo.name], [CAMERA], np.zeros(1, np.int64), Pose.stack([POSE.inverse()]), reader)
    recorded = with_other_depth(exact, lambda depth, camera: 1000 * depth / cosines(camera))
    meant = Conventions("inverted", depth_scale=0.001, depth_along="ray", focal_scale=1.0)
    frame = frames_as(recorded, meant)[0]
    assert frame.cam_from_world is not None and frame.depth is not None
    _same(frame.cam_from_world, POSE)
    torch.testing.assert_close(frame.depth, photo.depth, rtol=1e-5, atol=0)
    longer = frames_as(recorded, Conventions(focal_scale=2.0))
    torch.testing.assert_close(longer.cameras[0].focal_px, 2 * CAMERA.focal_px)


def test_principal_points_are_put_right() -> None:
    wide = Camera.from_params("PINHOLE", [500.0, 510.0, 230.0, 310.0], (640, 480))  # of 480x640
    swapped, middle = Conventions(center="swapped").camera(wide), Conventions(center="middle").camera(wide)
    assert swapped.params.tolist() == [510.0, 500.0, 310.0, 230.0] and swapped.size == wide.size
    assert middle.params.tolist() == [500.0, 510.0, 320.0, 240.0]
