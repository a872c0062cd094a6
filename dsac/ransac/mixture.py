"""The likelihood of a pose where scene points are Gaussian mixtures, as leaves of forests know them.

The modes k of a pixel have shares π, means μ and covariances Σ = A⁻¹. Under a pose by which the pixel's camera
point comes to lie at x in the world,

    log p = log( Σ_k π N(x; μ, Σ) + b )

and where there is no depth the mode is integrated along the pixel's ray, which leaves its projection (Brachmann
et al., CVPR 2016): of the ray c + s r through the camera's centre c

    ∫ N(c + s r; μ, Σ) ds = (|Σ| · rᵀAr)^-½ exp(−½ eᵀAe) / 2π,    e = c + s r − μ  at  s = rᵀA(μ − c) / rᵀAr.

b is what a wrong pixel has. With the probabilities γ that a pixel shows the mode, the gradient of the sum over
pixels is −Σ γ (x × Ae, Ae), and of a ray also −γ (r × Ar, 0) / rᵀAr. `mixture_numba.py` has `slope` fast.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dsac.geometry import Pose
from dsac.ransac.implicit import second_derivative
from dsac.ransac.residual import weights_of
from dsac.ransac.types import Correspondences

SHOWN = 1e-9  # probability: others pull at nothing


class Slope(NamedTuple):
    """A sum of logarithms at a pose, and how it changes with `Pose.exp(increment) @ world_from_cam`."""

    value: Float[Tensor, ""]
    gradient: Float[Tensor, " 6"]
    matrix: Float[Tensor, "6 6"]  # minus the second derivative while γ stay, without the curvature of e


class Mixtures(NamedTuple):
    """Those of P pixels of one image, of M modes each, in float64."""

    means: Float[Tensor, "P M 3"]  # metres, world
    precision: Float[Tensor, "P M 3 3"]  # A
    log_shares: Float[Tensor, "P M"]  # of π times the constant of the density
    log_background: Float[Tensor, " P"]
    targets: Float[Tensor, "P 3"]  # in the camera's frame: camera point or unit ray
    measured: Bool[Tensor, "P 1"]  # whether it is a point

    @staticmethod
    def of(clean: Correspondences, background: float | int) -> Mixtures:
        """Of one image, sanitised (B = 1)."""
        assert clean.covariances is not None
        weights = weights_of(clean)[0].double()
        precision, determinant = _inverse(clean.covariances[0].double())
        good = (weights > 0) & (determinant > 0)  # a damaged map may hold what is no covariance
        precision = torch.where(good[:, None, None], precision, torch.eye(3).to(precision))
        log_size = torch.where(good, determinant, 1.0).log()
        first = slice(None, None, clean.modes)
        pixels = clean.pixels[0, first].double()
        targets = torch.nn.functional.normalize(clean.camera[0].to(pixels).unproject(pixels), dim=-1)
        measured = torch.zeros_like(targets[:, :1], dtype=torch.bool)
        if clean.camera_points is not None:
            points = clean.camera_points[0, first].double()
            measured = points[:, 2:] > 0
            targets = torch.where(measured, points, targets)
        dimensions = torch.where(measured, 3, 2)
        constant = -0.5 * math.log(2 * math.pi) * dimensions
        typical = log_size[good].median() if good.any() else log_size.new_zeros(())
        shares = torch.where(good, weights.log() - 0.5 * log_size, -torch.inf)
        return Mixtures(
            clean.scene_points[0].double().unflatten(0, (-1, clean.modes)),
            precision.unflatten(0, (-1, clean.modes)),
            shares.unflatten(0, (-1, clean.modes)) + constant,
            (constant - 0.5 * background**2 - 0.5 * typical * dimensions / 3)[:, 0],
            targets,
            measured,
        )


def slope(mixtures: Mixtures, world_from_cam: Pose) -> Slope:
    """The sum of log p, with the gradient and the curvature by the pose."""
    center = world_from_cam.translation
    ray = (mixtures.targets @ world_from_cam.rotation.mT)[:, None]
    away = mixtures.means - center
    pulled = (mixtures.precision * ray[..., None, :]).sum(-1)
    along = (pulled * ray).sum(-1)
    reach = torch.where(mixtures.measured, 1.0, (pulled * away).sum(-1) / along)[..., None]
    off = reach * ray - away
    force = (mixtures.precision * off[..., None, :]).sum(-1)
    log_density = mixtures.log_shares - 0.5 * (force * off).sum(-1)
    log_density = torch.where(mixtures.measured, log_density, log_density - 0.5 * along.log())
    log_density = torch.where(reach[..., 0] > 0, log_density, -torch.inf)  # else behind the camera
    every = torch.cat([log_density, mixtures.log_background[:, None]], dim=1)
    shown = every.softmax(1)[:, :-1]  # γ
    pixel, mode = (shown > SHOWN).nonzero(as_tuple=True)
    shown, ray, pulled, force = (
        shown[pixel, mode, None],
        ray[pixel, 0],
        pulled[pixel, mode],
        force[pixel, mode],
    )
    free = torch.where(
        mixtures.measured[pixel], 0.0, 1.0 / along[pixel, mode, None]
    )  # what a ray does not tell
    points = center + reach[pixel, mode] * ray
    turned = torch.linalg.cross(points, force) + free * torch.linalg.cross(ray, pulled)
    gradient = -(shown * torch.cat([turned, force], dim=-1)).sum(0)
    stiffness = mixtures.precision[pixel, mode] - (free * pulled)[..., None] * pulled[..., None, :]
    matrix = second_derivative(points, shown[..., None] * stiffness)
    return Slope(every.logsumexp(1).sum(), gradient, matrix)


def _inverse(six: Float[Tensor, "N 6"]) -> tuple[Float[Tensor, "N 3 3"], Float[Tensor, " N"]]:
    """Of symmetric matrices, and their determinants: by cofactors, where LAPACK takes ten times as long."""
    xx, xy, xz, yy, yz, zz = six.unbind(-1)
    a, b, c = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    determinant = xx * a + xy * b + xz * c
    d, e, f = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    cofactors = torch.stack([a, b, c, b, d, e, c, e, f], dim=-1)
    return (cofactors / determinant[:, None]).unflatten(-1, (3, 3)), determinant
