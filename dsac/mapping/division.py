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
from dsac.mapping.links import Links

_log = logging.getLogger(__name__)

_MOST = 60  # key views of a region
_CLEARLY_ONE = 12  # key views, counted as if depth were the same everywhere
_FEW = 32  # frames that are one region whatever they show
_DENSE = 600  # key views that are cut as they are: of more, those that share most are counted as one
_LEAST = 16  # frames of a map of their own
_SMALLER = 0.25  # of a place's key views, on the smaller side of a cut
_BORDER, _MOST_DOUBLED = 0.4, 0.2  # share of a frame that another region shows, for it to belong to that, too


def divide(frames: Frames, *, regions: int | None = None) -> list[Int[np.ndarray, " M"]]:
    """The rows of each region's frames, rising: a frame is in one, at borders (some fifth of all) in several.

    A place that one head knows well is one region, however often it was filmed. Frames that share nothing, not
    even by way of others, share no region, unless they are too few for a map: these join the nearest.
    `regions` asks for about so many.

    To know where things are, some frames are read, depth or, without, images: of less than 32 frames none, of
    what is clearly one place eight, of more as many as there is to see, a fourth at most.

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
    if regions or len(place.count) > most or len(place.links.parts(len(place.count))) > 1:
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
    links: Links  # of key views: what frames of the one share with the other on average, both ways

    @staticmethod
    def of(views: CoarseViews) -> _Place:
        shares = key_views(views)
        num_keys, rising = len(shares.keys), np.argsort(shares.share, kind="stable")
        home = np.empty(len(views.centers), np.int64)
        home[shares.frame[rising]] = shares.key[rising]  # the last stays
        count = np.bincount(home, minlength=num_keys)
        other = home[shares.frame] != shares.key
        first, second = home[shares.frame][other], shares.key[other]
        share = shares.share[other] / count[first]
        both = np.concatenate([first, second]), np.concatenate([second, first]), np.tile(share, 2)
        links = _with_strays(Links.summed(*both, num_keys), count, views.centers[shares.keys])
        return _Place(shares, home, count, links)

    def regions(self, wanted: int | None) -> Int[np.ndarray, " K"]:
        """Of each key view its region."""
        parts = self.links.parts(len(self.count))
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
        edges, of_key = self.links.among(part, len(self.count)).contracted(len(part), _DENSE)
        keys, frames = np.bincount(of_key), np.bincount(of_key, self.count[part])
        links = np.zeros((len(keys), len(keys)))
        links[edges.first, edges.second] = edges.weight
        degree = np.maximum(links.sum(1), 1e-9)
        root = np.sqrt(degree)
        _, vectors = np.linalg.eigh(links / root / root[:, None])
        order = np.argsort(vectors[:, -2] / root, kind="stable")
        volume = degree[order].cumsum()[:-1]
        within = np.tril(links[np.ix_(order, order)], -1).sum(1) * 2 + links[order, order]
        within = within.cumsum()[:-1]
        cost = (volume - within) * (1 / volume + 1 / (degree.sum() - volume))
        cost[_less(frames[order]) < _LEAST] = np.inf
        cost[_less(keys[order]) < _SMALLER * len(part)] = np.inf
        if not np.isfinite(cost).any():
            return None
        first = np.zeros(len(keys), bool)
        first[order[: cost.argmin() + 1]] = True
        return first[of_key]


def _less(count: np.ndarray) -> np.ndarray:
    """On the smaller side of each cut between one and the next."""
    before = count.cumsum()
    return np.minimum(before, before[-1] - before)[:-1]


def _with_strays(links: Links, count: Int[np.ndarray, " K"], centers: Float[np.ndarray, "K 3"]) -> Links:
    """Parts of too few frames for a map linked with what is nearest to them."""
    while True:
        parts = links.parts(len(count))
        few = [part for part in parts if count[part].sum() < _LEAST]
        if len(parts) == 1 or not few:
            return links
        ends = []
        for part in few:
            apart = np.linalg.norm(centers[part, None] - centers, axis=-1)
            apart[:, part] = np.inf
            a, b = np.unravel_index(apart.argmin(), apart.shape)
            ends += [(part[a], b), (b, part[a])]
        first, second = np.unique(np.array(ends), axis=0).T
        links = Links.summed(
            np.concatenate([links.first, first]),
            np.concatenate([links.second, second]),
            np.concatenate([links.weight, np.ones(len(first))]),
            len(count),
        )
