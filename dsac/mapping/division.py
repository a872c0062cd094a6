"""Which frames belong into one map: a recording divided into regions by what its frames see.

*Key views* are so chosen that every frame shares half of what it sees with one (`coarse_views` says what that
is): their number says how large a place is, whatever its unit and however many frames were taken of it. Where
it is more than one head knows well, the place is cut where frames share least: the normalized cut of

  J. Shi, J. Malik: Normalized Cuts and Image Segmentation. PAMI 2000.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dsac.datasets import Frames
from dsac.mapping.coarse_views import CoarseViews, Shares, key_views, measured, near_depth

_log = logging.getLogger(__name__)

_MOST = 60  # key views of a region
_CLEARLY_ONE = 12  # key views, counted as if depth were the same everywhere
_FEW = 32  # frames that are one region whatever they show
_LEAST = 16  # frames of a map of their own
_SMALLER = 0.25  # of a place's key views, on the smaller side of a cut
_BORDER, _MOST_DOUBLED = 0.4, 0.2  # share of a frame that another region shows, for it to belong to that, too


def divide(frames: Frames, *, regions: int | None = None) -> list[Int[np.ndarray, " M"]]:
    """The rows of each region's frames, rising: a frame is in one, at borders (some fifth of all) in several.

    A place that one head knows well is one region, however often it was filmed. Frames that share nothing, not
    even by way of others, share no region, unless they are too few for a map: these join the nearest.
    `regions` asks for about so many.

    To know where things are, some frames are read, depth or, without, images: of less than 32 frames none, of
    what is clearly one place eight, of more as many as there is to see, up to 600.

    Raises: `ValueError` for no region, or frames without poses.
    """
    if regions is not None and regions < 1:
        raise ValueError(f"regions: expected at least 1, got {regions}")
    if frames.cam_from_world is None:
        raise ValueError("frames: expected poses, got none")
    whole = [np.arange(len(frames))]
    if regions == 1 or len(frames) < (2 if regions else _FEW):
        return whole
    order = np.argsort(np.array(frames.names), kind="stable")  # whatever order they come in
    frames = frames[order]
    distance = near_depth(frames)
    if distance is None:  # nothing to be mapped by, either
        return whole
    views = CoarseViews.at(frames, distance)
    place = _Place.of(views)
    most = _CLEARLY_ONE if frames.has_depth else _MOST
    if regions or len(place.count) > most or len(_parts(place.links)) > 1:
        place = _Place.of(measured(views, frames, distance, len(place.count)))
    divided = [np.sort(order[rows]) for rows in place.belonging(place.regions(regions))]
    if len(divided) > 1:
        _log.info("%d frames are divided into %d regions", len(frames), len(divided))
    return divided


class _Place(NamedTuple):
    """The key views of a place as a graph."""

    shares: Shares
    home: Int[np.ndarray, " N"]  # of each frame the key view that it shares most with
    count: Int[np.ndarray, " K"]  # frames of each key view
    links: Float[np.ndarray, "K K"]  # what frames of the one share with the other on average, both ways

    @staticmethod
    def of(views: CoarseViews) -> _Place:
        shares = key_views(views)
        num_keys, rising = len(shares.keys), np.argsort(shares.share, kind="stable")
        home = np.empty(len(views.centers), np.int64)
        home[shares.frame[rising]] = shares.key[rising]  # the last stays
        count = np.bincount(home, minlength=num_keys)
        links = np.zeros((num_keys, num_keys))
        np.add.at(links, (home[shares.frame], shares.key), shares.share)
        links /= np.maximum(count, 1)[:, None]
        np.fill_diagonal(links, 0)
        return _Place(shares, home, count, _with_strays(links + links.T, count, views.centers[shares.keys]))

    def regions(self, wanted: int | None) -> Int[np.ndarray, " K"]:
        """Of each key view its region."""
        parts = _parts(self.links)
        most = _MOST if wanted is None else 1
        done = []
        while parts and (wanted is None or len(parts) + len(done) < wanted):
            parts.sort(key=len)
            part = parts.pop()
            one = self._cut(part) if len(part) > most else None
            if one is None:
                done.append(part)
            else:
                parts += [part[one], part[~one]]
        region = np.empty(len(self.count), np.int64)
        for r, part in enumerate(sorted([*parts, *done], key=lambda part: part[0])):
            region[part] = r
        return region

    def belonging(self, region: Int[np.ndarray, " K"]) -> list[Int[np.ndarray, " M"]]:
        """The frames of each region, with those near its border of which it shows much."""
        count = region.max() + 1
        shown = np.zeros((len(self.home), count))
        np.maximum.at(shown, (self.shares.frame, region[self.shares.key]), self.shares.share)
        own = region[self.home][:, None] == np.arange(count)
        border = np.quantile(np.where(own, 0, shown).max(1), 1 - _MOST_DOUBLED)
        belongs = own | (shown > max(_BORDER, border))
        return [np.flatnonzero(of_one) for of_one in belongs.T]

    def _cut(self, part: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"] | None:
        """One side of the least normalized cut that leaves enough on both; None: there is none."""
        links = self.links[np.ix_(part, part)]
        degree = np.maximum(links.sum(1), 1e-9)
        root = np.sqrt(degree)
        _, vectors = np.linalg.eigh(links / root / root[:, None])
        order = np.argsort(vectors[:, -2] / root, kind="stable")
        volume, frames = degree[order].cumsum()[:-1], self.count[part][order].cumsum()[:-1]
        within = 2 * np.tril(links[np.ix_(order, order)]).sum(1).cumsum()[:-1]
        cost = (volume - within) * (1 / volume + 1 / (degree.sum() - volume))
        keys = np.arange(1, len(part))
        few = np.minimum(frames, self.count[part].sum() - frames) < _LEAST
        cost[few | (np.minimum(keys, len(part) - keys) < _SMALLER * len(part))] = np.inf
        if not np.isfinite(cost).any():
            return None
        one = np.zeros(len(part), bool)
        one[order[: cost.argmin() + 1]] = True
        return one


def _parts(links: Float[np.ndarray, "K K"]) -> list[Int[np.ndarray, " n"]]:
    """The key views of each part that nothing links with the others."""
    left, parts = np.ones(len(links), bool), []
    while left.any():
        part = [int(left.argmax())]
        left[part] = False
        for k in part:  # grows meanwhile
            reached = np.flatnonzero((links[k] > 0) & left)
            left[reached] = False
            part += reached.tolist()
        parts.append(np.sort(part))
    return parts


def _with_strays(
    links: Float[np.ndarray, "K K"], count: Int[np.ndarray, " K"], centers: Float[np.ndarray, "K 3"]
) -> Float[np.ndarray, "K K"]:
    """Parts of too few frames for a map linked with what is nearest to them."""
    while True:
        parts = _parts(links)
        few = [part for part in parts if count[part].sum() < _LEAST]
        if len(parts) == 1 or not few:
            return links
        links = links.copy()
        for part in few:
            apart = np.linalg.norm(centers[part, None] - centers, axis=-1)
            apart[:, part] = np.inf
            a, b = np.unravel_index(apart.argmin(), apart.shape)
            links[part[a], b] = links[b, part[a]] = 1.0
