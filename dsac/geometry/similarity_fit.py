"""The similarity transform that brings points, or cameras, of one world to where another has them.

Least squares in closed form (Umeyama, PAMI 1991): of points with weights w, centred,

    R = the rotation nearest to C = Σ w a bᵀ,   s = tr(Rᵀ C) / Σ w |b|²,   t = mean a - s R mean b

Cameras have rotations, too: each says R by itself, so that two of them are enough, and may stand in a line.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dsac.geometry.pose import Pose
from dsac.geometry.rotation import nearest_rotation, rotation_angle
from dsac.geometry.similarity import Similarity

_LEAST_WIDTH = 0.01  # of the points' length: nearer to a line, they leave the turn about it open
_MOST_TRIPLES = 2000
_SAME_TURN_DEG = 5.0
_MEDIAN = 1.538  # of the length of a vector of three standard normal numbers
_LEAST_BASELINE = 20.0  # standard deviations of a position that cameras are apart: the scale to some 5 %


@dataclass(frozen=True, eq=False)
class SimilarityFit:
    """How b lies in a, as most of N points or cameras say."""

    a_from_b: Similarity
    residuals: Float[Tensor, " N"]  # how far each is from where it should be, in units of a
    agree: Bool[Tensor, " N"]  # those that it was fitted to


def fit_points(
    points_b: Float[Tensor, "N 3"],
    points_a: Float[Tensor, "N 3"],
    weights: Float[Tensor, " N"] | None = None,
    *,
    rigid: bool = False,
) -> Similarity:
    """`a_from_b` by least squares of all points; `rigid`: of scale 1.

    Raises: `ValueError` where points, those of some weight, do not fix it: fewer than three, or in a line.
    """
    weights = torch.ones(len(points_b)) if weights is None else weights
    for points in (points_b, points_a):
        _check_spread(points[weights > 0])
    return _similarity(*_umeyama(points_b.double(), points_a.double(), weights.double(), rigid))


def fit_most_points(
    points_b: Float[Tensor, "N 3"], points_a: Float[Tensor, "N 3"], tolerance: float, *, rigid: bool = False
) -> SimilarityFit:
    """By those points that agree to within the tolerance, as many as there are.

    Raises: `ValueError` where the points, or those that agree, do not fix it.
    """
    for points in (points_b, points_a):
        _check_spread(points)
    b, a = points_b.double(), points_a.double()
    triples = _triples(len(b))
    ones = torch.ones(triples.shape, dtype=torch.float64)
    found = _residuals(b, a, *_umeyama(b[triples], a[triples], ones, rigid))
    best = found.clamp(max=tolerance).square().sum(-1).argmin()
    agree, fit = found[best] <= tolerance, _similarity(*_umeyama(b, a, ones.new_ones(len(b)), rigid))
    for _ in range(5):  # those near the bound come and go
        fit = fit_points(b, a, agree.double(), rigid=rigid)
        residuals = (fit @ b - a).norm(dim=-1)
        if (agree == (residuals <= tolerance)).all():
            break
        agree = residuals <= tolerance
    return SimilarityFit(fit, (fit @ b - a).norm(dim=-1), agree)


def fit_cameras(cam_from_b: Pose, cam_from_a: Pose, *, rigid: bool = False) -> SimilarityFit:
    """By N cameras that both worlds have the poses of; most have to be right.

    Rotations and places count by how well they agree among themselves. Raises: `ValueError` for fewer than
    two cameras (one if `rigid`), where no half of them are turned alike, and where they stand too near each
    other for a scale.
    """
    count = len(cam_from_b)
    least = 1 if rigid else 2
    if count < least:
        raise ValueError(f"cameras: expected {least} or more, got {count}")
    b, a = cam_from_b.center.double(), cam_from_a.center.double()
    turns = cam_from_a.rotation.double().mT @ cam_from_b.rotation.double()
    alike = torch.rad2deg(rotation_angle(turns[:, None].mT @ turns)) < _SAME_TURN_DEG
    agree = alike[alike.sum(-1).argmax()]
    if 2 * int(agree.sum()) <= count and count > 1:
        raise ValueError(f"cameras: expected most of {count} turned alike, found {int(agree.sum())}")
    rotation = nearest_rotation(turns[agree].sum(0))
    scale, translation = _start(b[agree] @ rotation.mT, a[agree], rigid)
    for _ in range(5):
        residuals = (a - scale * b @ rotation.mT - translation).norm(dim=-1)
        angles = rotation_angle(rotation.mT @ turns)
        sigma = residuals[agree].median().item() / _MEDIAN + 1e-9 * (1 + a.abs().max().item())
        sigma_angle = angles[agree].median().item() / _MEDIAN + 1e-9
        agree = (residuals < 4 * sigma) & (angles < 4 * sigma_angle)
        middle_b, middle_a = b[agree].mean(0), a[agree].mean(0)
        around_b, around_a = b[agree] - middle_b, a[agree] - middle_a
        by_places = scale * around_a.mT @ around_b / sigma**2
        rotation = nearest_rotation(by_places + turns[agree].sum(0) / (2 * sigma_angle**2))
        square = around_b.square().sum()
        if not rigid:
            if scale * square.sqrt().item() < _LEAST_BASELINE * sigma:
                raise ValueError("cameras: expected some that stand apart, they are too near for a scale")
            scale = ((around_a * (around_b @ rotation.mT)).sum() / square).item()
        translation = middle_a - scale * rotation @ middle_b
    residuals = (a - scale * b @ rotation.mT - translation).norm(dim=-1)
    return SimilarityFit(Similarity(Pose(rotation, translation), scale), residuals, agree)


def _umeyama(b: Tensor, a: Tensor, weights: Tensor, rigid: bool) -> tuple[Tensor, Tensor, Tensor]:
    """R, t, s of points (..., N, 3), least squares."""
    shares = (weights / weights.sum(-1, keepdim=True))[..., None]
    middle_b, middle_a = (shares * b).sum(-2), (shares * a).sum(-2)
    around_b, around_a = b - middle_b[..., None, :], a - middle_a[..., None, :]
    products = (shares * around_a).mT @ around_b
    rotation = nearest_rotation(products)
    scale = products.new_ones(products.shape[:-2])
    if not rigid:
        scale = (rotation * products).sum((-2, -1)) / (shares * around_b.square()).sum((-2, -1))
    translation = middle_a - scale[..., None] * (rotation @ middle_b[..., None])[..., 0]
    return rotation, translation, scale


def _residuals(b: Tensor, a: Tensor, rotation: Tensor, translation: Tensor, scale: Tensor) -> Tensor:
    """Of points (N, 3) under H transforms, (H, N); infinite where there is none."""
    moved = scale[:, None, None] * (b @ rotation.mT) + translation[:, None]
    return (moved - a).norm(dim=-1).nan_to_num(torch.inf)


def _similarity(rotation: Tensor, translation: Tensor, scale: Tensor) -> Similarity:
    return Similarity(Pose(rotation, translation), scale.item())


def _start(b: Tensor, a: Tensor, rigid: bool) -> tuple[float, Tensor]:
    """Scale and translation of points that are turned already: the median of what the farther pairs say."""
    scale = 1.0
    if not rigid:
        first, second = torch.triu_indices(len(b), len(b), 1)
        apart_b, apart_a = b[first] - b[second], a[first] - a[second]
        square = apart_b.square().sum(-1)
        far = (square >= square.median()) & (square > 0)
        scale = ((apart_b * apart_a).sum(-1)[far] / square[far]).median().item() if far.any() else 0.0
        if not scale > 0:
            raise ValueError("cameras: expected places that differ by a scale above 0, these do not")
    return scale, (a - scale * b).median(0).values


def _triples(count: int) -> Tensor:
    """All, or as many drawn ones."""
    if count <= 23:  # 1771
        return torch.tensor(list(itertools.combinations(range(count), 3)))
    generator = torch.Generator().manual_seed(0)
    return torch.rand(_MOST_TRIPLES, count, generator=generator).topk(3, dim=-1).indices


def _check_spread(points: Tensor) -> None:
    if len(points) < 3:
        raise ValueError(f"expected three points or more, got {len(points)}")
    length, width, _ = torch.linalg.svdvals(points.double() - points.double().mean(0)).tolist()
    if not width > _LEAST_WIDTH * length:
        where = "in a line, which leaves the turn about it open" if length > 0 else "all at one place"
        raise ValueError(f"expected points that are apart, got {len(points)} {where}")
