"""What a depth camera gets wrong everywhere in the same way, told by its own recording.

Depth cameras are calibrated by their makers, registered to the colour camera by someone else, and posed by a
third: what remains is some percent of depth that grows with the distance and across the image. Near the mapping
frames nobody notices; from elsewhere it moves the camera by centimetres. Frames that see the same corners from
different places tell it, since their poses are what a map answers in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_NOISE = 0.01  # relative, of a depth that is corrected
_LARGEST = 0.1  # relative: what differs more is not the same thing
_PRIOR = 0.03  # standard deviation of the coefficients
_TOLD_TWICE = 20.0  # votes for a corner err together, as do those of a pair of frames
_ROUNDS = 10
_OUTLIER = 2.0  # standard deviations


@dataclass(frozen=True, eq=False)
class DepthCorrection:
    """Inverse depth as measured, times 1 + (a + b u + c v) + (d + e u + f v) z / z₀.

    (u, v) is the place in the image, from -0.5 to 0.5, and z₀ the recording's median depth. An offset of the
    inverse depth is what a baseline or a disparity that is slightly wrong does.
    """

    coefficients: Float[np.ndarray, "6"]
    median_depth: float  # metres

    def inverse_depths(
        self, depths: Float[np.ndarray, " M"], places: Float[np.ndarray, "M 2"]
    ) -> Float[np.ndarray, " M"]:
        """Corrected, 1/metres, of depths (metres) at these places of the image."""
        relative = _terms(places, depths / self.median_depth) @ self.coefficients
        return (1 + relative.clip(-_LARGEST, _LARGEST)) / depths

    @staticmethod
    def fit(
        depths: Float[np.ndarray, " M"],
        places: Float[np.ndarray, "M 2"],
        votes: Float[np.ndarray, " M"],
        sigmas: Float[np.ndarray, " M"],
    ) -> DepthCorrection:
        """The one that brings measured depths (metres) to where `votes` (1/metres, with their sigmas) see them.

        Least squares, reweighted for outliers, about none at all: few votes correct little.
        """
        relative = votes * depths - 1
        known = np.abs(relative) < _LARGEST
        depths, places, relative = depths[known], places[known], relative[known]
        median = float(np.median(depths)) if len(depths) else 1.0
        terms = _terms(places, depths / median)
        variances = (sigmas[known] * depths) ** 2 + _NOISE**2
        prior = np.eye(terms.shape[1]) / _PRIOR**2
        coefficients = np.zeros(terms.shape[1])
        for _ in range(_ROUNDS):
            deviation = (relative - terms @ coefficients) / np.sqrt(variances)
            spread = 1.4826 * np.median(np.abs(deviation)) if len(deviation) else 1.0
            trust = 1 / (1 + (deviation / (_OUTLIER * max(spread, 1e-9))) ** 2)
            weighted = terms * (trust / variances / _TOLD_TWICE)[:, None]
            coefficients = np.linalg.solve(weighted.T @ terms + prior, weighted.T @ relative)
        return DepthCorrection(coefficients, median)


def _terms(places: Float[np.ndarray, "M 2"], depths: Float[np.ndarray, " M"]) -> Float[np.ndarray, "M 6"]:
    u, v = places.T
    plane = np.stack([np.ones_like(u), u, v], axis=1)
    return np.concatenate([plane, plane * depths[:, None]], axis=1)
