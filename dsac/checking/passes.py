"""Whether a place that was filmed twice lies where it lay: two passes, each right by itself, that disagree.

Poses that drift, and sessions that nobody brought together, agree with their neighbours and not with frames of
another pass that show the same. So the order of the frames is cut where corners that frames on both sides share
agree least, beside those within the sides.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from dsac.checking.agreement import agreement_of_pairs
from dsac.checking.finding import Finding
from dsac.checking.sample import SharedCorners

_LEAST_PAIRS = 10  # of frames on both sides
_LEAST_WITHIN, _MOST_ACROSS = 0.6, 0.5  # agreement of the worse side; of the other, relative to it


def of_passes(shared: SharedCorners, agreed: Float[np.ndarray, " M"], names: list[str]) -> Iterator[Finding]:
    """Whether frames before one of them and from there on disagree, by the agreement of each corner."""
    means, corners = agreement_of_pairs(shared, agreed)
    first, second = shared.pairs.T

    def of(pairs: np.ndarray) -> float:
        return float(np.average(means[pairs], weights=corners[pairs])) if pairs.any() else 0.0

    cuts = []
    for cut in range(1, len(shared.frames)):
        across = (first < cut) & (second >= cut)
        if across.sum() >= _LEAST_PAIRS:
            cuts.append((min(of(second < cut), of(first >= cut)) - of(across), of(across), cut))
    more, across, cut = max(cuts, default=(0.0, 1.0, 0))
    within = across + more
    if within < _LEAST_WITHIN or across > _MOST_ACROSS * within:
        return
    last, following = (names[shared.frames[i].index] for i in (cut - 1, cut))
    yield Finding(
        "doubtful",
        f"frames up to {last} and from {following} on show the same place, and their poses put it elsewhere: "
        f"{across:.0%} of the corners that both show agree, {within:.0%} within each. Poses drift, or are "
        "of two sessions: map each by itself, `dsac merge --recording` finds how they lie to each other",
    )
