"""Similarity transforms between worlds."""

from __future__ import annotations

import pytest
import torch

from dsac.geometry import Pose, Similarity


def _some(seed: int, scale: float) -> Similarity:
    generator = torch.Generator().manual_seed(seed)
    return Similarity(Pose.exp(torch.randn(6, generator=generator, dtype=torch.float64)), scale)


def _points(count: int = 7) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_a_moved_camera_sees_moved_points_where_it_saw_them_farther_by_the_scale() -> None:
    world_from_map, points = _some(0, 2.5), _points()
    cam_from_map = Pose.exp(torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    seen = world_from_map.pose(cam_from_map) @ (world_from_map @ points)
    torch.testing.assert_close(seen, 2.5 * (cam_from_map @ points))


def test_there_and_back_is_nothing_and_one_after_the_other_is_both() -> None:
    first, second, points = _some(2, 0.3), _some(3, 7.0), _points()
    torch.testing.assert_close(first.inverse() @ (first @ points), points)
    torch.testing.assert_close(second.after(first) @ points, second @ (first @ points))
    again = Similarity.of(first.translation, first.quaternion_wxyz, first.scale)
    torch.testing.assert_close(again @ points, first @ points)


def test_identity_leaves_poses_as_they_are_to_the_bit() -> None:
    pose = Pose.exp(torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    assert Similarity.identity().is_identity and not _some(0, 1.0).is_identity
    assert (Similarity.identity().pose(pose).matrix == pose.matrix).all()


def test_covariance_is_that_of_the_moved_pose() -> None:
    """Increments of the moved pose, in the camera's frame, are longer by the scale and turned by nothing."""
    world_from_map = _some(0, 3.0)
    pose, increment = _some(8, 1.0).motion, torch.tensor([1e-4, -2e-4, 3e-4, 2e-4, 1e-4, -1e-4]).double()
    moved = world_from_map.pose(Pose.exp(increment) @ pose) @ world_from_map.pose(pose).inverse()
    as_told = world_from_map.covariance(torch.outer(increment, increment))
    torch.testing.assert_close(torch.outer(moved.log(), moved.log()), as_told, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_that_mean_nothing_are_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        _some(0, scale)
