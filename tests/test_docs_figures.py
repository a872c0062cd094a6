"""The pictures of README and docs are those of the results that are committed, and none is left over."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import docs_figures
import pytest
from docs_figures import FIGURES, IMAGES, ROOT, Figure, stamp_of, stamped

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.picture.name)
def test_a_picture_is_drawn_from_the_present_results_by_the_present_code(figure: Figure) -> None:
    assert stamp_of(figure.picture.read_bytes()) == figure.digest, (
        f"{figure.picture.name} is older than {figure.results.name} or {figure.code.name}: make docs-figures"
    )


def test_pictures_are_those_that_pages_show() -> None:
    shown = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())
    }
    assert shown == {figure.picture.resolve() for figure in FIGURES}
    assert {path.resolve() for path in IMAGES.iterdir()} <= shown


def test_another_figure_in_the_results_makes_a_picture_stale(tmp_path: Path) -> None:
    figure = FIGURES[1]
    copy = tmp_path / "results"
    copy.write_bytes(figure.results.read_bytes().replace(b"\n", b"\r\n"))
    assert replace(figure, results=copy).digest == figure.digest
    copy.write_text(figure.results.read_text().replace("1", "2", 1))
    assert replace(figure, results=copy).digest != figure.digest
    assert replace(figure, code=copy).digest != figure.digest


def test_a_stamped_picture_is_still_one() -> None:
    pillow = pytest.importorskip("PIL.Image")
    data = io.BytesIO()
    pillow.new("RGB", (5, 3), "red").save(data, "png")
    digest = "0123456789abcdef"
    assert stamp_of(data.getvalue()) is None
    png = stamped(data.getvalue(), digest)
    with pillow.open(io.BytesIO(png)) as image:
        image.load()
        assert image.size == (5, 3) and image.text == {"Source": digest}
    svg = stamped(b'<svg xmlns="http://www.w3.org/2000/svg"><g/></svg>\n', digest)
    assert svg.endswith(b"--></svg>\n")
    assert stamp_of(png) == stamp_of(svg) == digest


def test_figures_of_the_kitchen_have_every_query_frame() -> None:
    for table in (docs_figures.KITCHEN, docs_figures.SHORT):
        evidence = docs_figures.read_evidence(table.read_text())
        assert len({frame.name for frame in evidence}) == 250
        assert all(0 <= frame.inlier_ratio <= 1 for frame in evidence)
