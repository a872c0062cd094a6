"""Cameras at known places, which a test writes down in a format's own way and expects to be read back."""

from __future__ import annotations

import numpy as np
import torch

from dsac.datasets import Frame

SIZE = (8, 6)  # of `write_image`
FOCALS_AND_CENTER = (10.0, 11.0, 3.5, 2.5)  # fx fy cx cy


def world_from_cams(count: int = 4, seed: int = 0) -> np.ndarray:
    """Rigid 4x4 matrices of cameras with x right, y down, z forward, turned and moved in every direction."""
    generator = np.random.default_rng(seed)
    matrices = np.tile(np.eye(4), (count, 1, 1))
    for matrix in matrices:
        rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
        matrix[:3, :3] = rotation * np.linalg.det(rotation)
        matrix[:3, 3] = generator.normal(size=3)
    return matrices


def quaternion_xyzw(matrix: np.ndarray) -> np.ndarray:
    """Of a rotation, by its axis as an eigenvector: another way than the library's."""
    values, vectors = np.linalg.eig(matrix[:3, :3])
    axis = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    crossed = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    angle = np.arctan2(crossed @ axis / 2, (np.trace(matrix[:3, :3]) - 1) / 2)
    return np.array([*np.sin(angle / 2) * axis, np.cos(angle / 2)])


def axis_angle(matrix: np.ndarray) -> np.ndarray:
    x, y, z, w = quaternion_xyzw(matrix)
    length = np.linalg.norm([x, y, z])
    return np.array([x, y, z]) / length * 2 * np.arctan2(length, w)


def numbers(values: object, separator: str = " ") -> str:
    """With every digit there is."""
    return separator.join(repr(float(value)) for value in np.ravel(np.asarray(values)))


def expect_camera(
    frame: Frame,
    world_from_cam: np.ndarray,
    pinhole: tuple[float, float, float, float] = FOCALS_AND_CENTER,
    tolerance_px: float = 1e-8,
) -> None:
    """Points of the world are seen where a pinhole camera at that place sees them."""
    generator = np.random.default_rng(1)
    points_cam = generator.uniform([-1, -1, 2], [1, 1, 5], (20, 3))
    points_world = points_cam @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
    focal_x, focal_y, center_x, center_y = pinhole
    x, y, z = points_cam.T
    expected = np.stack([focal_x * x / z + center_x, focal_y * y / z + center_y], axis=-1)
    assert frame.cam_from_world is not None
    seen = frame.camera.project(frame.cam_from_world @ torch.from_numpy(points_world))
    np.testing.assert_allclose(seen.numpy(), expected, rtol=0, atol=tolerance_px)
