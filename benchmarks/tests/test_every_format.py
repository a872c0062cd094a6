"""The table of all formats has a row that says what was found, of a recording in metres and of one without."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from every_format import FORMATS, chain, line
from written_walks import Walk, Writer

from dsac import MappingSettings


@pytest.fixture(scope="module")
def walk() -> Walk:
    return Walk.render(8)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (
            "tum",
            r"\| `tum` \| TUM RGB-D \| right \| \d\d \| \d\d \| 1 of 1 \| 100 % 5 cm 5° \| 0.\d+ cm \| \d+ \|",
        ),
        (
            "colmap_text",
            r"\| `colmap_text` \| COLMAP .* \| right \| \d\d \| – \| 1 of 1 \| 100 % 0.5 spacings 5° \| 0.\d",
        ),
    ],
    ids=["metres", "spacings"],
)
def test_a_row_says_what_came_of_a_format(walk: Walk, tmp_path: Path, name: str, row: str) -> None:
    FORMATS[name](walk, Writer(tmp_path))
    settings = MappingSettings(
        steps=60, num_views=8, buffer_size=2000, batch_size=128, width=32, num_landmarks=400
    )
    assert re.match(row, line(name, chain(tmp_path, settings)))
