"""Visual words tell of which map a photo is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dsac.visual_words import NUM_WORDS, Gate, VisualWords, white

CHANNELS = 152
NO_CENTERS = torch.zeros(0, 3)


def _features(kind: int, count: int, seed: int) -> torch.Tensor:
    """Cells of a place of that kind: near one of its hundred looks."""
    looks = 3 * torch.randn(100, CHANNELS, generator=torch.Generator().manual_seed(kind))
    generator = torch.Generator().manual_seed(1000 + seed)
    rows = torch.randint(100, (count,), generator=generator)
    return looks[rows] + torch.randn(count, CHANNELS, generator=generator)


def _photo(kind: int, seed: int) -> torch.Tensor:
    return _features(kind, 20 * 15, seed).T.reshape(CHANNELS, 15, 20)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_a_photo_is_most_alike_to_its_own_map_among_few_and_many(count: int) -> None:
    gate = Gate([VisualWords.of(_features(kind, 1500, kind), NO_CENTERS) for kind in range(count)])
    for kind in range(count):
        scores = gate.scores(_photo(kind, 50 + kind))
        assert scores.argmax() == kind
        assert scores.max() > np.sort(scores)[-2] + 0.05


def test_scores_of_the_likeliest_are_mean_cosines_with_the_nearest_word() -> None:
    """Against the definition, word by word."""
    maps = [VisualWords.of(_features(kind, 900, kind), NO_CENTERS) for kind in range(3)]
    photo = _photo(1, 7)
    cells = white(photo.flatten(1).T)
    cells = cells[torch.linspace(0, len(cells) - 1, 150, dtype=torch.float64).long()]
    scores, by_hand = Gate(maps).scores(photo), []
    for words in maps:
        unit = torch.nn.functional.normalize(words.words.float(), dim=-1)
        by_hand.append(np.mean([max(float(cell @ word) for word in unit) for cell in cells[:150]]))
    assert abs(scores[1] - by_hand[1]) < 1e-5
    # of the others it is enough to know that they are less likely
    assert all(abs(scores[i] - by_hand[i]) < 1e-5 or scores[i] < scores[1] - 0.1 for i in (0, 2))


def test_maps_about_as_likely_all_get_the_second_look() -> None:
    """Words of the same kind, drawn twenty times; the shortlist has room for sixteen."""
    maps = [VisualWords.of(_features(1, 900, 100 + k), NO_CENTERS) for k in range(20)]
    photo = _photo(1, 7)
    cells = white(photo.flatten(1).T)
    cells = cells[torch.linspace(0, len(cells) - 1, 150, dtype=torch.float64).long()]
    scores = Gate(maps).scores(photo)
    exact = 0
    for score, words in zip(scores, maps, strict=True):
        unit = torch.nn.functional.normalize(words.words.float(), dim=-1)
        exact += abs(score - (cells @ unit.T).amax(1).mean().item()) < 1e-5
    assert exact == 16
    assert np.sort(scores)[:4].max() < np.sort(scores)[4]


def test_maps_without_words_may_always_be_it_and_few_cells_make_few_words() -> None:
    few = VisualWords.of(_features(0, 30, 0), NO_CENTERS)
    assert len(few) == 30 < NUM_WORDS
    scores = Gate([None, few, VisualWords.of(_features(1, 900, 1), NO_CENTERS)]).scores(_photo(1, 3))
    assert scores[0] == np.inf and scores[2] > scores[1]
    assert (Gate([None, None]).scores(_photo(0, 0)) == np.inf).all()


def test_words_are_the_same_for_the_same_cells_whatever_the_scale_of_int8() -> None:
    a, b = (VisualWords.of(_features(3, 700, 3), NO_CENTERS) for _ in range(2))
    assert (a.words == b.words).all()
    again = VisualWords.from_tensors(a.tensors())
    assert (again.words == a.words).all()


@pytest.mark.wrong_input
@pytest.mark.parametrize(
    ("words", "centers"),
    [
        (torch.zeros(3, 4), NO_CENTERS),
        (torch.zeros(3, dtype=torch.int8), NO_CENTERS),
        (torch.zeros(3, 4, dtype=torch.int8), torch.zeros(2, 4)),
        (torch.zeros(3, 4, dtype=torch.int8), torch.full((2, 3), float("nan"))),
    ],
)
def test_arrays_that_are_no_words_are_refused(words: torch.Tensor, centers: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="visual words'"):
        VisualWords(words, centers)


def _worth(words: VisualWords, values: torch.Tensor) -> VisualWords:
    return VisualWords(words.words, words.centers, values)


def test_words_that_are_worth_nothing_score_as_before_to_the_last_bit() -> None:
    maps = [VisualWords.of(_features(kind, 900, kind), NO_CENTERS) for kind in range(10)]
    some = [_worth(words, torch.zeros(len(words))) if k % 2 else words for k, words in enumerate(maps)]
    assert (Gate(some).scores(_photo(1, 7)) == Gate(maps).scores(_photo(1, 7))).all()


def test_what_a_word_is_worth_is_added_where_a_cell_is_nearest_to_it() -> None:
    """Against the definition, word by word; of maps with different numbers of words."""
    maps = [VisualWords.of(_features(kind, count, kind), NO_CENTERS) for kind, count in ((0, 900), (1, 60))]
    worth = [0.1 * torch.randn(len(words), generator=torch.Generator().manual_seed(5)) for words in maps]
    cells = white(_photo(1, 7).flatten(1).T)
    cells = cells[torch.linspace(0, len(cells) - 1, 150, dtype=torch.float64).long()]
    scores = Gate([_worth(words, of) for words, of in zip(maps, worth, strict=True)]).scores(_photo(1, 7))
    for score, words, of in zip(scores, maps, worth, strict=True):
        alike = cells @ torch.nn.functional.normalize(words.words.float(), dim=-1).T
        by_hand = np.mean([row.max().item() + of[row.argmax()].item() for row in alike])
        assert abs(score - by_hand) < 1e-5 or score < scores.max() - 0.1
    assert scores.argmax() == 1


def test_what_words_are_worth_is_stored_only_where_it_was_learned() -> None:
    words = VisualWords.of(_features(0, 60, 0), NO_CENTERS)
    assert set(words.tensors()) == {"words", "centers"}
    again = VisualWords.from_tensors(_worth(words, torch.full((60,), 0.5)).tensors())
    assert again.worth is not None and (again.worth == 0.5).all()
    assert VisualWords.from_tensors(words.tensors()).worth is None


@pytest.mark.wrong_input
@pytest.mark.parametrize(
    "worth", [torch.zeros(2), torch.zeros(3, dtype=torch.int8), torch.full((3,), torch.nan)]
)
def test_worths_that_do_not_fit_the_words_are_refused(worth: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="visual words' worth: expected 3 finite numbers"):
        VisualWords(torch.zeros(3, 4, dtype=torch.int8), NO_CENTERS, worth)
