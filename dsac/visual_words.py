"""Visual words: what the cells of a map's images look like, by which a photo is known to be of that map.

A map has some hundred words, the means of its cells' features in a space where these are white. A photo speaks
for a map as much as its cells resemble the nearest word: the mean cosine, each cell on its own (late
interaction, as of Khattab and Zaharia 2020 for texts). Features are those of the encoder that ships, the same
for every map, so that any two maps can be held side by side; nothing is trained when maps are joined. What
each word is worth may be learned (`dsac fine-tune`): more where it tells a region from others.

On ten rendered rooms of one layout and five recordings they name the place of 99.3 % of the photos, where
pooled descriptors (mean, GeM, VLAD) name 82 to 87 % (docs/scale.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float, Float32, Int, Int8
from torch import Tensor
from torch.nn.functional import normalize

from dsac.networks.encoder import ENCODERS

NUM_WORDS = 500  # of a map
ENCODER, SHORT_SIDE_PX = ENCODERS[0], 240  # whose features have words, of photos of that size
_UNIT = 254.0  # stored for 1: what is larger than 1/2 is cut, 152 values of unit length are 1/12 each
LOOKS = 150  # cells of a photo
# Of its first look: cells, and means of a map's words. Of 15 places and a building's 7 regions the right one
# was never more than 0.05 below the first. So many maps, and none much less likely, get the second look.
_FEW_LOOKS, _FEW_WORDS, _SHORTLIST, _FAR = 48, 64, 16, 0.12
_ROUNDS = 6


@dataclass(frozen=True, eq=False)
class VisualWords:
    """The words of one map, what they are worth, and where the cameras stood. On the CPU.

    Raises: `ValueError` when shapes or types do not fit together.
    """

    words: Int8[Tensor, "W C"]
    centers: Float32[Tensor, "V 3"]  # of mapping cameras, in the map's frame
    worth: Float32[Tensor, " W"] | None = None  # added to a cell's cosine with the word; None: not trained, 0

    def __post_init__(self) -> None:
        for name, width, dtype in (("words", None, torch.int8), ("centers", 3, torch.float32)):
            value = getattr(self, name)
            if value.ndim != 2 or value.shape[1] != (width or value.shape[1]) or value.dtype != dtype:
                raise ValueError(f"visual words' {name}: got {value.dtype} {tuple(value.shape)}")
        if not torch.isfinite(self.centers).all():
            raise ValueError("visual words' centers: expected finite numbers")
        if self.worth is not None and (
            self.worth.shape != (len(self),)
            or self.worth.dtype != torch.float32
            or not torch.isfinite(self.worth).all()
        ):
            raise ValueError(f"visual words' worth: expected {len(self)} finite numbers")

    @staticmethod
    def of(features: Float[Tensor, "N C"], centers: Float[Tensor, "V 3"], seed: int = 0) -> VisualWords:
        """Of the features of cells that the map knows, a few thousand: spherical k-means."""
        rows = white(features)
        start = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:NUM_WORDS]
        words = rows[start]
        for _ in range(_ROUNDS):
            nearest = (rows @ words.T).argmax(1)
            sums = torch.zeros_like(words).index_add_(0, nearest, rows)
            words = torch.where(sums.norm(dim=1, keepdim=True) > 0, normalize(sums, dim=1), words)
        small = (words * _UNIT).round().clamp(-127, 127).to(torch.int8)
        return VisualWords(small, centers.float().cpu())

    def __len__(self) -> int:
        return len(self.words)

    @property
    def worths(self) -> Float32[Tensor, " W"]:
        return torch.zeros(len(self)) if self.worth is None else self.worth

    def tensors(self) -> dict[str, Tensor]:
        """What a map file holds of them; `from_tensors` reads it."""
        worth = {} if self.worth is None else {"worth": self.worth}
        return {"words": self.words, "centers": self.centers, **worth}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> VisualWords:
        """Raises: `KeyError` when one is missing, `ValueError` when they do not fit together."""
        return VisualWords(tensors["words"], tensors["centers"], tensors.get("worth"))


class Gate:
    """Which of M maps a photo may be of. Maps without words, from before there were any, may always be it."""

    def __init__(self, maps: Sequence[VisualWords | None]) -> None:
        self._known = np.array([i for i, words in enumerate(maps) if words is not None and len(words)], int)
        self._num_maps = len(maps)
        known = [words for words in maps if words is not None and len(words)]
        self._words, rows = side_by_side(known)
        self._worth: Float32[Tensor, "K W"] | None = None
        if any(words.worth is not None for words in known):
            self._worth = torch.stack([words.worths[row] for words, row in zip(known, rows, strict=True)])
        self._few, self._few_worth = _means(self._words, self._worth, _FEW_WORDS)

    def scores(self, features: Float[Tensor, "C h w"]) -> Float[np.ndarray, " M"]:
        """Mean cosine of a photo's cells with each map's nearest words, where that is among the likeliest.

        The others' scores, of fewer cells and words, are below theirs. Infinite for a map without words.
        """
        scores = np.full(self._num_maps, np.inf)
        if len(self._known) == 0:
            return scores
        cells = white(spread(features.detach().flatten(1).T))
        rough = likeness(spread(cells, _FEW_LOOKS), self._few, self._few_worth).double().numpy()
        best = np.argsort(-rough, kind="stable")[:_SHORTLIST]
        best = best[rough[best] >= rough.max() - _FAR]
        some = torch.from_numpy(best)
        worth = None if self._worth is None else self._worth[some]
        fine = likeness(cells, self._words[some], worth).double().numpy()
        rest = np.setdiff1d(np.arange(len(self._known)), best)
        scores[self._known[best]] = fine
        scores[self._known[rest]] = rough[rest] - rough[best].min(initial=np.inf) + fine.min() - 1e-3
        return scores


def _means(
    words: Float32[Tensor, "M W C"], worth: Float32[Tensor, "M W"] | None, number: int
) -> tuple[Float32[Tensor, "M K C"], Float32[Tensor, "M K"] | None]:
    """Means of each map's words, of those nearest to each of an even choice of them, and their worth."""
    count = min(number, words.shape[1])
    chosen = torch.linspace(0, words.shape[1] - 1, count, dtype=torch.float64).long()
    means, worths = [], []
    for row, of_map in enumerate(words):
        member = torch.nn.functional.one_hot((of_map @ of_map[chosen].T).argmax(1), count).float()
        means.append(normalize(member.T @ of_map, dim=1))
        if worth is not None:
            worths.append(member.T @ worth[row] / member.sum(0).clamp_min(1))
    few = torch.stack(means) if means else words[:, chosen]
    return few, None if worth is None else torch.stack(worths)


def side_by_side(
    maps: Sequence[VisualWords],
) -> tuple[Float32[Tensor, "M W C"], Int[Tensor, "M W"]]:
    """The words of maps with unit length, and their numbers: of a map with fewer some stand there twice."""
    if not maps:
        return torch.zeros(0, 0, 0), torch.zeros(0, 0, dtype=torch.long)
    most = max(len(words) for words in maps)
    rows = torch.stack([torch.arange(most) % len(words) for words in maps])
    unit = [normalize(words.words.float(), dim=-1)[row] for words, row in zip(maps, rows, strict=True)]
    return torch.stack(unit), rows


def likeness(
    cells: Float[Tensor, "N C"], words: Float[Tensor, "K W C"], worth: Float[Tensor, "K W"] | None
) -> Float[Tensor, " K"]:
    """Mean over cells of the cosine with each map's nearest word, and of what that word is worth."""
    alike = (cells @ words.flatten(0, 1).T).unflatten(1, words.shape[:2])
    if worth is None:
        return alike.amax(2).mean(0)
    best, nearest = alike.max(2)
    return (best + worth.gather(1, nearest.T).T).mean(0)


def spread(cells: Float[Tensor, "N C"], number: int = LOOKS) -> Float[Tensor, "K C"]:
    """So many of a photo's cells, evenly."""
    rows = torch.linspace(0, len(cells) - 1, min(len(cells), number), dtype=torch.float64).long()
    return cells[rows]


def white(features: Float[Tensor, "N C"]) -> Float32[Tensor, "N C"]:
    """Features of the encoder that ships, white over many places and of unit length."""
    mean, matrix = _whitening()
    return normalize((features.detach().float().cpu() - mean) @ matrix, dim=-1)


@cache
def _whitening() -> tuple[Float32[Tensor, " C"], Float32[Tensor, "C C"]]:
    path = resources.files("dsac.networks") / "weights" / f"{ENCODER}-whitening.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    return tensors["mean"].float(), tensors["matrix"].float()
