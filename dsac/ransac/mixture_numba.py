"""The likelihood of mixtures, compiled: same name and arguments as in `mixture.py`, which says what it is."""

from __future__ import annotations

import math

import numpy as np
import torch

from dsac.geometry import Pose
from dsac.kernels.jit import kernel
from dsac.ransac.mixture import SHOWN, Mixtures, Slope


def slope(mixtures: Mixtures, world_from_cam: Pose) -> Slope:
    """As in `mixture.py`."""
    sums = np.zeros(28)
    pose = world_from_cam.rotation, world_from_cam.translation
    _add_up(*(x.contiguous().numpy() for x in (*mixtures, *pose)), sums)
    matrix = np.zeros((6, 6))
    matrix[np.triu_indices(6)] = sums[7:]
    matrix += np.triu(matrix, 1).T
    value, gradient = torch.tensor(sums[0]), torch.from_numpy(sums[1:7])
    return Slope(value, gradient, torch.from_numpy(matrix))


@kernel
def _add_up(means, precision, log_shares, log_background, targets, measured, rotation, center, sums):
    pixels, modes = log_shares.shape
    log_density, reach = np.empty(modes), np.empty(modes)
    ray, pulled, force, arm, turned = np.empty((5, 3))
    stiffness, moves = np.empty((3, 3)), np.zeros((3, 6))
    moves[0, 3] = moves[1, 4] = moves[2, 5] = 1.0
    for pixel in range(pixels):
        for i in range(3):
            ray[i] = 0.0
            for j in range(3):
                ray[i] += rotation[i, j] * targets[pixel, j]
        highest = log_background[pixel]
        for mode in range(modes):
            along = _pull(precision, means, pixel, mode, ray, center, measured, pulled, force, reach)
            square = 0.0
            for i in range(3):
                square += force[i] * (center[i] + reach[mode] * ray[i] - means[pixel, mode, i])
            log_density[mode] = log_shares[pixel, mode] - 0.5 * square
            if not measured[pixel, 0]:
                log_density[mode] -= 0.5 * math.log(along)
            if not reach[mode] > 0.0:
                log_density[mode] = -math.inf
            highest = max(highest, log_density[mode])
        total = math.exp(log_background[pixel] - highest)
        for mode in range(modes):
            total += math.exp(log_density[mode] - highest)
        sums[0] += highest + math.log(total)
        for mode in range(modes):
            shown = math.exp(log_density[mode] - highest) / total
            if not shown > SHOWN:
                continue
            along = _pull(precision, means, pixel, mode, ray, center, measured, pulled, force, reach)
            free = 0.0 if measured[pixel, 0] else 1.0 / along
            for i in range(3):
                arm[i] = center[i] + reach[mode] * ray[i]
            for i in range(3):
                j, k = (i + 1) % 3, (i + 2) % 3
                turned[i] = (
                    arm[j] * force[k] - arm[k] * force[j] + free * (ray[j] * pulled[k] - ray[k] * pulled[j])
                )
                sums[1 + i] -= shown * turned[i]
                sums[4 + i] -= shown * force[i]
                moves[i, j], moves[i, k] = arm[k], -arm[j]  # -[arm], how the point moves when the camera turns
                for j in range(3):
                    stiffness[i, j] = shown * (precision[pixel, mode, i, j] - free * pulled[i] * pulled[j])
            place = 7
            for a in range(6):
                for b in range(a, 6):
                    for i in range(3):
                        for j in range(3):
                            sums[place] += moves[i, a] * stiffness[i, j] * moves[j, b]
                    place += 1


@kernel
def _pull(precision, means, pixel, mode, ray, center, measured, pulled, force, reach):
    """Fill in A r, s and A e of a mode; returns rᵀAr."""
    along = toward = 0.0
    for i in range(3):
        pulled[i] = 0.0
        for j in range(3):
            pulled[i] += precision[pixel, mode, i, j] * ray[j]
        along += pulled[i] * ray[i]
        toward += pulled[i] * (means[pixel, mode, i] - center[i])
    reach[mode] = 1.0 if measured[pixel, 0] else toward / along
    for i in range(3):
        force[i] = reach[mode] * pulled[i]
        for j in range(3):
            force[i] += precision[pixel, mode, i, j] * (center[j] - means[pixel, mode, j])
    return along
