"""How a place is walked through: a camera in a hand that trembles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator

from dsac.geometry import Pose


@dataclass(frozen=True, eq=False)
class Shots:
    """How N photos are taken."""

    cam_from_world: Pose  # (N,), at the middle of the exposure
    exposure: np.ndarray  # (N,) factor
    shake: torch.Tensor  # (N, 6) motion of the camera while the shutter is open, as for `Pose.exp`


def there_and_back(count: int) -> tuple[np.ndarray, np.ndarray]:
    """How far `count` photos are on their way, 0 to 1 and back to 0, and whether they are on the way back."""
    index = np.arange(count)
    back = index >= (count + 1) // 2
    return np.where(back, 2 - 2 * index / count, 2 * index / count), back


def carefully(rng: Generator, cam_from_world: Pose, spread: float, exposure: float = 1.0) -> Shots:
    """Sharp photos, all with about the same exposure: it drifts by some `spread` of it."""
    count = len(cam_from_world)
    drift = 1 + spread * tremor(rng, count, 1)[:, 0]
    return Shots(cam_from_world, exposure * drift, torch.zeros(count, 6, dtype=torch.float64))


def carelessly(rng: Generator, cam_from_world: Pose, spread: float, exposure: float = 1.0) -> Shots:
    """Every fourth photo blurred, every fifth badly exposed, the others within a `spread` of the exposure."""
    count = len(cam_from_world)
    index = np.arange(count)
    shake = rng.normal(0, 1, (count, 6)) * np.repeat([0.005, 0.004], 3) * (index % 4 == 2)[:, None]
    badly = rng.choice([0.45, 0.6, 1.7, 2.1], count)
    factor = np.where(index % 5 == 3, badly, rng.uniform(1 - spread, 1 + spread, count))
    return Shots(cam_from_world, exposure * factor, torch.from_numpy(shake))


def hand_held(
    rng: Generator, center: np.ndarray, height: np.ndarray, yaw: np.ndarray, pitch: np.ndarray
) -> Pose:
    """`cam_from_world` of a camera held at (center, height), looking towards yaw and up by pitch."""
    count = len(yaw)
    shaking = tremor(rng, count, 6)
    position = np.column_stack([center, height]) + 0.015 * shaking[:, :3]
    yaw, pitch, roll = yaw + 0.02 * shaking[:, 3], pitch + 0.02 * shaking[:, 4], 0.04 * shaking[:, 5]
    forward = np.column_stack([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    level = np.column_stack([np.sin(yaw), -np.cos(yaw), np.zeros(count)])
    down = np.cross(forward, level)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    rotation = torch.from_numpy(np.stack([c * level + s * down, c * down - s * level, forward], axis=1))
    return Pose(rotation, -(rotation @ torch.from_numpy(position)[..., None])[..., 0])


def tremor(rng: Generator, count: int, columns: int) -> np.ndarray:
    """Smooth noise (count, columns) of about unit size: what a hand does in `count` frames."""
    period = rng.uniform([6, 15, 40], [12, 30, 80], (columns, 3))
    phase = np.arange(count)[:, None, None] / period + rng.random((columns, 3))
    return np.sin(2 * np.pi * phase).sum(2) / np.sqrt(1.5)
