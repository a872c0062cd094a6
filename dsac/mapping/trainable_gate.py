"""A gate in training: which region a photo is of, and the loss that is expected when one is drawn from it.

    p(m | photo; w) = softmax_m(SHARPNESS · s_m),     s_m = 1/N Σ_i ( ⟨x_i, n_mi⟩ + w_m(n_mi) )
    E[l] = Σ_m p(m | photo; w) E_j[l(h_j of m)]

x_i are the photo's cells, n_mi is the nearest to x_i of the words of region m, and w_m(n) what that word is
worth, which is learned. See docs/method.md; ESAC, Brachmann and Rother, ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dsac.visual_words import VisualWords, likeness, side_by_side, spread, white

# Of 10 to 200 the probabilities that suit photos of a building of seven regions best; a region whose score is
# less than the first one's by as much as `Regions` looks at (0.03) is a twentieth as likely.
SHARPNESS = 100.0


class TrainableGate(nn.Module):
    """Of M regions, with what each word is worth (M, W); on the CPU. What is not `taught` stays as it is."""

    _words: Float[Tensor, "M W C"]
    _rows: Int[Tensor, "M W"]
    _taught: Bool[Tensor, "M 1"]

    def __init__(self, maps: Sequence[VisualWords], taught: Sequence[bool]) -> None:
        super().__init__()
        words, rows = side_by_side(maps)
        for name, value in (("_words", words), ("_rows", rows), ("_taught", torch.tensor(taught)[:, None])):
            self.register_buffer(name, value, persistent=False)
        self._maps = tuple(maps)
        worths = [known.worths[row] for known, row in zip(maps, rows, strict=True)]
        self.worth = nn.Parameter(torch.stack(worths))

    def forward(self, photos: Sequence[Float[Tensor, "N C"]]) -> Float[Tensor, "B M"]:
        """Logarithms of the probabilities of the regions, for the cells of each photo; see `cells_of`."""
        worth = torch.where(self._taught, self.worth, self.worth.detach()).gather(1, self._rows)
        scores = torch.stack([likeness(cells, self._words, worth) for cells in photos])
        return torch.log_softmax(SHARPNESS * scores, dim=1)

    def words(self, region: int) -> VisualWords:
        """Those of a region with what they are worth now; as they came where nothing has changed."""
        before = self._maps[region]
        worth = self.worth[region, : len(before)].detach().clone()
        return before if torch.equal(worth, before.worths) else replace(before, worth=worth)


def cells_of(features: Float[Tensor, "N C"]) -> Float[Tensor, "K C"]:
    """What a gate looks at of a photo, of its cells' features by the encoder that ships."""
    return spread(white(features))


def expected_loss(log_gate: Float[Tensor, "B M"], losses: Float[Tensor, "B M"]) -> Float[Tensor, " B"]:
    """Over the regions, of their expected losses over hypotheses; differentiable in both.

    The gradient by the gate's parameters is E_m[ l_m ∂log p(m) ], that by a region's E_m[ ∂l_m ].
    """
    return (log_gate.exp() * losses).sum(1)
