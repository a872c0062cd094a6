"""Poses as written in files, made into exact rigid motions or refused.

Small deviations (rounded text, drift of a SLAM system) are removed; a scale, a reflection or a shear is a
mistake upstream that no later step could notice, so it is an error that names the place.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dsac.errors import DatasetError
from dsac.geometry import Pose, nearest_rotation
from dsac.geometry.rotation import rotation_from_vector

logger = logging.getLogger(__name__)

TOLERANCE = 1e-2  # of RᵀR = 1 and |q| = 1: entries rounded to three decimals deviate by 3e-3


def rigid_from_matrices(matrices: Float[Tensor, "N rows 4"], where: Callable[[int], str]) -> Pose:
    """The nearest rigid motions. `where(i)` names, for an error, the place where row i was read.

    Raises: `DatasetError` when a matrix is not a rigid motion.
    """
    rotation = matrices[:, :3, :3]
    deviation = (rotation.mT @ rotation - torch.eye(3, dtype=matrices.dtype)).abs().amax((-1, -2))
    reflected = torch.linalg.det(rotation) < 0
    for i in torch.nonzero(~(deviation <= TOLERANCE) | reflected)[:1, 0].tolist():
        fault = "a reflection" if reflected[i] else f"RᵀR is off the identity by {deviation[i]:.2g}"
        raise DatasetError(f"{where(i)}: expected a rigid motion, got a matrix where {fault}")
    return Pose(nearest_rotation(rotation), matrices[:, :3, 3])


def rigid_from_quaternions(
    quaternion_wxyz: Float[Tensor, "N 4"], translation: Float[Tensor, "N 3"], where: Callable[[int], str]
) -> Pose:
    """Like `rigid_from_matrices`, from quaternions that should have unit length."""
    norm = quaternion_wxyz.norm(dim=-1)
    for i in torch.nonzero(~((norm - 1).abs() <= TOLERANCE))[:1, 0].tolist():
        raise DatasetError(
            f"{where(i)}: expected a unit quaternion qw qx qy qz, got one of length {norm[i]:.4g}"
        )
    return Pose.from_quaternion(quaternion_wxyz, translation)


def rigid_from_vectors(
    vectors: Float[Tensor, "N 3"], translation: Float[Tensor, "N 3"], where: Callable[[int], str]
) -> Pose:
    """Like `rigid_from_matrices`, from rotation vectors: axis times angle, a full turn at most."""
    angle = vectors.norm(dim=-1)
    for i in torch.nonzero(~(angle <= 2 * math.pi + TOLERANCE))[:1, 0].tolist():
        raise DatasetError(f"{where(i)}: expected a rotation in radians, got one of {angle[i]:.4g}")
    return Pose(rotation_from_vector(vectors), translation)


def finite_rows(values: Float[Tensor, "N *rest"], names: Sequence[str], source: str) -> Int[np.ndarray, " M"]:
    """Rows without NaN or infinity; the others are named in one warning."""
    finite = torch.isfinite(values).flatten(1).all(-1).numpy()
    if not finite.all():
        lost = [names[i] for i in np.flatnonzero(~finite).tolist()]
        logger.warning(
            "%s: %d of %d poses are NaN or infinite, left out: %s", source, len(lost), len(names), some(lost)
        )
    return np.flatnonzero(finite)


def some(names: Sequence[str], most: int = 20) -> str:
    """Names for a message, abbreviated when there are many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
